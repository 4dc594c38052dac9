"""How long `parity` and `doctor` take, and whether an unharmed bundle passes every time.

    python benchmarks/parity_cost.py street8-lite0-320 --data coco-person --runs 10 --busy 1

Each run is `fcos-edge parity` in a process of its own, with all artifacts in all runtimes of this
environment; --options adds arguments, as in --options "--python tflite-runtime=venv/bin/python". What decides
is the same in every run, but for the times: the largest int8 / fp32 ratio beside its limit says how far they
are from failing. With --busy, that many other processes compute all the while.
"""

from __future__ import annotations

import argparse
import json
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from conditions import Table, Target, add_json, measure_conditions, report, run_as_script
from fcos_edge.arguments import positive_int
from fcos_edge.console import note
from fcos_edge.errors import FcosEdgeError
from fcos_edge.threads import default_threads

MOST_PARITY_SECONDS = 300.0
MOST_DOCTOR_SECONDS = 15.0
_BUSY = "while True: sum(range(10000))"


@dataclass(frozen=True)
class Cost:
    """One run of parity.

    largest_ratio  of int8 time / fp32 time, of all artifacts
    failed         gates that failed, in words
    """

    wall_s: float
    passed: bool
    largest_ratio: float
    failed: tuple[str, ...]


def run(args: argparse.Namespace) -> None:
    conditions = measure_conditions(default_threads(), {"runs": args.runs, "busy": args.busy})
    with busy_processes(args.busy):
        doctor_s, _ = timed("doctor")
        costs = []
        for index in range(args.runs):
            costs.append(measure_parity(args.bundle, args.data, shlex.split(args.options)))
            note(f"parity {index + 1} of {args.runs}: {costs[-1].wall_s:.0f} s")
    rows = [
        (i + 1, cost.wall_s, "passed" if cost.passed else "; ".join(cost.failed), cost.largest_ratio)
        for i, cost in enumerate(costs)
    ]
    passed = sum(cost.passed for cost in costs)
    report(
        "parity_cost",
        conditions,
        [
            Target("slowest parity", max(c.wall_s for c in costs), "<=", MOST_PARITY_SECONDS, " s"),
            Target("doctor", doctor_s, "<=", MOST_DOCTOR_SECONDS, " s"),
            Target("runs that passed", passed, ">=", args.runs),
        ],
        [Table("fcos-edge parity", ("run", "wall s", "result", "largest int8 / fp32"), rows)],
        {
            "median_wall_s": statistics.median(c.wall_s for c in costs), "doctor_s": doctor_s,
            "runs": list(map(asdict, costs)),
        },
        args.json,
    )  # fmt: skip


def measure_parity(bundle: Path, data: Path, options: list[str]) -> Cost:
    """Run parity once. Raises FcosEdgeError where it says that something is wrong with the arguments."""
    wall_s, document = timed("parity", bundle, "--data", data, *options)
    ratios = [one["latency_ratio"]["median"] for one in document["artifacts"] if one["latency_ratio"]]
    return Cost(wall_s, document["passed"], max(ratios, default=0.0), tuple(document["failed"]))


def timed(*arguments: object) -> tuple[float, dict[str, Any]]:
    """Seconds of a verb from start to end of its process, and its JSON."""
    with tempfile.TemporaryFile("w+", encoding="utf-8") as output:
        start = time.perf_counter()
        command = [sys.executable, "-m", "fcos_edge", *map(str, arguments), "--json"]
        done = subprocess.run(command, stdout=output, stderr=subprocess.PIPE, text=True, check=False)
        wall_s = time.perf_counter() - start
        if done.returncode not in (0, 1):
            said = done.stderr.strip().splitlines() or ["nothing"]
            raise FcosEdgeError(f"fcos-edge {arguments[0]} ended with {done.returncode}: {said[-1]}")
        output.seek(0)
        document: dict[str, Any] = json.load(output)
        return wall_s, document


@contextmanager
def busy_processes(count: int) -> Iterator[None]:
    """While the block runs, `count` processes compute."""
    processes = [subprocess.Popen([sys.executable, "-c", _BUSY]) for _ in range(count)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="How long parity takes, and whether it passes every time.")
    parser.add_argument("bundle", type=Path, metavar="BUNDLE")
    parser.add_argument("--data", type=Path, required=True, metavar="D", help="data set: COCO, YOLO or VOC")
    parser.add_argument("--runs", type=positive_int, default=3, metavar="N", help="default: %(default)s")
    parser.add_argument("--busy", type=int, default=0, metavar="N", help="busy processes (default: none)")
    parser.add_argument("--options", default="", metavar="TEXT", help="more arguments of parity")
    add_json(parser)
    return parser


if __name__ == "__main__":
    run_as_script(make_parser(), run)
