"""SimOTA: each box takes the few locations that it costs least (YOLOX, arXiv 2107.08430, section 2.1).

B, L, C, M as in train/assign
K          locations that may learn a box
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from fcos_edge.train.assign import Matches, Method
from fcos_edge.train.config import AssignConfig
from fcos_edge.train.overlap import iou
from fcos_edge.train.predictions import Predictions
from fcos_edge.train.targets import Locations, Truth
from fcos_edge.train.windows import Sides, center_region, window_from, winners

IOU_WEIGHT = 3.0  # lambda of the paper's equation 1, as YOLOX sets it
LEAST_IOU = 1e-8  # keeps -ln IoU finite


def match(predictions: Predictions, truth: Truth, locations: Locations, config: AssignConfig) -> Matches:
    """Give each location the box that it costs least, among those that take it.

    A location may learn a box that it lies inside of, within `center_radius` strides of its centre (0:
    anywhere inside): FCOS can say no box that does not hold the location, so none is taken outside, where
    YOLOX would fall back on some. The cost is

        sum over classes of BCE(class probability, is the box's class) + 3 (-ln IoU of the predicted box)

    without center-ness. A box takes its k cheapest locations: k is the sum of its `top_k` largest IoUs,
    rounded down, at least 1. Ties of cost go to the box that comes first. Without a radius K is L.
    """
    boxes = truth.boxes_xyxy
    found, are_allowed, wanted = [], [], []
    for level in locations.levels:
        reach = level.stride * config.center_radius
        window = window_from(level, *center_region(boxes, reach))
        sides = Sides.of(window, boxes)
        is_allowed = sides.are_inside() & (truth.labels >= 0)[..., None, None]
        if reach:
            is_allowed &= sides.are_near_center(reach)
        found.append(window.places.flatten(2))
        are_allowed.append(is_allowed.flatten(2))
        wanted.append(torch.stack([side.expand(window.places.shape) for side in sides], -1).flatten(2, 3))
    places, is_allowed = torch.cat(found, 2), torch.cat(are_allowed, 2)  # [B, M, K]
    picture = torch.arange(len(boxes), device=places.device)[:, None, None]
    ious = iou(predictions.ltrb[picture, places], torch.cat(wanted, 2).clamp(min=0))
    ious = torch.where(is_allowed, ious, 0.0)

    # BCE of a logit x against 1 is softplus(x) - x, against 0 softplus(x).
    background = F.softplus(predictions.logits).sum(-1)  # [B, L]
    own = predictions.logits[picture, places, truth.labels.clamp(min=0)[..., None]]
    cost = background[picture, places] - own - IOU_WEIGHT * torch.log(ious + LEAST_IOU)
    cost = torch.where(is_allowed, cost, torch.inf)

    most = min(config.top_k, places.shape[2])
    taken = ious.topk(most, dim=2).values.sum(2).floor().clamp(min=1)  # [B, M]
    cheapest, order = cost.topk(most, dim=2, largest=False)
    rank = torch.arange(most, device=places.device)
    cheapest = torch.where(rank < taken[..., None], cheapest, torch.inf)
    return Matches(winners(places.gather(2, order), cheapest, len(locations.xy)))


ASSIGNERS = {"simota": Method(match, is_looking=True)}
