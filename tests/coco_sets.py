"""Tiny data sets of coloured shapes in COCO, YOLO and VOC format, made where a test needs one."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
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


@dataclass(frozen=True, eq=False)
class Scene:
    """One drawn picture; boxes are x y width height in whole pixels, labels index into CLASSES."""

    name: str
    image: UInt8Array
    boxes: list[list[int]]
    labels: list[int]
    difficult: frozenset[int] = frozenset()  # places in boxes


def draw_scenes(count: int, seed: int = 0) -> list[Scene]:
    """Pictures with 0, 1 and 2 shapes in turn; the last box of every fifth is difficult."""
    generator = np.random.default_rng(seed)
    scenes = []
    for index in range(count):
        image, boxes, labels = draw_shapes(generator, index % 3)
        difficult = frozenset({len(boxes) - 1} if boxes and index % 5 == 1 else ())
        wider = np.pad(image, ((0, 0), (0, 32), (0, 0)), constant_values=128)
        wider[-1, -8:] = generator.integers(0, 255, (8, 3))  # so that no two are the same
        scenes.append(Scene(f"picture{index}.png", wider, boxes, labels, difficult))
    return scenes


def write_pictures(folder: Path, scenes: Sequence[Scene]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for scene in scenes:
        cv2.imwrite(str(folder / scene.name), scene.image)


def coco_of(scenes: Sequence[Scene]) -> dict[str, Any]:
    """A COCO document; image ids count from 1, category ids are 7 and 9."""
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for image_id, scene in enumerate(scenes, 1):
        height, width = scene.image.shape[:2]
        images.append({"id": image_id, "file_name": scene.name, "width": width, "height": height})
        for place, (box, label) in enumerate(zip(scene.boxes, scene.labels, strict=True)):
            annotations.append({
                "id": len(annotations) + 1, "image_id": image_id, "category_id": 7 + 2 * label,
                "bbox": box, "area": box[2] * box[3], "iscrowd": 0,
                "difficult": int(place in scene.difficult),
            })  # fmt: skip
    categories = [{"id": 7 + 2 * label, "name": name} for label, name in enumerate(CLASSES)]
    return {"images": images, "annotations": annotations, "categories": categories}


def write_coco(folder: Path, split: str, scenes: Sequence[Scene]) -> Path:
    """COCO's own layout. Returns the folder."""
    write_pictures(folder / split, scenes)
    (folder / "annotations").mkdir(exist_ok=True)
    (folder / "annotations" / f"instances_{split}.json").write_text(json.dumps(coco_of(scenes)))
    return folder


def write_yolo(folder: Path, split: str, scenes: Sequence[Scene]) -> Path:
    """images/<split>, labels/<split> and data.yaml; nothing says what is difficult. Returns the folder."""
    write_pictures(folder / "images" / split, scenes)
    (folder / "labels" / split).mkdir(parents=True, exist_ok=True)
    for scene in scenes:
        height, width = scene.image.shape[:2]
        rows = [
            f"{label} {(x + w / 2) / width:.9f} {(y + h / 2) / height:.9f} {w / width:.9f} {h / height:.9f}"
            for (x, y, w, h), label in zip(scene.boxes, scene.labels, strict=True)
        ]
        if rows:  # else no file: a picture without boxes
            label_file = (folder / "labels" / split / scene.name).with_suffix(".txt")
            label_file.write_text("\n".join(rows) + "\n")
    (folder / "data.yaml").write_text(
        f"train: images/train\nval: images/val\nnc: {len(CLASSES)}\nnames: {list(CLASSES)}\n"
    )
    return folder


def voc_xml(scene: Scene) -> str:
    height, width = scene.image.shape[:2]
    objects = "".join(
        f"<object><name>{CLASSES[label]}</name><difficult>{int(place in scene.difficult)}</difficult>"
        f"<bndbox><xmin>{x + 1}</xmin><ymin>{y + 1}</ymin><xmax>{x + w}</xmax><ymax>{y + h}</ymax></bndbox>"
        "</object>"
        for place, ((x, y, w, h), label) in enumerate(zip(scene.boxes, scene.labels, strict=True))
    )
    size = f"<size><width>{width}</width><height>{height}</height><depth>3</depth></size>"
    return f"<annotation><filename>{scene.name}</filename>{size}{objects}</annotation>"


def write_voc(folder: Path, split: str, scenes: Sequence[Scene]) -> Path:
    """The devkit's layout. Returns the folder."""
    write_pictures(folder / "JPEGImages", scenes)
    for name in ("Annotations", "ImageSets/Main"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for scene in scenes:
        (folder / "Annotations" / scene.name).with_suffix(".xml").write_text(voc_xml(scene))
    names = "".join(f"{Path(scene.name).stem}\n" for scene in scenes)
    (folder / "ImageSets" / "Main" / f"{split}.txt").write_text(names)
    return folder
