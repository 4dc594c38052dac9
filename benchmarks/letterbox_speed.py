"""How fast a frame is fitted into the network's input, against reading the frame once.

    python benchmarks/letterbox_speed.py

1280x720 to 320x320, one thread, everything in the caches. "Reading once" loads each byte of the frame and
keeps nothing but one word: the or of all its 64-bit words. The naive way resizes, pads into a new array,
swaps the colours, makes floats of 0 to 1 and puts the channels first.
"""

from __future__ import annotations

import argparse
import statistics

import cv2
import numpy as np

from conditions import Table, Target, add_json, measure_conditions, report, run_as_script
from fcos_edge.arguments import positive_int
from fcos_edge.letterbox import Letterbox
from fcos_edge.runtime import FloatArray, UInt8Array
from fcos_edge.spec import ModelSpec
from timing import median_ratio, median_times

FRAME_HW = (720, 1280)
MOST_READS = 3.0
SPEC = ModelSpec(
    name="benchmark",
    classes=("person",),
    input_hw=(320, 320),
    mean=(127.0, 127.0, 127.0),
    std=(128.0, 128.0, 128.0),
)


def run(args: argparse.Namespace) -> None:
    cv2.setNumThreads(1)
    conditions = measure_conditions(1, {"rounds": args.rounds, "calls": args.calls})
    frame = np.random.default_rng(0).integers(0, 256, (*FRAME_HW, 3), np.uint8)
    letterbox = Letterbox.from_spec(SPEC, FRAME_HW)
    out = np.zeros((*SPEC.input_hw, 3), np.uint8)
    words = frame.reshape(-1).view(np.uint64)
    copied = np.empty_like(frame)
    calls = {
        "reading the frame once": lambda: np.bitwise_or.reduce(words),
        "copying the frame": lambda: np.copyto(copied, frame),
        "letterbox": lambda: letterbox.apply(frame, out=out),
        "naive letterbox to float": lambda: naive_letterbox(frame, letterbox),
    }
    medians_us = median_times(calls, args.rounds, args.calls)
    reading_us = medians_us["reading the frame once"]
    rows = [
        (name, statistics.median(found_us), median_ratio(found_us, reading_us))
        for name, found_us in medians_us.items()
    ]
    ratio = median_ratio(medians_us["letterbox"], reading_us)
    targets = [Target("letterbox / reading the frame once", ratio, "<=", MOST_READS)]
    table = Table("medians", ("what", "us", "times reading"), rows)
    report("letterbox_speed", conditions, targets, [table], medians_us, args.json)


def naive_letterbox(frame: UInt8Array, letterbox: Letterbox) -> FloatArray:
    """(3, H, W) float32, 0..1."""
    height, width = letterbox.resized_hw
    left, top = letterbox.pad_xy
    out = np.full((*letterbox.input_hw, 3), 114, np.uint8)
    out[top : top + height, left : left + width] = cv2.resize(frame, (width, height))
    rgb = out[:, :, ::-1].astype(np.float32) / 255
    return np.ascontiguousarray(rgb.transpose(2, 0, 1))


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="The letterbox against reading the frame once.")
    parser.add_argument("--rounds", type=positive_int, default=9, metavar="N", help="default: %(default)s")
    parser.add_argument(
        "--calls", type=positive_int, default=100, metavar="N", help="in each round (default: %(default)s)"
    )
    add_json(parser)
    return parser


if __name__ == "__main__":
    run_as_script(make_parser(), run)
