"""Drawings: what must be there at any size, and what must not change."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from fcos_edge.detections import Detections
from fcos_edge.draw import color_bgr, draw_detections
from fcos_edge.errors import ImageError

CLASSES = ("person", "bicycle", "traffic light")


def found(*rows: tuple[float, ...]) -> Detections:
    """Rows of left, top, right, bottom, label; scores 0.9, 0.8, ..."""
    table = np.array(rows, np.float32).reshape(-1, 5)
    scores = np.linspace(0.9, 0.9 - 0.1 * (len(rows) - 1), len(rows)) if rows else np.empty(0)
    return Detections(table[:, :4].copy(), scores.astype(np.float32), table[:, 4].astype(np.int64))


def is_color(image_bgr: npt.NDArray[Any], label: int) -> npt.NDArray[np.bool_]:
    return np.asarray((image_bgr == color_bgr(label)).all(axis=2))


def test_draw__returns_a_new_picture() -> None:
    image_bgr = np.zeros((120, 200, 3), np.uint8)
    drawn = draw_detections(image_bgr, found((20, 40, 180, 110, 0)), CLASSES)
    assert not image_bgr.any()
    assert drawn.shape == image_bgr.shape
    assert drawn.any()


def test_draw__no_detections_change_nothing() -> None:
    image_bgr = np.random.default_rng(0).integers(0, 256, (50, 60, 3), np.uint8)
    np.testing.assert_array_equal(draw_detections(image_bgr, Detections.empty(), CLASSES), image_bgr)


def test_draw__sides_lie_where_the_box_is() -> None:
    drawn = draw_detections(np.zeros((300, 300, 3), np.uint8), found((100, 120, 250, 280, 1)), CLASSES)
    rows, columns = np.nonzero(is_color(drawn, 1))
    below_label = rows > 125
    # Lines are two pixels wide here, so they may stand out by one.
    np.testing.assert_allclose(
        [columns[below_label].min(), columns.max(), rows.max()], [100, 250, 280], atol=1
    )
    assert not drawn[140:260, 120:230].any()  # the inside stays


@pytest.mark.parametrize("size_hw", [(1, 1), (8, 300), (300, 8), (48, 64), (480, 640), (2000, 3000)])
@pytest.mark.parametrize("box", [(0, 0, 1, 1), (0.99, 0.99, 1, 1), (0.2, 0.2, 0.8, 0.8), (0, 0, 0.5, 0)])
def test_draw__any_picture_and_box(size_hw: tuple[int, int], box: tuple[float, ...]) -> None:
    height, width = size_hw
    left, top, right, bottom = box
    rows = (left * width, top * height, right * width, bottom * height, 2)
    drawn = draw_detections(np.zeros((*size_hw, 3), np.uint8), found(rows), CLASSES)
    assert is_color(drawn, 2).any()


@pytest.mark.parametrize("size_hw", [(72, 96), (480, 640), (2160, 3840)])
def test_draw__labels_grow_with_the_picture_and_stay_readable(size_hw: tuple[int, int]) -> None:
    height, width = size_hw
    box = (0.2 * width, 0.5 * height, 0.9 * width, 0.9 * height, 0)
    drawn = draw_detections(np.zeros((*size_hw, 3), np.uint8), found(box), CLASSES)
    above = is_color(drawn, 0)[: int(0.5 * height) - 1].any(axis=1).sum()
    assert above >= 9  # pixels: smaller letters run together
    assert above >= (height * width) ** 0.5 / 45


def test_draw__a_label_at_the_border_stays_inside() -> None:
    drawn = draw_detections(np.zeros((100, 300, 3), np.uint8), found((280, 0, 300, 100, 2)), CLASSES)
    columns = np.nonzero(is_color(drawn, 2)[3:12].any(axis=0))[0]
    assert columns.min() < 230  # moved left of its box
    assert columns.max() == 299


def test_draw__labels_of_boxes_in_one_corner_do_not_cover_each_other() -> None:
    boxes = [(10, 10, 290, 290, label) for label in range(3)]
    drawn = draw_detections(np.zeros((300, 300, 3), np.uint8), found(*boxes), CLASSES)
    areas = [int(is_color(drawn, label)[12:288, 14:286].sum()) for label in range(3)]
    assert min(areas) > 300  # a bar of each is seen inside the boxes' lines


def test_draw__the_best_is_on_top() -> None:
    drawn = draw_detections(
        np.zeros((100, 200, 3), np.uint8), found((50, 50, 150, 90, 0), (50, 50, 150, 90, 1)), CLASSES
    )
    assert is_color(drawn, 0)[90, 100]


def test_color__of_100_classes_differ() -> None:
    assert len({color_bgr(label) for label in range(100)}) == 100


def test_draw__refuses_what_is_no_picture() -> None:
    with pytest.raises(ImageError):
        draw_detections(np.zeros((10, 10), np.uint8), Detections.empty(), CLASSES)
