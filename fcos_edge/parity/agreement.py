"""Whether two detectors find the same things in the same pictures.

A detection with a score of at least its operating threshold is asked for a partner on the other side: same
class, IoU of at least 0.75, a score of at least the other side's operating threshold - 0.1. The partner may
score less, because a score just above a threshold on one side is just below it on the other. Nobody is the
partner of two, as many as can be have one, and both sides are asked.

R  detections of the reference in one picture
F  detections found there by the detector that is compared with it
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np

from fcos_edge.detections import Detections
from fcos_edge.matching import BoolArray, DoubleArray, best_pairs, pairwise_iou
from fcos_edge.runtime import FloatArray, IntArray

PARTNER_IOU = 0.75
PARTNER_MARGIN = 0.1  # how far below the other side's operating threshold a partner may score
# The score drift of a picture that is still called the same; input noise of +-1 moves single scores so far.
SAME_DRIFT = 0.05
MOST_SAMPLES = 300


@dataclass(frozen=True)
class Asked:
    """Detections of one side, asked for a partner on the other.

    asked    how many there are: all that reach the operating threshold of their class
    matched  how many of them have a partner
    """

    asked: int = 0
    matched: int = 0

    def __add__(self, other: Asked) -> Asked:
        return Asked(self.asked + other.asked, self.matched + other.matched)

    @property
    def rate(self) -> float | None:
        """0..1; None where nothing was asked."""
        return self.matched / self.asked if self.asked else None

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "rate": self.rate}


@dataclass(frozen=True)
class BothWays:
    """The same question in both directions.

    reference  the reference's detections, asked for a partner among those found
    found      those found, asked for a partner among the reference's
    """

    reference: Asked
    found: Asked

    @property
    def both(self) -> Asked:
        """Of both sides together."""
        return self.reference + self.found

    def to_dict(self) -> dict[str, Any]:
        return {name: getattr(self, name).to_dict() for name in ("reference", "found", "both")}


@dataclass(frozen=True)
class IouFigures:
    """IoU of the pairs, 0.75..1; `p5`: 5 % of the pairs overlap less. None without a pair."""

    p50: float | None
    p5: float | None
    p1: float | None
    least: float | None


@dataclass(frozen=True)
class DriftFigures:
    """Score found - score of the reference, over the pairs. None without a pair.

    mean           signed: whether scores rise or fall as a whole
    p50, p95, p99  of the absolute value
    largest        of the absolute value
    """

    mean: float | None
    p50: float | None
    p95: float | None
    p99: float | None
    largest: float | None


@dataclass(frozen=True)
class ClassAgreement:
    """One class: what was asked in both directions, the number of pairs, and their mean signed score drift.

    A class whose bias is off drifts as a whole, which the drift of all classes together may not show.
    """

    detections: BothWays
    pairs: int
    mean_drift: float | None

    def to_dict(self) -> dict[str, Any]:
        return {**self.detections.to_dict(), "pairs": self.pairs, "mean_drift": self.mean_drift}


@dataclass(frozen=True)
class Agreement:
    """How the detections of two detectors agree over a number of pictures.

    pairs    different pairs that the questions of both sides made. Both sides: pairs of the reference's
             best detections alone would drift downwards, as whatever is chosen for being high does
    classes  per class, by its index
    sample   of the pairs, evenly chosen, for a plot: class, the reference's score, the score found
    """

    pictures: int
    detections: BothWays
    pairs: int
    iou: IouFigures
    drift: DriftFigures
    classes: tuple[ClassAgreement, ...]
    sample: tuple[tuple[int, float, float], ...] = ()

    def to_dict(self, names: Sequence[str]) -> dict[str, Any]:
        """JSON values; `names` of the classes."""
        return {
            "pictures": self.pictures,
            "detections": self.detections.to_dict(),
            "pairs": self.pairs,
            "iou": asdict(self.iou),
            "drift": asdict(self.drift),
            "classes": {name: one.to_dict() for name, one in zip(names, self.classes, strict=True)},
            "sample": [[names[label], before, after] for label, before, after in self.sample],
        }


@dataclass(frozen=True)
class PictureDisagreement:
    """One picture in which two detectors differ.

    picture              its index
    reference_unmatched  detections of the reference at its operating thresholds without a partner
    found_unmatched      the same, of those found
    drift                largest |score found - score of the reference| of its pairs; 0 without a pair
    reference_alone      which those are: places among the reference's detections at its thresholds
    found_alone          the same, of those found
    """

    picture: int
    reference_unmatched: int
    found_unmatched: int
    drift: float
    reference_alone: tuple[int, ...] = ()
    found_alone: tuple[int, ...] = ()

    @property
    def unmatched(self) -> int:
        """On both sides together."""
        return self.reference_unmatched + self.found_unmatched

    def to_dict(self) -> dict[str, Any]:
        alone = {name: list(getattr(self, name)) for name in ("reference_alone", "found_alone")}
        return {**asdict(self), **alone, "unmatched": self.unmatched}


class _Side(NamedTuple):
    """The detections of one side that were asked: (N,) class, (N,) whether it has a partner."""

    labels: IntArray
    has_partner: BoolArray


class _Picture(NamedTuple):
    """One picture; of its pairs the class, the reference's score, IoU and drift."""

    reference: _Side
    found: _Side
    labels: IntArray
    scores: DoubleArray
    ious: DoubleArray
    drifts: DoubleArray


def compare_detections(
    reference: Sequence[Detections],
    found: Sequence[Detections],
    reference_thresholds: Sequence[float],
    found_thresholds: Sequence[float],
) -> Agreement:
    """Compare what two detectors found, picture by picture.

    reference, found  all detections above the candidate threshold; index i is the same picture on both sides
    thresholds        operating threshold of each class, of each side

    Raises ValueError where pictures or classes of the two sides do not fit each other.
    """
    pictures = list(_pair_pictures(reference, found, reference_thresholds, found_thresholds))
    references = _count([picture.reference for picture in pictures], len(reference_thresholds))
    founds = _count([picture.found for picture in pictures], len(found_thresholds))
    labels = np.concatenate([np.empty(0, np.int64), *(picture.labels for picture in pictures)])
    ious = np.concatenate([np.empty(0), *(picture.ious for picture in pictures)])
    drifts = np.concatenate([np.empty(0), *(picture.drifts for picture in pictures)])
    scores = np.concatenate([np.empty(0), *(picture.scores for picture in pictures)])
    classes = tuple(
        _class_agreement(BothWays(*sides), drifts[labels == label])
        for label, sides in enumerate(zip(references, founds, strict=True))
    )
    iou = IouFigures(None, None, None, None)
    drift = DriftFigures(None, None, None, None, None)
    if len(ious):
        iou = IouFigures(*np.percentile(ious, (50, 5, 1, 0)).tolist())
        sizes = np.percentile(np.abs(drifts), (50, 95, 99, 100))
        drift = DriftFigures(float(drifts.mean()), *sizes.tolist())
    total = BothWays(sum(references, Asked()), sum(founds, Asked()))
    chosen = np.linspace(0, len(ious) - 1, min(len(ious), MOST_SAMPLES)).round().astype(int)
    sample = zip(
        labels[chosen].tolist(), scores[chosen].round(4).tolist(),
        (scores + drifts)[chosen].round(4).tolist(), strict=True,
    )  # fmt: skip
    return Agreement(len(pictures), total, len(ious), iou, drift, classes, tuple(sample))


def worst_pictures(
    reference: Sequence[Detections],
    found: Sequence[Detections],
    reference_thresholds: Sequence[float],
    found_thresholds: Sequence[float],
    count: int = 10,
) -> tuple[PictureDisagreement, ...]:
    """The `count` pictures that differ most: by detections without a partner, then by drift, then by index.

    Left out are pictures where every detection has a partner and no score drifts by 0.05 or more. Arguments
    and errors are those of `compare_detections`.
    """
    pictures = _pair_pictures(reference, found, reference_thresholds, found_thresholds)
    differing = [
        one
        for index, picture in enumerate(pictures)
        if (one := _disagreement(index, picture)).unmatched or one.drift >= SAME_DRIFT
    ]
    differing.sort(key=lambda one: (-one.unmatched, -one.drift, one.picture))
    return tuple(differing[:count])


def _pair_pictures(
    reference: Sequence[Detections],
    found: Sequence[Detections],
    reference_thresholds: Sequence[float],
    found_thresholds: Sequence[float],
) -> Iterator[_Picture]:
    _require_equal("pictures", len(reference), len(found))
    _require_equal("classes", len(reference_thresholds), len(found_thresholds))
    # As `Detections.filtered` compares: in float32.
    operating = [np.array(sides, np.float32) for sides in (reference_thresholds, found_thresholds)]
    partner = [[t - PARTNER_MARGIN for t in sides] for sides in (reference_thresholds, found_thresholds)]
    for two in zip(reference, found, strict=True):
        # Whatever is asked is a possible partner too, so the same detections serve both directions.
        ours, theirs = (side.filtered(limits) for side, limits in zip(two, partner, strict=True))
        yield _pair_picture(ours, theirs, *operating)


def _pair_picture(
    ours: Detections, theirs: Detections, our_thresholds: FloatArray, their_thresholds: FloatArray
) -> _Picture:
    """ours, theirs: R and F possible partners; thresholds: (classes,) float32"""
    iou = pairwise_iou(ours.boxes_xyxy, theirs.boxes_xyxy)  # [R, F]
    possible = (ours.labels[:, None] == theirs.labels) & (iou >= PARTNER_IOU)
    (rows,) = (ours.scores >= our_thresholds[ours.labels]).nonzero()
    (columns,) = (theirs.scores >= their_thresholds[theirs.labels]).nonzero()
    there = [(int(rows[a]), b) for a, b in best_pairs(possible[rows], iou[rows])]
    back = [(a, int(columns[b])) for b, a in best_pairs(possible[:, columns].T, iou[:, columns].T)]
    first, second = np.array(sorted({*there, *back}), np.int64).reshape(-1, 2).T
    return _Picture(
        _Side(ours.labels[rows], np.isin(rows, [a for a, _ in there])),
        _Side(theirs.labels[columns], np.isin(columns, [b for _, b in back])),
        ours.labels[first],
        ours.scores[first].astype(np.float64),
        iou[first, second].astype(np.float64),
        theirs.scores[second].astype(np.float64) - ours.scores[first],
    )


def _count(sides: Sequence[_Side], num_classes: int) -> list[Asked]:
    """Per class, over all pictures."""
    labels = np.concatenate([np.empty(0, np.int64), *(side.labels for side in sides)])
    has_partner = np.concatenate([np.empty(0, np.bool_), *(side.has_partner for side in sides)])
    asked = np.bincount(labels, minlength=num_classes)
    matched = np.bincount(labels[has_partner], minlength=num_classes)
    return [Asked(*counts) for counts in zip(asked.tolist(), matched.tolist(), strict=True)]


def _class_agreement(detections: BothWays, drifts: DoubleArray) -> ClassAgreement:
    return ClassAgreement(detections, len(drifts), float(drifts.mean()) if len(drifts) else None)


def _disagreement(index: int, picture: _Picture) -> PictureDisagreement:
    alone = [tuple(np.flatnonzero(~side.has_partner).tolist()) for side in (picture.reference, picture.found)]
    drift = float(np.abs(picture.drifts).max(initial=0))
    return PictureDisagreement(index, len(alone[0]), len(alone[1]), drift, *alone)


def _require_equal(what: str, reference: int, found: int) -> None:
    if reference != found:
        raise ValueError(f"agreement: the reference has {reference} {what}, the other side {found}")
