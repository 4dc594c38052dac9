"""How long `fcos-edge analyze --paper` takes for a data set of COCO val2017's size, on one core.

    python benchmarks/analyze_speed.py
    python benchmarks/analyze_speed.py --data instances_val2017.json

Without `--data`: 5,000 pictures and 36,335 boxes, by lot, with COCO's usual sizes, in a COCO file. What is
timed is the whole command, in a process of its own that may use one core: imports, reading the file, the
six figures of the paper's tables and those of the anchors. Each part is timed once more inside this process.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from conditions import Table, Target, add_json, measure_conditions, report, run_as_script
from fcos_edge.arguments import positive_int
from fcos_edge.train.analyze.anchors import count_anchors
from fcos_edge.train.analyze.boxes import read_boxes
from fcos_edge.train.analyze.positives import count_positives
from fcos_edge.train.analyze.shape import PAPER_STRIDES, paper_shape

PICTURES, BOXES, CLASSES = 5000, 36_335, 80
MOST_SECONDS = 30.0
_SIZES_HW = ((480, 640), (640, 480), (427, 640), (640, 427), (375, 500), (333, 500), (500, 375))


def run(args: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = args.data
        if path is None:
            path = Path(folder) / "random.json"
            path.write_text(json.dumps(random_document(PICTURES, BOXES)))
        # Of the core it was started on; a child inherits it.
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        conditions = measure_conditions(1, {"runs": args.runs, "data": path.name})
        whole_s = [_time_command(path) for _ in range(args.runs)]
        parts_s, boxes = _time_parts(path)
    conditions["boxes"] = boxes
    rows = [("the whole command, slowest", max(whole_s)), *parts_s.items()]
    targets = [Target(f"analyze --paper, {boxes:,} boxes", max(whole_s), "<=", MOST_SECONDS, " s")]
    figures = {"whole_s": whole_s, **parts_s}
    report("analyze_speed", conditions, targets, [Table("seconds", ("what", "s"), rows)], figures, args.json)


def random_document(pictures: int, boxes: int, seed: int = 0) -> dict[str, Any]:
    """A COCO document; sides spread over two orders of magnitude, as COCO's do."""
    generator = np.random.default_rng(seed)
    images = []
    for index in range(pictures):
        height, width = _SIZES_HW[generator.integers(len(_SIZES_HW))]
        images.append({"id": index, "file_name": f"{index}.jpg", "height": height, "width": width})
    # A few pictures hold most boxes: shares drawn from an exponential.
    share = generator.exponential(size=pictures)
    image_of = generator.choice(pictures, boxes, p=share / share.sum())
    annotations = []
    for index, image in enumerate(image_of.tolist()):
        limit = np.array((images[image]["width"], images[image]["height"]), np.float64)
        size, ratio = np.exp(generator.normal((4.0, 0.0), (1.1, 0.25)))
        side = np.minimum((size * ratio, size / ratio), limit)
        corner = generator.uniform(0, limit - side)
        annotations.append({
            "id": index + 1, "image_id": image, "category_id": int(generator.integers(CLASSES)) + 1,
            "bbox": [round(value, 2) for value in (*corner.tolist(), *side.tolist())],
            "area": round(float(side.prod()), 2), "iscrowd": 0,
        })  # fmt: skip
    return {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": i + 1, "name": f"class {i + 1}"} for i in range(CLASSES)],
    }


def _time_command(path: Path) -> float:
    start = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "fcos_edge", "analyze", "--data", str(path), "--paper", "--json"],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    return time.perf_counter() - start


def _time_parts(path: Path) -> tuple[dict[str, float], int]:
    """Seconds of each step, and the number of boxes."""
    shape = paper_shape()
    data, reading_s = _timed(lambda: read_boxes(path, "val"))
    views, scaling_s = _timed(lambda: [shape.see(picture) for picture in data.pictures])
    _, levels_s = _timed(lambda: count_positives(views, shape.rule))
    _, alone_s = _timed(lambda: count_positives(views, shape.rule.alone("p4")))
    anchors, anchors_s = _timed(lambda: count_anchors(views, PAPER_STRIDES))
    parts_s = {
        "reading": reading_s, "scaling": scaling_s, "all levels": levels_s, "p4 alone": alone_s,
        "anchors": anchors_s,
    }  # fmt: skip
    return parts_s, anchors.boxes


def _timed(call: Callable[[], Any]) -> tuple[Any, float]:
    start = time.perf_counter()
    result = call()
    return result, time.perf_counter() - start


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="fcos-edge analyze --paper on one core.")
    parser.add_argument("--data", type=Path, metavar="FILE", help="a COCO file (default: one made by lot)")
    parser.add_argument("--runs", type=positive_int, default=3, metavar="N", help="default: %(default)s")
    add_json(parser)
    return parser


if __name__ == "__main__":
    run_as_script(make_parser(), run)
