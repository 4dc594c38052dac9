"""The FCOS loss: classes, boxes, center-ness (arXiv 1904.01355, equation 2).

Two recipes. "paper": focal / N_pos + (-ln IoU) / N_pos + BCE of center-ness / N_pos. "improved": the
box term is GIoU weighted by the center-ness target and divided by the sum of those targets. N_pos and that
sum are averaged over workers, and at least 1 for all of them together: a batch without boxes gives a finite
loss and no box gradient. Where the assignment asks for soft class scores, these are the box weights instead.

B, L, C  as in predictions
P        positive locations of the batch
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from fcos_edge.train.config import LossConfig
from fcos_edge.train.focal import Positives, focal_sum
from fcos_edge.train.overlap import giou_loss, iou, iou_loss
from fcos_edge.train.predictions import Predictions
from fcos_edge.train.targets import IGNORED, Targets


class Losses(NamedTuple):
    """Three scalars; their sum is what trains."""

    classes: Tensor
    boxes: Tensor
    centerness: Tensor


def normalizers(targets: Targets, config: LossConfig) -> Tensor:
    """(2,) float32: the number of positives and the sum of box weights, of this process alone."""
    num_positive = (targets.labels >= 0).sum().float()
    weights = _box_weights(targets).sum().float() if config.weight_boxes else num_positive
    return torch.stack([num_positive, weights])


def mean_over_workers(sums: Tensor) -> Tensor:
    """The mean over all processes; their sum is taken as 1 at least.

    So gradients that are averaged over processes are those of one process with the whole batch, also where
    it holds hardly a box.
    """
    if not dist.is_available() or not dist.is_initialized():
        return sums.clamp(min=1.0)
    sums = sums.clone()
    dist.all_reduce(sums)
    return sums.clamp(min=1.0) / dist.get_world_size()


def detection_losses(
    predictions: Predictions, targets: Targets, config: LossConfig, normalizers: Tensor
) -> Losses:
    """The three loss terms of a batch.

    predictions  distances in input pixels
    normalizers  (2,) what the class and center-ness terms, and the box term, are divided by

    Without a single box the two last terms are 0 with a gradient of 0, so every parameter still has one. A
    GPU is waited for once: the number of positives decides the shapes of the two last terms.
    """
    num_positive, box_weights = normalizers
    labels = targets.labels.flatten()
    chosen = (labels >= 0).nonzero().squeeze(1)  # [P]

    def of_positives(values: Tensor) -> Tensor:
        return values.flatten(0, 1).index_select(0, chosen)

    found, wanted = of_positives(predictions.ltrb), of_positives(targets.ltrb)
    overlap = iou(found.detach(), wanted)
    soft = None
    if config.classes == "quality_focal":
        soft = overlap if targets.quality is None else of_positives(targets.quality)
    positives = Positives(chosen, labels.index_select(0, chosen), soft)
    classes = focal_sum(predictions.logits.flatten(0, 1), labels == IGNORED, positives, num_positive)

    boxes = (giou_loss if config.boxes == "giou" else iou_loss)(found, wanted)
    if config.weight_boxes:
        boxes = boxes * of_positives(_box_weights(targets))

    if config.quality == "none":
        centerness = predictions.centerness[:0].sum()
    else:
        centerness = F.binary_cross_entropy_with_logits(
            of_positives(predictions.centerness),
            overlap if config.quality == "iou" else of_positives(targets.centerness),
            reduction="sum",
        )
    return Losses(classes, boxes.sum() / box_weights, centerness / num_positive)


def _box_weights(targets: Targets) -> Tensor:
    """(B, L), 0 where there is no class."""
    return targets.centerness if targets.quality is None else targets.quality
