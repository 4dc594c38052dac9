"""Whether two detectors find the same things in a picture.

A detection with a score of at least 0.3 is asked for a partner on the other side: same class, IoU of at
least 0.75, a score of at least 0.2. The partner may score less, because a score just above a threshold
on one side is just below it on the other. Nobody is the partner of two. Both sides are asked.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fcos_edge.detections import Detections
from fcos_edge.train.thresholds import iou_matrix

ASKED_SCORE = 0.3
PARTNER_SCORE = 0.2
PARTNER_IOU = 0.75


@dataclass(frozen=True)
class Partners:
    """Counts over any number of pictures and both directions."""

    asked: int = 0
    matched: int = 0

    def __add__(self, other: Partners) -> Partners:
        return Partners(self.asked + other.asked, self.matched + other.matched)

    @property
    def rate(self) -> float | None:
        """In percent; None where nothing was detected."""
        return 100 * self.matched / self.asked if self.asked else None


def match_both_ways(first: Detections, second: Detections) -> Partners:
    """The detections of either side, each asked for a partner on the other."""
    return _match(first, second) + _match(second, first)


def _match(asking: Detections, others: Detections) -> Partners:
    asked, candidates = asking.filtered(ASKED_SCORE), others.filtered(PARTNER_SCORE)
    overlap = iou_matrix(asked.boxes_xyxy, candidates.boxes_xyxy)
    overlap[asked.labels[:, None] != candidates.labels] = -1
    matched = 0
    for row in range(len(asked)):  # best score first
        if overlap.shape[1] and overlap[row].max() >= PARTNER_IOU:
            matched += 1
            overlap[:, np.argmax(overlap[row])] = -1
    return Partners(len(asked), matched)
