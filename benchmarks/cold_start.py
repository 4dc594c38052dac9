"""How long it takes from the start of a process to its first detections, in each runtime.

    python benchmarks/cold_start.py street8-lite0-320

A new Python process loads the bundle's int8 file in one runtime, with one thread, finds what is in a frame
of 1280x720 that it has in memory, as from a camera, and says so. Timed is from its start until that word
arrives. The baseline is the whole time of a process that imports NumPy and ends. All processes of a round
start one after another; the figure is the median of the rounds' ratios. "first" is a start with nothing
kept of an earlier one (cache.py), "later" one with it. Files are in the disk cache and bytecode is
compiled, as where a wheel was installed.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from conditions import Table, Target, add_json, measure_conditions, report, run_as_script
from fcos_edge.arguments import positive_int
from fcos_edge.bundle import read_manifest
from fcos_edge.cache import VARIABLE
from fcos_edge.console import track
from fcos_edge.errors import FcosEdgeError, UsageError
from fcos_edge.runtime import find_runtime, installed_package
from networks import RUNTIME_OF

# Times of a process that imports NumPy alone.
LIMITS = {"tflite": 1.8, "onnxruntime": 2.3, "openvino": 5.5}
BASELINE = "import numpy"
DETECT = """
import sys
import numpy, fcos_edge
bundle, runtime = sys.argv[1:]
detector = fcos_edge.load(bundle, runtime=runtime, precision="int8", threads=1)
frame = numpy.full((720, 1280, 3), 99, numpy.uint8)
print("ready", len(detector(frame)), flush=True)
"""


def run(args: argparse.Namespace) -> None:
    manifest = read_manifest(args.bundle)
    formats = [artifact.format for artifact in manifest.artifacts if artifact.precision == "int8"]
    runtimes = [RUNTIME_OF[name] for name in dict.fromkeys(formats)]
    runtimes = [name for name in runtimes if installed_package(find_runtime(name)) is not None]
    if not runtimes:
        raise UsageError(f"{args.bundle}: no int8 file for an installed runtime; export with --int8")
    conditions = measure_conditions(1, {"rounds": args.rounds})
    with tempfile.TemporaryDirectory() as folder:
        bytecode = str(Path(folder, "bytecode"))
        cases: dict[tuple[str, str], tuple[str, tuple[str, ...], str]]
        cases = {("numpy", "later"): (BASELINE, (), "")}
        for name in runtimes:
            asked = (str(args.bundle), name)
            cases[name, "first"] = (DETECT, asked, "")
            cases[name, "later"] = (DETECT, asked, str(Path(folder, "kept")))
        times_ms: dict[tuple[str, str], list[float]] = {case: [] for case in cases}
        for index in track(range(args.rounds + 1), "starting", args.rounds + 1):
            for case, (code, arguments, kept) in cases.items():
                elapsed_ms = start(code, arguments, bytecode, kept)
                if index:  # the round before fills the disk cache, the bytecode and what is kept
                    times_ms[case].append(elapsed_ms)

    baseline_ms = times_ms["numpy", "later"]
    targets, rows = [], []
    for (name, which), found_ms in times_ms.items():
        ratio = statistics.median(a / b for a, b in zip(found_ms, baseline_ms, strict=True))
        rows.append((name, "" if name == "numpy" else which, statistics.median(found_ms), ratio))
        if which == "later" and name in LIMITS:
            what = f"{name}: start to first detections / start with NumPy alone"
            targets.append(Target(what, ratio, "<=", LIMITS[name]))
    header = ("process", "start", "ms", "times NumPy's")
    figures = {f"{name} {which}": found_ms for (name, which), found_ms in times_ms.items()}
    report("cold_start", conditions, targets, [Table("medians", header, rows)], figures, args.json)


def start(code: str, arguments: tuple[str, ...], bytecode: str, kept: str) -> float:
    """Milliseconds until a new process that runs `code` says that it is ready, or ends."""
    environment = {**os.environ, "PYTHONPYCACHEPREFIX": bytecode, VARIABLE: kept}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    begin = time.perf_counter_ns()
    process = subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        process.wait()
    elapsed_ms = (time.perf_counter_ns() - begin) / 1e6
    _, errors = process.communicate()
    if process.returncode or line.startswith("ready") != ("ready" in code):
        raise FcosEdgeError(f"the process did not end well: {errors.strip().splitlines()[-1:]}")
    return elapsed_ms


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="From a process's start to its first detections.")
    parser.add_argument("bundle", type=Path, metavar="BUNDLE")
    parser.add_argument("--rounds", type=positive_int, default=25, metavar="N", help="default: %(default)s")
    add_json(parser)
    return parser


if __name__ == "__main__":
    run_as_script(make_parser(), run)
