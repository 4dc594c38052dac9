"""Boxes follow the pixels: each view's are compared with where a drawn box shows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from fcos_edge.runtime import FloatArray, UInt8Array
from fcos_edge.train.config import FLIP_ONLY, AugmentConfig
from fcos_edge.train.targets import IGNORED
from fcos_edge.train.views.augment import (
    Labelled,
    affine_view,
    choose_center,
    draw_map,
    map_of_centers,
    move_boxes,
    recolor,
)
from tests.train.drawn import compare, draw, extent

# Colours stay, so that the rectangle can be found again.
PLAIN = AugmentConfig(contrast=0, brightness=0, saturation=0, pad_color=(0, 0, 0))
BOX = (5, 12, 30, 27)  # nowhere near the middle: a flip moves it
NO_BOXES = np.zeros((0, 4), np.float32), np.zeros(0, np.int64)


@pytest.mark.parametrize("source_hw", [(60, 90), (90, 60), (40, 40)])
@pytest.mark.parametrize("view_hw", [(64, 64), (64, 96)])
@pytest.mark.parametrize(
    "config",
    [
        PLAIN,
        replace(FLIP_ONLY, flip=1.0, pad_color=(0, 0, 0)),
        replace(PLAIN, scale=(1.0, 1.0), flip=0.0),  # moved only
        replace(PLAIN, scale=(0.5, 0.9), flip=0.0),  # smaller
        replace(PLAIN, scale=(1.2, 1.7), flip=0.0),  # cropped
        replace(PLAIN, scale=(1.2, 1.7), keep_object=1.0),  # cropped with the object
    ],
    ids=["all", "flip", "move", "shrink", "crop", "keep"],
)
def test_affine_view__boxes_are_where_they_show(
    source_hw: tuple[int, int], view_hw: tuple[int, int], config: AugmentConfig
) -> None:
    picture = draw(source_hw, BOX, 3)
    labels = []
    for seed in range(60):
        view = affine_view(picture, view_hw, config, np.random.default_rng(seed))
        assert view.image.shape == (*view_hw, 3)
        assert view.boxes_xyxy.dtype == np.float32
        labels += compare(view, [3])
    assert labels.count(3) > 25
    assert set(labels) <= {3, IGNORED}


def test_affine_view__ignores_what_is_cut_and_drops_what_is_gone() -> None:
    picture = draw((40, 40), (30, 10, 38, 30), 0)
    config = replace(PLAIN, scale=(2.5, 2.5), flip=0)
    seen = {0: 0, IGNORED: 0, None: 0}
    for seed in range(200):
        view = affine_view(picture, (40, 40), config, np.random.default_rng(seed))
        compare(view, [0])
        label = view.labels.tolist()[0] if len(view.labels) else None
        place = extent(view.image, 0)
        # Of 20 x 50 pixels; one row and one column of the extent may be off.
        share = 0.0 if place is None else float(np.prod(place[2:] - place[:2])) / (20 * 50)
        if label == 0:
            assert share > config.min_visible - 0.08
        elif label == IGNORED:
            assert share < config.min_visible + 0.08
        seen[label] += 1
    assert min(seen.values()) > 10


@pytest.mark.parametrize("box", [(0, 0, 10, 8), (70, 0, 90, 10), (40, 25, 50, 35), (0, 50, 90, 60)])
@pytest.mark.parametrize("flip", [0.0, 1.0])
def test_affine_view__keeps_the_centre_of_an_object_anywhere_in_the_view(
    box: tuple[int, ...], flip: float
) -> None:
    config = replace(PLAIN, scale=(3.0, 3.0), flip=flip, keep_object=1.0)
    # Ignore regions are no objects.
    boxes, labels = np.array([box, [89, 59, 90, 60]], np.float32), np.array([2, IGNORED])
    picture = Labelled(np.zeros((60, 90, 3), np.uint8), boxes, labels)
    centers = []
    for seed in range(200):
        generator = np.random.default_rng(seed)
        center = choose_center(picture, config, generator)
        assert center is not None
        assert center.tolist() == [(box[0] + box[2]) / 2, (box[1] + box[3]) / 2]
        matrix = draw_map((60, 90), (60, 90), 1.0, config, generator, center)
        x, y = matrix[:, :2] @ (center - 0.5) + matrix[:, 2] + 0.5
        centers.append((x, y))
        # The picture still fills the view: its corners lie outside, or on the border.
        corners = np.array([[0, 0], [90, 60]]) - 0.5
        moved = np.sort(corners @ matrix[:, :2].T + matrix[:, 2] + 0.5, axis=0)
        assert (moved[0] <= 1e-3).all()  # float32
        assert (moved[1] >= np.array([90, 60]) - 1e-3).all()
        view = affine_view(picture, (60, 90), config, np.random.default_rng(seed))
        assert len(view.labels) >= 1
    assert np.min(centers) >= -1e-3
    assert (np.max(centers, axis=0) <= np.array([90, 60]) + 1e-3).all()
    # As far as the picture's own border lets it: a corner object of 30 x 24 pixels has its centre near there.
    reach = np.ptp(centers, axis=0)
    limits = np.array([min(90, 3 * center) for center in (90, 60)])
    assert (reach > 0.05 * limits).all()


def test_affine_view__keeps_an_object_as_often_as_said() -> None:
    """Of a picture three times the view one ninth shows, so a small box is seen in about as many views."""
    boxes = np.array([[44, 29, 46, 31]], np.float32)
    picture = Labelled(np.zeros((60, 90, 3), np.uint8), boxes, np.array([2]))
    shares = []
    for keep in (0.0, 0.5, 1.0):
        config = replace(PLAIN, scale=(3.0, 3.0), keep_object=keep)
        views = [affine_view(picture, (60, 90), config, np.random.default_rng(seed)) for seed in range(300)]
        shares.append(np.mean([len(view.labels) for view in views]))
    # The middle is in a quarter of the views: half of the places of each axis. 0.03 is a standard deviation.
    assert shares[0] == pytest.approx(0.25, abs=0.1)
    assert shares[1] == pytest.approx(0.625, abs=0.1)
    assert shares[2] == 1


@pytest.mark.parametrize("labels", [[], [IGNORED]])
def test_affine_view__without_an_object_any_place_will_do(labels: list[int]) -> None:
    boxes = np.array([[1, 1, 5, 5]] * len(labels), np.float32).reshape(-1, 4)
    picture = Labelled(np.zeros((60, 90, 3), np.uint8), boxes, np.array(labels, np.int64))
    config = replace(PLAIN, keep_object=1.0)
    assert choose_center(picture, config, np.random.default_rng(0)) is None
    assert affine_view(picture, (64, 64), config, np.random.default_rng(0)).image.shape == (64, 64, 3)


def test_draw_map__a_small_picture_lies_where_it_would_have() -> None:
    config, center = replace(PLAIN, scale=(0.4, 0.9)), np.array([3.0, 38.0])
    for seed in range(50):
        kept = draw_map((40, 40), (64, 96), 1.6, config, np.random.default_rng(seed), center)
        np.testing.assert_array_equal(
            kept, draw_map((40, 40), (64, 96), 1.6, config, np.random.default_rng(seed))
        )


def test_affine_view__varies_with_the_seed_alone() -> None:
    image = np.random.default_rng(0).integers(0, 255, (40, 50, 3), np.uint8)
    picture = Labelled(image, np.array([[10, 10, 30, 30]], np.float32), np.array([0]))
    before = image.copy()
    first, again, other = (
        affine_view(picture, (64, 64), AugmentConfig(), np.random.default_rng(seed)) for seed in (1, 1, 2)
    )
    assert np.array_equal(first.image, again.image)
    assert np.array_equal(first.boxes_xyxy, again.boxes_xyxy)
    assert not np.array_equal(first.image, other.image)
    assert np.array_equal(image, before)


@pytest.mark.parametrize("flip", [0.0, 1.0])
def test_affine_view__at_scale_1_is_the_picture_or_its_mirror_image(flip: float) -> None:
    picture = Labelled(np.random.default_rng(0).integers(0, 255, (40, 50, 3), np.uint8), *NO_BOXES)
    config = replace(PLAIN, scale=(1.0, 1.0), flip=flip)
    view = affine_view(picture, (40, 50), config, np.random.default_rng(0))
    wanted = picture.image[:, ::-1, ::-1] if flip else picture.image[..., ::-1]
    assert np.array_equal(view.image, wanted)


def test_draw_map__scale_and_flip() -> None:
    widths = []
    for seed in range(60):
        matrix = draw_map((40, 40), (64, 64), 1.6, PLAIN, np.random.default_rng(seed))
        widths.append(matrix[0, 0] / 1.6)
    assert min(np.abs(widths)) >= 0.6 - 1e-6
    assert max(np.abs(widths)) <= 1.7 + 1e-6
    assert 15 < sum(width < 0 for width in widths) < 45  # half of them are flipped


SHIFT_LEFT = map_of_centers(1, 1, -8, 0)


@pytest.mark.parametrize(
    ("box", "moved", "label"),
    [
        ([10, 0, 20, 10], [2, 0, 12, 10], 5),  # all of it is left
        ([2, 0, 12, 10], [0, 0, 4, 10], 5),  # 40 %
        ([0, 0, 10, 10], [0, 0, 2, 10], IGNORED),  # 20 %: less than min_visible
        ([0, 0, 8.5, 10], None, None),  # half a pixel
        ([0, 0, 7, 10], None, None),  # outside
        ([60, 0, 80, 40], [52, 0, 64, 32], 5),  # 12 of 20 by 32 of 40: 48 %
    ],
)
def test_move_boxes__table(box: list[float], moved: list[float] | None, label: int | None) -> None:
    boxes, labels = move_boxes(np.array([box], np.float32), np.array([5]), SHIFT_LEFT, (32, 64), 0.3)
    assert boxes.tolist() == ([] if moved is None else [moved])
    assert labels.tolist() == ([] if label is None else [label])
    assert boxes.shape[1] == 4


def test_move_boxes__ignore_regions_stay_ignored() -> None:
    boxes = np.array([[10, 0, 20, 10]], np.float32)
    _, labels = move_boxes(boxes, np.array([IGNORED]), SHIFT_LEFT, (32, 64), 0.3)
    assert labels.tolist() == [IGNORED]


def test_affine_view__no_boxes() -> None:
    picture = Labelled(np.zeros((20, 30, 3), np.uint8), *NO_BOXES)
    view = affine_view(picture, (32, 32), AugmentConfig(), np.random.default_rng(0))
    assert view.image.shape == (32, 32, 3)
    assert view.boxes_xyxy.shape == (0, 4)
    assert view.labels.shape == (0,)
    assert view.boxes_xyxy.dtype == np.float32
    assert view.labels.dtype == np.int64


def test_affine_view__is_rgb_and_so_is_its_padding() -> None:
    image = np.zeros((10, 40, 3), np.uint8)
    image[...] = (1, 2, 3)
    config = replace(PLAIN, scale=(1.0, 1.0), pad_color=(10, 20, 30))
    view = affine_view(Labelled(image, *NO_BOXES), (40, 40), config, np.random.default_rng(0))
    rows = view.image[:, 20].tolist()
    # Between them a row or two of both.
    assert sum(row in ([3, 2, 1], [10, 20, 30]) for row in rows) >= 36
    assert rows.count([3, 2, 1]) in (8, 9, 10)


def test_recolor__without_strength_swaps_the_channels_alone() -> None:
    image = np.random.default_rng(0).integers(0, 255, (8, 8, 3), np.uint8)
    assert np.array_equal(recolor(image, PLAIN, np.random.default_rng(1)), image[..., ::-1])


def _recolor_slowly(
    image_bgr: UInt8Array, config: AugmentConfig, generator: np.random.Generator
) -> FloatArray:
    """One change after the other, in float64, clipped at the end."""
    contrast = 1 + config.contrast * generator.uniform(-1, 1)
    brightness = config.brightness * generator.uniform(-1, 1)
    saturation = 1 + config.saturation * generator.uniform(-1, 1)
    rgb = image_bgr[..., ::-1].astype(np.float64)
    grey = rgb @ [0.299, 0.587, 0.114]
    mixed = grey[..., None] + saturation * (rgb - grey[..., None])
    contrasted = grey.mean() + contrast * (mixed - grey.mean())
    return np.asarray(np.clip(contrasted + brightness, 0, 255), np.float32)


@pytest.mark.parametrize("seed", range(20))
def test_recolor__equals_one_change_after_the_other(seed: int) -> None:
    image = np.random.default_rng(0).integers(0, 256, (16, 24, 3), np.uint8)
    found = recolor(image, AugmentConfig(), np.random.default_rng(seed))
    wanted = _recolor_slowly(image, AugmentConfig(), np.random.default_rng(seed))
    # Half for rounding; OpenCV takes the matrix in steps of 2^-10: 3 x 255 x 2^-11 more.
    np.testing.assert_allclose(found, wanted, atol=0.5 + 3 * 255 / 2048)


def test_recolor__saturation_moves_colours_towards_grey_or_away() -> None:
    image = np.zeros((4, 4, 3), np.uint8)
    image[...] = (40, 80, 160)
    config = replace(PLAIN, saturation=0.5)
    spreads = [
        int(np.ptp(recolor(image, config, np.random.default_rng(seed))[0, 0].astype(int)))
        for seed in range(20)
    ]
    assert min(spreads) < 100 < max(spreads)  # 120 as it is
    assert min(spreads) >= 58
    assert max(spreads) <= 182
