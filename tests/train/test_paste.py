"""Pasted objects: their boxes are where they show, and what they cover is no longer an example."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fcos_edge.train.config import AugmentConfig
from fcos_edge.train.data.dataset import LabelledPicture
from fcos_edge.train.targets import IGNORED
from fcos_edge.train.views.augment import Labelled
from fcos_edge.train.views.paste import LEAST_SIDE, cut_out, draw_objects, list_objects, paste
from tests.train.drawn import compare, draw

# Colours stay, so that the rectangle can be found again.
PLAIN = AugmentConfig(contrast=0, brightness=0, saturation=0)
NO_BOXES = np.zeros((0, 4), np.float32), np.zeros(0, np.int64)
SAME_SIZE = replace(PLAIN, scale=(1.0, 1.0), flip=0.0)


def _black(view_hw: tuple[int, int]) -> Labelled:
    return Labelled(np.zeros((*view_hw, 3), np.uint8), *NO_BOXES)


def _piece(height: int, width: int, label: int = 7) -> Labelled:
    """A white object without surroundings."""
    box = np.array([[0, 0, width, height]], np.float32)
    return Labelled(np.full((height, width, 3), 255, np.uint8), box, np.array([label]))


def _boxes(view: Labelled) -> list[tuple[float, ...]]:
    """Box and label in one."""
    return [(*box, label) for box, label in zip(view.boxes_xyxy.tolist(), view.labels.tolist(), strict=True)]


@pytest.mark.parametrize("source_hw", [(60, 90), (90, 60), (120, 160)])
@pytest.mark.parametrize("flip", [0.0, 1.0])
@pytest.mark.parametrize("scale", [(0.6, 1.7), (0.5, 0.7), (2.0, 2.7)])
def test_paste__boxes_are_where_they_show(
    source_hw: tuple[int, int], flip: float, scale: tuple[float, float]
) -> None:
    config = replace(PLAIN, flip=flip, scale=scale)
    places = []
    for seed in range(60):
        kind = seed % 2
        picture = draw(source_hw, [(5, 12, 30, 47), (20, 3, 58, 40)][kind], kind)
        generator = np.random.default_rng(seed)
        piece = cut_out(picture, 0, (96, 128), config, generator)
        assert piece.image.shape[0] <= 48
        assert piece.image.shape[1] <= 64
        view = paste(_black((96, 128)), [piece], 0.3, generator)
        assert view.boxes_xyxy.dtype == np.float32
        assert view.labels.dtype == np.int64
        assert view.labels.tolist() == [kind]
        assert compare(view, [kind]) == [kind]
        places.append(view.boxes_xyxy[0])
    assert np.ptp(places, axis=0).min() > 40  # all over the view


def test_paste__the_pieces_pixels_and_no_others() -> None:
    generator = np.random.default_rng(0)
    view = Labelled(generator.integers(0, 255, (50, 70, 3), np.uint8), *NO_BOXES)
    piece = _piece(12, 20)._replace(image=generator.integers(0, 255, (12, 20, 3), np.uint8))
    before = view.image.copy()
    for seed in range(20):
        found = paste(view, [piece], 0.3, np.random.default_rng(seed))
        x1, y1, x2, y2 = found.boxes_xyxy[0].astype(int).tolist()
        assert np.array_equal(found.image[y1:y2, x1:x2], piece.image)
        found.image[y1:y2, x1:x2] = before[y1:y2, x1:x2]
        assert np.array_equal(found.image, before)
    assert np.array_equal(view.image, before)


def test_cut_out__has_surroundings_of_many_widths() -> None:
    """At the picture's own scale; the object is not seen through its edge."""
    picture = draw((200, 200), (60, 80, 120, 120), 0)
    margins = []
    for seed in range(60):
        piece = cut_out(picture, 0, (200, 200), SAME_SIZE, np.random.default_rng(seed))
        height, width = piece.image.shape[:2]
        x1, y1, x2, y2 = piece.boxes_xyxy[0].tolist()
        assert (x2 - x1, y2 - y1) == (60, 40)
        margins.append([x1 / 60, (width - x2) / 60, y1 / 40, (height - y2) / 40])
    # Up to a fifth of the side, and up to a pixel more for whole ones.
    assert np.min(margins) >= 0
    assert np.max(margins) <= 0.2 + 1 / 40
    np.testing.assert_allclose(np.mean(margins, axis=0), 0.1, atol=0.04)  # 0.06 / sqrt(60) and half a pixel
    assert np.ptp(margins, axis=0).min() > 0.15


def test_cut_out__ends_with_its_picture() -> None:
    picture = draw((40, 60), (0, 0, 60, 40), 1)
    piece = cut_out(picture, 0, (120, 120), SAME_SIZE, np.random.default_rng(0))
    # It fits at twice its size; a pasted rectangle takes at most half of a side.
    assert piece.image.shape[:2] == (40, 60)
    assert _boxes(piece) == [(0, 0, 60, 40, 1)]
    assert np.array_equal(piece.image, picture.image[..., ::-1])  # RGB


@pytest.mark.parametrize(
    ("box", "label", "wanted"),
    [
        ((62, 62, 70, 70), 2, 2),  # inside: an object of its own
        ((55, 55, 110, 110), 2, 2),  # most of it, whatever the margins
        ((0, 0, 62, 200), 2, IGNORED),  # little of a large one
        ((0, 0, 200, 200), IGNORED, IGNORED),  # a crowd
        ((0, 0, 40, 40), 2, None),  # elsewhere
    ],
)
def test_cut_out__what_else_shows(box: tuple[int, ...], label: int, wanted: int | None) -> None:
    boxes = np.array([[60, 60, 100, 100], box], np.float32)
    picture = Labelled(np.zeros((200, 200, 3), np.uint8), boxes, np.array([1, label]))
    for seed in range(20):
        piece = cut_out(picture, 0, (200, 200), SAME_SIZE, np.random.default_rng(seed))
        assert piece.labels.tolist() == [1, *([] if wanted is None else [wanted])]
        height, width = piece.image.shape[:2]
        assert (piece.boxes_xyxy >= 0).all()
        assert (piece.boxes_xyxy <= [width, height, width, height]).all()


def test_paste__never_hides_much_of_a_box() -> None:
    """The place is by lot: all that cover at most 30 % are found, and no others."""
    box = np.array([[10, 0, 20, 10]], np.float32)
    view = Labelled(np.zeros((10, 30, 3), np.uint8), box, np.array([3]))
    found = set()
    for seed in range(400):
        pasted = paste(view, [_piece(10, 6)], 0.3, np.random.default_rng(seed))
        if len(pasted.labels) == 1:
            assert _boxes(pasted) == [(10, 0, 20, 10, 3)]
            assert not pasted.image.any()
        else:
            left = int(pasted.boxes_xyxy[1, 0])
            assert pasted.image[:, left : left + 6].all()
            found.add(left)
    assert found == {*range(8), *range(17, 25)}


@pytest.mark.parametrize(("min_visible", "label"), [(0.3, 3), (0.8, IGNORED)])
def test_paste__a_box_ends_where_it_is_covered(min_visible: float, label: int) -> None:
    box = np.array([[0, 0, 30, 10]], np.float32)
    view = Labelled(np.zeros((10, 30, 3), np.uint8), box, np.array([3]))
    found = set()
    for seed in range(200):
        first, piece = _boxes(paste(view, [_piece(10, 9)], min_visible, np.random.default_rng(seed)))
        found.add((first, piece))
    for left in range(22):
        begin, end = (9, 30) if left == 0 else (0, 21) if left == 21 else (0, 30)
        assert ((begin, 0, end, 10, label), (left, 0, left + 9, 10, 7)) in found
    assert len(found) == 22


@pytest.mark.parametrize("seed", range(60))
def test_paste__boxes_are_what_a_painter_leaves(seed: int) -> None:
    """Pixel by pixel: three pieces, one after the other, on boxes that also lie in one another."""
    generator = np.random.default_rng(seed)
    corners = np.sort(generator.integers(0, 41, (6, 2, 2)), axis=1)
    corners[:, 1] += 2
    view = Labelled(
        np.zeros((43, 43, 3), np.uint8), corners.reshape(6, 4).astype(np.float32),
        np.array([0, 1, 2, 3, IGNORED, IGNORED]),
    )  # fmt: skip
    sizes_hw = generator.integers(4, 20, (3, 2)).tolist()
    pieces = [_piece(height, width, 10 + i) for i, (height, width) in enumerate(sizes_hw)]
    for number, piece in enumerate(pieces):
        piece.image[:] = number + 1
    found = paste(view, pieces, 0.9, generator)
    owner = found.image[..., 0]
    boxes = dict(zip(found.labels.tolist(), found.boxes_xyxy.tolist(), strict=True))
    for label, wanted in enumerate(view.boxes_xyxy[:4].astype(int).tolist()):
        x1, y1, x2, y2 = wanted
        visible = owner[y1:y2, x1:x2] == 0
        assert visible.mean() >= 0.7 - 1e-6
        if label in boxes:
            rows, columns = np.nonzero(visible)
            left, top, right, bottom = boxes[label]
            # What several pieces cut off together is not taken away, so it may be larger, never smaller.
            assert left <= x1 + columns.min()
            assert top <= y1 + rows.min()
            assert right >= x1 + columns.max() + 1
            assert bottom >= y1 + rows.max() + 1
            if len(set(np.unique(owner[y1:y2, x1:x2])) - {0}) <= 1:
                assert (left, top) == (x1 + columns.min(), y1 + rows.min())
                assert (right, bottom) == (x1 + columns.max() + 1, y1 + rows.max() + 1)
                assert visible.mean() >= 0.9
        else:
            assert visible.mean() < 0.9 + 1e-6
    for number, piece in enumerate(pieces):
        if (owner == number + 1).any() and 10 + number in boxes:
            rows, columns = np.nonzero(owner == number + 1)
            left, top, right, bottom = boxes[10 + number]
            assert left <= columns.min() <= columns.max() + 1 <= right
            assert top <= rows.min() <= rows.max() + 1 <= bottom
            assert (right - left) * (bottom - top) <= np.prod(piece.image.shape[:2])


@pytest.mark.parametrize(
    ("boxes", "wanted"),
    [
        ([], [7]),
        ([(3, 3, 8, 8, IGNORED)], [7]),  # of an ignore region nothing is left
        ([(3, 3, 8, 8, 0)], [0]),
        ([(3, 3, 8, 8, IGNORED), (12, 12, 18, 18, 0)], [IGNORED, 0]),
    ],
)
def test_paste__over_the_whole_view(boxes: list[tuple[int, ...]], wanted: list[int]) -> None:
    table = np.array(boxes, np.int64).reshape(-1, 5)
    view = Labelled(np.zeros((20, 20, 3), np.uint8), table[:, :4].astype(np.float32), table[:, 4])
    found = paste(view, [_piece(20, 20)], 0.3, np.random.default_rng(0))
    assert found.labels.tolist() == wanted
    assert found.boxes_xyxy.shape == (len(wanted), 4)
    assert found.image.all() == (wanted == [7])


def test_list_objects__large_enough_and_of_a_class() -> None:
    boxes = np.array(
        [[0, 0, 24, 24], [0, 0, 23, 24], [0, 0, 12, 48], [0, 0, 99, 99], [5, 5, 40, 40]], np.float32
    )
    pictures = [
        LabelledPicture(Path("0"), 0, *NO_BOXES),
        LabelledPicture(Path("1"), 1, boxes, np.array([4, 0, 1, IGNORED, 4])),
        LabelledPicture(Path("2"), 2, boxes[4:], np.array([1])),
    ]
    assert LEAST_SIDE == 24
    assert [rows.tolist() for rows in list_objects(pictures)] == [[[1, 2], [2, 0]], [[1, 0], [1, 4]]]
    assert list_objects(pictures[:1]) == []


@pytest.mark.parametrize(("mean", "counts"), [(1.0, {1}), (2.0, {2}), (0.5, {0, 1}), (1.25, {1, 2})])
def test_draw_objects__as_many_as_said_and_every_class_as_often(mean: float, counts: set[int]) -> None:
    generator = np.random.default_rng(0)
    objects = [np.array([[0, 0]]), np.stack([np.arange(1, 100), np.arange(99)], axis=1)]
    draws = [draw_objects(objects, mean, generator) for _ in range(2000)]
    assert {len(drawn) for drawn in draws} == counts
    flat = [item for drawn in draws for item in drawn]
    # Standard deviations are at most 0.011 and 0.016; four of them.
    assert len(flat) / 2000 == pytest.approx(mean, abs=0.045)
    assert sum(item.picture == 0 for item in flat) / len(flat) == pytest.approx(0.5, abs=0.065)
    assert all(item.picture == item.box + 1 for item in flat if item.picture)
    assert len(set(flat)) == 100
    assert draw_objects([], mean, generator) == []
