"""ATSS: the statistics of a box's own candidates decide (arXiv 1912.02424, section 3.3), at FCOS's points.

B, L, M as in train/assign
K       candidates of a box
"""

from __future__ import annotations

import torch
from torch import Tensor

from fcos_edge.train.assign import Matches, Method
from fcos_edge.train.config import AssignConfig
from fcos_edge.train.predictions import Predictions
from fcos_edge.train.targets import Locations, Truth
from fcos_edge.train.windows import window_around, winners

ANCHOR_STRIDES = 8  # side of the square that stands for a location: the paper's one anchor


def match(predictions: Predictions, truth: Truth, locations: Locations, config: AssignConfig) -> Matches:
    """Give each location the box that its square overlaps most, among those that want it.

    The candidates of a box are the `top_k` locations of every level (all, where there are fewer) nearest to
    its centre, of equals the first. Each stands for a square of 8 strides around it. A box wants those inside
    it whose squares overlap it by at least the mean plus the (sample) standard deviation of its candidates'
    IoU. Ties of IoU go to the box that comes first. Ranges and `center_radius` are not looked at.
    """
    boxes = truth.boxes_xyxy
    center_xy = (boxes[..., :2] + boxes[..., 2:]) / 2
    found = []
    for level in locations.levels:
        count = min(config.top_k, level.height * level.width)
        window = window_around(level, center_xy, count)
        across, down = window.x - center_xy[..., :1, None], window.y - center_xy[..., 1:, None]
        # Stable, so that of equals the first is taken, as windows are in the order of locations.
        order = (across**2 + down**2).flatten(2).argsort(dim=2, stable=True)[..., :count]
        found.append(window.places.flatten(2).gather(2, order))
    places = torch.cat(found, 2)  # [B, M, K]
    xy, half = locations.xy[places], locations.stride[places, None] * (ANCHOR_STRIDES / 2)
    ious = _iou(torch.cat([xy - half, xy + half], -1), boxes[:, :, None])
    deviation = ious.std(2, correction=1 if ious.shape[2] > 1 else 0, keepdim=True)
    is_wanted = ious >= ious.mean(2, keepdim=True) + deviation
    is_wanted &= ((xy > boxes[:, :, None, :2]) & (xy < boxes[:, :, None, 2:])).all(-1)
    is_wanted &= (truth.labels >= 0)[..., None]
    return Matches(winners(places, torch.where(is_wanted, -ious, torch.inf), len(locations.xy)))


def _iou(a: Tensor, b: Tensor) -> Tensor:
    """Of boxes x1 y1 x2 y2 anywhere; (..., 4), (..., 4) -> (...). Not both may be empty."""
    sides = torch.minimum(a[..., 2:], b[..., 2:]) - torch.maximum(a[..., :2], b[..., :2])
    overlap = sides.clamp(min=0).prod(-1)
    return overlap / ((a[..., 2:] - a[..., :2]).prod(-1) + (b[..., 2:] - b[..., :2]).prod(-1) - overlap)


ASSIGNERS = {"atss": Method(match, is_looking=False)}
