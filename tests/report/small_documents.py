"""What eval, analyze and train leave, small and made up: a class has no boxes, a name is no plain text."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

from fcos_edge.train.evaluation.reasons import ALARM_REASONS, MISS_REASONS

CLASSES = ("person", "cat & <dog>", "nobody")
_RECALL = [step / 100 for step in range(101)]


def make_evaluation() -> dict[str, Any]:
    """As `eval --json --curves`, with its keys in another order, as JSON files have them."""
    curve = {"at50": [round(1 - recall, 4) for recall in _RECALL], "mean": [0.25] * 101}
    nothing = {"at50": [-1.0] * 101, "mean": [-1.0] * 101}
    rows: dict[str, dict[str, Any]] = {
        "person": {"boxes": 958, "AP": 0.2284, "AP50": 0.4933, "threshold": 0.4435, "hits": 430,
                   "detections": 667, "recall": 0.4489, "precision": 0.6447,
                   "AP_interval_95": [0.2021, 0.2604]},
        "cat & <dog>": {"boxes": 12, "AP": 0.4781, "AP50": 0.6633, "threshold": 0.4654, "hits": 8,
                        "detections": 14, "recall": 0.6667, "precision": 0.5714,
                        "AP_interval_95": [0.2601, 0.7372]},
        "nobody": {"boxes": 0, "AP": -1, "AP50": -1, "threshold": 0.5, "hits": 0, "detections": 3,
                   "recall": None, "precision": 0.0, "AP_interval_95": None},
    }  # fmt: skip
    for name, misses, alarms in (
        ("person", (215, 2, 0, 38, 273), (124, 31, 20, 7, 55)),
        ("cat & <dog>", (1, 0, 3, 0, 0), (1, 1, 0, 0, 4)),
        ("nobody", (0, 0, 0, 0, 0), (0, 0, 3, 0, 0)),
    ):
        rows[name]["misses"] = dict(zip(MISS_REASONS, misses, strict=True))
        rows[name]["false_alarms"] = dict(zip(ALARM_REASONS, alarms, strict=True))
    figures = dict.fromkeys(("APm", "APl", "AR1", "AR10", "AR100", "ARm", "ARl"), 0.3125)
    return {
        "schema": "fcos-edge.eval/1.1", "command": "fcos-edge eval x --data 'my data'", "name": "street",
        "model": "model.int8.onnx (int8) in onnxruntime", "input_hw": [192, 320],
        "data": "coco", "split": "val",
        "conditions": {"date": "2026-11-22 07:27 UTC", "cpu": "a CPU", "versions": {"numpy": "2"}},
        "pictures": 230, "rescaled_pictures": 228, "AP": 0.3532, "AP50": 0.5783, "AP75": 0.2411,
        "APs": -1, "ARs": -1, **figures, "AP_interval_95": [0.2512, 0.4711], "classes": rows,
        "curves": {"recall": _RECALL, "all": curve,
                   "classes": {"person": curve, "cat & <dog>": curve, "nobody": nothing}},
        "worst_misses": [_missed_picture()], "worst_false_alarms": [_alarmed_picture()],
    }  # fmt: skip


def _missed_picture() -> dict[str, Any]:
    """One mistake of each reason for a miss, and more than have a sign; a hit."""
    misses = [
        _mistake("person", (10, 20, 110, 220), "low score", ("person", 0.7, 0.4312)),
        _mistake("cat & <dog>", (150, 20, 250, 120), "wrong class", ("person", 0.8125, 0.5)),
        _mistake("person", (0, 0, 60, 90), "shared", ("person", 0.59, 0.61)),
        _mistake("person", (20, 150, 60, 180), "badly placed", ("person", 0.42, 0.77)),
        *[_mistake("person", (300, 200, 316 - step, 216), "unseen") for step in range(4)],
    ]
    return {
        "file": "crowd <1>.jpg", "picture": 7, "size_hw": [240, 320], "misses": misses, "false_alarms": [],
        "hits": [{"label": 0, "class_name": "person", "score": 0.75, "box_xyxy": [200, 100, 240, 200]}],
    }  # fmt: skip


def _alarmed_picture() -> dict[str, Any]:
    """One of each reason for a false alarm; how large the picture is, the labels do not say."""
    alarms = [
        _mistake("person", (0, 0, 90, 120), "background", score=0.91),
        _mistake("person", (10, 10, 60, 90), "duplicate", ("person", 0.66, None), 0.88),
        _mistake("cat & <dog>", (100, 10, 160, 90), "wrong class", ("person", 0.71, None), 0.72),
        _mistake("person", (100, 100, 160, 190), "badly placed", ("person", 0.42, None), 0.63),
        _mistake("person", (200, 100, 260, 190), "both", ("cat & <dog>", 0.25, None), 0.52),
    ]
    return {
        "file": "empty.jpg", "picture": 11, "size_hw": [0, 0], "misses": [], "false_alarms": alarms,
        "hits": [],
    }  # fmt: skip


def _mistake(
    name: str, box_xyxy: tuple[float, ...], reason: str,
    partner: tuple[str, float, float | None] | None = None, score: float | None = None,
) -> dict[str, Any]:  # fmt: skip
    """partner: class, IoU and score"""
    other = None if partner is None else dict(zip(("class_name", "iou", "score"), partner, strict=True))
    return {
        "label": CLASSES.index(name), "class_name": name, "score": score, "box_xyxy": list(box_xyxy),
        "reason": reason, "partner": other,
    }  # fmt: skip


def make_analysis() -> dict[str, Any]:
    """As `analyze --json --model M --level p4`."""
    levels = {
        "p3": {"stride": 8, "range": [0.0, 64.0], "locations": 368000, "positives": 5515,
               "share_of_positives": 99.8},
        "p4": {"stride": 16, "range": [64.0, None], "locations": 92000, "positives": 11,
               "share_of_positives": 0.2},
    }  # fmt: skip
    count = {"best_possible_recall": 91.8012, "ambiguous": 6.2843, "ambiguous_between_classes": 1.5321,
             "positives": 5526, "levels": levels}  # fmt: skip
    quantiles = {"5%": 4.74, "25%": 13.21, "50%": 25.3, "75%": 53.7, "95%": 148.0}
    return {
        "schema": "fcos-edge.analyze/1.0", "command": "fcos-edge analyze --data coco", "fcos_edge": "0.1.0",
        "data": "coco", "split": "val", "counts": ["fpn", "p4"],
        "pictures": 230, "boxes": 1146, "left_out": 23, "classes": 1,
        "conventions": "letterbox to 320x320 (height x width)", "fpn": count, "p4": count,
        "anchors": {"best_possible_recall": 63.26, "without_low_quality": 58.73},
        "box_sizes": quantiles, "aspect_ratios": {name: value / 25 for name, value in quantiles.items()},
        "distributions": {
            "box_sizes": {"edges": [64.0, 128.0, 256.0], "counts": [1100, 46]},
            "aspect_ratios": {"edges": [0.25, 0.5, 1.0, 2.0], "counts": [146, 600, 400]},
        },
        "detections": {"detections": 20554, "ambiguous": 1.14, "ambiguous_between_classes": 0.43},
    }  # fmt: skip


def make_run(folder: Path, *, is_finished: bool = True) -> Path:
    """A run of three epochs, the last at another input; the row of a fourth is cut short."""
    folder.mkdir(parents=True)
    run = {
        "name": "lite0-320", "classes": list(CLASSES), "data": ["/data/my data"], "weights": None,
        "held_out": 20,
        "config": {"epochs": 4, "batch_size": 8, "iterations": 0, "optimizer": {"learning_rate": 0.002}},
        "command": "fcos-edge train --data '/data/my data' --out run", "exclude": [],
    }  # fmt: skip
    (folder / "run.json").write_text(json.dumps(run))
    rows: list[dict[str, Any]] = []
    for epoch in (1, 2, 3):
        rows.append({
            "epoch": epoch, "step": 100 * epoch, "seconds": 80.0,
            "input_hw": [320, 320] if epoch == 3 else [256, 256],
            "learning_rate": 0.002 / epoch, "loss_classes": 1.5 / epoch, "loss_boxes": 0.75 / epoch,
            "loss_centerness": 0.625,
        })  # fmt: skip
    rows[1]["held_out"] = held_out(0.5701)
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "metrics.jsonl").write_text(text + '{"epoch": 4, "st')
    if is_finished:
        metrics = {"training_pictures": 185, "held_out": held_out(0.5656)}
        told = json.dumps({"config": {"made_with": {"torch": "2.13"}}, "metrics": metrics})
        header = json.dumps({"__metadata__": {"fcos_edge": told}}).encode()
        (folder / "lite0-320.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)
    return folder


def held_out(ap: float) -> dict[str, Any]:
    """Figures of 20 pictures."""
    classes = {
        "person": {"boxes": 120, "AP": ap, "AP50": 0.9},
        "cat & <dog>": {"boxes": 12, "AP": 0.25, "AP50": 0.5},
        "nobody": {"boxes": 0, "AP": -1, "AP50": -1},
    }  # fmt: skip
    return {"pictures": 20, "AP": ap, "AP50": 0.9123, "classes": classes}
