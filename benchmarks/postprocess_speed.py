"""How fast post-processing is: against the naive version, and integer outputs against dequantizing all.

    python benchmarks/postprocess_speed.py

The outputs are made up: background everywhere, and so many candidates of random class, place and size. The
naive version (naive.py) gives the same detections, which is checked first. Everything is in the caches here;
what post-processing costs right after a real inference is in pipeline_speed.py.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from conditions import Table, Target, add_json, measure_conditions, report, run_as_script
from fcos_edge.arguments import positive_int
from fcos_edge.letterbox import Letterbox
from fcos_edge.postprocess import PostProcessor
from fcos_edge.runtime import Branch, RawOutputs
from fcos_edge.spec import ModelSpec
from naive import NaivePostProcessor
from timing import median_ratio, median_times

# Candidates -> how many times as fast as the naive version.
LEAST_SPEEDUPS = {20: 12.0, 200: 16.0, 3000: 40.0}
LEAST_INTEGER_SPEEDUP = 3.0
SPEC = ModelSpec(
    name="benchmark",
    classes=tuple(f"class {index}" for index in range(80)),
    input_hw=(320, 320),
    mean=(127.0, 127.0, 127.0),
    std=(128.0, 128.0, 128.0),
)
LARGE_HW = (800, 1344)  # 800 x 1333, the paper's, in whole multiples of 32
LEVEL_SCALES = (0.08, 0.07, 0.06, 0.08, 0.07)


def run(args: argparse.Namespace) -> None:
    conditions = measure_conditions(1, {"rounds": args.rounds, "calls": args.calls})
    targets, rows, figures = [], [], {}
    for count, least in LEAST_SPEEDUPS.items():
        raw = made_up_outputs(SPEC, count)
        naive_us, ours_us = compare(naive_call(SPEC, raw), our_call(SPEC, raw), args)
        speedup = median_ratio(naive_us, ours_us)
        rows.append((f"{count:,} candidates, 320x320", np.median(naive_us), np.median(ours_us), speedup))
        figures[f"{count} candidates"] = {"naive_us": naive_us, "ours_us": ours_us}
        what = f"{count:,} candidates: naive time / ours"
        targets.append(Target(what, speedup, ">=", least))

    large = replace(SPEC, input_hw=LARGE_HW)
    integers = as_integers(large, made_up_outputs(large, 200))
    dequantized_us, integer_us = compare(dequantizing_call(large, integers), our_call(large, integers), args)
    speedup = median_ratio(dequantized_us, integer_us)
    name = f"int8 outputs, {LARGE_HW[0]}x{LARGE_HW[1]}"
    rows.append(
        (f"{name}: dequantize all, or survivors", np.median(dequantized_us), np.median(integer_us), speedup)
    )
    figures["int8 outputs"] = {"dequantize_all_us": dequantized_us, "survivors_us": integer_us}
    targets.append(Target(f"{name}: dequantizing all / survivors", speedup, ">=", LEAST_INTEGER_SPEEDUP))

    header = ("80 classes", "slow us", "fast us", "times as fast")
    report("postprocess_speed", conditions, targets, [Table("medians", header, rows)], figures, args.json)


def compare(
    slow: Callable[[], object], fast: Callable[[], object], args: argparse.Namespace
) -> tuple[list[float], list[float]]:
    """Microseconds of both, by rounds."""
    medians = median_times({"slow": slow, "fast": fast}, args.rounds, args.calls)
    return medians["slow"], medians["fast"]


def naive_call(spec: ModelSpec, raw: RawOutputs) -> Callable[[], object]:
    naive, letterbox = NaivePostProcessor(spec), Letterbox.from_spec(spec, spec.input_hw)
    (ours,) = PostProcessor(spec)(raw, [letterbox])
    found = naive(raw, letterbox)
    # The same sum in another order may round otherwise.
    np.testing.assert_allclose(found.scores, ours.scores, rtol=1e-5)
    np.testing.assert_allclose(found.boxes_xyxy, ours.boxes_xyxy, rtol=1e-5, atol=1e-3)
    return lambda: naive(raw, letterbox)


def our_call(spec: ModelSpec, raw: RawOutputs) -> Callable[[], object]:
    postprocess, letterboxes = PostProcessor(spec), [Letterbox.from_spec(spec, spec.input_hw)]
    return lambda: postprocess(raw, letterboxes)


def dequantizing_call(spec: ModelSpec, raw: RawOutputs) -> Callable[[], object]:
    """All integers to float32, then as ever."""
    postprocess, letterboxes = PostProcessor(spec), [Letterbox.from_spec(spec, spec.input_hw)]
    areas = [height * width for height, width in spec.level_hw]
    per_location = []
    for branch in raw:
        shape = (1, -1, *(1,) * (branch.values.ndim - 2))
        scales, zero_points = np.array(branch.quantization, np.float32).T
        per_location.append(
            (np.repeat(scales, areas).reshape(shape), np.repeat(zero_points, areas).reshape(shape))
        )

    def call() -> object:
        floats = (
            Branch((branch.values - zero_points) * scales)
            for branch, (scales, zero_points) in zip(raw, per_location, strict=True)
        )
        return postprocess(RawOutputs(*floats), letterboxes)

    return call


def made_up_outputs(spec: ModelSpec, candidates: int) -> RawOutputs:
    """Float outputs with so many class logits above the candidate threshold."""
    rng = np.random.default_rng(candidates)
    locations, classes = spec.num_locations, len(spec.classes)
    logits = rng.uniform(-9, -4, (1, locations, classes)).astype(np.float32)
    hot = rng.choice(logits.size, candidates, replace=False)
    logits.flat[hot] = rng.uniform(-2.5, 4, candidates)
    ltrb = rng.uniform(0.2, 6, (1, locations, 4)).astype(np.float32)
    centerness = rng.uniform(-2, 3, (1, locations)).astype(np.float32)
    return RawOutputs(Branch(logits), Branch(ltrb), Branch(centerness))


def as_integers(spec: ModelSpec, raw: RawOutputs) -> RawOutputs:
    """The same as int8, with a scale and zero point of its own for each level of a branch."""
    areas = [height * width for height, width in spec.level_hw]
    branches = []
    for branch in raw:
        scales = np.repeat(LEVEL_SCALES, areas).reshape(1, -1, *(1,) * (branch.values.ndim - 2))
        integers = np.clip(np.round(branch.values / scales), -128, 127).astype(np.int8)
        branches.append(Branch(integers, [(scale, 0) for scale in LEVEL_SCALES]))
    return RawOutputs(*branches)


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Post-processing against slower ways to do it.")
    parser.add_argument("--rounds", type=positive_int, default=9, metavar="N", help="default: %(default)s")
    parser.add_argument(
        "--calls", type=positive_int, default=40, metavar="N", help="in each round (default: %(default)s)"
    )
    add_json(parser)
    return parser


if __name__ == "__main__":
    run_as_script(make_parser(), run)
