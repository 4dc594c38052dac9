"""FCOS's targets and losses as one writes them down from the paper.

What assign_speed.py compares with. Targets are made picture by picture and level by level, of all boxes at
once; losses of the whole batch at once, as public implementations do it, or picture by picture, which is
faster on a CPU, as one picture's numbers fit its caches. Nothing is slow on purpose.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from fcos_edge.train.predictions import Predictions
from fcos_edge.train.targets import Locations, Targets, Truth


def naive_assign(truth: Truth, locations: Locations) -> Targets:
    """The paper's rule: inside a box, in the level's range, the smallest area (arXiv 1904.01355)."""
    pictures = [
        _assign_picture(boxes[labels >= 0], labels[labels >= 0], locations)
        for boxes, labels in zip(*truth, strict=True)
    ]
    labels, ltrb, centerness = (torch.stack(part) for part in zip(*pictures, strict=True))
    return Targets(labels, ltrb, centerness)


def _assign_picture(boxes: Tensor, labels: Tensor, locations: Locations) -> tuple[Tensor, Tensor, Tensor]:
    found_labels, found_ltrb = [], []
    for level in locations.levels:
        x, y = locations.xy[level.first : level.first + level.height * level.width].unbind(1)
        x, y = x[:, None], y[:, None]
        ltrb = torch.stack([x - boxes[:, 0], y - boxes[:, 1], boxes[:, 2] - x, boxes[:, 3] - y], dim=2)
        largest = ltrb.max(dim=2).values
        is_allowed = (
            (ltrb.min(dim=2).values > 0) & (largest >= level.allowed[0]) & (largest <= level.allowed[1])
        )
        area = ((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])).repeat(len(x), 1)
        area[~is_allowed] = torch.inf
        smallest, index = area.min(dim=1)
        label = labels[index]
        label[smallest == torch.inf] = -1
        found_labels.append(label)
        found_ltrb.append(ltrb[torch.arange(len(x)), index])
    label, ltrb = torch.cat(found_labels), torch.cat(found_ltrb)
    centerness = torch.zeros(len(label))
    left, top, right, bottom = ltrb[label >= 0].unbind(1)
    across = torch.minimum(left, right) / torch.maximum(left, right)
    down = torch.minimum(top, bottom) / torch.maximum(top, bottom)
    centerness[label >= 0] = torch.sqrt(across * down)
    return label, ltrb, centerness


def naive_losses(predictions: Predictions, targets: Targets) -> list[Tensor]:
    """Equation 2 of the paper: focal, -ln IoU, binary cross entropy; distances in input pixels."""
    parts = (part.flatten(0, 1) for part in (*predictions, *targets[:3]))
    num_positive = (targets.labels >= 0).sum().clamp(min=1)
    return [term / num_positive for term in _sums(*parts)]


def naive_losses_by_picture(predictions: Predictions, targets: Targets) -> list[Tensor]:
    """The same, picture by picture."""
    # Taken apart once: of sixteen slices autograd would make sixteen gradients of the whole batch.
    parts = (part.unbind() for part in predictions)
    sums = [_sums(*of_picture) for of_picture in zip(*parts, *targets[:3], strict=True)]
    num_positive = (targets.labels >= 0).sum().clamp(min=1)
    return [torch.stack(term).sum() / num_positive for term in zip(*sums, strict=True)]


def _sums(
    logits: Tensor,
    ltrb: Tensor,
    centerness: Tensor,
    labels: Tensor,
    wanted: Tensor,
    wanted_centerness: Tensor,
) -> Sequence[Tensor]:
    is_positive = labels >= 0
    one_hot = torch.zeros_like(logits)
    one_hot[is_positive, labels[is_positive]] = 1
    entropy = F.binary_cross_entropy_with_logits(logits, one_hot, reduction="none")
    p = logits.sigmoid()
    p_t = p * one_hot + (1 - p) * (1 - one_hot)
    alpha_t = 0.25 * one_hot + 0.75 * (1 - one_hot)
    classes = (alpha_t * (1 - p_t) ** 2 * entropy).sum()

    a, b = ltrb[is_positive], wanted[is_positive]
    width = torch.minimum(a[:, 0], b[:, 0]) + torch.minimum(a[:, 2], b[:, 2])
    height = torch.minimum(a[:, 1], b[:, 1]) + torch.minimum(a[:, 3], b[:, 3])
    overlap = width * height
    areas = [(c[:, 0] + c[:, 2]) * (c[:, 1] + c[:, 3]) for c in (a, b)]
    boxes = -torch.log((overlap + 1) / (areas[0] + areas[1] - overlap + 1)).sum()
    quality = F.binary_cross_entropy_with_logits(
        centerness[is_positive], wanted_centerness[is_positive], reduction="sum"
    )
    return classes, boxes, quality
