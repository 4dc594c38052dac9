"""Why a detection is a false alarm, and why a labelled box is missed: the likeliest reason, in one picture.

At the operating thresholds misses are labelled boxes, crowds and difficult ones not counted, that no
detection of their class takes at IoU 0.5; false alarms are detections that take no box and count. Who takes
which box is COCO's rule.

Reasons of false alarms are those of TIDE (Bolya et al., ECCV 2020, arXiv 2008.08115), told by overlap alone:

    duplicate     IoU 0.5 or more with a box of its class, which a better detection has taken
    wrong class   IoU 0.5 or more with a box of another class
    badly placed  IoU 0.1 to 0.5 with a box of its class
    both          IoU 0.1 to 0.5 with a box of another class
    background    none of these

and of misses, the first that is so:

    low score     a detection below the threshold takes the box
    shared        the detection on it, IoU 0.5 or more, takes another box of the class
    wrong class   a false alarm of another class lies on it, IoU 0.5 or more
    badly placed  a false alarm of its class has IoU 0.1 to 0.5
    unseen        none of these

N  detections of a picture      M  its labelled boxes
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fcos_edge.detections import Detections
from fcos_edge.matching import BoolArray, DoubleArray
from fcos_edge.runtime import FloatArray, IntArray
from fcos_edge.train.evaluation.coco_matches import (
    MATCH_IOUS,
    MAX_DETECTIONS,
    LabelledBoxes,
    match_boxes,
    overlaps,
    to_xywh,
)

ALARM_REASONS = ("badly placed", "duplicate", "wrong class", "both", "background")
MISS_REASONS = ("low score", "shared", "wrong class", "badly placed", "unseen")
_NEAR_IOU = 0.1  # TIDE's: less is no attempt at the box
_MATCH_IOU = float(MATCH_IOUS[0])


@dataclass(frozen=True)
class Partner:
    """What a reason names: a labelled box (no score) or a detection, and how far the two overlap."""

    label: int
    iou: float
    score: float | None = None


@dataclass(frozen=True)
class Mistake:
    """A box that is missed (no score) or a false alarm; x1 y1 x2 y2, picture pixels."""

    label: int
    box_xyxy: tuple[float, ...]
    reason: str
    score: float | None = None
    partner: Partner | None = None

    @property
    def area(self) -> float:
        """Pixels^2."""
        left, top, right, bottom = self.box_xyxy
        return (right - left) * (bottom - top)

    def to_dict(self, classes: Sequence[str]) -> dict[str, Any]:
        partner = self.partner and {
            "class_name": classes[self.partner.label], "iou": round(self.partner.iou, 4),
            "score": _rounded(self.partner.score),
        }  # fmt: skip
        return {
            "label": self.label, "class_name": classes[self.label], "score": _rounded(self.score),
            "box_xyxy": [round(side, 1) for side in self.box_xyxy], "reason": self.reason, "partner": partner,
        }  # fmt: skip


@dataclass(frozen=True, eq=False)
class PictureJudge:
    """One picture: detections by descending score, boxes by class.

    taken    (N,) int64, the box that each detection takes, -1: none
    counts   (N,) bool; False: it only matches a crowd, or is beyond the hundred that are looked at
    is_high  (N,) bool, reaches the threshold of its class
    iou      (N, M)
    """

    detections: Detections
    boxes_xywh: DoubleArray
    labels: IntArray
    taken: IntArray
    counts: BoolArray
    is_high: BoolArray
    iou: DoubleArray

    @classmethod
    def of(
        cls, labelled: LabelledBoxes, place: int, detections: Detections, limits: FloatArray
    ) -> PictureJudge:
        found_xywh = to_xywh(detections.boxes_xyxy)
        taken, counts = np.full(len(detections), -1, np.int64), np.zeros(len(detections), np.bool_)
        parts, labels = [np.zeros((0, 4))], [np.zeros(0, np.int64)]
        for label in range(len(limits)):
            boxes, crowds = labelled.of(place, label)
            rows = np.flatnonzero(detections.labels == label)[:MAX_DETECTIONS]
            takes, counted = match_boxes(found_xywh[rows], boxes, crowds)
            before = sum(map(len, parts))
            taken[rows], counts[rows] = np.where(takes[0] >= 0, takes[0] + before, -1), counted[0]
            parts.append(boxes)
            labels.append(np.full(len(boxes), label))
        boxes_xywh = np.concatenate(parts)
        return cls(
            detections, boxes_xywh, np.concatenate(labels), taken, counts,
            detections.scores >= limits[detections.labels],
            overlaps(found_xywh, boxes_xywh, is_crowd=False),
        )  # fmt: skip

    def hits(self) -> Detections:
        rows, found = self.is_high & (self.taken >= 0), self.detections
        return Detections(found.boxes_xyxy[rows], found.scores[rows], found.labels[rows])

    def false_alarms(self) -> tuple[Mistake, ...]:
        return tuple(self._alarm(i) for i in np.flatnonzero(self._is_alarm).tolist())

    def misses(self) -> tuple[Mistake, ...]:
        is_found = np.isin(np.arange(len(self.boxes_xywh)), self.taken[self.is_high])
        missed = [self._miss(i) for i in np.flatnonzero(~is_found).tolist()]
        return tuple(sorted(missed, key=lambda one: -one.area))

    @property
    def _is_alarm(self) -> BoolArray:
        return self.is_high & self.counts & (self.taken < 0)

    def _alarm(self, i: int) -> Mistake:
        is_own = self.labels == self.detections.labels[i]
        reason, j = _first_reason(self.iou[i], (
            ("duplicate", is_own, _MATCH_IOU), ("wrong class", ~is_own, _MATCH_IOU),
            ("badly placed", is_own, _NEAR_IOU), ("both", ~is_own, _NEAR_IOU),
        ), "background")  # fmt: skip
        partner = None if j is None else Partner(int(self.labels[j]), float(self.iou[i, j]))
        found = self.detections
        box_xyxy = tuple(found.boxes_xyxy[i].tolist())
        return Mistake(int(found.labels[i]), box_xyxy, reason, float(found.scores[i]), partner)

    def _miss(self, j: int) -> Mistake:
        label, found = int(self.labels[j]), self.detections
        is_own, is_alarm = found.labels == label, self._is_alarm
        reason, i = _first_reason(self.iou[:, j], (
            ("low score", ~self.is_high & (self.taken == j), _MATCH_IOU),
            ("shared", is_own & self.is_high & (self.taken >= 0), _MATCH_IOU),
            ("wrong class", ~is_own & is_alarm, _MATCH_IOU), ("badly placed", is_own & is_alarm, _NEAR_IOU),
        ), "unseen")  # fmt: skip
        partner = None
        if i is not None:
            partner = Partner(int(found.labels[i]), float(self.iou[i, j]), float(found.scores[i]))
        left, top, width, height = self.boxes_xywh[j].tolist()
        return Mistake(label, (left, top, left + width, top + height), reason, None, partner)


def _first_reason(
    iou: DoubleArray, tests: Sequence[tuple[str, BoolArray, float]], otherwise: str
) -> tuple[str, int | None]:
    """The first reason that holds, and the partner that it names.

    tests: reason, which partners it is about, and the IoU that the best of them must reach
    """
    for reason, chosen, least in tests:
        allowed = np.where(chosen, iou, -1)
        if allowed.max(initial=-1) >= least:
            return reason, int(allowed.argmax())
    return otherwise, None


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
