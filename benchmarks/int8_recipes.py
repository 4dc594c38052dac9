"""What each int8 recipe is worth: errors of raw outputs and AP through the integer simulator, beside float32.

    python benchmarks/int8_recipes.py --data coco-person voc-coco-mix --recipes w8c_a8t_minmax,w8c_a8t_mse_bc

Calibrates on `train` pictures of all data sets together, by each recipe in turn, and measures on `val`. The
simulator equals ONNX Runtime and ai-edge-litert bit for bit (int8_agreement.py), so its AP is theirs.

Raw errors are over the locations where the float network gives some class more than the candidate threshold:
mean absolute difference, and its mean with the sign. They are steadier than AP, and choose between recipes;
AP differences carry paired bootstrap intervals, since few recipes differ by more than those. With `--bundle`
the record of a bundle that was exported before is measured too.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from conditions import Table, add_json, measure_conditions, report, run_as_script
from fcos_edge import embedded
from fcos_edge.arguments import positive_int
from fcos_edge.bundle import RECORD_NAME
from fcos_edge.console import note
from fcos_edge.detections import Detections
from fcos_edge.detector import Detector
from fcos_edge.image import read_image_bgr
from fcos_edge.letterbox import Letterbox
from fcos_edge.parity.accuracy import Accuracy, compare_accuracy, measure_accuracy
from fcos_edge.quantize.calibrate import calibrate_inputs, letterboxed
from fcos_edge.quantize.deploy import deploy
from fcos_edge.quantize.execute import DeployNetwork
from fcos_edge.quantize.graph import Graph
from fcos_edge.quantize.recipe import parse_recipe
from fcos_edge.quantize.record import Record
from fcos_edge.quantize.simulate import Simulator, dequantize
from fcos_edge.quantize.simulated_runtime import SimulatedRuntime
from fcos_edge.runtime import UInt8Array
from fcos_edge.sources import spread
from fcos_edge.spec import BRANCHES, ModelSpec
from fcos_edge.train.checkpoint import load_checkpoint
from fcos_edge.train.data.formats import read_pictures
from fcos_edge.train.evaluation.evaluate import LabelledSplit, find_candidates, read_split
from fcos_edge.train.torch_runtime import TorchRuntime

LOCATIONS_FROM = 40  # pictures for raw errors


@dataclass(frozen=True)
class RawError:
    """Of one branch: mean |difference| and mean difference, in the branch's own units."""

    absolute: float
    signed: float


def run(args: argparse.Namespace) -> None:
    torch.set_num_threads(args.threads)
    checkpoint = load_checkpoint(args.checkpoint or embedded.CHECKPOINT)
    spec = checkpoint.spec
    graph = deploy(checkpoint.network, spec.input_hw)
    paths = [
        picture.path
        for folder in args.data
        for picture in spread(
            read_pictures(folder, "train", spec.classes), args.calibration // len(args.data)
        )
    ]
    inputs, digests = letterboxed(map(read_image_bgr, paths), spec)
    records: dict[str, Record] = {}
    seconds: dict[str, float] = {}
    for name in args.recipes:
        recipe = parse_recipe(name)
        note(name)
        start = time.perf_counter()
        records[name] = calibrate_inputs(graph, inputs, digests, recipe)
        seconds[name] = time.perf_counter() - start
    for bundle in args.bundle:
        document = json.loads((bundle / RECORD_NAME).read_bytes())
        records[bundle.name] = Record.from_dict(document)

    splits = [_shortened(read_split(folder, "val", spec.classes), args.pictures) for folder in args.data]
    conditions = {"data": ", ".join(split.name for split in splits)}
    counts = {"calibration": len(inputs), "pictures": sum(len(split.pictures) for split in splits)}
    conditions |= measure_conditions(args.threads, counts)
    raw = _raw_tables(graph, records, splits, spec)
    tables = [_raw_table(raw, seconds)]
    figures: dict[str, Any] = {"raw": {k: {b: asdict(e) for b, e in v.items()} for k, v in raw.items()}}
    thresholds = checkpoint.operating_thresholds
    for split in splits:
        detectors = {
            name: Detector(SimulatedRuntime(graph, r, spec), spec, thresholds) for name, r in records.items()
        }
        reference = _accuracy(Detector(TorchRuntime(checkpoint.network, spec), spec, thresholds), split)
        measured = {}
        for name, detector in detectors.items():
            note(f"{split.name}: {name}")
            measured[name] = _accuracy(detector, split)
        tables.append(_table(split, reference, measured))
        figures[split.name] = {name: accuracy.to_dict()["classes"] for name, accuracy in measured.items()}
    report("int8_recipes", conditions, [], tables, figures, args.json)


def _shortened(split: LabelledSplit, pictures: int | None) -> LabelledSplit:
    chosen = split.pictures[:pictures]
    return LabelledSplit(split.name, chosen, split.classes, split.document)


def _accuracy(detector: Detector, split: LabelledSplit) -> Accuracy:
    found: list[Detections] = find_candidates(detector, split.pictures)
    return measure_accuracy(split, found, detector.operating_thresholds)


@torch.inference_mode()
def _raw_tables(
    graph: Graph, records: dict[str, Record], splits: Sequence[LabelledSplit], spec: ModelSpec
) -> dict[str, dict[str, RawError]]:
    """Recipe -> branch -> its error."""
    network = DeployNetwork(graph).eval()
    simulators = {name: Simulator(graph, record) for name, record in records.items()}
    differences: dict[str, dict[str, list[np.ndarray]]] = {
        name: {branch: [] for branch in BRANCHES} for name in records
    }
    for picture in spread([p for split in splits for p in split.pictures], LOCATIONS_FROM):
        image = read_image_bgr(picture.path)
        images: UInt8Array = Letterbox.from_spec(spec, (image.shape[0], image.shape[1])).apply(image)[None]
        wanted = {name: value.numpy() for name, value in network(torch.from_numpy(images)).items()}
        for name, simulator in simulators.items():
            found = dequantize(simulator.graph, simulator.record, simulator.run(images))
            for level in spec.level_names:
                likely = 1 / (1 + np.exp(-wanted[f"logits_{level}"].max(axis=3))) > spec.candidate_threshold
                for branch in BRANCHES:
                    key = f"{branch}_{level}"
                    differences[name][branch].append((found[key] - wanted[key])[likely].ravel())
    return {
        name: {branch: _error(np.concatenate(parts)) for branch, parts in branches.items()}
        for name, branches in differences.items()
    }


def _error(differences: np.ndarray) -> RawError:
    return RawError(float(np.abs(differences).mean()), float(differences.mean()))


def _raw_table(raw: dict[str, dict[str, RawError]], seconds: dict[str, float]) -> Table:
    rows = []
    for name, branches in raw.items():
        cells = [f"{error.absolute:.4f} ({error.signed:+.4f})" for error in branches.values()]
        rows.append((name, *cells, f"{seconds[name]:.0f}" if name in seconds else ""))
    title = "mean absolute difference from float32 where something is likely (mean difference)"
    return Table(title, ("recipe", *BRANCHES, "seconds"), rows)


def _table(split: LabelledSplit, reference: Accuracy, measured: dict[str, Accuracy]) -> Table:
    """Mean AP and the classes with enough boxes, as differences from float32 in points."""
    classes = [row.name for row in reference.classes if row.boxes >= reference.least_boxes]
    rows: list[tuple[object, ...]] = []
    own = {row.name: row for row in reference.classes}
    rows.append(
        ("float32", f"{100 * reference.figures['AP']:.2f}", *(f"{100 * own[n].ap:.2f}" for n in classes))
    )
    for name, accuracy in measured.items():
        difference = compare_accuracy(reference, accuracy)
        of_class = {row.name: row.ap for row in difference.classes}
        cells = [difference.figures["AP"], *(of_class[n] for n in classes)]
        rows.append((name, *map(_points, cells)))
    title = f"{split.name}: {len(split.pictures)} pictures, AP in points, then differences (95 % intervals)"
    return Table(title, ("recipe", "AP", *classes), rows)


def _points(difference: Any) -> str:
    if difference is None:
        return ""
    text = f"{100 * difference.value:+.2f}"
    if difference.interval_95 is None:
        return text
    low, high = difference.interval_95
    return f"{text} ({100 * low:+.1f} {100 * high:+.1f})"


def _names(text: str) -> list[str]:
    return [parse_recipe(name).name for name in text.split(",")]


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="What each int8 recipe is worth.")
    parser.add_argument(
        "--data", type=Path, nargs="+", required=True, metavar="DIR", help="data sets with train and val"
    )
    parser.add_argument("--recipes", type=_names, default=[], metavar="R,R", help="names, as w8c_a8t_mse_bc")
    parser.add_argument(
        "--bundle",
        type=Path,
        nargs="+",
        default=[],
        metavar="DIR",
        help="bundles whose records are measured too",
    )
    parser.add_argument("--checkpoint", type=Path, metavar="FILE", help="default: the embedded detector")
    parser.add_argument(
        "--calibration", type=positive_int, default=128, metavar="N", help="pictures (default: %(default)s)"
    )
    parser.add_argument(
        "--pictures", type=positive_int, metavar="N", help="the first N of each val (default: all)"
    )
    parser.add_argument("--threads", type=positive_int, default=1, metavar="N", help="default: %(default)s")
    add_json(parser)
    return parser


if __name__ == "__main__":
    run_as_script(make_parser(), run)
