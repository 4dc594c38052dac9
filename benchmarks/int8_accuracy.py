"""What int8 costs in accuracy: AP and misses of every file of a bundle, beside the PyTorch network's.

    python benchmarks/int8_accuracy.py street8-lite0-320 --data coco-person:person voc-coco-mix:car,cat

Every file runs through the device's own detector: letterbox, runtime, post-processing, everything above
the candidate threshold. The reference is the checkpoint in PyTorch, in float32, through the same. Differences
are in points, AP times 100, with the interval that 95 of 100 draws of the pictures give (paired: both sides
see the same draw).

The classes behind a data set's colon are promised: int8 keeps 99 % of their AP, and the runtimes agree within
0.1 points, or within twice the spread of ten runs in which one bit of every picture is flipped where that is
more, since no runtime can be asked to agree better than a network agrees with itself.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from conditions import Table, Target, add_json, measure_conditions, report, run_as_script
from fcos_edge import embedded
from fcos_edge.arguments import positive_int
from fcos_edge.bundle import read_manifest
from fcos_edge.console import note
from fcos_edge.detector import Detector
from fcos_edge.errors import DataError
from fcos_edge.letterbox import Letterbox
from fcos_edge.parity.accuracy import Accuracy, ClassAccuracy, compare_accuracy, measure_accuracy
from fcos_edge.runtime import RawOutputs, Runtime, UInt8Array
from fcos_edge.train.evaluation.evaluate import LabelledSplit, find_candidates, read_split
from fcos_edge.train.torch_runtime import open_checkpoint
from fcos_edge.workers.perturbation import flip_lowest_bit
from networks import open_networks

LEAST_SHARE = 99.0  # percent of float32's AP: MLPerf's rule
MOST_APART = 0.1
MOST_MISSES = 1.0
MISSES_FROM_BOXES = 200  # fewer boxes, and one of them is half a point
REFERENCE = "PyTorch fp32"


@dataclass(frozen=True)
class DataSet:
    """folder, and the classes that a promise is made for"""

    folder: Path
    promised: tuple[str, ...]


class FlippingRuntime:
    """A runtime that sees one bit of each picture flipped, another one in every run of `seed`."""

    def __init__(self, runtime: Runtime, letterbox: Letterbox, seed: int) -> None:
        self._runtime = runtime
        self._letterbox = letterbox  # one that leaves no padding: any place of the input may flip
        self._generator = np.random.default_rng(seed)

    def run(self, images: UInt8Array) -> RawOutputs:
        return self._runtime.run(flip_lowest_bit(images, self._letterbox, self._generator))

    def close(self) -> None:
        """The runtime belongs to another detector."""


def run(args: argparse.Namespace) -> None:
    spec = read_manifest(args.bundle).spec
    for data in args.data:
        for name in data.promised:
            if name not in spec.classes:
                raise DataError(f"--data {data.folder}: class {name} is none of {', '.join(spec.classes)}")
    # Before the first long measurement: a mistake in the last data set should not cost the others.
    splits = [_read(data.folder, args, spec.classes) for data in args.data]
    detectors = {REFERENCE: open_checkpoint(args.checkpoint or embedded.CHECKPOINT, args.threads)}
    for (runtime, precision), loaded in open_networks(args.bundle, ("fp32", "int8"), args.threads).items():
        thresholds = loaded.info.operating_thresholds
        detectors[f"{runtime} {precision}"] = Detector(loaded.runtime, loaded.spec, thresholds)
    conditions = {"data": ", ".join(split.name for split in splits)}
    counts = {"pictures": sum(len(split.pictures) for split in splits), "flips": args.flips}
    conditions |= measure_conditions(args.threads, counts)

    targets, tables, figures = [], [], {}
    for data, split in zip(args.data, splits, strict=True):
        measured = {}
        for label, detector in detectors.items():
            note(f"{split.name}: {label}")
            measured[label] = _measure(detector, split)
        flipped = [_measure(_flipping(detectors, seed), split, draws=0) for seed in range(args.flips)]
        targets += _targets(split.name, data.promised, measured, flipped)
        tables += _tables(split.name, measured)
        figures[split.name] = {
            "runs": {label: accuracy.to_dict() for label, accuracy in measured.items()},
            "flipped": [{row.name: row.ap for row in accuracy.classes} for accuracy in flipped],
        }
    report("int8_accuracy", conditions, targets, tables, figures, args.json)
    for detector in detectors.values():
        detector.close()


def _read(folder: Path, args: argparse.Namespace, classes: tuple[str, ...]) -> LabelledSplit:
    split = read_split(folder, args.split, classes)
    return LabelledSplit(split.name, split.pictures[: args.pictures], split.classes, split.document)


def _measure(detector: Detector, split: LabelledSplit, draws: int = 1000) -> Accuracy:
    found = find_candidates(detector, split.pictures)
    return measure_accuracy(split, found, detector.operating_thresholds, draws)


def _flipping(detectors: dict[str, Detector], seed: int) -> Detector:
    """The first int8 detector, with one bit of every picture flipped."""
    detector = next(detectors[label] for label in detectors if label.endswith("int8"))
    letterbox = Letterbox.from_spec(detector.spec, detector.spec.input_hw)
    runtime = FlippingRuntime(detector.runtime, letterbox, seed)
    return Detector(runtime, detector.spec, detector.operating_thresholds)


def _ap(accuracy: Accuracy, name: str) -> float | None:
    """In points; None where there is no box to find: COCO's -1."""
    ap = next(row for row in accuracy.classes if row.name == name).ap
    return None if ap < 0 else 100 * ap


def _targets(
    data: str, promised: Sequence[str], measured: dict[str, Accuracy], flipped: Sequence[Accuracy]
) -> list[Target]:
    int8 = {label: accuracy for label, accuracy in measured.items() if label.endswith("int8")}
    targets = []
    for name in promised:
        reference = _ap(measured[REFERENCE], name)
        points = {label: _ap(accuracy, name) for label, accuracy in int8.items()}
        for label, value in points.items():
            share = None if not reference or value is None else 100 * value / reference
            what = f"{data}: {label}, {name} AP as a part of {REFERENCE}'s"
            targets.append(Target(what, share, ">=", LEAST_SHARE, " %"))
        known = [value for value in points.values() if value is not None]
        spread = [value for accuracy in flipped if (value := _ap(accuracy, name)) is not None]
        twice = 2 * float(np.std(spread, ddof=1)) if len(spread) > 1 else 0.0
        apart = max(known) - min(known) if known else None
        what = f"{data}: {name} AP, largest int8 minus smallest (twice the spread of flips: {twice:.2f})"
        targets.append(Target(what, apart, "<=", max(MOST_APART, twice), " points"))
    for label, accuracy in int8.items():
        for before, after in zip(measured[REFERENCE].classes, accuracy.classes, strict=True):
            if before.boxes >= MISSES_FROM_BOXES:
                what = f"{data}: {label}, misses of {before.name} more than {REFERENCE}'s"
                targets.append(Target(what, _misses(before, after), "<=", MOST_MISSES, " points"))
    return targets


def _misses(before: ClassAccuracy, after: ClassAccuracy) -> float | None:
    if before.miss_rate is None or after.miss_rate is None:
        return None
    return 100 * (after.miss_rate - before.miss_rate)


def _tables(data: str, measured: dict[str, Accuracy]) -> list[Table]:
    reference = measured[REFERENCE]
    others = {
        label: compare_accuracy(reference, one) for label, one in measured.items() if label != REFERENCE
    }
    rows: list[tuple[object, ...]] = [
        (REFERENCE, 100 * reference.figures["AP"], 100 * reference.figures["AP50"], None, None)
    ]
    rows += [
        (
            label,
            100 * measured[label].figures["AP"],
            100 * measured[label].figures["AP50"],
            _signed(other.figures["AP"]),
            _signed(other.figures["AP50"]),
        )
        for label, other in others.items()
    ]
    int8 = {label: other for label, other in others.items() if label.endswith("int8")}
    per_class, misses = [], []
    for place, row in enumerate(reference.classes):
        differences = [other.classes[place] for other in int8.values()]
        ap = None if row.ap < 0 else 100 * row.ap
        per_class.append((row.name, row.boxes, ap, *(_signed(one.ap) for one in differences)))
        rate = None if row.miss_rate is None else 100 * row.miss_rate
        misses.append((row.name, row.boxes, rate, *(_signed(one.miss_rate) for one in differences)))
    return [
        Table(f"{data}: {reference.pictures} pictures, points of 100, differences with 95 % intervals",
              ("network", "AP", "AP50", "AP from PyTorch's", "AP50 from PyTorch's"), rows),
        Table(f"{data}: AP of {REFERENCE} per class, and how int8 differs",
              ("class", "boxes", "AP", *int8), per_class),
        Table(f"{data}: misses of {REFERENCE} at its operating threshold, and how int8 differs at its own",
              ("class", "boxes", "misses", *int8), misses),
    ]  # fmt: skip


def _signed(difference: Any) -> str | None:
    if difference is None:
        return None
    text = f"{100 * difference.value:+.2f}"
    if difference.interval_95 is None:
        return text
    low, high = difference.interval_95
    return f"{text} ({100 * low:+.1f} {100 * high:+.1f})"


def _data(text: str) -> DataSet:
    folder, _, names = text.partition(":")
    return DataSet(Path(folder), tuple(names.split(",")) if names else ())


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="What int8 costs in accuracy.")
    parser.add_argument("bundle", type=Path, metavar="BUNDLE")
    parser.add_argument(
        "--data", type=_data, nargs="+", required=True, metavar="DIR[:C,C]",
        help="data sets, COCO, YOLO or VOC, and the classes to judge there",
    )  # fmt: skip
    parser.add_argument("--split", default="val", metavar="S", help="default: %(default)s")
    parser.add_argument(
        "--pictures", type=positive_int, metavar="N", help="the first N of each set (default: all)"
    )
    parser.add_argument(
        "--flips",
        type=positive_int,
        default=10,
        metavar="N",
        help="runs with a flipped bit (default: %(default)s)",
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
