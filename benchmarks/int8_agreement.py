"""Do the int8 files of a bundle compute the same detector?

    python benchmarks/int8_agreement.py street8-lite0-320 --data coco-person

ONNX Runtime and ai-edge-litert are compared with the integer simulator value by value: TFLite's integers
as they are, ONNX Runtime's dequantized floats with the dequantized integers of the simulator, both
exactly. OpenVINO rounds in another order and is judged beside the one-bit floor
(`fcos_edge/workers/perturbation.py`), its detections by their partners (`partners.py`).
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from conditions import Table, Target, add_json, has_vnni, measure_conditions, report, run_as_script
from fcos_edge.arguments import positive_int
from fcos_edge.console import track
from fcos_edge.detections import Detections
from fcos_edge.image import read_image_bgr
from fcos_edge.letterbox import Letterbox
from fcos_edge.loading import LoadedArtifact
from fcos_edge.postprocess import PostProcessor
from fcos_edge.runtime import Branch, FloatArray, IntArray, RawOutputs, UInt8Array
from fcos_edge.spec import BRANCHES
from fcos_edge.train.data.formats import read_labels
from fcos_edge.workers.perturbation import add_noise, flip_lowest_bit
from networks import open_networks
from partners import Partners, match_both_ways
from reference import Reference, open_reference

EXACT_RUNTIMES = ("onnxruntime", "tflite")
MOST_FLOORS = 1.5
MOST_OF_INT8 = 0.65  # of what int8 changes
LEAST_PARTNERS = 95.0
SIMULATOR = "simulator"
FLOAT32 = "float32"
NOISY = ", noise of +-1"

Key = tuple[str, str]  # runtime, precision
Pair = tuple[str, str]


@dataclass
class Tally:
    """Sums over all pictures.

    values, unequal     output values compared with the simulator's, and how many differ, by runtime
    difference          mean |logit difference| of each picture, by pair of sides
    floor               the same for one flipped bit
    partners            by pair of detectors
    """

    values: int = 0
    unequal: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    difference: dict[Pair, list[float]] = field(default_factory=lambda: defaultdict(list))
    floor: list[float] = field(default_factory=list)
    partners: dict[Pair, Partners] = field(default_factory=lambda: defaultdict(Partners))


def run(args: argparse.Namespace) -> None:
    reference = open_reference(args.bundle, args.checkpoint)
    networks = open_networks(args.bundle, ("fp32", "int8"), args.threads)
    pictures = evenly_spread(args.data, args.split, args.pictures)
    counts = {"pictures": len(pictures), "seed": args.seed}
    conditions = {"data": f"{args.data.resolve().name} {args.split}"}
    conditions |= measure_conditions(args.threads, counts)
    generator = np.random.default_rng(args.seed)
    tally = Tally()
    for path in track(pictures, "comparing", len(pictures)):
        compare_picture(read_image_bgr(path), reference, networks, generator, tally)
    report("int8_agreement", conditions, _targets(tally), _tables(tally), _figures(tally), args.json)
    for network in networks.values():
        network.close()


def evenly_spread(data: Path, split: str, count: int) -> list[Path]:
    """`count` pictures of a data set, evenly spread over its order; labels are not needed."""
    pictures = read_labels(data, split).pictures
    chosen = np.linspace(0, len(pictures) - 1, min(count, len(pictures))).round().astype(int)
    return [pictures[index].path for index in chosen]


def compare_picture(
    image_bgr: UInt8Array,
    reference: Reference,
    networks: Mapping[Key, LoadedArtifact],
    generator: np.random.Generator,
    tally: Tally,
) -> None:
    """Add one picture to the tally."""
    spec = reference.spec
    letterbox = Letterbox.from_spec(spec, (image_bgr.shape[0], image_bgr.shape[1]))
    images = letterbox.apply(image_bgr)[None]
    postprocess = PostProcessor(spec)
    integers = reference.integers(images)
    logits = {SIMULATOR: reference.dequantize("logits", integers["logits"])}
    tally.values += sum(values.size for values in integers.values())

    detections: dict[str, Detections] = {}
    for (runtime, precision), network in networks.items():
        raw = network.runtime.run(images)
        detections[f"{runtime} {precision}"] = postprocess(raw, [letterbox])[0]
        if precision == "fp32":
            logits[FLOAT32] = real_values(raw.logits, reference, "logits")
        else:
            tally.unequal[runtime] += count_unequal(raw, integers, reference)
            logits[runtime] = real_values(raw.logits, reference, "logits")
    if noisy := noisy_detections(networks, images, letterbox, postprocess, generator):
        name, found = noisy
        detections[f"{name}{NOISY}"] = found
    for first, second in combinations(logits, 2):
        tally.difference[first, second].append(float(np.abs(logits[first] - logits[second]).mean()))
    for first, second in compared_detectors(tuple(detections)):
        tally.partners[first, second] += match_both_ways(detections[first], detections[second])

    flipped = reference.integers(flip_lowest_bit(images, letterbox, generator))["logits"]
    moved = reference.dequantize("logits", flipped) - logits[SIMULATOR]
    tally.floor.append(float(np.abs(moved).mean()))


def noisy_detections(
    networks: Mapping[Key, LoadedArtifact],
    images: UInt8Array,
    letterbox: Letterbox,
    postprocess: PostProcessor,
    generator: np.random.Generator,
) -> tuple[str, Detections] | None:
    """The first fp32 network's name, and what it finds in the picture with noise of +-1."""
    noisy = add_noise(images, generator)
    for (runtime, precision), network in networks.items():
        if precision == "fp32":
            return f"{runtime} fp32", postprocess(network.runtime.run(noisy), [letterbox])[0]
    return None


def compared_detectors(names: tuple[str, ...]) -> list[Pair]:
    """int8 with int8, int8 with fp32 of the same runtime, and fp32 with itself under noise."""
    int8 = [name for name in names if name.endswith(" int8")]
    pairs = list(combinations(int8, 2))
    pairs += [(fp32, name) for name in int8 if (fp32 := name.replace(" int8", " fp32")) in names]
    return pairs + [(name.removesuffix(NOISY), name) for name in names if name.endswith(NOISY)]


def count_unequal(raw: RawOutputs, integers: Mapping[str, IntArray], reference: Reference) -> int:
    """How many output values are not exactly the simulator's."""
    unequal = 0
    for branch in BRANCHES:
        found: Branch = getattr(raw, branch)
        values = found.values.reshape(integers[branch].shape)
        if not found.quantization:
            unequal += int((values != reference.dequantize(branch, integers[branch])).sum())
            continue
        for point, (_, zero_point) in zip(reference.points[branch], found.quantization, strict=True):
            level = slice(point.start, point.stop)
            unequal += int((values[:, level].astype(int) - zero_point != integers[branch][:, level]).sum())
    return unequal


def real_values(found: Branch, reference: Reference, branch: str) -> FloatArray:
    """(N, L, C) float32; a copy, since the next run overwrites the runtime's buffers."""
    if not found.quantization:
        return np.array(found.values, np.float32)
    integers = found.values.astype(np.int64)
    for point, (_, zero_point) in zip(reference.points[branch], found.quantization, strict=True):
        integers[:, point.start : point.stop] -= zero_point
    return reference.dequantize(branch, integers)


def _targets(tally: Tally) -> list[Target]:
    # Without VNNI, products of uint8 and int8 saturate in places, and nothing is promised.
    is_exact = has_vnni()
    targets = [
        Target(f"{runtime}: values unlike the simulator's, of {tally.values:,}", tally.unequal[runtime],
               "<=", 0, "", is_exact)
        for runtime in EXACT_RUNTIMES if runtime in tally.unequal
    ]  # fmt: skip
    floor = float(np.mean(tally.floor))
    for (first, second), differences in tally.difference.items():
        if "openvino" in (first, second) and FLOAT32 not in (first, second):
            other = first if second == "openvino" else second
            floors = float(np.mean(differences)) / floor if floor else None
            what = f"openvino to {other}: mean logit difference"
            targets.append(Target(what, floors, "<=", MOST_FLOORS, " floors", is_exact))
            if other == SIMULATOR and (int8 := tally.difference.get((SIMULATOR, FLOAT32))):
                part = float(np.mean(differences) / np.mean(int8))
                what = "openvino to simulator, of what int8 changes the logits by"
                targets.append(Target(what, part, "<=", MOST_OF_INT8, "", is_exact))
    for (first, second), partners in tally.partners.items():
        if first.endswith("int8") and second.endswith("int8"):
            what = f"{first} and {second}: partners"
            targets.append(Target(what, partners.rate, ">=", LEAST_PARTNERS, " %", is_exact))
    return targets


def _tables(tally: Tally) -> list[Table]:
    floor = float(np.mean(tally.floor))
    differences: list[tuple[object, ...]] = [
        (f"{first} to {second}", float(np.mean(values)), float(np.mean(values)) / floor if floor else None)
        for (first, second), values in tally.difference.items()
    ]
    alive = sum(value > 0 for value in tally.floor)
    differences.append((f"one bit ({alive} of {len(tally.floor)} reach the logits)", floor, 1.0))
    partners = [
        (f"{first} and {second}", counts.asked, counts.rate)
        for (first, second), counts in tally.partners.items()
    ]
    return [
        Table("mean logit difference", ("between", "logit units", "floors"), differences),
        Table("detections with a partner", ("between", "detections", "percent"), partners),
    ]


def _figures(tally: Tally) -> dict[str, Any]:
    return {
        "values": tally.values,
        "unequal_values": dict(tally.unequal),
        "one_bit_floor": float(np.mean(tally.floor)),
        "one_bit_of_each_picture": tally.floor,
        "mean_logit_difference": {" to ".join(k): float(np.mean(v)) for k, v in tally.difference.items()},
        "partners": {
            " and ".join(pair): {"asked": counts.asked, "matched": counts.matched, "percent": counts.rate}
            for pair, counts in tally.partners.items()
        },
    }


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Do the int8 files of a bundle compute the same detector?")
    parser.add_argument("bundle", type=Path, metavar="BUNDLE")
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="data set: COCO, YOLO or VOC")
    parser.add_argument("--split", default="val", metavar="S", help="default: %(default)s")
    parser.add_argument(
        "--pictures", type=positive_int, default=50, metavar="N", help="how many (default: %(default)s)"
    )
    parser.add_argument(
        "--checkpoint", type=Path, metavar="FILE",
        help="what the bundle was exported from (default: the embedded detector)",
    )  # fmt: skip
    parser.add_argument("--threads", type=positive_int, default=1, metavar="N", help="default: %(default)s")
    parser.add_argument("--seed", type=int, default=0, help="of flipped bits and noise (default: 0)")
    add_json(parser)
    return parser


if __name__ == "__main__":
    run_as_script(make_parser(), run)
