"""Task-aligned assignment: where classes and boxes agree (TOOD, arXiv 2108.07755, section 3.2).

B, L, C, M as in train/assign
K          locations that a box takes
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from fcos_edge.train.assign import Matches, Method
from fcos_edge.train.config import AssignConfig
from fcos_edge.train.predictions import Predictions
from fcos_edge.train.targets import Locations, Truth
from fcos_edge.train.windows import winners

ALPHA = 1.0  # the paper's exponents of score and IoU, section 4.1
BETA = 6.0


def match(predictions: Predictions, truth: Truth, locations: Locations, config: AssignConfig) -> Matches:
    """Give each location the box that its predicted box overlaps most, among those that take it.

    t = s^alpha u^beta, where s is the location's probability of the box's class, and u the IoU of its
    predicted box. A box takes the `top_k` locations inside it with the largest t, if u is above 0. Ties of
    IoU go to the box that comes first; ties of t at the last place taken are broken anyhow. The quality is
    t, scaled so that the largest of a box's locations is the largest IoU of those. Ranges and
    `center_radius` are not looked at.
    """
    count = len(locations.xy)
    # One (B, M, L) tensor a time: with a last axis of 4 these would be the largest of the whole step.
    x, y = locations.xy.unbind(-1)
    x1, y1, x2, y2 = truth.boxes_xyxy[..., None].unbind(2)
    left, top, right, bottom = predictions.ltrb[:, None].unbind(-1)
    is_inside = (x > x1) & (x < x2) & (y > y1) & (y < y2) & (truth.labels >= 0)[..., None]
    overlap = torch.minimum(x - x1, left) + torch.minimum(x2 - x, right)
    overlap = overlap * (torch.minimum(y - y1, top) + torch.minimum(y2 - y, bottom))
    union = (x2 - x1) * (y2 - y1) + (left + right) * (top + bottom) - overlap
    ious = torch.where(is_inside, overlap / union, 0.0)  # inside a box, it has an area

    label = truth.labels.clamp(min=0)[..., None].expand(-1, -1, count)
    logits = predictions.logits.transpose(1, 2).gather(1, label)
    # The logarithm: u^6 of a bad box would be 0 in float32.
    log_t = ALPHA * F.logsigmoid(logits) + BETA * ious.log()
    log_t, places = log_t.topk(min(config.top_k, count), dim=2)  # [B, M, K]
    ious = ious.gather(2, places)
    is_taken = log_t > -torch.inf
    box = winners(places, torch.where(is_taken, -ious, torch.inf), count)

    number = torch.arange(truth.labels.shape[1], device=box.device)[:, None]
    is_won = is_taken & (box.gather(1, places.flatten(1)).view_as(places) == number)
    log_t = torch.where(is_won, log_t, -torch.inf)
    scale = torch.where(is_won, ious, 0.0).amax(2, keepdim=True)
    quality = (log_t - log_t.amax(2, keepdim=True)).exp() * scale
    quality = torch.where(is_won, quality, 0.0)  # a box that won nothing: inf - inf
    soft = ious.new_zeros(len(box), count)
    soft.scatter_reduce_(1, places.flatten(1), quality.flatten(1), "amax")
    return Matches(box, soft)


ASSIGNERS = {"task_aligned": Method(match, is_looking=True)}
