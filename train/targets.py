"""What stands where, and what each location should say (arXiv 1904.01355, sections 3.1 and 3.2).

B     pictures of a batch
L     locations of all levels, P3 first, row by row
M     boxes of a picture, padded to the most of the batch
ltrb  distances from a location to the four sides of its box, input pixels
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from fcos_edge.errors import UsageError
from fcos_edge.train.config import AssignConfig
from fcos_edge.train.data.dataset import BACKGROUND as BACKGROUND
from fcos_edge.train.data.dataset import IGNORED as IGNORED


class Truth(NamedTuple):
    """Labelled boxes of a batch.

    boxes_xyxy  (B, M, 4) float32, input pixels
    labels      (B, M) int64; a class, or BACKGROUND for padding, or IGNORED for an ignore region
    """

    boxes_xyxy: Tensor
    labels: Tensor


class Level(NamedTuple):
    """One level of the grid, known without asking the device.

    first    index of its first location among those of all levels
    allowed  smallest and largest distance that it learns, input pixels, where the assignment looks at it
    """

    stride: int
    height: int
    width: int
    first: int
    allowed: tuple[float, float]


class Locations(NamedTuple):
    """Constants of one input size.

    xy      (L, 2) float32, input pixels
    stride  (L,) float32
    """

    xy: Tensor
    stride: Tensor
    levels: tuple[Level, ...]


class Targets(NamedTuple):
    """What each location should say.

    labels      (B, L) int64, a class, BACKGROUND or IGNORED (no class loss)
    ltrb        (B, L, 4) float32, input pixels; meaningless where there is no class
    centerness  (B, L) float32, 0..1; 0 where there is no class
    quality     (B, L) float32, 0..1; the class score that the assignment asks for, 0 where there is no class;
                None where the assignment asks for none
    """

    labels: Tensor
    ltrb: Tensor
    centerness: Tensor
    quality: Tensor | None = None


def make_locations(
    input_hw: tuple[int, int], strides: tuple[int, ...], config: AssignConfig, device: torch.device
) -> Locations:
    """Locations of every level: (floor(s / 2) + x s, floor(s / 2) + y s).

    Raises UsageError where FCOS's own rule has not one range a level.
    """
    ranges = config.ranges
    if config.method != "fcos":
        ranges = ((0.0, float("inf")),) * len(strides)
    elif len(ranges) != len(strides):
        raise UsageError(f"{len(ranges)} ranges for {len(strides)} levels; give assign.ranges one a level")
    levels: list[Level] = []
    xy, stride_of, first = [], [], 0
    for stride, allowed in zip(strides, ranges, strict=True):
        height, width = (-(-side // stride) for side in input_hw)
        levels.append(Level(stride, height, width, first, allowed))
        y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
        xy.append(torch.stack([x, y], dim=-1).reshape(-1, 2) * stride + stride // 2)
        stride_of.append(torch.full((height * width,), float(stride)))
        first += height * width
    return Locations(torch.cat(xy).float().to(device), torch.cat(stride_of).to(device), tuple(levels))


def centerness(ltrb: Tensor) -> Tensor:
    """sqrt(min(l, r) / max(l, r) * min(t, b) / max(t, b)), equation 3 of the paper; (..., 4) -> (...)."""
    near, far = ltrb.clamp(min=0).chunk(2, -1)  # left and top, right and bottom
    across, down = (torch.minimum(near, far) / torch.maximum(near, far).clamp(min=1e-6)).unbind(-1)
    return (across * down).sqrt()
