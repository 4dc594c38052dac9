"""Some of the free pictures as a data set in COCO format: real enough to measure on, and soon measured."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from fcos_edge.free_data import CLASSES, write_free_data

ANNOTATIONS = "annotations/instances_val.json"
COUNT = 8


def write_few_pictures(folder: Path, count: int = COUNT, classes: Sequence[str] = CLASSES) -> Path:
    """The first `count` pictures with their boxes of `classes`, which the data set lists in this order."""
    every = folder.with_name(folder.name + "-all")
    write_free_data(every)
    (folder / "annotations").mkdir(parents=True)
    (folder / "val").mkdir()
    document = json.loads((every / ANNOTATIONS).read_text())
    names = {row["id"]: row["name"] for row in document["categories"]}
    document["images"] = document["images"][:count]
    for row in document["images"]:
        shutil.copy(every / "val" / row["file_name"], folder / "val")
    kept = {row["id"] for row in document["images"]}
    document["annotations"] = [
        row | {"category_id": 1 + list(classes).index(names[row["category_id"]])}
        for row in document["annotations"]
        if row["image_id"] in kept and names[row["category_id"]] in classes
    ]
    document["categories"] = [{"id": place, "name": name} for place, name in enumerate(classes, 1)]
    (folder / ANNOTATIONS).write_text(json.dumps(document))
    shutil.rmtree(every)
    return folder


def changed_copy(data: Path, folder: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """The data set again, its COCO document changed."""
    shutil.copytree(data, folder)
    document = json.loads((folder / ANNOTATIONS).read_text())
    change(document)
    (folder / ANNOTATIONS).write_text(json.dumps(document))
    return folder
