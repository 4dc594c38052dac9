"""Detections as COCO result JSON, what COCO's own evaluators and servers read.

[{"image_id": 42, "category_id": 1, "bbox": [x, y, width, height], "score": 0.93}, ...]
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from fcos_edge.detections import Detections
from fcos_edge.errors import UsageError
from fcos_edge.writing import naming


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


def check_results_file(path: Path, option: str = "--results") -> None:
    """Raise UsageError where results cannot go to `path`: before the work, not after it."""
    part = _part(path)
    with naming(path, f"choose another {option}"):
        if path.exists() or path.is_symlink():
            raise UsageError(f"{option} {path}: is there already; name another file, or move this one")
        if not path.parent.is_dir():
            raise UsageError(f"{option} {path}: there is no folder {path.parent}; make it first")
        part.touch()
        part.unlink()


def write_results(path: Path, results: Iterable[Mapping[str, Any]], option: str = "--results") -> None:
    """Write a COCO result file, whole or not at all. Raises UsageError where the disk refuses."""
    part = _part(path)
    try:
        with naming(path, f"choose another {option}"):
            # An entry a line: files of a million detections are read by people too.
            lines = ",\n".join(json.dumps(entry, allow_nan=False) for entry in results)
            part.write_text(f"[{lines}]\n", encoding="utf-8")
            os.replace(part, path)
    finally:
        with suppress(OSError):  # what stopped the writing is said already
            part.unlink(missing_ok=True)


def _part(path: Path) -> Path:
    return path.with_name(f".{path.name}.part")
