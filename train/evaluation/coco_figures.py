"""Detections against labels: the twelve COCO figures, AP per class with box counts, precision and recall.

The figures come from faster-coco-eval. COCO's small, medium and large are areas of the original picture:
where a data set holds smaller copies and says so, areas are brought back to the originals'. Boxes stay as
they are, so that no IoU changes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from faster_coco_eval import COCO, COCOeval_faster

from fcos_edge.coco_results import coco_results
from fcos_edge.detections import Detections
from fcos_edge.errors import DataError
from fcos_edge.train.data.dataset import IGNORED, LabelledPicture
from fcos_edge.train.data.formats.coco import read_bbox

FIGURES = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")
RECALLS = tuple(i / 100 for i in range(101))


@dataclass(frozen=True)
class Curve:
    """Precision at each of `RECALLS`, the highest at that recall or above; -1 where there is no box to find.

    at50  at IoU 0.5
    mean  over the IoUs 0.5, 0.55, ... 0.95
    """

    at50: tuple[float, ...]
    mean: tuple[float, ...]

    def to_dict(self) -> dict[str, list[float]]:
        return {"at50": [round(p, 4) for p in self.at50], "mean": [round(p, 4) for p in self.mean]}


@dataclass(frozen=True)
class ClassFigures:
    """AP of one class; -1 where there is no box to find. `boxes` does not count ignored ones."""

    name: str
    boxes: int
    ap: float
    ap50: float
    curve: Curve


@dataclass(frozen=True)
class Evaluation:
    """COCO figures in 0..1; -1 where there is nothing to measure.

    figures            the twelve, by the names of `FIGURES`
    classes            in the order that was asked for
    curve              the mean over the classes that have boxes
    rescaled_pictures  those that are not of their originals' size, so that areas were brought back to it
    """

    pictures: int
    figures: dict[str, float]
    classes: tuple[ClassFigures, ...]
    curve: Curve
    rescaled_pictures: int = 0

    def to_dict(self, *, has_curves: bool = False) -> dict[str, Any]:
        """JSON values. has_curves: with precision at each recall, 202 numbers a class."""
        document: dict[str, Any] = {
            "pictures": self.pictures,
            "rescaled_pictures": self.rescaled_pictures,
            **{name: round(value, 4) for name, value in self.figures.items()},
            "classes": {
                row.name: {"boxes": row.boxes, "AP": round(row.ap, 4), "AP50": round(row.ap50, 4)}
                for row in self.classes
            },
        }
        if has_curves:
            document["curves"] = {
                "recall": list(RECALLS), "all": self.curve.to_dict(),
                "classes": {row.name: row.curve.to_dict() for row in self.classes},
            }  # fmt: skip
        return document


def compare_with_pictures(
    found: Sequence[Detections], pictures: Sequence[LabelledPicture], classes: Sequence[str]
) -> Evaluation:
    """COCO figures of detections against the pictures that they were made on, of one data set or several.

    Areas are those of the boxes, in the original picture. An ignore region takes detections of every class:
    which one it was labelled with is not kept.
    """
    scales = {index: picture.area_scale for index, picture in enumerate(pictures)}
    return compare_with_labels(dict(enumerate(found)), labels_document(pictures, classes), classes, scales)


def labels_document(pictures: Sequence[LabelledPicture], classes: Sequence[str]) -> dict[str, Any]:
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
    found: Mapping[int, Detections],
    document: Mapping[str, Any],
    classes: Sequence[str],
    area_scales: Mapping[int, float] | None = None,
) -> Evaluation:
    """COCO figures of detections (by image id) against a COCO document.

    area_scales  area in the original picture / area here, by image id; 1 for those that it lacks

    Pictures without an entry in `found` do not count; other classes of the document do not either.
    Raises DataError where the document lacks a class.
    """
    scales = {image_id: (area_scales or {}).get(image_id, 1.0) for image_id in found}
    ids = category_ids(document, classes)
    annotations = _annotations(document, ids, scales)
    precision, stats = _measure(
        {
            "images": [image for image in document["images"] if image["id"] in found],
            "annotations": annotations,
            "categories": [category for category in document["categories"] if category["id"] in ids],
        },
        coco_results(found, ids), ids, scales,
    )  # fmt: skip
    # Outside, recalls come before classes; classes are by ascending id.
    by_class = np.stack([precision[:, :, sorted(ids).index(i)] for i in ids])  # [C, IoUs, recalls]
    rows = []
    for name, category_id, values in zip(classes, ids, by_class, strict=True):
        boxes = sum(a["category_id"] == category_id and not a["iscrowd"] for a in annotations)
        rows.append(ClassFigures(name, boxes, _mean(values), _mean(values[0]), _curve(values)))
    labelled = by_class[(by_class > -1).any(axis=(1, 2))]
    curve = _curve(labelled.mean(axis=0) if len(labelled) else by_class[0])
    scaled = sum(scale != 1 for scale in scales.values())
    return Evaluation(len(found), dict(zip(FIGURES, stats, strict=True)), tuple(rows), curve, scaled)


def category_ids(document: Mapping[str, Any], classes: Sequence[str]) -> list[int]:
    """The document's id of each class. Raises DataError where it lacks one."""
    category_of = {category["name"]: category["id"] for category in document["categories"]}
    if missing := [name for name in classes if name not in category_of]:
        raise DataError(f"the labels have no class {missing[0]!r}; evaluate on data that labels it")
    return [category_of[name] for name in classes]


def _annotations(
    document: Mapping[str, Any], ids: Sequence[int], scales: Mapping[int, float]
) -> list[dict[str, Any]]:
    """The labels of these classes in these pictures, numbered from 1, with areas of the originals."""
    annotations: list[dict[str, Any]] = []
    for entry in document["annotations"]:
        if entry["category_id"] in ids and entry["image_id"] in scales:
            bbox, area = read_bbox(entry), entry.get("area")
            area = bbox[2] * bbox[3] if area is None else float(area)
            annotations.append({
                "id": len(annotations) + 1, "image_id": entry["image_id"],
                "category_id": entry["category_id"], "bbox": list(bbox),
                "area": area * scales[entry["image_id"]], "iscrowd": int(bool(entry.get("iscrowd"))),
            })  # fmt: skip
    return annotations


def _measure(
    truth_document: dict[str, Any],
    results: list[dict[str, Any]],
    ids: Sequence[int],
    scales: Mapping[int, float],
) -> tuple[npt.NDArray[np.float64], list[float]]:
    """Precision (IoUs, recalls, classes by ascending id), of all sizes, and the twelve figures."""
    truth = COCO(truth_document)
    # loadRes refuses an empty list; one box without a score stands for "nothing found".
    nothing = [{"image_id": next(iter(scales)), "category_id": ids[0], "bbox": [0, 0, 1, 1], "score": 0.0}]
    detected = truth.loadRes(results or nothing)
    for entry in detected.anns.values():
        # A detection of nothing counts against the sizes that its own area belongs to.
        entry["area"] *= scales[entry["image_id"]]
    evaluator = COCOeval_faster(truth, detected, iouType="bbox")
    evaluator.params.imgIds = sorted(scales)
    evaluator.params.catIds = list(ids)
    evaluator.run()
    # [IoUs, recalls, classes, areas, max detections]: all areas come first, the most detections last
    precision = np.asarray(evaluator.eval["precision"], np.float64)[..., 0, -1]
    return precision, [float(value) for value in evaluator.all_stats[: len(FIGURES)]]


def _mean(precision: npt.NDArray[np.float64]) -> float:
    valid = precision[precision > -1]
    return float(valid.mean()) if valid.size else -1.0


def _curve(precision: npt.NDArray[np.float64]) -> Curve:
    """precision: (IoUs, recalls), all of it -1 or none"""
    return Curve(tuple(precision[0].tolist()), tuple(precision.mean(axis=0).tolist()))
