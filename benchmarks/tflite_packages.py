"""int8 in tflite-runtime, as it comes and with XNNPACK for int8, against ai-edge-litert.

    python benchmarks/tflite_packages.py street8-lite0-320 --python PATH

PATH is the Python of an environment with tflite-runtime (`pip install "fcos-edge[tflite-runtime]"`), which
cannot share one with ai-edge-litert. Each round starts a process in either environment; a figure is the
median of the rounds. One thread, the network alone.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
from pathlib import Path

from conditions import REPO_ROOT, Table, Target, add_json, measure_conditions, report, run_as_script
from fcos_edge.arguments import positive_int
from fcos_edge.bundle import read_manifest
from fcos_edge.console import track
from fcos_edge.errors import UsageError
from timing import median_ratio

MOST_TIMES = 2.0
# Prints the median milliseconds of so many calls; "comes" leaves the package as it is.
CHILD = """
import statistics, sys, time
import numpy as np
from fcos_edge.loading import open_artifact
from fcos_edge.runtimes import tflite
path, how, calls = sys.argv[1], sys.argv[2], int(sys.argv[3])
if how == "comes":
    tflite.int8_delegate = lambda library, threads: None
network = open_artifact(path, "tflite", threads=1)
images = np.random.default_rng(0).integers(0, 256, (1, *network.spec.input_hw, 3), np.uint8)
times_ms = []
for _ in range(calls + 3):
    start = time.perf_counter_ns()
    network.runtime.run(images)
    times_ms.append((time.perf_counter_ns() - start) / 1e6)
print("median", statistics.median(times_ms[3:]))
"""


def run(args: argparse.Namespace) -> None:
    names = [
        artifact.name
        for artifact in read_manifest(args.bundle).artifacts
        if (artifact.format, artifact.precision) == ("tflite", "int8")
    ]
    if not names:
        raise UsageError(f"{args.bundle}: has no int8 .tflite file; export with --int8")
    path = args.bundle / names[0]
    cases = {
        "ai-edge-litert": (sys.executable, "set", args.calls),
        "tflite-runtime as we set it": (str(args.python), "set", args.calls),
        "tflite-runtime as it comes": (str(args.python), "comes", max(1, args.calls // 10)),
    }
    conditions = measure_conditions(1, {"rounds": args.rounds, "calls": args.calls})
    times_ms: dict[str, list[float]] = {name: [] for name in cases}
    for _ in track(range(args.rounds), "timing", args.rounds):
        for name, (python, how, calls) in cases.items():
            times_ms[name].append(_child(python, path, how, calls))
    base_ms = times_ms["ai-edge-litert"]
    rows = [
        (name, statistics.median(found), median_ratio(found, base_ms)) for name, found in times_ms.items()
    ]
    ratio = median_ratio(times_ms["tflite-runtime as we set it"], base_ms)
    targets = [Target("tflite-runtime / ai-edge-litert, int8", ratio, "<=", MOST_TIMES)]
    table = Table("int8, one thread", ("package", "ms", "times ai-edge-litert's"), rows)
    report("tflite_packages", conditions, targets, [table], times_ms, args.json)


def _child(python: str, path: Path, how: str, calls: int) -> float:
    command = [python, "-c", CHILD, str(path), how, str(calls)]
    environment = {**os.environ, "PYTHONPATH": str(REPO_ROOT)}
    try:
        result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    except OSError as error:
        raise UsageError(f"{python}: cannot run it ({error.strerror}); give a Python with --python") from None
    lines = [line for line in result.stdout.splitlines() if line.startswith("median ")]
    if result.returncode or not lines:
        raise UsageError(f"{python}: {' '.join(result.stderr.splitlines()[-1:]) or 'no figure'}")
    return float(lines[-1].split()[1])


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="int8 in tflite-runtime against ai-edge-litert.")
    parser.add_argument("bundle", type=Path, metavar="BUNDLE")
    parser.add_argument(
        "--python", type=Path, metavar="PATH", required=True, help="of an environment with tflite-runtime"
    )
    parser.add_argument("--rounds", type=positive_int, default=5, metavar="N", help="default: %(default)s")
    parser.add_argument(
        "--calls", type=positive_int, default=100, metavar="N", help="in each round (default: %(default)s)"
    )
    add_json(parser)
    return parser


if __name__ == "__main__":
    run_as_script(make_parser(), run)
