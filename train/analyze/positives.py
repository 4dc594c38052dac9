"""Which locations are positive, for which box, and where there was a choice: FCOS's rule on a grid.

A location may learn a box that it lies inside of (not on its edge), where the largest of its four distances
lies in its level's range, and within `center_radius` strides of the centre if there is one. Of those boxes it
learns the smallest.

positive              a location that learns a box
recalled              a box that at least one location learns (arXiv 1904.01355, section 4.1.1)
ambiguous             a positive that could have learned more than one box (section 4.1.2)
ambiguous by class    ... boxes of more than one class: the others cost nothing, whichever of them is learned

Only what the range leaves counts as a choice: boxes of other levels are not in it. Of a box, the locations
that may learn it are a rectangle of the grid, so boxes are painted one after the other, the smallest last,
instead of comparing every location with every box.

M  boxes of one picture
H  rows of one level, W columns
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import inf
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from fcos_edge.train.analyze.boxes import BoolArray, DoubleArray
from fcos_edge.train.analyze.views import View

if TYPE_CHECKING:
    import numpy.typing as npt

    Int32Array = npt.NDArray[np.int32]
else:
    Int32Array = np.ndarray

NOBODY = -1


class Level(NamedTuple):
    """One level and the largest distance, low to high in input pixels, that its locations may have."""

    name: str
    stride: int
    low: float = 0.0
    high: float = inf


@dataclass(frozen=True)
class Rule:
    """FCOS's assignment on some levels.

    is_strict        a box at a range's very end belongs to neither level; else to both
    center_radius    in strides; 0: the whole box
    location_offset  in strides; the first location lies at floor(location_offset * stride)
    """

    levels: tuple[Level, ...]
    is_strict: bool = False
    center_radius: float = 0.0
    location_offset: float = 0.5

    def alone(self, name: str) -> Rule:
        """The same rule where one level has to learn everything. Raises KeyError for an unknown level."""
        strides = {level.name: level.stride for level in self.levels}
        return replace(self, levels=(Level(name, strides[name]),))


class LevelMap(NamedTuple):
    """One level of one picture.

    owner    (H, W) int32, the box that the location learns, or NOBODY
    choices  (H, W) int32, boxes that it may learn
    is_torn  (H, W) bool: these are of more than one class
    """

    owner: Int32Array
    choices: Int32Array
    is_torn: BoolArray


def map_level(view: View, rule: Rule, level: Level) -> LevelMap:
    """Who learns what on one level."""
    height, width = (-(-side // level.stride) for side in view.input_hw)
    first = int(rule.location_offset * level.stride)
    across = np.arange(width, dtype=np.float64) * level.stride + first
    down = np.arange(height, dtype=np.float64) * level.stride + first
    owner = np.full((height, width), NOBODY, np.int32)
    label = np.full((height, width), NOBODY, np.int64)
    choices = np.zeros((height, width), np.int32)
    is_torn = np.zeros((height, width), np.bool_)
    boxes, labels = view.boxes_xyxy.tolist(), view.labels.tolist()
    for index in _largest_first(view):
        x1, y1, x2, y2 = boxes[index]
        if max(x2 - x1, y2 - y1) < level.low:  # no distance is longer than the box
            continue
        columns, columns_far = _span(across, x1, x2, level, rule)
        rows, rows_far = _span(down, y1, y2, level, rule)
        place = (rows, columns)
        # The range's lower end is the one that is no rectangle: one of two directions has to reach it.
        is_far = rows_far[:, None] | columns_far
        before = label[place]
        is_torn[place] |= is_far & (before != labels[index]) & (before != NOBODY)
        choices[place] += is_far
        np.copyto(owner[place], index, where=is_far)
        np.copyto(before, labels[index], where=is_far)
    return LevelMap(owner, choices, is_torn)


@dataclass(frozen=True, eq=False)
class Count:
    """What the rule made of some pictures, all levels together.

    boxes, recalled          of all boxes
    positives                per level of the rule
    locations                per level of the rule, of all pictures
    ambiguous, torn          of the positives; torn ones by class
    """

    rule: Rule
    boxes: int
    recalled: int
    positives: tuple[int, ...]
    locations: tuple[int, ...]
    ambiguous: int
    torn: int


def count_positives(views: Sequence[View], rule: Rule) -> Count:
    """Apply the rule to every picture."""
    positives, locations = np.zeros(len(rule.levels), np.int64), np.zeros(len(rule.levels), np.int64)
    boxes = recalled = ambiguous = torn = 0
    for view in views:
        is_recalled = np.zeros(len(view.labels) + 1, np.bool_)  # the last stands for NOBODY
        for place, level in enumerate(rule.levels):
            found = map_level(view, rule, level)
            is_recalled[found.owner] = True
            positives[place] += np.count_nonzero(found.choices)
            locations[place] += found.choices.size
            ambiguous += np.count_nonzero(found.choices > 1)
            torn += np.count_nonzero(found.is_torn)
        boxes += len(view.labels)
        recalled += np.count_nonzero(is_recalled[:-1])
    return Count(rule, boxes, recalled, tuple(positives.tolist()), tuple(locations.tolist()), ambiguous, torn)


def _largest_first(view: View) -> list[int]:
    """Boxes in the order of painting: of equally large ones the first in the list is painted last."""
    areas = view.sides_wh.prod(axis=1)
    order: list[int] = np.argsort(areas, kind="stable")[::-1].tolist()
    return order


def _span(
    points: DoubleArray, start: float, stop: float, level: Level, rule: Rule
) -> tuple[slice, BoolArray]:
    """Along one axis: the points that may learn start..stop as far as this axis knows, and which of them
    are as far from an end as the range's lower end asks for.
    """
    first, last = np.searchsorted(points, start, "right"), np.searchsorted(points, stop, "left")
    inside = points[first:last]
    farthest = np.maximum(inside - start, stop - inside)
    is_allowed = farthest < level.high if rule.is_strict else farthest <= level.high
    if rule.center_radius:
        is_allowed &= np.abs(inside - (start + stop) / 2) < rule.center_radius * level.stride
    (allowed,) = is_allowed.nonzero()  # neighbours: both conditions hold around the middle
    if len(allowed) == 0:
        return slice(0, 0), is_allowed[:0]
    chosen = slice(int(allowed[0]), int(allowed[-1]) + 1)
    is_far = farthest > level.low if rule.is_strict else farthest >= level.low
    return slice(int(first) + chosen.start, int(first) + chosen.stop), is_far[chosen]
