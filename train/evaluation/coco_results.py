"""Detections as COCO result JSON, what COCO's own evaluators and servers read.

[{"image_id": 42, "category_id": 1, "bbox": [x, y, width, height], "score": 0.93}, ...]
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from fcos_edge.detections import Detections
from fcos_edge.errors import UsageError
from fcos_edge.writing import naming

_REMEDY = "choose another --results"


def coco_results(found: Mapping[int, Detections], category_ids: Sequence[int]) -> list[dict[str, Any]]:
    """Detections (by image id) as COCO result entries: bbox is x, y, width, height.

    category_ids: of each label
    """
    rows = []
    for image_id, detections in found.items():
        size = detections.boxes_xyxy[:, 2:] - detections.boxes_xyxy[:, :2]
        boxes = np.concatenate([detections.boxes_xyxy[:, :2], size], axis=1).astype(float)
        for box, score, label in zip(boxes, detections.scores, detections.labels, strict=True):
            rows.append({
                "image_id": image_id, "category_id": category_ids[label],
                "bbox": box.tolist(), "score": float(score),
            })  # fmt: skip
    return rows


def check_results_file(path: Path) -> None:
    """Raise UsageError where results cannot go to `path`: before the work, not after it."""
    part = _part(path)
    with naming(path, _REMEDY):
        if path.exists() or path.is_symlink():
            raise UsageError(f"--results {path}: is there already; name another file, or move this one")
        if not path.parent.is_dir():
            raise UsageError(f"--results {path}: there is no folder {path.parent}; make it first")
        part.touch()
        part.unlink()


def write_results(path: Path, results: Sequence[Mapping[str, Any]]) -> None:
    """Write a COCO result file, whole or not at all. Raises UsageError where the disk refuses."""
    part = _part(path)
    try:
        with naming(path, _REMEDY):
            # An entry a line: files of a million detections are read by people too.
            lines = ",\n".join(json.dumps(entry, allow_nan=False) for entry in results)
            part.write_text(f"[{lines}]\n", encoding="utf-8")
            os.replace(part, path)
    finally:
        with suppress(OSError):  # what stopped the writing is said already
            part.unlink(missing_ok=True)


def _part(path: Path) -> Path:
    return path.with_name(f".{path.name}.part")
