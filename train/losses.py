"""The FCOS loss: classes, boxes, center-ness (arXiv 1904.01355, equation 2).

Two recipes. "paper": focal / N_pos + (-ln IoU) / N_pos + BCE of center-ness / N_pos. "improved": the
box term is GIoU (arXiv 1902.09630) weighted by the center-ness target and divided by the sum of those
targets. N_pos and that sum are averaged over workers and at least 1, so a batch without boxes gives a
finite loss and no box gradient.

B, L, C as in targets
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from fcos_edge.train.config import LossConfig
from fcos_edge.train.predictions import Predictions
from fcos_edge.train.targets import IGNORED, Locations, Targets

FOCAL_ALPHA = 0.25  # arXiv 1708.02002, table 1b
FOCAL_GAMMA = 2.0


class Losses(NamedTuple):
    """Three scalars; their sum is what trains."""

    classes: Tensor
    boxes: Tensor
    centerness: Tensor


def normalizers(targets: Targets, config: LossConfig) -> Tensor:
    """(2,) float32: the number of positives and the sum of box weights, of this process alone."""
    num_positive = (targets.labels >= 0).sum().float()
    weights = targets.centerness.sum().float() if config.weight_boxes else num_positive
    return torch.stack([num_positive, weights])


def mean_over_workers(sums: Tensor) -> Tensor:
    """The mean over all processes, each at least 1."""
    if dist.is_available() and dist.is_initialized():
        sums = sums.clone()
        dist.all_reduce(sums)
        sums = sums / dist.get_world_size()
    return sums.clamp(min=1.0)


def detection_losses(
    predictions: Predictions, targets: Targets, locations: Locations, config: LossConfig, normalizers: Tensor
) -> Losses:
    """The three loss terms of a batch.

    predictions  distances in input pixels
    normalizers  (2,) what the class and center-ness terms, and the box term, are divided by
    """
    num_positive, box_weights = normalizers
    is_positive = targets.labels >= 0
    one_hot = F.one_hot(targets.labels.clamp(min=0), predictions.logits.shape[-1])
    one_hot = (one_hot * is_positive[..., None]).to(predictions.logits.dtype)
    focal = focal_loss(predictions.logits, one_hot) * (targets.labels != IGNORED)[..., None]

    wanted = targets.ltrb[is_positive]
    target_centerness = targets.centerness[is_positive]
    box_loss = giou_loss if config.boxes == "giou" else iou_loss
    boxes = box_loss(predictions.ltrb[is_positive], wanted)
    if config.weight_boxes:
        boxes = boxes * target_centerness
    centerness = F.binary_cross_entropy_with_logits(
        predictions.centerness[is_positive], target_centerness, reduction="sum"
    )
    return Losses(focal.sum() / num_positive, boxes.sum() / box_weights, centerness / num_positive)


def focal_loss(logits: Tensor, one_hot: Tensor) -> Tensor:
    """Elementwise -alpha_t (1 - p_t)^gamma ln p_t, arXiv 1708.02002 equation 5."""
    cross_entropy = F.binary_cross_entropy_with_logits(logits, one_hot, reduction="none")
    probability = logits.sigmoid()
    p_t = probability * one_hot + (1 - probability) * (1 - one_hot)
    alpha_t = FOCAL_ALPHA * one_hot + (1 - FOCAL_ALPHA) * (1 - one_hot)
    return alpha_t * (1 - p_t) ** FOCAL_GAMMA * cross_entropy


def iou_loss(ltrb: Tensor, wanted: Tensor) -> Tensor:
    """-ln IoU of boxes around the same locations, arXiv 1608.01471; (P, 4), (P, 4) -> (P,)."""
    overlap, union, _ = _overlap(ltrb, wanted)
    return -torch.log((overlap + 1) / (union + 1))  # + 1 square pixel: finite for empty boxes


def giou_loss(ltrb: Tensor, wanted: Tensor) -> Tensor:
    """1 - GIoU of boxes around the same locations, arXiv 1902.09630; (P, 4), (P, 4) -> (P,)."""
    overlap, union, hull = _overlap(ltrb, wanted)
    return 1 - overlap / union.clamp(min=1e-6) + (hull - union) / hull.clamp(min=1e-6)


def _overlap(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Areas of intersection, union and enclosing box."""

    def area(ltrb: Tensor) -> Tensor:
        return (ltrb[:, 0] + ltrb[:, 2]) * (ltrb[:, 1] + ltrb[:, 3])

    overlap = area(torch.minimum(a, b))
    return overlap, area(a) + area(b) - overlap, area(torch.maximum(a, b))
