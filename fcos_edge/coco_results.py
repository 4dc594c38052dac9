"""Detections as COCO result JSON, what COCO's own evaluators and servers read.

[{"image_id": 42, "category_id": 1, "bbox": [x, y, width, height], "score": 0.93}, ...]
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from fcos_edge.detections import Detections
from fcos_edge.writing import whole_file


def coco_results(found: Mapping[int, Detections], category_ids: Sequence[int]) -> list[dict[str, Any]]:
    """Detections (by image id) as COCO result entries: bbox is x, y, width, height.

    category_ids: of each label
    """
    return [
        entry
        for image_id, detections in found.items()
        for entry in detections.to_coco(image_id, category_ids)
    ]


def image_ids(paths: Sequence[Path]) -> list[int] | None:
    """The numbers that the pictures' names are, as COCO's 000000410650.jpg is 410650.

    None where a name is no number, or one number is the name of two, such as 7.jpg and 07.jpg.
    """
    names = [path.stem for path in paths]
    if not names or not all(name.isascii() and name.isdigit() for name in names):
        return None
    ids = [int(name) for name in names]
    return ids if len(set(ids)) == len(ids) else None


def write_results(path: Path, results: Iterable[Mapping[str, Any]], option: str = "--results") -> None:
    """Write a COCO result file, whole or not at all. Raises UsageError where the disk refuses."""
    with whole_file(path, f"choose another {option}") as file:
        # An entry a line: files of a million detections are read by people too.
        file.write("[" + ",\n".join(json.dumps(entry, allow_nan=False) for entry in results) + "]\n")
