"""FCOS's own rule, sections 3.1 and 3.2 of the paper (arXiv 1904.01355).

B, L, M as in train/assign
"""

from __future__ import annotations

import torch

from fcos_edge.train.assign import Matches, Method
from fcos_edge.train.config import AssignConfig
from fcos_edge.train.predictions import Predictions
from fcos_edge.train.targets import Locations, Truth
from fcos_edge.train.windows import Sides, center_region, window_from, winners


def match(predictions: Predictions, truth: Truth, locations: Locations, config: AssignConfig) -> Matches:
    """Give each location the smallest box that it may learn.

    A location may learn a box that it lies inside of (min(l, t, r, b) > 0), within `center_radius`
    strides of the box's centre (0: anywhere inside), where max(l, t, r, b) lies in its level's range: both
    ends belong, or with `strict_ranges` neither. Ties of area go to the box that comes first.
    """
    boxes = truth.boxes_xyxy
    area = (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])
    area = torch.where(truth.labels >= 0, area, torch.inf)[..., None]
    places, areas = [], []
    for level in locations.levels:
        low, high = level.allowed
        lowest_xy, longest = center_region(boxes, level.stride * config.center_radius)
        # Farther from the right side, or the bottom, r or b is too large; and so for the other two.
        lowest_xy = torch.maximum(lowest_xy, boxes[..., 2:] - high)
        window = window_from(level, lowest_xy, min(longest, high))
        sides = Sides.of(window, boxes)
        largest = sides.largest()
        is_allowed = sides.are_inside()
        if config.center_radius:
            is_allowed &= sides.are_near_center(level.stride * config.center_radius)
        if config.strict_ranges:
            is_allowed &= (largest > low) & (largest < high)
        else:
            is_allowed &= (largest >= low) & (largest <= high)
        places.append(window.places.flatten(2))
        areas.append(torch.where(is_allowed.flatten(2), area, torch.inf))
    return Matches(winners(torch.cat(places, 2), torch.cat(areas, 2), len(locations.xy)))


ASSIGNERS = {"fcos": Method(match, is_looking=False)}
