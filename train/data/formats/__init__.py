"""Data sets by path, whatever their format. Adding one is adding a file here that has `FORMAT`.

    data set                                      path                    split
    COCO, YOLO, VOC in a folder of its own        the folder              train, val, test, ...
    one COCO JSON file, with or without pictures  the file                any: the file is its own split
    YOLO's data.yaml                              the file or its folder  a key of the file

Classes are matched by name. Split `val` finds a folder or key `valid` too, as Roboflow writes it.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from fcos_edge.errors import DataError
from fcos_edge.train.data.dataset import IGNORED, LabelledPicture
from fcos_edge.train.data.labels import UNKNOWN_HW, Format, Labels, PictureLabels
from fcos_edge.train.data.licence import Use
from fcos_edge.train.data.licensed import keep_licensed
from fcos_edge.train.data.picture_size import picture_hw


def formats() -> list[Format]:
    """Every format of this folder."""
    modules = sorted(module.name for module in pkgutil.iter_modules(__path__))
    return [importlib.import_module(f"{__name__}.{name}").FORMAT for name in modules]


def find_format(path: Path, split: str) -> Format:
    """The format of the data set at `path`. Raises DataError where it is of none, or of several."""
    if not path.exists():
        raise DataError(f"{path}: no such file or folder; check the path of the data set")
    splits_of = {form.name: (form, splits) for form in formats() if (splits := form.splits(path))}
    if not splits_of:
        looked_for = "; ".join(f"{form.layout} ({form.name})" for form in formats())
        raise DataError(f"{path}: no data set; looked for {looked_for}")
    having = [
        form for form, splits in splits_of.values() if split in splits or path.suffix.lower() == ".json"
    ]
    if len(having) > 1:
        names = " and ".join(form.name for form in having)
        raise DataError(f"{path}: holds a data set in {names}; name its COCO file or data.yaml instead")
    if not having:
        found = sorted({name for _, splits in splits_of.values() for name in splits})
        layouts = "; ".join(form.layout for form, _ in splits_of.values())
        raise DataError(f"{path}: no split {split!r}, it has {', '.join(found)}; looked for {layouts}")
    return having[0]


def read_labels(path: Path, split: str) -> Labels:
    """All that a split says, faults included. Raises DataError for what cannot be read."""
    labels = find_format(path, split).read(path, split)
    if not labels.pictures:
        raise DataError(f"{labels.source}: no pictures in {split}; give a data set with pictures")
    return labels


def class_names(path: Path, split: str) -> tuple[str, ...]:
    """All classes of a data set, in its order. Raises DataError where there are none."""
    return find_format(path, split).classes(path, split)


def read_pictures(
    path: Path,
    split: str,
    classes: Sequence[str],
    crowd: Literal["ignore", "drop"] = "ignore",
    licence: Use | None = None,
) -> list[LabelledPicture]:
    """Pictures of a split with their boxes of `classes`, in the data set's order.

    crowd    crowd boxes become ignore regions, or are dropped as in the paper; difficult ones are ignored
    licence  only pictures whose record allows this use, perhaps none

    Pictures without boxes stay, boxes without area do not. Raises DataError for labels with a fault, a
    class that the data set does not have, or no picture at all.
    """
    labels = read_labels(path, split)
    require_faultless(labels)
    if licence is not None:
        labels, _ = keep_licensed(labels, licence)
    # Of each class of the data set its place in `classes`, or -1; the last for UNKNOWN_CLASS.
    label_of = np.full(len(labels.classes) + 1, -1)
    for label, name in enumerate(classes):
        label_of[place_of(name, labels)] = label
    return [_choose(picture, label_of, crowd) for picture in labels.pictures]


def place_of(name: str, labels: Labels) -> int:
    """The place of a class in `labels.classes`. Raises DataError where it is not there."""
    if name not in labels.classes:
        raise DataError(f"{labels.source}: no class {name!r}; it has {', '.join(sorted(labels.classes))}")
    return labels.classes.index(name)


def require_faultless(labels: Labels) -> None:
    """Raise DataError for the first fault. A box of no picture harms nobody."""
    faults = [fault for fault in labels.faults if fault.kind != "no_picture"]
    if faults:
        more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
        raise DataError(f"{faults[0].place}: {faults[0].detail}{more}; mend the labels")


def coco_document(path: Path, split: str) -> dict[str, Any]:
    """The labels of a split as a COCO document, for evaluation; a COCO file as it is.

    Ids of images are those of `read_pictures`. Crowd and difficult boxes keep their class and are crowds.
    """
    labels = read_labels(path, split)
    require_faultless(labels)
    if labels.document is not None:
        return labels.document
    annotations: list[dict[str, Any]] = []
    for picture in labels.pictures:
        ignored = picture.is_crowd | picture.is_difficult
        for (left, top, right, bottom), category, is_ignored in zip(
            picture.boxes_xyxy.tolist(), picture.classes.tolist(), ignored.tolist(), strict=True
        ):
            width, height = right - left, bottom - top
            annotations.append({
                "id": len(annotations) + 1, "image_id": picture.image_id, "category_id": category + 1,
                "bbox": [left, top, width, height], "area": width * height, "iscrowd": int(is_ignored),
            })  # fmt: skip
    return {
        "images": [
            {
                "id": picture.image_id, "file_name": picture.path.name,
                "height": picture.size_hw[0], "width": picture.size_hw[1],
            }
            for picture in labels.pictures
        ],
        "annotations": annotations,
        "categories": [{"id": i, "name": name} for i, name in enumerate(labels.classes, 1)],
    }  # fmt: skip


def _choose(
    picture: PictureLabels, label_of: np.ndarray[Any, Any], crowd: Literal["ignore", "drop"]
) -> LabelledPicture:
    labels = label_of[picture.classes]
    size = picture.boxes_xyxy[:, 2:] - picture.boxes_xyxy[:, :2]
    kept = (labels >= 0) & (size > 0).all(axis=1)
    if crowd == "drop":
        kept &= picture.is_difficult | ~picture.is_crowd
    labels = np.where(picture.is_crowd | picture.is_difficult, IGNORED, labels)
    return LabelledPicture(
        picture.path,
        picture.image_id,
        picture.boxes_xyxy[kept].astype(np.float32),
        labels[kept].astype(np.int64),
        picture_hw(picture.path) if picture.size_hw == UNKNOWN_HW else picture.size_hw,
        picture.area_scale,
    )
