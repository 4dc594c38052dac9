"""Where the label of each box goes: never off the picture, over a small box or over another label.

    at its box, whole text -> at its box, short text -> nearest free place in reach, short text -> nowhere

Which place is tried first depends on the box alone, so that a label in a video stays where it is while its
box does. A label that finds no free place in reach is left out: a box says more than a label upon it, and
whose a far label is, nobody sees.

B     boxes, K what is in the way, P places
rect  left, top, right, bottom in pixels; right and bottom are the first that no longer belong to it
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fcos_edge.runtime import IntArray

Rect = tuple[int, int, int, int]
Size = tuple[int, int]  # width, height

# A label is at most as far from its box as four labels are high: two crowded rows lie between them.
REACH = 4


@dataclass(frozen=True)
class Wanted:
    """A label to place.

    box       that it belongs to, with its line
    sizes_wh  of the label, the best text first; each but the last is tried at the box only
    is_small  the box must stay free
    """

    box: Rect
    sizes_wh: tuple[Size, ...]
    is_small: bool


@dataclass(frozen=True)
class Placed:
    """size: which of `sizes_wh` it is."""

    rect: Rect
    size: int


def place_labels(
    wanted: Sequence[Wanted], picture_wh: Size, keep_free: Sequence[Rect]
) -> list[Placed | None]:
    """A place for each label, in the order of `wanted`; None where there is no free one in reach.

    The first has the choice. keep_free: what no label may cover, such as small boxes without labels.
    """
    taken = [*keep_free, *(label.box for label in wanted if label.is_small)]
    placed = []
    for label in wanted:
        place = _place(label, picture_wh, np.array(taken, np.int64).reshape(-1, 4))
        if place is not None:
            taken.append(place.rect)
        placed.append(place)
    return placed


def _place(label: Wanted, picture_wh: Size, taken: IntArray) -> Placed | None:
    for size, label_wh in enumerate(label.sizes_wh):
        rects = _inside(_beside(label, label_wh, picture_wh), picture_wh)
        if (rect := _first_free(rects, taken)) is not None:
            return Placed(rect, size)
    rect = _nearest_free(label.box, label.sizes_wh[-1], picture_wh, taken)
    return None if rect is None else Placed(rect, len(label.sizes_wh) - 1)


def _beside(label: Wanted, label_wh: Size, picture_wh: Size) -> IntArray:
    """Places at the box, the best first: (P, 4), off the picture only where it is smaller than the label."""
    width, height = label_wh
    left, top, right, bottom = label.box
    starts, ends = left, right - width
    above, below = top - height, bottom
    corners = [(starts, above), (ends, above), (starts, below), (ends, below)]
    if label.is_small:
        beside = [(x, y) for y in (top, bottom - height) for x in (right, left - width)]
        corners += [*beside, (starts, above - height), (starts, below + height)]
    else:
        corners[1:1] = [(starts, top)]
        corners += [(ends, top), (starts, bottom - height), (ends, bottom - height), (starts, top + height)]
    # Moved into the picture. What then lies on its own small box is no place, and is found to be none.
    room = np.array(picture_wh) - label_wh
    places = np.clip(np.array(corners, np.int64), 0, np.maximum(0, room))
    return np.concatenate([places, places + label_wh], axis=1)


def _nearest_free(box: Rect, label_wh: Size, picture_wh: Size, taken: IntArray) -> Rect | None:
    """The free place nearest to the box, or None where no place in reach is free.

    A free label can be pushed left or right, up or down, until it touches something, the end of its reach, or
    stands in line with its box. So only such places are looked at.
    """
    # [2], of the label's left upper corner
    reach = REACH * label_wh[1]
    first = np.maximum(0, np.array(box[:2]) - reach - label_wh)
    last = np.minimum(np.array(picture_wh) - label_wh, np.array(box[2:]) + reach)
    if (first > last).any():
        return None
    in_way = taken[((taken[:, 2:] > first) & (taken[:, :2] < last + label_wh)).all(axis=1)]
    lefts, tops = (
        np.unique(np.concatenate([
            [first[axis], last[axis], box[axis], box[axis + 2] - label_wh[axis]],
            in_way[:, axis + 2], in_way[:, axis] - label_wh[axis],
        ]).clip(first[axis], last[axis]))
        for axis in (0, 1)
    )  # fmt: skip
    is_free = _are_free(lefts, tops, label_wh, in_way)
    if not is_free.any():
        return None
    # Between the nearest points of label and box; where they are equal, between their centres.
    (gap_x, centre_x), (gap_y, centre_y) = (
        (
            np.maximum(0, np.maximum(starts - box[axis + 2], box[axis] - starts - label_wh[axis])),
            np.abs(2 * starts + label_wh[axis] - box[axis] - box[axis + 2]),
        )
        for axis, starts in ((0, lefts), (1, tops))
    )
    gaps = gap_x**2 + gap_y[:, None] ** 2
    nearest = is_free & (gaps == gaps[is_free].min())
    centres = np.where(nearest, centre_x + centre_y[:, None], np.iinfo(np.int64).max)
    row, column = np.unravel_index(centres.argmin(), centres.shape)
    left, top = int(lefts[column]), int(tops[row])
    return left, top, left + label_wh[0], top + label_wh[1]


def _are_free(lefts: IntArray, tops: IntArray, label_wh: Size, taken: IntArray) -> npt.NDArray[np.bool_]:
    """Whether a label with that left upper corner covers nothing that is taken: (tops, lefts) bool.

    By a summed-area table. Its cells lie between all edges there are, so that its size is not the picture's.
    """
    width, height = label_wh
    xs = np.unique(np.concatenate([lefts, lefts + width, taken[:, 0], taken[:, 2]]))
    ys = np.unique(np.concatenate([tops, tops + height, taken[:, 1], taken[:, 3]]))
    table = np.zeros((len(ys) + 1, len(xs) + 1), np.int64)
    for x_side, y_side, step in ((0, 1, 1), (2, 1, -1), (0, 3, -1), (2, 3, 1)):
        rows, columns = np.searchsorted(ys, taken[:, y_side]), np.searchsorted(xs, taken[:, x_side])
        np.add.at(table, (rows + 1, columns + 1), step)
    for _ in range(2):  # first how many lie on each cell, then their sum to the left of it and above
        table = table.cumsum(axis=0).cumsum(axis=1)
    row_from, row_to = np.searchsorted(ys, tops), np.searchsorted(ys, tops + height)
    column_from, column_to = np.searchsorted(xs, lefts), np.searchsorted(xs, lefts + width)
    covered = (
        table[np.ix_(row_to, column_to)] - table[np.ix_(row_from, column_to)]
        - table[np.ix_(row_to, column_from)] + table[np.ix_(row_from, column_from)]
    )  # fmt: skip
    is_free: npt.NDArray[np.bool_] = covered == 0
    return is_free


def _inside(rects: IntArray, picture_wh: Size) -> IntArray:
    """Those that lie in the picture, in their order."""
    inside: IntArray = rects[((rects[:, :2] >= 0) & (rects[:, 2:] <= picture_wh)).all(axis=1)]
    return inside


def _first_free(rects: IntArray, taken: IntArray) -> Rect | None:
    """The first of `rects` that none of `taken` overlaps."""
    before_end = rects[:, None, :2] < taken[None, :, 2:]  # [P, K, 2]
    after_start = taken[None, :, :2] < rects[:, None, 2:]
    is_covered = np.any(np.all(before_end & after_start, axis=2), axis=1)
    free = np.flatnonzero(np.logical_not(is_covered))
    if not len(free):
        return None
    left, top, right, bottom = rects[free[0]].tolist()
    return left, top, right, bottom
