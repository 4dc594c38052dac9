"""FCOS's own rule, sections 3.1 and 3.2 of the paper (arXiv 1904.01355)."""

from __future__ import annotations

import torch

from fcos_edge.train.assign import Matcher, Matches
from fcos_edge.train.config import AssignConfig
from fcos_edge.train.predictions import Predictions
from fcos_edge.train.targets import Locations, Truth


def match(predictions: Predictions, truth: Truth, locations: Locations, config: AssignConfig) -> Matches:
    """Give each location the smallest box that it may learn.

    A location may learn a box that it lies inside of (min(l, t, r, b) > 0), within `center_radius`
    strides of the box's centre (0: anywhere inside), where max(l, t, r, b) lies in its level's range.
    Ties of area go to the box that comes first.
    """
    boxes = truth.boxes_xyxy[:, None]  # [B, 1, M, 4]
    xy = locations.xy[None, :, None]  # [1, L, 1, 2]
    ltrb = torch.cat([xy - boxes[..., :2], boxes[..., 2:] - xy], dim=-1)  # [B, L, M, 4]
    is_allowed = ltrb.amin(-1) > 0
    if config.center_radius:
        center = (boxes[..., :2] + boxes[..., 2:]) / 2
        reach = locations.stride[None, :, None] * config.center_radius
        is_allowed &= (xy - center).abs().amax(-1) < reach
    largest = ltrb.amax(-1)
    low, high = locations.ranges[None, :, None].unbind(-1)
    if config.strict_ranges:
        is_allowed &= (largest > low) & (largest < high)
    else:
        is_allowed &= (largest >= low) & (largest <= high)
    is_allowed &= truth.labels[:, None] >= 0
    width, height = (boxes[..., 2:] - boxes[..., :2]).unbind(-1)
    smallest, index = torch.where(is_allowed, width * height, torch.inf).min(dim=-1)  # the first of equals
    return Matches(torch.where(smallest < torch.inf, index, -1))


ASSIGNERS: dict[str, Matcher] = {"fcos": match}
