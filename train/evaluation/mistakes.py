"""The misses and false alarms of a split at the operating thresholds, and the worst pictures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fcos_edge.detections import Detections
from fcos_edge.train.evaluation.coco_matches import read_boxes
from fcos_edge.train.evaluation.evaluate import LabelledSplit
from fcos_edge.train.evaluation.reasons import ALARM_REASONS, MISS_REASONS, Mistake, PictureJudge

MOST_PICTURES = 8


@dataclass(frozen=True, eq=False)
class PictureMistakes:
    """One picture.

    picture       its index in the split
    misses        the largest box first
    false_alarms  the best score first
    hits          detections at the thresholds that take a box
    """

    picture: int
    file: str
    size_hw: tuple[int, int]
    misses: tuple[Mistake, ...]
    false_alarms: tuple[Mistake, ...]
    hits: Detections

    @property
    def largest_miss(self) -> float:
        """The largest missed box as a part of the picture."""
        return max((miss.area for miss in self.misses), default=0) / max(1, self.size_hw[0] * self.size_hw[1])

    @property
    def best_alarm(self) -> float:
        """The highest score of a false alarm."""
        return max((alarm.score or 0 for alarm in self.false_alarms), default=0)

    def to_dict(self, classes: Sequence[str]) -> dict[str, Any]:
        hits = [
            {
                **record,
                "score": round(record["score"], 4),
                "box_xyxy": [round(s, 1) for s in record["box_xyxy"]],
            }
            for record in self.hits.to_records(classes)
        ]
        return {
            "file": self.file, "picture": self.picture, "size_hw": list(self.size_hw),
            "misses": [one.to_dict(classes) for one in self.misses],
            "false_alarms": [one.to_dict(classes) for one in self.false_alarms], "hits": hits,
        }  # fmt: skip


@dataclass(frozen=True, eq=False)
class Mistakes:
    """Of all pictures of a split, in its order."""

    classes: tuple[str, ...]
    pictures: tuple[PictureMistakes, ...]

    def worst(self, count: int = MOST_PICTURES) -> tuple[list[PictureMistakes], list[PictureMistakes]]:
        """At most `count` pictures with the worst misses and as many with the worst false alarms.

        The first by the largest missed box, as a part of its picture: forty people in the distance matter
        less than a bus in front of the camera. The second by the highest score. Ties go to the picture with
        more mistakes, then to the first. A picture among the first is not among the second.
        """
        missed = sorted(
            (one for one in self.pictures if one.misses),
            key=lambda one: (-one.largest_miss, -len(one.misses), one.picture),
        )[:count]
        taken = {one.picture for one in missed}
        alarmed = sorted(
            (one for one in self.pictures if one.false_alarms and one.picture not in taken),
            key=lambda one: (-one.best_alarm, -len(one.false_alarms), one.picture),
        )[:count]
        return missed, alarmed

    def add_to(self, document: Mapping[str, Any]) -> dict[str, Any]:
        """A document with `classes`, and how often which reason in each of them; the worst pictures."""
        rows = {name: dict(row) for name, row in document["classes"].items()}
        misses = Counter((one.label, one.reason) for picture in self.pictures for one in picture.misses)
        alarms = Counter((one.label, one.reason) for picture in self.pictures for one in picture.false_alarms)
        for label, name in enumerate(self.classes):
            rows[name]["misses"] = {reason: misses[label, reason] for reason in MISS_REASONS}
            rows[name]["false_alarms"] = {reason: alarms[label, reason] for reason in ALARM_REASONS}
        missed, alarmed = self.worst()
        return {
            **document, "classes": rows,
            "worst_misses": [one.to_dict(self.classes) for one in missed],
            "worst_false_alarms": [one.to_dict(self.classes) for one in alarmed],
        }  # fmt: skip


def find_mistakes(
    labelled: LabelledSplit, found: Sequence[Detections], thresholds: Sequence[float]
) -> Mistakes:
    """Judge what is found with at least the thresholds.

    found       picture by picture, all above the candidate threshold, with labels into the split's classes
    thresholds  the operating threshold of each class
    """
    boxes = read_boxes(labelled)
    limits = np.asarray(thresholds, np.float32)
    pictures = []
    for place, (picture, detections) in enumerate(zip(labelled.pictures, found, strict=True)):
        judged = PictureJudge.of(boxes, place, detections, limits)
        pictures.append(
            PictureMistakes(
                place, picture.path.name, picture.size_hw, judged.misses(), judged.false_alarms(),
                judged.hits(),
            )
        )  # fmt: skip
    return Mistakes(labelled.classes, tuple(pictures))
