"""Time and memory of `fcos-edge export --int8`: all three formats, verification included.

    python benchmarks/export_cost.py --runs 3

Each run is a process of its own, as a user starts it. Memory is the resident memory of that process and
all its children together, pages that they share counted for each, sampled ten times a second, and never
less than the largest peak that the system reports for one of them.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from conditions import Table, Target, add_json, measure_conditions, report, run_as_script
from fcos_edge.arguments import positive_int
from fcos_edge.bundle import MANIFEST_NAME, read_manifest
from fcos_edge.console import note
from fcos_edge.errors import FcosEdgeError
from fcos_edge.threads import default_threads

MOST_SECONDS = 60.0
MOST_GIGABYTES = 3.0
_SECONDS_BETWEEN_SAMPLES = 0.1


@dataclass(frozen=True)
class Cost:
    """One export.

    wall_s      from start to end of the process
    cpu_s       of all its threads and children
    peak_bytes  resident memory
    """

    wall_s: float
    cpu_s: float
    peak_bytes: int
    artifacts: int
    bundle_bytes: int


def run(args: argparse.Namespace) -> None:
    conditions = measure_conditions(default_threads(), {"runs": args.runs})
    costs = []
    for index in range(args.runs):
        costs.append(measure_export(args.checkpoint))
        note(f"export {index + 1} of {args.runs}: {costs[-1].wall_s:.1f} s")
    slowest, largest = max(c.wall_s for c in costs), max(c.peak_bytes for c in costs) / 1e9
    rows = [(i + 1, c.wall_s, c.cpu_s, c.peak_bytes / 1e9, c.artifacts, c.bundle_bytes / 1e6)
            for i, c in enumerate(costs)]  # fmt: skip
    header = ("run", "wall s", "cpu s", "peak GB", "artifacts", "bundle MB")
    report(
        "export_cost",
        conditions,
        [
            Target("slowest export", slowest, "<=", MOST_SECONDS, " s"),
            Target("largest peak memory", largest, "<=", MOST_GIGABYTES, " GB"),
        ],
        [Table("fcos-edge export --int8", header, rows)],
        {"median_wall_s": statistics.median(c.wall_s for c in costs), "runs": list(map(asdict, costs))},
        args.json,
    )


def measure_export(checkpoint: Path | None) -> Cost:
    """Export into a temporary folder. Raises FcosEdgeError where `fcos-edge export` fails."""
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile() as output:
        command = [sys.executable, "-m", "fcos_edge", "export"]
        command += ["--int8"] if checkpoint is None else [str(checkpoint.resolve()), "--int8"]
        start = time.perf_counter()
        process = subprocess.Popen(command, cwd=folder, stdout=output, stderr=subprocess.STDOUT)
        sampled = 0
        while True:
            # wait4 and not Popen.wait: it reports what this one child has used.
            finished, status, usage = os.wait4(process.pid, os.WNOHANG)
            if finished:
                break
            sampled = max(sampled, resident_bytes(process.pid))
            time.sleep(_SECONDS_BETWEEN_SAMPLES)
        wall_s = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            output.seek(0)
            said = output.read().decode(errors="replace").strip().splitlines() or ["nothing"]
            raise FcosEdgeError(f"fcos-edge export ended with {process.returncode} and said: {said[-1]}")
        bundle = next(Path(folder).glob(f"*/{MANIFEST_NAME}")).parent
        size = sum(path.stat().st_size for path in bundle.rglob("*") if path.is_file())
        cpu_s = usage.ru_utime + usage.ru_stime
        # Linux counts ru_maxrss in KiB.
        peak = max(sampled, usage.ru_maxrss * 1024)
        return Cost(wall_s, cpu_s, peak, len(read_manifest(bundle).artifacts), size)


def resident_bytes(pid: int) -> int:
    """Resident memory of a process and its descendants now; 0 where it has ended."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        children = [
            int(child)
            for path in Path(f"/proc/{pid}/task").glob("*/children")
            for child in path.read_text().split()
        ]
    except (OSError, IndexError, ValueError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE") + sum(map(resident_bytes, children))


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Time and memory of fcos-edge export --int8.")
    parser.add_argument("checkpoint", nargs="?", type=Path, help="default: the embedded detector")
    parser.add_argument("--runs", type=positive_int, default=3, metavar="N", help="default: %(default)s")
    add_json(parser)
    return parser


if __name__ == "__main__":
    run_as_script(make_parser(), run)
