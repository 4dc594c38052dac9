"""What every benchmark shares: the conditions of a measurement, its targets, and how both are shown.

A figure without its conditions is a rumour, so `report` prints none without them. A benchmark that ran
to its end exits with 0, whether its targets were reached or not; the `target` column and the JSON say that.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from fcos_edge.conditions import measure_conditions as conditions_here
from fcos_edge.console import print_table
from fcos_edge.cpu import detect_cpu
from fcos_edge.errors import FcosEdgeError

REPO_ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Target:
    """One promised figure and what was measured.

    measured   None where there was nothing to measure
    is_judged  False where the promise is not made for this machine
    """

    what: str
    measured: float | None
    comparison: Literal["<=", "<", ">="]
    limit: float
    unit: str = ""
    is_judged: bool = True

    @property
    def is_reached(self) -> bool | None:
        """None where it was not measured, or is not judged here."""
        if self.measured is None or not self.is_judged:
            return None
        if self.comparison == ">=":
            return self.measured >= self.limit
        return self.measured < self.limit if self.comparison == "<" else self.measured <= self.limit

    @property
    def verdict(self) -> str:
        return {True: "reached", False: "MISSED", None: "not judged"}[self.is_reached]


@dataclass(frozen=True)
class Table:
    """Figures for people; the JSON has them in full."""

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[object]]


def measure_conditions(threads: int, counts: Mapping[str, int]) -> dict[str, Any]:
    """Where and when a measurement is taken.

    counts: what was counted: pictures, rounds, runs
    """
    told = conditions_here(threads)
    return {
        "date": told["date"],
        "commit": told.get("commit", "unknown"),
        "cpu": told["cpu"],
        "vnni": has_vnni(),
        "cores": told["cores"],
        # Above the cores, somebody else was computing too, and times mean little.
        "load_before": told["load_before"],
        "system": told["system"],
        "threads": threads,
        **counts,
        "versions": told["versions"],
    }


def has_vnni() -> bool:
    """Whether this is a CPU that the promises about int8 are made for."""
    return detect_cpu().has_vnni is True


def add_json(parser: argparse.ArgumentParser) -> None:
    """`--json FILE`, which every benchmark has."""
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write all figures to FILE")


def report(
    name: str,
    conditions: Mapping[str, Any],
    targets: Sequence[Target],
    tables: Sequence[Table],
    figures: Mapping[str, Any],
    json_path: Path | None,
) -> None:
    """Print conditions, tables and targets; write everything to `json_path`."""
    print(f"{name}\n")
    for key, value in conditions.items():
        text = ", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, dict) else _plain(value)
        print(f"  {key:<12}{text}")
    for table in tables:
        print(f"\n{table.title}")
        print_table(table.header, table.rows)
    print()
    rows = [
        (t.what, "nothing" if t.measured is None else f"{t.measured:.4g}{t.unit}",
         f"{t.comparison} {t.limit:g}{t.unit}", t.verdict)
        for t in targets
    ]  # fmt: skip
    print_table(("what", "measured", "wanted", "target"), rows)
    if json_path is not None:
        judged = [{**asdict(target), "is_reached": target.is_reached} for target in targets]
        document = {
            "benchmark": name, "conditions": conditions, "targets": judged, "figures": figures,
        }  # fmt: skip
        json_path.write_text(json.dumps(document, indent=1, allow_nan=False) + "\n")


def run_as_script(parser: argparse.ArgumentParser, run: Callable[[argparse.Namespace], None]) -> None:
    """Parse the arguments, run, and end the process; a user's mistake is one line and exit code 2."""
    try:
        run(parser.parse_args())
    except FcosEdgeError as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


def _plain(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)
