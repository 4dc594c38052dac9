"""What the way from a frame to its detections costs beside the inference itself.

    python benchmarks/pipeline_speed.py street8-lite0-320 --pictures coco-person/val

Each picture becomes a frame of 1280x720. Before each timed step the frame is written anew, as a camera or
decoder has just done; everything else finds the caches as an inference leaves them. With one thread, for each
runtime, in turns:

    whole       detector(frame), at the operating thresholds
    bare        the runtime alone, called as its manual says (bare.py)
    call        the wrapper's run
    letterbox   frame -> input, right after an inference
    post        outputs -> detections, right after an inference

and, for OpenVINO, its own benchmark program (`benchmark_app`) and our call, each again and again in a process
of its own, once a round.
"""

from __future__ import annotations

import argparse
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from bare import bare_call
from conditions import Table, Target, add_json, measure_conditions, report, run_as_script
from fcos_edge.arguments import positive_int
from fcos_edge.console import track
from fcos_edge.detector import Detector
from fcos_edge.errors import UsageError
from fcos_edge.image import read_image_bgr
from fcos_edge.letterbox import Letterbox
from fcos_edge.loading import LoadedArtifact
from fcos_edge.postprocess import PostProcessor
from fcos_edge.runtime import UInt8Array
from fcos_edge.sources import list_pictures, spread
from networks import open_networks
from timing import WARM_UP_CALLS, median_ratio

FRAME_WH = (1280, 720)
STEPS = ("whole", "bare", "call", "letterbox", "post")
MOST_WHOLE, MOST_POST, MOST_CALL = 1.08, 0.04, 1.03
BENCHMARK_SECONDS = 2
# What benchmark_app does, by our wrapper.
OUR_PROGRAM = """
import statistics, sys, time
import numpy as np
from fcos_edge.loading import open_artifact
network = open_artifact(sys.argv[1], "openvino", threads=1)
images = np.random.default_rng(0).integers(0, 256, (1, *network.spec.input_hw, 3), np.uint8)
network.runtime.run(images)
times_us, end = [], time.perf_counter() + float(sys.argv[2])
while time.perf_counter() < end:
    start = time.perf_counter_ns()
    network.runtime.run(images)
    times_us.append((time.perf_counter_ns() - start) / 1e3)
print("Median:", statistics.median(times_us), "us")
"""


class Pipeline:
    """One runtime's detector, and its parts by themselves."""

    def __init__(self, network: LoadedArtifact) -> None:
        self.network = network
        self.detector: Detector = network.detector()
        self._letterbox = Letterbox.from_spec(network.spec, (FRAME_WH[1], FRAME_WH[0]))
        self._postprocess = PostProcessor(network.spec)
        self._images = np.zeros((1, *network.spec.input_hw, 3), np.uint8)
        self._bare = bare_call(network.runtime_name, network.path, self._images)

    def time_steps(self, picture: UInt8Array, frame: UInt8Array) -> list[float]:
        """Microseconds of each of `STEPS` on one picture."""
        thresholds = np.array(self.network.info.operating_thresholds, np.float32)

        def letterbox() -> None:
            self._letterbox.apply(frame, out=self._images[0])

        def call() -> Any:
            return self.network.runtime.run(self._images)

        times_us = []
        for step in (lambda: self.detector(frame), self._bare, call):
            np.copyto(frame, picture)
            times_us.append(elapsed_us(step))
        np.copyto(frame, picture)
        times_us.append(elapsed_us(letterbox))
        raw = call()
        post = self._postprocess
        least = float(thresholds.min())
        times_us.append(elapsed_us(lambda: post(raw, [self._letterbox], least)[0].filtered(thresholds)))
        return times_us


def run(args: argparse.Namespace) -> None:
    networks = open_networks(args.bundle, ("int8",), threads=1)
    if not networks:
        raise UsageError(f"{args.bundle}: no int8 file for an installed runtime; export with --int8")
    pictures = frames(args.pictures or args.bundle / "golden", args.frames)
    cv2.setNumThreads(1)
    conditions = measure_conditions(1, {"rounds": args.rounds, "frames": len(pictures)})
    pipelines = {name: Pipeline(network) for (name, _), network in networks.items()}
    frame = np.zeros_like(pictures[0])
    for pipeline in pipelines.values():
        for _ in range(WARM_UP_CALLS):
            pipeline.time_steps(pictures[0], frame)
    rounds_us: dict[str, dict[str, list[float]]] = {n: {step: [] for step in STEPS} for n in pipelines}
    ours_us: list[float] = []
    program_us: list[float] = []
    for _ in track(range(args.rounds), "timing", args.rounds):
        for name, pipeline in pipelines.items():
            times_us = np.array([pipeline.time_steps(picture, frame) for picture in pictures])
            for step, median_us in zip(STEPS, np.median(times_us, axis=0).tolist(), strict=True):
                rounds_us[name][step].append(median_us)
            if name == "openvino" and not args.no_program:
                ours_us.append(our_program_us(pipeline.network.path))
                program_us.append(benchmark_app_us(pipeline.network.path))

    targets, rows = [], []
    for name, steps in rounds_us.items():
        medians = [statistics.median(steps[step]) for step in STEPS]
        whole = median_ratio(steps["whole"], steps["bare"])
        post = median_ratio(steps["post"], steps["bare"])
        rows.append((name, *(f"{value:,.0f}" for value in medians), whole, post))
        targets.append(Target(f"{name}: whole pipeline / bare inference", whole, "<=", MOST_WHOLE))
        targets.append(Target(f"{name}: post-processing / bare inference", post, "<=", MOST_POST))
    if program_us:
        ratio = median_ratio(ours_us, program_us)
        targets.append(Target("openvino: our call / its benchmark program", ratio, "<=", MOST_CALL))
    counts = [len(pipelines[name].detector(picture)) for name in list(pipelines)[:1] for picture in pictures]
    header = ("runtime", *(f"{step} us" for step in STEPS), "whole / bare", "post / bare")
    title = f"medians; {statistics.mean(counts):.1f} detections a frame at the operating thresholds"
    figures = {"steps_us": rounds_us, "benchmark_app_us": program_us, "ours_us": ours_us}
    report("pipeline_speed", conditions, targets, [Table(title, header, rows)], figures, args.json)


def elapsed_us(step: Callable[[], object]) -> float:
    start = time.perf_counter_ns()
    step()
    return (time.perf_counter_ns() - start) / 1e3


def frames(folder: Path, most: int) -> Sequence[UInt8Array]:
    """Frames of the camera's size from the pictures in `folder`."""
    paths = spread(list_pictures(folder), most)
    return [np.asarray(cv2.resize(read_image_bgr(path), FRAME_WH), np.uint8) for path in paths]


def our_program_us(path: Path) -> float:
    """The median latency of our wrapper, alone in its process."""
    return _median_us([sys.executable, "-c", OUR_PROGRAM, str(path), str(BENCHMARK_SECONDS)])


def benchmark_app_us(path: Path) -> float:
    """The median latency that OpenVINO's own program finds, with the options of our wrapper."""
    program = Path(sys.executable).with_name("benchmark_app")
    return _median_us([
        str(program), "-m", str(path), "-d", "CPU", "-api", "sync", "-hint", "none", "-nstreams", "1",
        "-nthreads", "1", "-infer_precision", "f32", "-pin", "NO", "-t", str(BENCHMARK_SECONDS),
    ])  # fmt: skip


def _median_us(command: Sequence[str]) -> float:
    try:
        output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        raise UsageError(f"{command[0]} did not run ({error}); leave it out with --no-program") from None
    found = re.search(r"Median:\s+([\d.]+) (us|ms)", output)
    if found is None:
        raise UsageError(f"{command[0]} printed no median; leave it out with --no-program")
    return float(found[1]) * (1e3 if found[2] == "ms" else 1)


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="From frame to detections, beside the bare inference.")
    parser.add_argument("bundle", type=Path, metavar="BUNDLE")
    parser.add_argument(
        "--pictures", type=Path, metavar="FOLDER", help="what the frames show (default: the golden pictures)"
    )
    parser.add_argument(
        "--frames", type=positive_int, default=30, metavar="N", help="at most (default: %(default)s)"
    )
    parser.add_argument("--rounds", type=positive_int, default=7, metavar="N", help="default: %(default)s")
    parser.add_argument("--no-program", action="store_true", help="without OpenVINO's benchmark_app")
    add_json(parser)
    return parser


if __name__ == "__main__":
    run_as_script(make_parser(), run)
