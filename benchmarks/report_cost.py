"""Time and size of a page of parity: `fcos-edge report` in a process of its own, as a user starts it.

fcos-edge parity street8-lite0-320 --data coco-person --json > parity.json
python benchmarks/report_cost.py parity.json --data coco-person
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from conditions import Table, Target, add_json, measure_conditions, report, run_as_script
from fcos_edge.arguments import positive_int
from fcos_edge.console import note
from fcos_edge.errors import FcosEdgeError
from fcos_edge.report.document import read_document

MOST_SECONDS = 20.0
MOST_MEGABYTES = 6.0


def run(args: argparse.Namespace) -> None:
    _, document = read_document(args.parity)
    counts = {
        "runs": args.runs, "artifacts": len(document["artifacts"]), "pictures": document["data"]["pictures"],
    }  # fmt: skip
    conditions = measure_conditions(1, counts)
    seconds, size = [], 0
    for index in range(args.runs):
        taken, size = measure_page(args.parity, args.data)
        seconds.append(taken)
        note(f"page {index + 1} of {args.runs}: {taken:.1f} s")
    megabytes = size / 1e6
    report(
        "report_cost",
        conditions,
        [
            Target("slowest page", max(seconds), "<=", MOST_SECONDS, " s"),
            Target("its size", megabytes, "<=", MOST_MEGABYTES, " MB"),
        ],
        [Table("fcos-edge report", ("run", "wall s"), list(enumerate(seconds, 1)))],
        {"wall_s": seconds, "bytes": size},
        args.json,
    )


def measure_page(parity: Path, data: Path) -> tuple[float, int]:
    """Seconds and bytes. Raises FcosEdgeError where `fcos-edge report` fails."""
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "report.html"
        command = [sys.executable, "-m", "fcos_edge", "report", str(parity), "--data", str(data)]
        start = time.perf_counter()
        result = subprocess.run([*command, "--html", str(page)], capture_output=True, text=True, check=False)
        seconds = time.perf_counter() - start
        if result.returncode:
            said = result.stderr.strip().splitlines() or ["nothing"]
            raise FcosEdgeError(f"fcos-edge report ended with {result.returncode} and said: {said[-1]}")
        return seconds, page.stat().st_size


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Time and size of a page of parity.")
    parser.add_argument("parity", type=Path, metavar="PARITY_JSON")
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="the set it was measured on")
    parser.add_argument("--runs", type=positive_int, default=3, metavar="N", help="default: %(default)s")
    add_json(parser)
    return parser


if __name__ == "__main__":
    run_as_script(make_parser(), run)
