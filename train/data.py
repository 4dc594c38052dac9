"""Labelled pictures from COCO files, and the batches made of them.

A data set is a folder with `annotations/instances_<split>.json` and the pictures in `<split>/`. Classes
are matched by name. Boxes of other classes are dropped; crowds and boxes marked `difficult` become
ignore regions, neither positive nor background.

M  boxes of one picture
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from fcos_edge.errors import DataError
from fcos_edge.image import read_image_bgr
from fcos_edge.runtime import FloatArray, IntArray
from fcos_edge.train.augment import Augmentation
from fcos_edge.train.targets import BACKGROUND, IGNORED, Truth

MAX_PIXEL = 1 << 24  # float32 holds whole numbers up to there


@dataclass(frozen=True, eq=False)
class LabelledPicture:
    """One picture's file and boxes.

    boxes_xyxy  (M, 4) float32, picture pixels
    labels      (M,) int64, index into the classes, or IGNORED
    """

    path: Path
    image_id: int
    boxes_xyxy: FloatArray
    labels: IntArray


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


def check_files(pictures: Sequence[LabelledPicture]) -> None:
    """Raise DataError for a picture without file, which training would meet only after a while."""
    for picture in pictures:
        if not picture.path.is_file():
            raise DataError(f"{picture.path}: no such picture; add it, or take it out of the annotations")


def hold_out(
    pictures: Sequence[LabelledPicture], count: int, seed: int = 0
) -> tuple[list[LabelledPicture], list[LabelledPicture]]:
    """Split off `count` pictures by lot: (the rest, those held out), both in the given order."""
    if not 0 <= count < len(pictures):
        raise DataError(f"cannot hold out {count} of {len(pictures)} pictures; hold out fewer")
    chosen = set(np.random.default_rng(seed).permutation(len(pictures))[:count].tolist())
    rest = [picture for i, picture in enumerate(pictures) if i not in chosen]
    return rest, [pictures[i] for i in sorted(chosen)]


class TrainingPictures(Dataset[tuple[Tensor, Tensor, Tensor]]):
    """Augmented pictures. Sample i of an epoch depends on seed, epoch and i alone."""

    def __init__(self, pictures: Sequence[LabelledPicture], augmentation: Augmentation, seed: int) -> None:
        self.pictures = pictures
        self.augmentation = augmentation
        self.seed = seed
        self.epoch = 0
        self.input_hw = (0, 0)  # set by the loop before each epoch

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor, Tensor]:
        """Picture (3, H, W) uint8 RGB, boxes (M, 4) float32 in input pixels, labels (M,) int64."""
        picture = self.pictures[index]
        generator = np.random.default_rng((self.seed, self.epoch, index))
        image, boxes, labels = self.augmentation(
            read_image_bgr(picture.path), picture.boxes_xyxy, picture.labels, self.input_hw, generator
        )
        rgb = np.ascontiguousarray(image[..., ::-1].transpose(2, 0, 1))
        return torch.from_numpy(rgb), torch.from_numpy(boxes), torch.from_numpy(labels)


def collate(samples: Sequence[tuple[Tensor, Tensor, Tensor]]) -> tuple[Tensor, Truth]:
    """Stack pictures, pad boxes: (B, 3, H, W) uint8 and a Truth."""
    images = torch.stack([image for image, _, _ in samples])
    most = max(len(labels) for _, _, labels in samples)
    boxes_xyxy = torch.zeros(len(samples), most, 4)
    labels_of = torch.full((len(samples), most), BACKGROUND, dtype=torch.int64)
    for i, (_, boxes, labels) in enumerate(samples):
        boxes_xyxy[i, : len(boxes)] = boxes
        labels_of[i, : len(labels)] = labels
    return images, Truth(boxes_xyxy, labels_of)
