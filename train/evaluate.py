"""Accuracy on a COCO data set: the twelve COCO figures, and AP per class with box counts.

The detector is the device's own, so letterbox, post-processing and candidate threshold are those of the
product. Figures come from faster-coco-eval.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fcos_edge.console import track
from fcos_edge.detections import Detections
from fcos_edge.detector import Detector
from fcos_edge.errors import DataError
from fcos_edge.image import read_image_bgr
from fcos_edge.train.dataset import LabelledPicture
from fcos_edge.train.formats.coco import annotation_file, read_annotations, read_bbox, read_coco
from fcos_edge.train.targets import IGNORED

FIGURES = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")


@dataclass(frozen=True)
class ClassFigures:
    """AP of one class; -1 where there is no box to find. `boxes` does not count ignored ones."""

    name: str
    boxes: int
    ap: float
    ap50: float


@dataclass(frozen=True)
class Evaluation:
    """COCO figures in 0..1; -1 where there is nothing to measure.

    figures  the twelve, by the names of `FIGURES`
    classes  in the spec's order
    """

    pictures: int
    figures: dict[str, float]
    classes: tuple[ClassFigures, ...]

    def to_dict(self) -> dict[str, Any]:
        return {
            "pictures": self.pictures,
            **{name: round(value, 4) for name, value in self.figures.items()},
            "classes": {
                row.name: {"boxes": row.boxes, "AP": round(row.ap, 4), "AP50": round(row.ap50, 4)}
                for row in self.classes
            },
        }


def evaluate(
    detector: Detector, folder: Path, split: str = "val", image_ids: Sequence[int] | None = None
) -> Evaluation:
    """Run `detector` over a split and compare with its labels.

    image_ids: only these pictures; None takes all

    Raises DataError where the split has no pictures or lacks a class of the detector.
    """
    pictures = read_coco(folder, split, detector.spec.classes)
    if image_ids is not None:
        wanted = set(image_ids)
        pictures = [picture for picture in pictures if picture.image_id in wanted]
        if not pictures:
            raise DataError(f"{folder}: none of the pictures asked for is in {split}")
    found = find_candidates(detector, pictures, f"evaluating {folder.name}/{split}")
    document = read_annotations(annotation_file(folder, split))
    ids = [picture.image_id for picture in pictures]
    return compare_with_labels(dict(zip(ids, found, strict=True)), document, detector.spec.classes)


def find_candidates(
    detector: Detector, pictures: Sequence[LabelledPicture], what: str = "evaluating"
) -> list[Detections]:
    """All that `detector` finds above its candidate threshold, picture by picture."""
    tracked = track(pictures, what, len(pictures))
    return [detector.candidates(read_image_bgr(picture.path)) for picture in tracked]


def compare_with_pictures(
    found: Sequence[Detections], pictures: Sequence[LabelledPicture], classes: Sequence[str]
) -> Evaluation:
    """COCO figures of detections against the pictures that they were made on, of one data set or several.

    Areas are those of the boxes. An ignore region takes detections of every class: which one it was
    labelled with is not kept.
    """
    return compare_with_labels(dict(enumerate(found)), coco_document(pictures, classes), classes)


def coco_document(pictures: Sequence[LabelledPicture], classes: Sequence[str]) -> dict[str, Any]:
    """Labelled pictures as a COCO document; a picture's id is its place in the list, a class's its label.

    COCO knows no region that is ignored for every class, so each becomes one crowd per class.
    """
    annotations: list[dict[str, Any]] = []
    for image_id, picture in enumerate(pictures):
        for (left, top, right, bottom), label in zip(
            picture.boxes_xyxy.astype(float).tolist(), picture.labels.tolist(), strict=True
        ):
            width, height = right - left, bottom - top
            for category in range(len(classes)) if label == IGNORED else (label,):
                annotations.append({
                    "id": len(annotations) + 1, "image_id": image_id, "category_id": category,
                    "bbox": [left, top, width, height], "area": width * height,
                    "iscrowd": int(label == IGNORED),
                })  # fmt: skip
    return {
        "images": [{"id": i, "file_name": picture.path.name} for i, picture in enumerate(pictures)],
        "annotations": annotations,
        "categories": [{"id": i, "name": name} for i, name in enumerate(classes)],
    }


def compare_with_labels(
    found: dict[int, Detections], document: dict[str, Any], classes: Sequence[str]
) -> Evaluation:
    """COCO figures of detections (by image id) against a COCO document.

    Pictures without an entry in `found` do not count; other classes of the document do not either.
    """
    from faster_coco_eval import COCO, COCOeval_faster

    category_of = {category["name"]: category["id"] for category in document["categories"]}
    if missing := [name for name in classes if name not in category_of]:
        raise DataError(f"the labels have no class {missing[0]!r}; evaluate on data that labels it")
    ids = [category_of[name] for name in classes]
    annotations: list[dict[str, Any]] = []
    for entry in document["annotations"]:
        if entry["category_id"] in ids and entry["image_id"] in found:
            bbox, area = read_bbox(entry), entry.get("area")
            annotations.append({
                "id": len(annotations) + 1, "image_id": entry["image_id"],
                "category_id": entry["category_id"], "bbox": list(bbox),
                "area": bbox[2] * bbox[3] if area is None else float(area),
                "iscrowd": int(bool(entry.get("iscrowd"))),
            })  # fmt: skip
    truth = COCO({
        "images": [image for image in document["images"] if image["id"] in found],
        "annotations": annotations,
        "categories": [category for category in document["categories"] if category["id"] in ids],
    })  # fmt: skip
    rows = coco_results(found, ids)
    # loadRes refuses an empty list; one box without a score stands for "nothing found".
    nothing = [{"image_id": next(iter(found)), "category_id": ids[0], "bbox": [0, 0, 1, 1], "score": 0.0}]
    result = COCOeval_faster(truth, truth.loadRes(rows or nothing), iouType="bbox")
    result.params.imgIds = sorted(found)
    result.params.catIds = ids
    result.run()
    stats = [float(value) for value in result.all_stats[: len(FIGURES)]]
    # [IoU thresholds, recall, classes by ascending id, areas, max detections]
    precision = np.asarray(result.eval["precision"])[..., 0, -1]
    per_class = []
    for i, name in enumerate(classes):
        place = sorted(ids).index(ids[i])
        boxes = sum(a["category_id"] == ids[i] and not a["iscrowd"] for a in annotations)
        per_class.append(
            ClassFigures(name, boxes, _mean(precision[:, :, place]), _mean(precision[0, :, place]))
        )
    return Evaluation(len(found), dict(zip(FIGURES, stats, strict=True)), tuple(per_class))


def coco_results(found: dict[int, Detections], category_ids: Sequence[int]) -> list[dict[str, Any]]:
    """Detections as COCO result entries: bbox is x, y, width, height."""
    rows = []
    for image_id, detections in found.items():
        size = detections.boxes_xyxy[:, 2:] - detections.boxes_xyxy[:, :2]
        boxes = np.concatenate([detections.boxes_xyxy[:, :2], size], axis=1).astype(float)
        for box, score, label in zip(boxes, detections.scores, detections.labels, strict=True):
            rows.append({
                "image_id": image_id, "category_id": category_ids[label],
                "bbox": box.tolist(), "score": float(score),
            })  # fmt: skip
    return rows


def _mean(precision: np.ndarray[Any, Any]) -> float:
    valid = precision[precision > -1]
    return float(valid.mean()) if valid.size else -1.0
