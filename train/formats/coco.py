"""Labelled pictures from COCO files.

A data set is a folder with `annotations/instances_<split>.json` and the pictures in `<split>/`. Classes
are matched by name. Boxes of other classes are dropped; crowds and boxes marked `difficult` become
ignore regions, neither positive nor background.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fcos_edge.errors import DataError
from fcos_edge.train.dataset import LabelledPicture
from fcos_edge.train.targets import IGNORED

MAX_PIXEL = 1 << 24  # float32 holds whole numbers up to there


def annotation_file(folder: Path, split: str) -> Path:
    """The COCO file of a split. Raises DataError where there is none."""
    path = folder / "annotations" / f"instances_{split}.json"
    if not path.is_file():
        raise DataError(f"{folder}: no annotations/instances_{split}.json; give a COCO data set's folder")
    return path


def read_annotations(path: Path) -> dict[str, Any]:
    """Parse a COCO file. Raises DataError where it is none."""
    try:
        document = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(
            f"{path}: no COCO annotations ({type(error).__name__}); give a COCO JSON file"
        ) from None
    wanted = {"images", "annotations", "categories"}
    if not isinstance(document, dict) or not wanted <= set(document):
        raise DataError(f"{path}: expected the COCO keys images, annotations and categories")
    return document


def class_names(folder: Path, split: str) -> tuple[str, ...]:
    """All classes of a data set, in the file's order. Raises DataError where there are none."""
    path = annotation_file(folder, split)
    try:
        names = tuple(category["name"] for category in read_annotations(path)["categories"])
    except (KeyError, TypeError) as error:
        raise DataError(f"{path}: not COCO annotations ({type(error).__name__}: {error})") from None
    if not names or not all(isinstance(name, str) for name in names) or len(set(names)) != len(names):
        raise DataError(f"{path}: categories must name one class or more, each once; mend the file")
    return names


def read_coco(folder: Path, split: str, classes: Sequence[str]) -> list[LabelledPicture]:
    """Pictures of a split with their boxes, in the file's order.

    Raises DataError for a missing file, a class that the file does not have, or no picture at all.
    """
    path = annotation_file(folder, split)
    document = read_annotations(path)
    try:
        names = {category["id"]: category["name"] for category in document["categories"]}
        if missing := [name for name in classes if name not in names.values()]:
            raise DataError(f"{path}: no class {missing[0]!r}; it has {', '.join(sorted(names.values()))}")
        boxes_of: dict[int, list[tuple[list[float], int]]] = {}
        for entry in document["annotations"]:
            if names[entry["category_id"]] not in classes:
                continue
            label = classes.index(names[entry["category_id"]])
            if entry.get("iscrowd") or entry.get("difficult"):
                label = IGNORED
            x, y, width, height = read_bbox(entry)
            if width > 0 and height > 0:
                boxes_of.setdefault(entry["image_id"], []).append(([x, y, x + width, y + height], label))
        pictures = []
        ids = [image["id"] for image in document["images"]]
        if not all(isinstance(i, int) for i in ids) or len(set(ids)) != len(ids):
            raise ValueError("the ids of images must be different whole numbers")
        for image in document["images"]:
            rows = boxes_of.get(image["id"], [])
            boxes = np.array([box for box, _ in rows], np.float32).reshape(-1, 4)
            labels = np.array([label for _, label in rows], np.int64)
            pictures.append(LabelledPicture(folder / split / image["file_name"], image["id"], boxes, labels))
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
        raise DataError(
            f"{path}: not COCO annotations ({type(error).__name__}: {error}); mend the file"
        ) from None
    if not pictures:
        raise DataError(f"{path}: no pictures; give a data set with pictures")
    return pictures


def read_bbox(entry: dict[str, Any]) -> tuple[float, float, float, float]:
    """x, y, width, height of an annotation. Raises ValueError for what is no box in pixels."""
    if not isinstance(entry["bbox"], list):  # text of four digits would do for map()
        raise ValueError(f"bbox is {entry['bbox']}")
    x, y, width, height = map(float, entry["bbox"])
    if not all(abs(value) <= MAX_PIXEL for value in (x, y, width, height)):  # NaN is not either
        raise ValueError(f"bbox is {entry['bbox']}")
    return x, y, width, height
