"""Tiny COCO data sets of coloured shapes, made where a test needs one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from fcos_edge.runtime import UInt8Array

CLASSES = ("square", "disc")
COLORS_BGR = ((40, 40, 220), (220, 120, 30))  # of the classes, in their order
SIDE = 96


def draw_shapes(
    generator: np.random.Generator, count: int = 2
) -> tuple[UInt8Array, list[list[int]], list[int]]:
    """A grey picture with `count` shapes side by side: the picture BGR, boxes x y width height, labels."""
    image = np.full((SIDE, SIDE, 3), 128, np.uint8)
    boxes, labels = [], []
    room = SIDE // max(count, 1)
    for index in range(count):
        side = int(generator.integers(room // 2, room - 4))
        x = index * room + int(generator.integers(0, room - side))
        y = int(generator.integers(0, SIDE - side))
        label = int(generator.integers(len(CLASSES)))
        if CLASSES[label] == "square":
            image[y : y + side, x : x + side] = COLORS_BGR[label]
        else:
            center = (x + side // 2, y + side // 2)
            cv2.circle(image, center, side // 2, COLORS_BGR[label], thickness=-1)
        boxes.append([x, y, side, side])
        labels.append(label)
    return image, boxes, labels


def make_coco_set(folder: Path, split: str, count: int, seed: int = 0) -> Path:
    """Write `count` pictures and their COCO file; category ids are 7 and 9. Returns the folder."""
    generator = np.random.default_rng(seed)
    (folder / "annotations").mkdir(parents=True, exist_ok=True)
    (folder / split).mkdir()
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for index in range(count):
        image, boxes, labels = draw_shapes(generator)
        name = f"{split}{index}.png"
        cv2.imwrite(str(folder / split / name), image)
        images.append({"id": 100 + index, "file_name": name, "width": SIDE, "height": SIDE})
        for box, label in zip(boxes, labels, strict=True):
            annotations.append({
                "id": len(annotations) + 1, "image_id": 100 + index, "category_id": 7 + 2 * label,
                "bbox": box, "area": box[2] * box[3], "iscrowd": 0,
            })  # fmt: skip
    document = {
        "images": images, "annotations": annotations,
        "categories": [{"id": 7 + 2 * label, "name": name} for label, name in enumerate(CLASSES)],
    }  # fmt: skip
    (folder / "annotations" / f"instances_{split}.json").write_text(json.dumps(document))
    return folder
