"""Whether two detectors find the same things in a picture.

A detection with a score of at least 0.3 is asked for a partner on the other side: same class, IoU of at
least 0.75, a score of at least 0.2. The partner may score less, because a score just above a threshold
on one side is just below it on the other. Nobody is the partner of two. Both sides are asked.
"""

from __future__ import annotations

from dataclasses import dataclass

from fcos_edge.detections import Detections
from fcos_edge.matching import count_unmatched, partner_pairs

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
    asked = asking.filtered(ASKED_SCORE)
    # The partner's score has a limit of its own, which stands in the filter and not in a ratio.
    possible = partner_pairs(asked, others.filtered(PARTNER_SCORE), iou=PARTNER_IOU, score_ratio=0)
    return Partners(len(asked), len(asked) - count_unmatched(possible))
