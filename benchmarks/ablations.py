"""The paper's ablations of center-ness, small: each row trained with two seeds, measured on `val`.

    python benchmarks/ablations.py --data bccd --out runs/ablations

Every row is one `fcos-edge train` and one `fcos-edge eval`, whose lines are printed; what `--out` holds
already is not trained again. From the third row on, each has one thing more than the one before.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from conditions import Table, add_json, measure_conditions, report, run_as_script
from fcos_edge.arguments import positive_int
from fcos_edge.console import note
from fcos_edge.errors import UsageError

FIGURES = ("AP", "AP50", "AP75")
# The paper's losses and whole boxes as positives; what else an edge shape has is left as it is.
PAPER = (
    "assign.center_radius=0", "loss.boxes=iou", "loss.weight_boxes=false", "network.centerness_on=class",
)  # fmt: skip
BOX = "network.centerness_on=box"


class Row(NamedTuple):
    """What is trained: the settings of `fcos-edge train --set`."""

    what: str
    settings: Sequence[str]


ROWS = (
    Row("no center-ness", (*PAPER, "loss.quality=none")),
    Row("computed from the distances", (*PAPER, "loss.quality=none", "network.quality_from=distances")),
    Row("branch on the class tower", PAPER),
    Row("branch on the box tower", (*PAPER, BOX)),
    Row("+ centre sampling", (*PAPER, BOX, "assign.center_radius=1.5")),
    Row("+ GIoU, weighted", (BOX, "assign.center_radius=1.5")),
)


def run(args: argparse.Namespace) -> None:
    seeds = list(range(args.seeds))
    conditions = {"data": args.data.resolve().name, "preset": args.preset}
    conditions |= measure_conditions(args.threads, {"epochs": args.epochs, "seeds": args.seeds})
    figures: dict[str, list[dict[str, float]]] = {}
    # Seed by seed, so that an interrupted run has compared all rows.
    for seed in seeds:
        for index, row in enumerate(ROWS):
            out = args.out / f"row{index}-seed{seed}"
            figures.setdefault(row.what, []).append(measure(row, seed, out, args))
    rows = []
    for row in ROWS:
        found = figures[row.what]
        means = [statistics.mean(100 * one[name] for one in found) for name in FIGURES]
        spread = [f"{100 * one['AP']:.1f}" for one in found]
        rows.append((row.what, *(round(mean, 1) for mean in means), " ".join(spread)))
    table = Table("points of 100, means over seeds", ("", *FIGURES, "AP of each seed"), rows)
    report("ablations", conditions, [], [table], figures, args.json)


def measure(row: Row, seed: int, out: Path, args: argparse.Namespace) -> dict[str, float]:
    """The figures on `val` of one run, which is trained first where it is not there."""
    checkpoint = out / f"{args.preset}.safetensors"
    if not checkpoint.exists():
        settings = [word for setting in (*args.set, *row.settings) for word in ("--set", setting)]
        fcos_edge(
            "train", "--data", args.data, "--preset", args.preset, "--out", out, "--epochs", args.epochs,
            "--batch-size", args.batch_size, "--hold-out", 0, "--seed", seed, "--cache", 2,
            "--threads", args.threads, "--no-tensorboard", *settings,
        )  # fmt: skip
    threads = ("--threads", args.threads)
    found = json.loads(fcos_edge("eval", checkpoint, "--data", args.data, "--json", *threads))
    return {name: float(found[name]) for name in FIGURES}


def fcos_edge(*words: object) -> str:
    """What a verb prints. Raises UsageError where it fails."""
    text = [str(word) for word in words]
    note(f"fcos-edge {' '.join(text)}")
    done = subprocess.run([sys.executable, "-m", "fcos_edge", *text], stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise UsageError(f"fcos-edge {text[0]} ended with {done.returncode}; see above")
    return done.stdout


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="The paper's ablations of center-ness.")
    parser.add_argument("--data", type=Path, required=True, metavar="DATA", help="data set: train and val")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of the runs")
    parser.add_argument("--preset", default="lite0-256", metavar="P", help="default: %(default)s")
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="a setting of every row"
    )
    parser.add_argument(
        "--batch-size", type=positive_int, default=16, metavar="N", help="default: %(default)s"
    )
    parser.add_argument("--epochs", type=positive_int, default=30, metavar="N", help="default: %(default)s")
    parser.add_argument("--seeds", type=positive_int, default=2, metavar="N", help="default: %(default)s")
    parser.add_argument("--threads", type=positive_int, default=2, metavar="N", help="default: %(default)s")
    add_json(parser)
    return parser


if __name__ == "__main__":
    run_as_script(make_parser(), run)
