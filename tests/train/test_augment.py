"""Boxes follow the pixels."""

from __future__ import annotations

import numpy as np
import pytest

from fcos_edge.runtime import FloatArray
from fcos_edge.train.augment import Augmentation
from fcos_edge.train.config import AugmentConfig
from fcos_edge.train.targets import IGNORED

# Colours stay, so that the rectangle can be found again.
PLAIN = Augmentation(AugmentConfig(contrast=0, brightness=0, saturation=0, pad_color=(0, 0, 0)))


@pytest.mark.parametrize("source_hw", [(60, 90), (90, 60), (40, 40)])
@pytest.mark.parametrize("input_hw", [(64, 64), (64, 96)])
def test_augmentation__boxes_follow_the_pixels(source_hw: tuple[int, int], input_hw: tuple[int, int]) -> None:
    box = np.array([[5, 12, 30, 27]], np.float32)  # nowhere near the middle: a flip moves it
    image = np.zeros((*source_hw, 3), np.uint8)
    image[12:27, 5:30] = 255
    num_kept = 0
    for seed in range(40):
        view, boxes, labels = PLAIN(image, box, np.array([3]), input_hw, np.random.default_rng(seed))
        assert view.shape == (*input_hw, 3)
        assert boxes.dtype == np.float32
        if not len(boxes) or (boxes[0, 2:] - boxes[0, :2]).min() < 3:
            continue
        rows, columns = np.nonzero(view[..., 0] > 127)
        found = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        # A pixel is bright where more than half of it is covered: half a pixel at each side, and resampling.
        np.testing.assert_allclose(boxes[0], found, atol=0.75)
        num_kept += labels[0] == 3
    assert num_kept > 15


def test_augmentation__scale_and_flip_vary_with_the_seed_alone() -> None:
    image = np.random.default_rng(0).integers(0, 255, (40, 50, 3), np.uint8)
    box = np.array([[10, 10, 30, 30]], np.float32)
    views = [
        Augmentation(AugmentConfig())(image, box, np.array([0]), (64, 64), np.random.default_rng(seed))
        for seed in (1, 1, 2)
    ]
    assert np.array_equal(views[0][0], views[1][0])
    assert np.array_equal(views[0][1], views[1][1])
    assert not np.array_equal(views[0][0], views[2][0])
    widths = []
    for seed in range(60):
        matrix = PLAIN.draw_map((40, 40), (64, 64), np.random.default_rng(seed))
        widths.append(matrix[0, 0] / 1.6)  # 1.6 just fits
    assert min(np.abs(widths)) >= 0.6 - 1e-6
    assert max(np.abs(widths)) <= 1.7 + 1e-6
    assert 15 < sum(width < 0 for width in widths) < 45  # half of them are flipped


def _shift_left(pixels: float) -> FloatArray:
    return np.array([[1, 0, -pixels], [0, 1, 0]], np.float32)


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
    boxes, labels = PLAIN.move_boxes(
        np.array([box], np.float32), np.array([5]), _shift_left(8), (32, 64)
    )  # fmt: skip
    assert boxes.tolist() == ([] if moved is None else [moved])
    assert labels.tolist() == ([] if label is None else [label])
    assert boxes.shape[1] == 4


def test_move_boxes__ignore_regions_stay_ignored() -> None:
    boxes = np.array([[10, 0, 20, 10]], np.float32)
    assert PLAIN.move_boxes(boxes, np.array([IGNORED]), _shift_left(8), (32, 64))[1].tolist() == [IGNORED]


def test_augmentation__no_boxes() -> None:
    image = np.zeros((20, 30, 3), np.uint8)
    empty = np.zeros((0, 4), np.float32)
    view, boxes, labels = Augmentation(AugmentConfig())(
        image, empty, np.zeros(0, np.int64), (32, 32), np.random.default_rng(0)
    )
    assert view.shape == (32, 32, 3)
    assert boxes.shape == (0, 4)
    assert labels.shape == (0,)
    assert boxes.dtype == np.float32
    assert labels.dtype == np.int64


def test_recolor__without_strength_changes_nothing() -> None:
    image = np.random.default_rng(0).integers(0, 255, (8, 8, 3), np.uint8)
    assert np.array_equal(PLAIN.recolor(image, np.random.default_rng(1)), image)


def test_recolor__saturation_moves_colours_towards_grey_or_away() -> None:
    image = np.zeros((4, 4, 3), np.uint8)
    image[...] = (40, 80, 160)
    saturated = Augmentation(AugmentConfig(contrast=0, brightness=0, saturation=0.5))
    spreads = []
    for seed in range(20):
        view = saturated.recolor(image, np.random.default_rng(seed))
        spreads.append(int(view[0, 0].max()) - int(view[0, 0].min()))
    assert min(spreads) < 100 < max(spreads)  # 120 as it is
    assert min(spreads) >= 58
    assert max(spreads) <= 182
