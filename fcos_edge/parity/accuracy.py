"""What a detector finds of the labels, and how that differs from what the reference finds.

Everything is a fraction of 0..1, and so is every difference: found - reference. An interval says where the
difference lies in 95 % of draws of as many pictures from these, with replacement, both sides on the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from fcos_edge.detections import Detections
from fcos_edge.matching import DoubleArray

if TYPE_CHECKING:
    from fcos_edge.train.evaluation.bootstrap import Resamples
    from fcos_edge.train.evaluation.coco_figures import Curve
    from fcos_edge.train.evaluation.evaluate import LabelledSplit

LEAST_BOXES = 200  # a class with fewer is judged together with the others of its kind
DRAWS = 1000
POOLED = "pooled"
ALL = "all"


@dataclass(frozen=True)
class ClassAccuracy:
    """One class, or the small ones together.

    boxes       to find; crowds are none
    ap, ap50    -1 where there is no box to find; of several classes the mean
    hits        boxes that are found at IoU 0.5 and the operating threshold
    detections  those at the operating threshold, without the ones that only match a crowd
    """

    name: str
    boxes: int
    ap: float
    ap50: float
    hits: int
    detections: int

    @property
    def recall(self) -> float | None:
        """None without boxes."""
        return self.hits / self.boxes if self.boxes else None

    @property
    def miss_rate(self) -> float | None:
        """None without boxes."""
        return 1 - self.hits / self.boxes if self.boxes else None

    @property
    def precision(self) -> float | None:
        """None without detections."""
        return self.hits / self.detections if self.detections else None

    def to_dict(self) -> dict[str, Any]:
        return {
            "boxes": self.boxes, "AP": _rounded(self.ap), "AP50": _rounded(self.ap50),
            "hits": self.hits, "detections": self.detections, "recall": _rounded(self.recall),
            "miss_rate": _rounded(self.miss_rate), "precision": _rounded(self.precision),
        }  # fmt: skip


@dataclass(frozen=True, eq=False)
class Accuracy:
    """A detector's accuracy on a labelled split.

    figures      COCO's twelve; -1 where there is nothing to measure
    classes      in the order of the split's
    least_boxes  classes with fewer are pooled
    pooled       those of them that have boxes, together; None where there are none
    curves       precision at 101 recalls, by class and for `all`
    resamples    of its classes, for comparing; not part of `to_dict`
    """

    pictures: int
    figures: Mapping[str, float]
    classes: tuple[ClassAccuracy, ...]
    least_boxes: int
    pooled: ClassAccuracy | None
    curves: Mapping[str, Curve]
    resamples: Resamples

    @property
    def small_classes(self) -> tuple[str, ...]:
        """The names of those that are pooled."""
        return tuple(self.classes[i].name for i in _small(self.classes, self.least_boxes))

    def to_dict(self) -> dict[str, Any]:
        return {
            "pictures": self.pictures,
            "figures": {name: _rounded(value) for name, value in self.figures.items()},
            "classes": {row.name: row.to_dict() for row in self.classes},
            "least_boxes": self.least_boxes,
            "pooled_classes": list(self.small_classes),
            "pooled": self.pooled and self.pooled.to_dict(),
            "curves": {name: curve.to_dict() for name, curve in self.curves.items()},
        }


@dataclass(frozen=True)
class Difference:
    """found - reference.

    interval_95  low and high; None where the pictures were not drawn anew, or no draw had boxes
    """

    value: float
    interval_95: tuple[float, float] | None = None

    def to_dict(self) -> dict[str, Any]:
        interval = self.interval_95 and [_rounded(end) for end in self.interval_95]
        return {"value": _rounded(self.value), "interval_95": interval}


@dataclass(frozen=True)
class ClassDifference:
    """One class, or the small ones together; a difference is None where a side has nothing to measure."""

    reference: ClassAccuracy
    found: ClassAccuracy
    ap: Difference | None
    ap50: Difference | None
    recall: Difference | None
    miss_rate: Difference | None

    @property
    def name(self) -> str:
        return self.reference.name

    def to_dict(self) -> dict[str, Any]:
        differences = {
            "AP": self.ap, "AP50": self.ap50, "recall": self.recall, "miss_rate": self.miss_rate,
        }  # fmt: skip
        return {name: one and one.to_dict() for name, one in differences.items()}


@dataclass(frozen=True)
class AccuracyDifference:
    """A detector's accuracy against the reference's, on the same pictures.

    figures  of COCO's twelve, AP and AP50 with intervals; None where a side has nothing to measure
    pooled   the classes with fewer than `least_boxes` boxes, together; None where there are none
    """

    figures: Mapping[str, Difference | None]
    classes: tuple[ClassDifference, ...]
    pooled: ClassDifference | None

    def to_dict(self) -> dict[str, Any]:
        return {
            "figures": {name: one and one.to_dict() for name, one in self.figures.items()},
            "classes": {row.name: row.to_dict() for row in self.classes},
            "pooled": self.pooled and self.pooled.to_dict(),
        }


def measure_accuracy(
    labelled: LabelledSplit,
    found: Sequence[Detections],
    thresholds: Sequence[float],
    resamples: int = DRAWS,
    seed: int = 0,
    least_boxes: int = LEAST_BOXES,
) -> Accuracy:
    """Compare detections, all above the candidate threshold, with the labels of their pictures.

    found:      picture by picture, with labels into the split's classes
    thresholds: the operating threshold of each class
    resamples:  how many times the pictures are drawn anew; 0 gives no intervals

    Raises DataError where the labels lack a class.
    """
    from fcos_edge.train.evaluation.bootstrap import resample
    from fcos_edge.train.evaluation.coco_matches import match_split

    evaluation = labelled.compare(found)
    matches = match_split(labelled, found)
    classes = tuple(
        ClassAccuracy(
            row.name, row.boxes, row.ap, row.ap50,
            int(one.hits_at(threshold).sum()), int(one.count_at(threshold).sum()),
        )
        for row, one, threshold in zip(evaluation.classes, matches, thresholds, strict=True)
    )  # fmt: skip
    return Accuracy(
        evaluation.pictures, evaluation.figures, classes, least_boxes, _pool(classes, least_boxes),
        {ALL: evaluation.curve, **{row.name: row.curve for row in evaluation.classes if row.boxes}},
        resample(matches, thresholds, resamples, seed),
    )  # fmt: skip


def compare_accuracy(reference: Accuracy, found: Accuracy) -> AccuracyDifference:
    """Both measured on the same pictures, with the same number of draws, seed and `least_boxes`.

    Raises ValueError where they were not.
    """
    before, after = reference.resamples, found.resamples
    if reference.least_boxes != found.least_boxes or not np.array_equal(before.boxes, after.boxes):
        raise ValueError("accuracies of other pictures, draws or classes cannot be compared")
    everything = range(len(reference.classes))
    drawn = {
        "AP": _mean(after.ap, everything) - _mean(before.ap, everything),
        "AP50": _mean(after.ap50, everything) - _mean(before.ap50, everything),
    }
    figures = {
        name: _difference(value, found.figures[name], drawn.get(name))
        for name, value in reference.figures.items()
    }
    classes = tuple(
        _class_difference(row, found.classes[i], before, after, [i])
        for i, row in enumerate(reference.classes)
    )
    pooled = None
    if reference.pooled is not None and found.pooled is not None:
        chosen = _small(reference.classes, reference.least_boxes)
        pooled = _class_difference(reference.pooled, found.pooled, before, after, chosen)
    return AccuracyDifference(figures, classes, pooled)


def _class_difference(
    reference: ClassAccuracy,
    found: ClassAccuracy,
    before: Resamples,
    after: Resamples,
    chosen: Sequence[int],
) -> ClassDifference:
    """chosen: the classes that are looked at together"""
    recall = _recall(after, chosen) - _recall(before, chosen)
    return ClassDifference(
        reference, found,
        _difference(reference.ap, found.ap, _mean(after.ap, chosen) - _mean(before.ap, chosen)),
        _difference(reference.ap50, found.ap50, _mean(after.ap50, chosen) - _mean(before.ap50, chosen)),
        _difference(reference.recall, found.recall, recall),
        _difference(reference.miss_rate, found.miss_rate, -recall),
    )  # fmt: skip


def _difference(reference: float | None, found: float | None, drawn: DoubleArray | None) -> Difference | None:
    """drawn: (R,), the difference in each draw of the pictures"""
    from fcos_edge.train.evaluation.bootstrap import interval

    if reference is None or found is None or min(reference, found) < 0:
        return None
    return Difference(found - reference, None if drawn is None else interval(drawn))


def _mean(values: DoubleArray, chosen: Sequence[int]) -> DoubleArray:
    """(R, C) -> (R,): the mean over the chosen classes that have boxes in the draw; NaN without any."""
    taken = values[:, list(chosen)]
    is_known = ~np.isnan(taken)
    count = is_known.sum(axis=1)
    total = np.where(is_known, taken, 0).sum(axis=1)
    return np.asarray(np.where(count > 0, total / np.maximum(count, 1), np.nan))


def _recall(resamples: Resamples, chosen: Sequence[int]) -> DoubleArray:
    """(R,): of the boxes of the chosen classes together; NaN without any."""
    boxes = resamples.boxes[:, list(chosen)].sum(axis=1)
    hits = resamples.hits[:, list(chosen)].sum(axis=1)
    return np.asarray(np.where(boxes > 0, hits / np.maximum(boxes, 1), np.nan))


def _small(classes: Sequence[ClassAccuracy], least_boxes: int) -> list[int]:
    return [i for i, row in enumerate(classes) if 0 < row.boxes < least_boxes]


def _pool(classes: Sequence[ClassAccuracy], least_boxes: int) -> ClassAccuracy | None:
    small = [classes[i] for i in _small(classes, least_boxes)]
    if not small:
        return None
    return ClassAccuracy(
        POOLED, sum(row.boxes for row in small),
        sum(row.ap for row in small) / len(small), sum(row.ap50 for row in small) / len(small),
        sum(row.hits for row in small), sum(row.detections for row in small),
    )  # fmt: skip


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 6) + 0.0  # no -0.0
