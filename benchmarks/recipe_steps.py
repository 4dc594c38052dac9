"""What each part of the street detectors' recipe gains: a short training for each step.

    python benchmarks/recipe_steps.py --data coco-person voc-coco-mix --out runs/steps

A step is another one with a few settings changed. It trains on `train` of the data sets, and is measured
on pictures held out of that; nothing looks at `val`. Runs are short and small (224x224), so that many can be
compared: what they say of long runs is a guess, best where a step gains by what a network is told, worst
where it gains by seeing more. What `--out` holds already is not trained again, and a run that was
interrupted goes on.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import reduce
from pathlib import Path
from typing import Any, NamedTuple

import torch

from conditions import Table, add_json, measure_conditions, report, run_as_script
from fcos_edge.arguments import different_names, positive_int
from fcos_edge.console import note
from fcos_edge.errors import UsageError
from fcos_edge.threads import default_threads
from fcos_edge.train.checkpoint import load_checkpoint, save_checkpoint
from fcos_edge.train.config import TrainConfig
from fcos_edge.train.memory import keep_freed_memory
from fcos_edge.train.pipeline import MachineOptions, make_network, read_data, train_checkpoint
from fcos_edge.train.presets import LITE0_320, STREET8, lite_ranges
from fcos_edge.train.processes import Processes
from fcos_edge.train.run import Run, checkpoint_file, claim_folder
from fcos_edge.train.settings import with_setting

SIDE = 224


def ranges(levels: int) -> str:
    """The presets' of so many levels, as a setting."""
    return json.dumps(lite_ranges((SIDE, SIDE), levels)).replace("Infinity", '"inf"')


class Step(NamedTuple):
    """A change of one recipe, called `on`, by the settings of `fcos-edge train --set`."""

    what: str
    on: str
    settings: Sequence[str]


STEPS: Mapping[str, Step] = {
    "first": Step(
        "the first recipe: three stages and the normalization frozen", "",
        (
            f"input_hw=[{SIDE},{SIDE}]", f"assign.ranges={ranges(5)}", "epochs=6", "batch_size=8",
            "precision=bf16",
            "frozen_norm=true", "optimizer.learning_rate=8e-4", "optimizer.reference_batch=8",
            "optimizer.backbone_factor=0.4", "optimizer.warmup_steps=300", "optimizer.warmup_factor=0.0033",
            "optimizer.ema_decay=0.999",
        ),
    ),
    "live-norm": Step("normalization trains", "first", ("frozen_norm=false",)),
    "task-aligned": Step(
        "task-aligned assignment, classes learn quality", "live-norm",
        ("assign.method=task_aligned", "assign.top_k=13", "loss.classes=quality_focal", "loss.quality=none"),
    ),
    "simota": Step(
        "SimOTA assignment", "live-norm",
        ("assign.method=simota", "assign.top_k=10", "assign.center_radius=2.5"),
    ),
    "iou-quality": Step("the center-ness branch learns IoU", "live-norm", ("loss.quality=iou",)),
    "neck": Step(
        "path aggregation, 128 wide, towers of two", "task-aligned",
        ("network.neck=pan", "network.fpn_channels=128", "network.tower_depth=2"),
    ),
    "rate": Step("twice the learning rate", "neck", ("optimizer.learning_rate=1.6e-3",)),
    "free": Step("the stem alone stays as it was", "neck", ("freeze_stages=1",)),
    "mosaic": Step(
        "mosaic in every other view", "neck", ("augment.mosaic=0.5", "augment.plain_epochs=1"),
    ),
    "paste": Step(
        "an object pasted into each view", "neck", ("augment.paste=1", "augment.plain_epochs=1"),
    ),
    "scale": Step("larger and smaller views", "neck", ("augment.scale=[0.4,2.5]",)),
    "both": Step("a branch that learns IoU beside", "neck", ("loss.quality=iou",)),
    "half": Step("half the pictures, as many steps", "neck", ("max_images=2097", "epochs=12")),
    "quarter": Step("a quarter of them, as many steps", "neck", ("max_images=1049", "epochs=24")),
    "longer": Step("three times as long", "neck", ("epochs=18",)),
    "whole-box": Step("all of a box is positive", "live-norm", ("assign.center_radius=0",)),
    "four-levels": Step(
        "no P7", "live-norm",
        ("network.strides=[8,16,32,64]", f"assign.ranges={ranges(4)}"),
    ),
}  # fmt: skip


def run(args: argparse.Namespace) -> None:
    keep_freed_memory()
    torch.set_num_threads(args.threads)
    chosen = args.only or tuple(STEPS)
    if unknown := [name for name in chosen if name not in STEPS]:
        raise UsageError(f"--only: {unknown[0]!r} is no step; choose from {', '.join(STEPS)}")
    counts = {"held_out": args.hold_out, "seeds": args.seeds}
    conditions = {"data": ", ".join(path.resolve().name for path in args.data)}
    conditions |= measure_conditions(args.threads, counts)
    figures: dict[str, list[dict[str, float]]] = {name: [] for name in chosen}
    # Seed by seed, so that an interrupted run has compared all steps.
    for seed in range(args.seeds):
        for name in chosen:
            figures[name].append(measure(name, seed, args))
    rows, first = [], args.classes[0]
    for name in chosen:
        step, found = STEPS[name], figures[name]
        spread = " ".join(f"{100 * one[first]:.1f}" for one in found)
        means = {key: statistics.mean(one[key] for one in found) for key in found[0]}
        rows.append((
            name, step.what, step.on, round(100 * means[first], 1), round(100 * means["AP"], 1),
            round(100 * means["AP50"], 1), spread, round(means["minutes"]),
        ))  # fmt: skip
    header = (
        "step",
        "what changes",
        "on",
        f"{first} AP",
        "AP",
        "AP50",
        f"{first} AP of each seed",
        "minutes",
    )
    table = Table("points of 100 on held-out pictures, means over seeds", header, rows)
    report("recipe_steps", conditions, [], [table], figures, args.json)


def config_of(name: str, seed: int, more: Sequence[str] = ()) -> TrainConfig:
    """The config of a step: the settings of all that it stands on, its own, and `more`."""
    settings = list(more)
    while name:
        settings = [*STEPS[name].settings, *settings]
        name = STEPS[name].on
    return replace(reduce(with_setting, settings, LITE0_320), seed=seed)


def measure(name: str, seed: int, args: argparse.Namespace) -> dict[str, float]:
    """The figures of one run on its held-out pictures; it is trained first where it is not there."""
    config = config_of(name, seed, args.set)
    config = replace(config, network=replace(config.network, num_classes=len(args.classes)))
    plan = Run(f"{name}-seed{seed}", args.classes, tuple(args.data), config, held_out=args.hold_out)
    out = args.out / plan.name
    path = checkpoint_file(plan, out)
    if not path.exists():
        note(f"{plan.name}: {STEPS[name].what}")
        processes = Processes(device=torch.device("cuda" if torch.cuda.is_available() else "cpu"))
        data = read_data(plan, processes, lambda _: None)
        network = make_network(plan, processes, note)
        claim_folder(plan, out)
        machine = MachineOptions(args.workers, args.cache << 30, eval_every=10_000, board=False)
        save_checkpoint(path, train_checkpoint(plan, network, data, out, processes, machine))
    held_out: dict[str, Any] = load_checkpoint(path).metrics["held_out"]
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    seconds = sum(row["seconds"] for row in rows)
    own = {key: float(held_out[key]) for key in ("AP", "AP50")}
    first = args.classes[0]
    return {first: float(held_out["classes"][first]["AP"]), **own, "minutes": seconds / 60}


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="What each part of the street detectors' recipe gains.")
    parser.add_argument(
        "--data", type=Path, nargs="+", required=True, metavar="DATA", help="data sets; `train` is used"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of the runs")
    parser.add_argument("--only", type=different_names, metavar="S,S", help="some of the steps")
    parser.add_argument(
        "--classes", type=different_names, default=STREET8, metavar="C,C", help="default: the street's eight"
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="a setting of every step"
    )
    parser.add_argument(
        "--hold-out", type=positive_int, default=400, metavar="N", help="pictures (default: %(default)s)"
    )
    parser.add_argument("--seeds", type=positive_int, default=1, metavar="N", help="default: %(default)s")
    parser.add_argument(
        "--workers",
        type=positive_int,
        default=1,
        metavar="N",
        help="default: %(default)s",
    )
    parser.add_argument(
        "--cache",
        type=positive_int,
        default=2,
        metavar="GB",
        help="for pictures (default: %(default)s)",
    )
    parser.add_argument(
        "--threads", type=positive_int, default=default_threads(), metavar="N", help="default: all"
    )
    add_json(parser)
    return parser


if __name__ == "__main__":
    run_as_script(make_parser(), run)
