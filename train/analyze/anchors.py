"""How many boxes an anchor-based detector can recall at most: RetinaNet's nine anchors per location.

The baseline of the paper's table 1. Anchors are those of arXiv 1708.02002: on each level three sizes,
4 * stride * 2^(0, 1/3, 2/3), in three shapes, height / width 1/2, 1 and 2, centred on the location.

Each anchor belongs to the box that it overlaps most, of equals the first. It learns that box

- where their IoU is at least 0.5, or
- as a low-quality match: where no anchor overlaps some box more than this one does, and that overlap
  is at least 0.4 (of anchors that overlap it equally, each).

A box is recalled where at least one anchor learns it. In a low-quality match, too, the anchor learns its own
favourite, which need not be the box whose best it is: so does the implementation that the paper measured.

An anchor whose IoU with a box is below 0.4 decides nothing, and the others lie in a small window around
the box's centre: only those are looked at.

M  boxes of one picture
S  anchor shapes of all levels
A  pairs of a box and an anchor whose IoU is at least 0.4
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from fcos_edge.runtime import IntArray
from fcos_edge.train.analyze.boxes import BoolArray, DoubleArray
from fcos_edge.train.analyze.views import View

OCTAVE_SCALES = tuple(4 * 2 ** (i / 3) for i in range(3))
RATIOS = (0.5, 1.0, 2.0)  # height / width
POSITIVE_IOU = 0.5
LOW_QUALITY_IOU = 0.4
# Windows are this much wider than the bound says, in strides: rounding must not lose an anchor at its edge.
_MARGIN = 1e-6
_DIGITS = 9


class AnchorCount(NamedTuple):
    """Boxes of some pictures, those that anchors recall, and those that they do by IoU 0.5 alone."""

    boxes: int
    recalled: int
    recalled_without_low_quality: int


class _Shapes(NamedTuple):
    """Anchor shapes of all levels; one location of a level has as many anchors as the level has shapes.

    sizes_wh  (S, 2) float64, input pixels
    stride    (S,) int64
    """

    sizes_wh: DoubleArray
    stride: IntArray


class _Pairs(NamedTuple):
    """A box each, and an anchor that overlaps it enough: (A,) int64, (A,) int64, (A,) float64."""

    box: IntArray
    anchor: IntArray
    iou: DoubleArray


def anchor_sizes(stride: int) -> list[tuple[float, float]]:
    """Width and height of one location's nine anchors, input pixels: each has its scale's area."""
    return [
        (scale * stride / ratio**0.5, scale * stride * ratio**0.5)
        for scale in OCTAVE_SCALES
        for ratio in RATIOS
    ]


def count_anchors(views: Sequence[View], strides: Sequence[int]) -> AnchorCount:
    """Match the boxes of every picture with its anchors."""
    sizes = [size for stride in strides for size in anchor_sizes(stride)]
    shapes = _Shapes(np.array(sizes), np.repeat(np.array(strides), len(sizes) // len(strides)))
    boxes = recalled = without = 0
    for view in views:
        pairs = _find_pairs(view, shapes)
        boxes += len(view.labels)
        recalled += len(_learned(pairs, len(view.labels), has_low_quality=True))
        without += len(_learned(pairs, len(view.labels), has_low_quality=False))
    return AnchorCount(boxes, recalled, without)


def _learned(pairs: _Pairs, boxes: int, has_low_quality: bool) -> IntArray:
    """The boxes that an anchor learns."""
    # By anchor, then the best IoU first, then the first box.
    order = np.lexsort((pairs.box, -pairs.iou, pairs.anchor))
    box, anchor, iou = pairs.box[order], pairs.anchor[order], pairs.iou[order]
    is_favourite = np.ones(len(anchor), np.bool_)
    is_favourite[1:] = anchor[1:] != anchor[:-1]
    is_learned = iou[is_favourite] >= POSITIVE_IOU
    if has_low_quality:
        best = np.zeros(boxes)
        np.maximum.at(best, box, iou)
        best_anchors = anchor[iou == best[box]]
        is_learned |= np.isin(anchor[is_favourite], best_anchors)
    return np.unique(box[is_favourite][is_learned])


def _find_pairs(view: View, shapes: _Shapes) -> _Pairs:
    """All pairs with an IoU of at least LOW_QUALITY_IOU."""
    starts, sides = view.boxes_xyxy[:, :2], view.sides_wh
    stops = starts + sides
    overlap_wh, could = _least_overlap(sides, shapes)
    box, shape = could.nonzero()
    grid_hw = [-(-side // shapes.stride) for side in view.input_hw]  # [2][S]
    # Along each axis: the first and the number of locations near enough to the box.
    firsts, counts = [], []
    for axis, limits in enumerate(reversed(grid_hw)):
        stride = shapes.stride[shape]
        reach = (sides[box, axis] + shapes.sizes_wh[shape, axis]) / 2 - overlap_wh[box, shape, axis]
        center = (starts[box, axis] + stops[box, axis]) / 2
        first = np.ceil((center - reach) / stride - 0.5 - _MARGIN).clip(0, None).astype(np.int64)
        last = np.floor((center + reach) / stride - 0.5 + _MARGIN).astype(np.int64)
        firsts.append(first)
        counts.append((np.minimum(last, limits[shape] - 1) - first + 1).clip(0, None))
    windows = counts[0] * counts[1]
    pair = np.repeat(np.arange(len(box)), windows)
    within = np.arange(len(pair)) - np.repeat(np.cumsum(windows) - windows, windows)
    row, column = np.divmod(within, counts[0][pair])
    column, row = column + firsts[0][pair], row + firsts[1][pair]
    box, shape = box[pair], shape[pair]
    center_xy = (np.stack([column, row], axis=1) + 0.5) * shapes.stride[shape][:, None]
    iou = _iou(starts[box], stops[box], center_xy, shapes.sizes_wh[shape])
    # Any number that no two anchors share.
    anchor = (row * grid_hw[1].max() + column) * len(shapes.stride) + shape
    is_near = iou >= LOW_QUALITY_IOU
    return _Pairs(box[is_near], anchor[is_near], iou[is_near])


def _least_overlap(sides: DoubleArray, shapes: _Shapes) -> tuple[DoubleArray, BoolArray]:
    """Per box and shape: how far they must overlap along each axis for an IoU t, and whether they can.

    IoU >= t means overlap area >= t (a + b) / (1 + t), and along one axis that area over the most that
    is possible along the other.

    returns  (M, S, 2) float64 input pixels, (M, S) bool
    """
    most = np.minimum(sides[:, None], shapes.sizes_wh)  # [M, S, 2]
    areas = sides.prod(axis=1)[:, None] + shapes.sizes_wh.prod(axis=1)
    needed = LOW_QUALITY_IOU / (1 + LOW_QUALITY_IOU) * areas
    could = most.prod(axis=2) >= needed * (1 - _MARGIN)
    with np.errstate(divide="ignore"):
        return needed[..., None] / most[..., ::-1], could


def _iou(
    starts: DoubleArray, stops: DoubleArray, center_xy: DoubleArray, sizes_wh: DoubleArray
) -> DoubleArray:
    """(A,) float64: IoU of pairs of boxes, of which the second is given by its centre; all (A, 2)."""
    near = np.maximum(starts, center_xy - sizes_wh / 2)
    far = np.minimum(stops, center_xy + sizes_wh / 2)
    overlap = (far - near).clip(0, None).prod(axis=1)
    union = (stops - starts).prod(axis=1) + sizes_wh.prod(axis=1) - overlap
    # Anchors on both sides of a box overlap it alike, and rounding must not choose one.
    return np.asarray((overlap / union).round(_DIGITS))
