"""What int8 costs in accuracy: AP of every file of a bundle, beside the PyTorch network's.

    python benchmarks/int8_accuracy.py street8-lite0-320 --data coco-person voc-coco-mix

Every file runs through the device's own detector: letterbox, runtime, post-processing, everything above
the candidate threshold. The reference is the checkpoint in PyTorch, in float32, through the same. Differences
are in points: AP times 100.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from conditions import Table, Target, add_json, measure_conditions, report, run_as_script
from fcos_edge import embedded
from fcos_edge.arguments import positive_int
from fcos_edge.bundle import read_manifest
from fcos_edge.console import note
from fcos_edge.detector import Detector
from fcos_edge.errors import DataError
from fcos_edge.train.data.formats import read_pictures
from fcos_edge.train.evaluation.coco_figures import ClassFigures, Evaluation
from fcos_edge.train.evaluation.evaluate import evaluate
from fcos_edge.train.torch_runtime import open_checkpoint
from networks import open_networks

MOST_POINTS = 1.0
REFERENCE = "PyTorch fp32"


def run(args: argparse.Namespace) -> None:
    classes = read_manifest(args.bundle).spec.classes
    if args.class_name not in classes:
        raise DataError(f"--class-name {args.class_name}: none of {', '.join(classes)}")
    detectors = {REFERENCE: open_checkpoint(args.checkpoint or embedded.CHECKPOINT, args.threads)}
    for (runtime, precision), loaded in open_networks(args.bundle, ("fp32", "int8"), args.threads).items():
        thresholds = loaded.info.operating_thresholds
        detectors[f"{runtime} {precision}"] = Detector(loaded.runtime, loaded.spec, thresholds)
    sets = {folder.resolve().name: folder for folder in args.data}
    # Before the first long measurement: a mistake in the last data set should not cost the others.
    image_ids = {name: first_ids(folder, args, classes) for name, folder in sets.items()}
    conditions = {"data": ", ".join(f"{name} {args.split}" for name in sets)}
    conditions |= measure_conditions(args.threads, {"pictures": sum(map(len, image_ids.values()))})

    targets, tables, figures = [], [], {}
    for name, folder in sets.items():
        measured = {}
        for label, detector in detectors.items():
            note(f"{name}: {label}")
            measured[label] = evaluate(detector, folder, args.split, image_ids[name])
        targets += _targets(name, measured, args.class_name)
        tables += _tables(name, measured, args.class_name)
        figures[name] = {label: evaluation.to_dict() for label, evaluation in measured.items()}
    report("int8_accuracy", conditions, targets, tables, figures, args.json)
    for detector in detectors.values():
        detector.close()


def first_ids(folder: Path, args: argparse.Namespace, classes: tuple[str, ...]) -> list[int]:
    """Ids of the pictures to measure. Raises DataError where the data set cannot be used."""
    ids = [picture.image_id for picture in read_pictures(folder, args.split, classes)]
    return ids if args.pictures is None else ids[: args.pictures]


def ap_points(evaluation: Evaluation, class_name: str) -> float | None:
    """AP of one class in points; None where there is no box to find."""
    return _points(_class(evaluation, class_name).ap)


def _class(evaluation: Evaluation, name: str) -> ClassFigures:
    return next(row for row in evaluation.classes if row.name == name)


def _points(ap: float) -> float | None:
    # COCO's -1 says that there is nothing to measure.
    return None if ap < 0 else 100 * ap


def _difference(value: float | None, reference: float | None) -> float | None:
    return None if value is None or reference is None else value - reference


def _targets(data: str, measured: dict[str, Evaluation], class_name: str) -> list[Target]:
    reference = ap_points(measured[REFERENCE], class_name)
    targets = []
    for label, evaluation in measured.items():
        if label.endswith("int8"):
            difference = _difference(ap_points(evaluation, class_name), reference)
            what = f"{data}: {label}, {class_name} AP from {REFERENCE}'s"
            distance = None if difference is None else abs(difference)
            targets.append(Target(what, distance, "<=", MOST_POINTS, " points"))
    return targets


def _tables(data: str, measured: dict[str, Evaluation], class_name: str) -> list[Table]:
    reference = measured[REFERENCE]
    rows: list[tuple[object, ...]] = []
    for label, evaluation in measured.items():
        mine = _class(evaluation, class_name)
        difference = _difference(_points(mine.ap), ap_points(reference, class_name))
        rows.append((label, _points(evaluation.figures["AP"]), _points(evaluation.figures["AP50"]),
                     _points(mine.ap), _points(mine.ap50), _signed(difference)))  # fmt: skip
    header = ("network", "AP", "AP50", f"{class_name} AP", f"{class_name} AP50", "points from PyTorch")
    int8 = [label for label in measured if label.endswith("int8")]
    per_class = []
    for row in reference.classes:
        differences: list[Any] = [
            _signed(_difference(ap_points(measured[label], row.name), _points(row.ap))) for label in int8
        ]
        per_class.append((row.name, row.boxes, _points(row.ap), _points(row.ap50), *differences))
    return [
        Table(f"{data}: {reference.pictures} pictures, AP in points of 100", header, rows),
        Table(f"{data}: {REFERENCE} per class, and by how many points int8 differs",
              ("class", "boxes", "AP", "AP50", *int8), per_class),
    ]  # fmt: skip


def _signed(points: float | None) -> str | None:
    return None if points is None else f"{points:+.2f}"


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="What int8 costs in accuracy.")
    parser.add_argument("bundle", type=Path, metavar="BUNDLE")
    parser.add_argument(
        "--data", type=Path, nargs="+", required=True, metavar="DIR", help="data sets: COCO, YOLO or VOC"
    )
    parser.add_argument("--split", default="val", metavar="S", help="default: %(default)s")
    parser.add_argument(
        "--pictures", type=positive_int, metavar="N", help="the first N of each set (default: all)"
    )
    parser.add_argument(
        "--class-name", default="person", metavar="C", help="class of the target (default: %(default)s)"
    )
    parser.add_argument(
        "--checkpoint", type=Path, metavar="FILE",
        help="what the bundle was exported from (default: the embedded detector)",
    )  # fmt: skip
    parser.add_argument("--threads", type=positive_int, default=1, metavar="N", help="default: %(default)s")
    add_json(parser)
    return parser


if __name__ == "__main__":
    run_as_script(make_parser(), run)
