"""What is found at each class's operating threshold, and how sure AP is.

An interval is the middle 95 % over draws of as many pictures from these, with replacement.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fcos_edge.detections import Detections
from fcos_edge.train.evaluation.bootstrap import interval, resample
from fcos_edge.train.evaluation.coco_matches import match_split
from fcos_edge.train.evaluation.evaluate import LabelledSplit

DRAWS = 1000
_DIGITS = 4


@dataclass(frozen=True)
class ClassAtThreshold:
    """One class.

    hits         boxes that are found at IoU 0.5 with at least `threshold`
    detections   those with at least `threshold`, without the ones that only match a crowd
    ap_interval  None without boxes
    """

    name: str
    threshold: float
    boxes: int
    hits: int
    detections: int
    ap_interval: tuple[float, float] | None

    def to_dict(self) -> dict[str, Any]:
        recall = round(self.hits / self.boxes, _DIGITS) if self.boxes else None
        return {
            "threshold": round(self.threshold, _DIGITS), "hits": self.hits, "detections": self.detections,
            "recall": recall,
            "precision": round(self.hits / self.detections, _DIGITS) if self.detections else None,
            "AP_interval_95": _rounded(self.ap_interval),
        }  # fmt: skip


@dataclass(frozen=True)
class AtThreshold:
    """All classes, and the interval of the mean AP of those that have boxes."""

    classes: tuple[ClassAtThreshold, ...]
    ap_interval: tuple[float, float] | None

    def add_to(self, document: dict[str, Any]) -> dict[str, Any]:
        """What `Evaluation.to_dict` gave, with these figures beside its own."""
        classes = {row.name: {**document["classes"][row.name], **row.to_dict()} for row in self.classes}
        return {**document, "AP_interval_95": _rounded(self.ap_interval), "classes": classes}


def measure_at_threshold(
    labelled: LabelledSplit, found: Sequence[Detections], thresholds: Sequence[float], draws: int = DRAWS
) -> AtThreshold:
    """Match detections, all above the candidate threshold, with the labels of their pictures.

    found       picture by picture, with labels into the split's classes
    thresholds  the operating threshold of each class
    """
    matches = match_split(labelled, found)
    drawn = resample(matches, thresholds, draws, seed=0).ap  # [R, C]
    rows = tuple(
        ClassAtThreshold(
            name, threshold, int(one.boxes.sum()), int(one.hits_at(threshold).sum()),
            int(one.count_at(threshold).sum()), interval(drawn[:, place]),
        )
        for place, (name, one, threshold) in enumerate(
            zip(labelled.classes, matches, thresholds, strict=True)
        )
    )  # fmt: skip
    is_known = ~np.isnan(drawn)
    sums = np.where(is_known, drawn, 0).sum(axis=1)
    means = np.where(is_known.any(axis=1), sums / np.maximum(is_known.sum(axis=1), 1), np.nan)
    return AtThreshold(rows, interval(means))


def _rounded(ends: tuple[float, float] | None) -> list[float] | None:
    return None if ends is None else [round(end, _DIGITS) for end in ends]
