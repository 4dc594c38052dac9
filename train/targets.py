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

from fcos_edge.train.config import AssignConfig

BACKGROUND = -1
IGNORED = -2


class Truth(NamedTuple):
    """Labelled boxes of a batch.

    boxes_xyxy  (B, M, 4) float32, input pixels
    labels      (B, M) int64; a class, or BACKGROUND for padding, or IGNORED for an ignore region
    """

    boxes_xyxy: Tensor
    labels: Tensor


class Locations(NamedTuple):
    """Constants of one input size.

    xy      (L, 2) float32, input pixels
    stride  (L,) float32
    ranges  (L, 2) float32, allowed largest distance, input pixels
    """

    xy: Tensor
    stride: Tensor
    ranges: Tensor


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
    """Locations of every level: (floor(s / 2) + x s, floor(s / 2) + y s)."""
    xy, stride_of, range_of = [], [], []
    for stride, allowed in zip(strides, config.ranges, strict=True):
        height, width = (-(-side // stride) for side in input_hw)
        y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
        xy.append(torch.stack([x, y], dim=-1).reshape(-1, 2) * stride + stride // 2)
        stride_of.append(torch.full((height * width,), float(stride)))
        range_of.append(torch.tensor(allowed, dtype=torch.float32).expand(height * width, 2))
    return Locations(
        torch.cat(xy).float().to(device), torch.cat(stride_of).to(device), torch.cat(range_of).to(device)
    )


def centerness(ltrb: Tensor) -> Tensor:
    """sqrt(min(l, r) / max(l, r) * min(t, b) / max(t, b)), equation 3 of the paper; (..., 4) -> (...)."""
    left, top, right, bottom = ltrb.clamp(min=0).unbind(-1)
    across = torch.minimum(left, right) / torch.maximum(left, right).clamp(min=1e-6)
    down = torch.minimum(top, bottom) / torch.maximum(top, bottom).clamp(min=1e-6)
    return (across * down).sqrt()
