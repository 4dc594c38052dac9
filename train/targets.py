"""Which location learns what: FCOS's assignment, section 3.1 and 3.2 of the paper (arXiv 1904.01355).

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
    """

    labels: Tensor
    ltrb: Tensor
    centerness: Tensor


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


@torch.no_grad()
def assign(truth: Truth, locations: Locations, center_radius: float) -> Targets:
    """Give each location the smallest box that it may learn.

    A location may learn a box that it lies inside of (min(l, t, r, b) > 0), within `center_radius`
    strides of the box's centre (0: anywhere inside), where max(l, t, r, b) lies in its level's range.
    Ties of area go to the box that comes first. A location inside an ignore region that learns no box
    is IGNORED.
    """
    boxes = truth.boxes_xyxy[:, None]  # [B, 1, M, 4]
    xy = locations.xy[None, :, None]  # [1, L, 1, 2]
    ltrb = torch.cat([xy - boxes[..., :2], boxes[..., 2:] - xy], dim=-1)  # [B, L, M, 4]
    is_inside = ltrb.amin(-1) > 0
    is_allowed = is_inside.clone()
    if center_radius:
        center = (boxes[..., :2] + boxes[..., 2:]) / 2
        reach = locations.stride[None, :, None] * center_radius
        is_allowed &= (xy - center).abs().amax(-1) < reach
    largest = ltrb.amax(-1)
    low, high = locations.ranges[None, :, None].unbind(-1)
    is_allowed &= (largest >= low) & (largest <= high)
    is_allowed &= truth.labels[:, None] >= 0

    width, height = (boxes[..., 2:] - boxes[..., :2]).unbind(-1)
    area = torch.where(is_allowed, width * height, torch.inf)
    if area.shape[-1] == 0:
        return _background(area)
    smallest, index = area.min(dim=-1)  # the first of equals
    is_positive = smallest < torch.inf
    in_ignored = (is_inside & (truth.labels[:, None] == IGNORED)).any(-1)
    labels = truth.labels.gather(1, index)
    labels = torch.where(is_positive, labels, torch.where(in_ignored, IGNORED, BACKGROUND))
    ltrb = ltrb.gather(2, index[..., None, None].expand(-1, -1, 1, 4))[:, :, 0]
    return Targets(labels, ltrb, torch.where(is_positive, centerness(ltrb), 0.0))


def centerness(ltrb: Tensor) -> Tensor:
    """sqrt(min(l, r) / max(l, r) * min(t, b) / max(t, b)), equation 3 of the paper; (..., 4) -> (...)."""
    left, top, right, bottom = ltrb.clamp(min=0).unbind(-1)
    across = torch.minimum(left, right) / torch.maximum(left, right).clamp(min=1e-6)
    down = torch.minimum(top, bottom) / torch.maximum(top, bottom).clamp(min=1e-6)
    return (across * down).sqrt()


def _background(area: Tensor) -> Targets:
    """Targets of a batch without a single box."""
    shape = area.shape[:2]
    labels = torch.full(shape, BACKGROUND, dtype=torch.int64, device=area.device)
    return Targets(labels, area.new_zeros(*shape, 4), area.new_zeros(shape))
