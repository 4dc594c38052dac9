"""Slow, obvious versions of the training code: plain loops in float64, written from the definitions.

Focal loss: arXiv 1708.02002. Quality focal loss: arXiv 2006.04388. GIoU: arXiv 1902.09630. The assignments
have a file of their own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

BACKGROUND, IGNORED = -1, -2
Box = tuple[float, float, float, float]
Array = npt.NDArray[Any]


class Target(NamedTuple):
    """What one location should say; ltrb and centerness only where label is a class."""

    label: int
    ltrb: Box = (0, 0, 0, 0)
    centerness: float = 0


def conv_same(x: Array, weight: Array, stride: int, groups: int) -> Array:
    """TensorFlow's SAME convolution of one picture: (I, H, W), (O, I / groups, k, k) -> (O, h, w)."""
    channels_out, channels_per_group, kernel, _ = weight.shape
    _, height, width = x.shape
    out_h, out_w = math.ceil(height / stride), math.ceil(width / stride)
    # TensorFlow: the smaller half of what is missing goes before.
    top = max((out_h - 1) * stride + kernel - height, 0) // 2
    left = max((out_w - 1) * stride + kernel - width, 0) // 2
    out = np.zeros((channels_out, out_h, out_w))
    for o in range(channels_out):
        first = o // (channels_out // groups) * channels_per_group
        for y in range(out_h):
            for column in range(out_w):
                for i in range(channels_per_group):
                    for ky in range(kernel):
                        for kx in range(kernel):
                            source_y, source_x = y * stride + ky - top, column * stride + kx - left
                            if 0 <= source_y < height and 0 <= source_x < width:
                                out[o, y, column] += x[first + i, source_y, source_x] * weight[o, i, ky, kx]
    return out


def focal(logit: float, is_class: bool, alpha: float = 0.25, gamma: float = 2.0) -> float:
    """-alpha_t (1 - p_t)^gamma ln p_t"""
    p = 1 / (1 + math.exp(-logit))
    p_t, alpha_t = (p, alpha) if is_class else (1 - p, 1 - alpha)
    return float(-alpha_t * (1 - p_t) ** gamma * math.log(p_t))


def quality_focal(logit: float, quality: float) -> float:
    """|q - p|^2 (-q ln p - (1 - q) ln(1 - p))"""
    p = 1 / (1 + math.exp(-logit))
    return (quality - p) ** 2 * -(quality * math.log(p) + (1 - quality) * math.log(1 - p))


def binary_cross_entropy(logit: float, wanted: float) -> float:
    """-q ln p - (1 - q) ln(1 - p)"""
    p = 1 / (1 + math.exp(-logit))
    return -(wanted * math.log(p) + (1 - wanted) * math.log(1 - p))


def iou(a: Sequence[float], b: Sequence[float]) -> float:
    """Of two boxes x1 y1 x2 y2; 0 where both are empty."""
    overlap = intersection(a, b)
    union = area(a) + area(b) - overlap
    return overlap / union if union else 0.0


def giou(a: Sequence[float], b: Sequence[float]) -> float:
    """IoU - (hull - union) / hull"""
    overlap = intersection(a, b)
    union = area(a) + area(b) - overlap
    hull = (max(a[2], b[2]) - min(a[0], b[0])) * (max(a[3], b[3]) - min(a[1], b[1]))
    return overlap / union - (hull - union) / hull


def intersection(a: Sequence[float], b: Sequence[float]) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    return max(width, 0) * max(height, 0)


def area(box: Sequence[float]) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])


def f1_at(
    threshold: float,
    found: Sequence[Sequence[tuple[Sequence[float], float]]],
    wanted: Sequence[Sequence[Sequence[float]]],
    ignored: Sequence[Sequence[Sequence[float]]],
) -> float:
    """F1 of one class when only detections of at least `threshold` exist.

    found    per picture (box, score), best first
    wanted   per picture boxes to be found
    ignored  per picture regions in which a wrong detection is not counted
    """
    hits = misses = 0
    for detections, boxes, regions in zip(found, wanted, ignored, strict=True):
        free = list(range(len(boxes)))
        for box, score in detections:
            if score < threshold:
                continue
            best = max(free, key=lambda i: iou(box, boxes[i]), default=None)
            if best is not None and iou(box, boxes[best]) >= 0.5:
                hits += 1
                free.remove(best)
            elif not any(intersection(box, region) / area(box) >= 0.5 for region in regions):
                misses += 1
    total = hits + misses + sum(map(len, wanted))
    return 2 * hits / total if total else 0.0
