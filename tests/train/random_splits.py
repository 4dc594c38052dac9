"""Labelled splits and detections by lot, with all that COCO's rules treat apart."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fcos_edge.detections import Detections
from fcos_edge.runtime import IntArray
from fcos_edge.train.data.dataset import LabelledPicture
from fcos_edge.train.evaluation.evaluate import LabelledSplit

# No box of the third is ever labelled, and the fourth is never found.
CLASSES = ("square", "disc", "ring", "star")
CATEGORY_IDS = (9, 7, 30, 11)  # not ascending


def random_split(seed: int, pictures: int = 20) -> tuple[LabelledSplit, list[Detections]]:
    """Boxes in whole pixels, so that IoUs meet thresholds exactly; scores are tenths, so that they tie.

    Some pictures have no boxes and some no detections; there are crowds, boxes in the same place, boxes of
    another class and of pictures that are not looked at; one picture has 130 detections of a class.
    """
    generator = np.random.default_rng(seed)
    image_ids = generator.permutation(1000)[: pictures + 1]  # the last one is not in the split
    annotations: list[dict[str, Any]] = []
    found = []
    for place, image_id in enumerate(image_ids.tolist()):
        boxes = generator.integers(0, 50, (int(generator.integers(0, 9)), 4))
        boxes[:, 2:] = generator.integers(1, 6, (len(boxes), 2)) * 10
        if len(boxes) > 3:
            boxes[1] = boxes[0]
        labels = generator.choice([0, 0, 1, 3], len(boxes))
        for bbox, label in zip(boxes.tolist(), labels.tolist(), strict=True):
            is_other = generator.uniform() < 0.05
            annotations.append({
                "id": len(annotations) + 1, "image_id": image_id, "bbox": bbox,
                "category_id": 50 if is_other else CATEGORY_IDS[label],
                "iscrowd": int(generator.uniform() < 0.2),
            })  # fmt: skip
        count = 130 if place == 1 else int(generator.integers(0, 4)) * len(boxes)
        found.append(_near(generator, boxes, labels, count))
    document = {
        "images": [{"id": image_id} for image_id in image_ids.tolist()],
        "annotations": annotations,
        "categories": [
            {"id": category_id, "name": name}
            for category_id, name in zip((*CATEGORY_IDS, 50), (*CLASSES, "other"), strict=True)
        ],
    }
    return LabelledSplit("random", _pictures(image_ids[:pictures].tolist()), CLASSES, document), found[:-1]


def repeated(
    labelled: LabelledSplit, found: Sequence[Detections], counts: IntArray
) -> tuple[LabelledSplit, list[Detections]]:
    """Each picture as often as `counts`, (P,), says: copies with ids of their own, beside each other."""
    copies = {
        picture.image_id: [picture.image_id * 100 + copy for copy in range(count)]
        for picture, count in zip(labelled.pictures, counts.tolist(), strict=True)
    }
    annotations = [
        {**entry, "image_id": image_id}
        for entry in labelled.document["annotations"]
        for image_id in copies.get(entry["image_id"], [])
    ]
    image_ids = [image_id for ids in copies.values() for image_id in ids]
    document = {
        **labelled.document,
        "images": [{"id": image_id} for image_id in image_ids],
        "annotations": [{**entry, "id": i} for i, entry in enumerate(annotations, 1)],
    }
    again = [one for one, count in zip(found, counts.tolist(), strict=True) for _ in range(count)]
    return LabelledSplit("repeated", _pictures(image_ids), labelled.classes, document), again


def without_ties(found: Sequence[Detections]) -> list[Detections]:
    """No two detections of one picture score the same; those of different pictures still do."""
    steps = [np.arange(len(one), dtype=np.float32)[::-1] * np.float32(1e-4) for one in found]
    return [
        Detections(one.boxes_xyxy, one.scores * np.float32(0.9) + step, one.labels)
        for one, step in zip(found, steps, strict=True)
    ]


def _near(generator: np.random.Generator, boxes_xywh: IntArray, labels: IntArray, count: int) -> Detections:
    """`count` detections: labelled boxes moved a little, some of a wrong class; anything without boxes."""
    if not len(boxes_xywh):
        boxes_xywh, labels = np.array([[10, 10, 20, 20]]), np.array([0])
    rows = generator.integers(0, len(boxes_xywh), count)
    moved = boxes_xywh[rows] + generator.integers(-3, 4, (count, 4))
    boxes = np.concatenate([moved[:, :2], moved[:, :2] + np.maximum(moved[:, 2:], 0)], axis=1)
    # Half of them by fractions, whose sides float32 rounds.
    boxes = boxes + np.where(generator.uniform(size=(count, 1)) < 0.5, generator.uniform(0, 1, (count, 1)), 0)
    chosen = np.where(generator.uniform(size=count) < 0.2, generator.integers(0, 3, count), labels[rows] % 3)
    scores = np.sort(generator.integers(0, 11, count) / 10)[::-1]
    return Detections(boxes.astype(np.float32), scores.astype(np.float32), chosen.astype(np.int64))


def _pictures(image_ids: Sequence[int]) -> tuple[LabelledPicture, ...]:
    no_boxes, no_labels = np.zeros((0, 4), np.float32), np.zeros(0, np.int64)
    return tuple(LabelledPicture(Path(f"{i}.png"), i, no_boxes, no_labels) for i in image_ids)
