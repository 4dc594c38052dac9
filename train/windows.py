"""The few locations near each box, instead of all locations for every box.

B  pictures of a batch
M  boxes of a picture, padded to the most of the batch
H  rows of the window, at most those of the level
W  columns of the window, at most those of the level
L  locations of all levels

A box learns at a handful of places. Where a rule bounds how far they lie from its sides or its centre, a
window of fixed size holds them all: at 800x1333 a few dozen locations a box, not 22,400. The size follows
from strides and options alone, so nothing is waited for on a GPU.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from fcos_edge.train.targets import Level

# In cells. A window may hold more than is asked for, never less: rounding must not lose its first column.
SLACK = 1e-3


class Window(NamedTuple):
    """Locations of one level near each box.

    x       (B, M, 1, W) float32, input pixels
    y       (B, M, H, 1) float32
    places  (B, M, H, W) int64, indices among the locations of all levels
    """

    x: Tensor
    y: Tensor
    places: Tensor


class Sides(NamedTuple):
    """Distances from a window's locations to the sides of its box: across (B, M, 1, W), down (B, M, H, 1)."""

    left: Tensor
    top: Tensor
    right: Tensor
    bottom: Tensor

    @classmethod
    def of(cls, window: Window, boxes_xyxy: Tensor) -> Sides:
        """boxes_xyxy: (B, M, 4)"""
        x1, y1, x2, y2 = boxes_xyxy[..., None, None].unbind(2)
        return cls(window.x - x1, window.y - y1, x2 - window.x, y2 - window.y)

    def are_inside(self) -> Tensor:
        """(B, M, H, W): the location lies inside the box, not on its border."""
        return (torch.minimum(self.left, self.right) > 0) & (torch.minimum(self.top, self.bottom) > 0)

    def are_near_center(self, reach: float) -> Tensor:
        """(B, M, H, W): less than `reach` pixels from the box's centre, along both axes."""
        # Half the difference of two sides is the distance from the middle.
        across, down = (self.left - self.right).abs(), (self.top - self.bottom).abs()
        return (across < 2 * reach) & (down < 2 * reach)

    def largest(self) -> Tensor:
        """(B, M, H, W): max(l, t, r, b)."""
        return torch.maximum(torch.maximum(self.left, self.right), torch.maximum(self.top, self.bottom))


def center_region(boxes_xyxy: Tensor, reach: float) -> tuple[Tensor, float]:
    """Where a box learns that is learned within `reach` pixels of its centre (0: wherever inside).

    boxes_xyxy: (B, M, 4)
    returns:    its lowest x and y (B, M, 2), and the longest side that such a region can have
    """
    lowest_xy = boxes_xyxy[..., :2]
    if not reach:
        return lowest_xy, math.inf
    center_xy = (lowest_xy + boxes_xyxy[..., 2:]) / 2
    return torch.maximum(lowest_xy, center_xy - reach), 2 * reach


def window_from(level: Level, lowest_xy: Tensor, longest: float) -> Window:
    """All locations of a level from `lowest_xy` to `lowest_xy + longest`, and maybe some more.

    lowest_xy: (B, M, 2) float32, input pixels
    longest:   input pixels, or infinite
    """
    first = torch.ceil((lowest_xy - level.stride // 2) / level.stride - SLACK)
    cells = math.inf if math.isinf(longest) else math.floor(longest / level.stride + 2 * SLACK) + 1
    return _window(level, first, cells)


def window_around(level: Level, center_xy: Tensor, count: int) -> Window:
    """The `count` locations of a level that are nearest to `center_xy`, and more.

    center_xy: (B, M, 2) float32, input pixels
    count:     at most the locations of the level
    """
    # Of a row, the k nearest to a place are the nearest one and k // 2 to either side at most; at the
    # border, the first or last k. What lies outside those columns has k nearer ones in its own row.
    nearest = torch.ceil((center_xy - level.stride // 2) / level.stride - 0.5)
    return _window(level, nearest - count // 2, 2 * (count // 2) + 1)


def _window(level: Level, first: Tensor, cells: float) -> Window:
    """Columns and rows from `first` (B, M, 2), shifted to lie on the level."""
    columns = _steps(first[..., 0], level.width, cells)[:, :, None, :]
    rows = _steps(first[..., 1], level.height, cells)[:, :, :, None]
    half = level.stride // 2
    x, y = ((at * level.stride + half).to(first.dtype) for at in (columns, rows))
    return Window(x, y, level.first + rows * level.width + columns)


def _steps(first: Tensor, size: int, cells: float) -> Tensor:
    """(B, M) -> (B, M, K) int64: K whole numbers in a row, all in 0..size - 1."""
    count = int(min(cells, size))
    start = first.clamp(0, size - count).long()
    return start[..., None] + torch.arange(count, device=first.device)


def winners(places: Tensor, cost: Tensor, count: int) -> Tensor:
    """Give every location the box that it costs least, the first of equals.

    places:  (B, M, K) int64, locations that a box may take
    cost:    (B, M, K) float32, infinite where it may not
    count:   L
    returns: (B, L) int64, index of the box, or -1
    """
    boxes = places.shape[1]
    flat_places, flat_cost = places.flatten(1), cost.flatten(1)
    best = cost.new_full((len(places), count), torch.inf)
    best.scatter_reduce_(1, flat_places, flat_cost, "amin")
    is_best = (flat_cost == best.gather(1, flat_places)) & (flat_cost < torch.inf)
    number = torch.arange(boxes, device=places.device).repeat_interleave(places.shape[2])
    box = places.new_full((len(places), count), boxes)
    box.scatter_reduce_(1, flat_places, torch.where(is_best, number, boxes), "amin")
    return torch.where(box < boxes, box, -1)
