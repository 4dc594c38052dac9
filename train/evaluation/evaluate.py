"""Accuracy on a labelled data set: run a detector over its pictures and compare.

The detector is the device's own, so letterbox, post-processing and candidate threshold are those of the
product.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fcos_edge.coco_results import coco_results
from fcos_edge.console import track
from fcos_edge.detections import Detections
from fcos_edge.detector import Detector
from fcos_edge.errors import DataError
from fcos_edge.image import read_image_bgr
from fcos_edge.train.data.dataset import LabelledPicture
from fcos_edge.train.data.formats import coco_document, read_pictures
from fcos_edge.train.evaluation.coco_figures import Evaluation, category_ids, compare_with_labels


@dataclass(frozen=True)
class LabelledSplit:
    """What is measured: pictures of a data set, and its labels.

    classes   names; the labels of the pictures are indices into them
    document  COCO's, of the whole split
    """

    name: str
    pictures: tuple[LabelledPicture, ...]
    classes: tuple[str, ...]
    document: dict[str, Any]

    def results(self, found: Sequence[Detections]) -> list[dict[str, Any]]:
        """Detections, picture by picture, as COCO result entries with the data set's own ids."""
        return coco_results(self._by_id(found), category_ids(self.document, self.classes))

    def compare(self, found: Sequence[Detections]) -> Evaluation:
        """The figures of detections, picture by picture."""
        scales = {picture.image_id: picture.area_scale for picture in self.pictures}
        return compare_with_labels(self._by_id(found), self.document, self.classes, scales)

    def _by_id(self, found: Sequence[Detections]) -> dict[int, Detections]:
        return dict(zip((picture.image_id for picture in self.pictures), found, strict=True))


def read_split(
    data: Path, split: str, classes: Sequence[str], image_ids: Sequence[int] | None = None
) -> LabelledSplit:
    """The pictures of a split and their labels.

    image_ids: only these pictures; None takes all

    Raises DataError where the split has no pictures or lacks a class.
    """
    pictures = read_pictures(data, split, classes)
    if image_ids is not None:
        wanted = set(image_ids)
        pictures = [picture for picture in pictures if picture.image_id in wanted]
        if not pictures:
            raise DataError(f"{data}: none of the pictures asked for is in {split}")
    name = f"{data.resolve().name}/{split}"
    return LabelledSplit(name, tuple(pictures), tuple(classes), coco_document(data, split))


def evaluate(
    detector: Detector, data: Path, split: str = "val", image_ids: Sequence[int] | None = None
) -> Evaluation:
    """Run `detector` over a split and compare with its labels.

    image_ids: only these pictures; None takes all

    Raises DataError where the split has no pictures or lacks a class of the detector.
    """
    labelled = read_split(data, split, detector.spec.classes, image_ids)
    return labelled.compare(find_candidates(detector, labelled.pictures, f"evaluating {labelled.name}"))


def find_candidates(
    detector: Detector, pictures: Sequence[LabelledPicture], what: str = "evaluating"
) -> list[Detections]:
    """All that `detector` finds above its candidate threshold, picture by picture."""
    tracked = track(pictures, what, len(pictures))
    return [detector.candidates(read_image_bgr(picture.path)) for picture in tracked]


def keep_classes(
    found: Sequence[Detections], classes: Sequence[str], chosen: Sequence[str]
) -> list[Detections]:
    """The detections of `chosen` alone: labels into `classes` become labels into `chosen`."""
    label_of = np.array([chosen.index(name) if name in chosen else -1 for name in classes], np.int64)
    kept = []
    for detections in found:
        labels = label_of[detections.labels]
        rows = labels >= 0
        kept.append(Detections(detections.boxes_xyxy[rows], detections.scores[rows], labels[rows]))
    return kept
