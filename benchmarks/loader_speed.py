"""How many pictures the loader gives, against how many a step of training takes.

    python benchmarks/loader_speed.py --data coco-person

lite0-320 from ImageNet weights, in batches of 16: the step is the loop's own, forward, assignment, losses,
backward, optimizer and average. The loader's one worker makes batches without a pause while it is timed;
while others are, it waits with two of them ready, which are taken before its time begins.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path

import torch

from conditions import Table, Target, add_json, measure_conditions, report, run_as_script
from fcos_edge.arguments import positive_int
from fcos_edge.console import note, track
from fcos_edge.train.config import TrainConfig
from fcos_edge.train.data.formats import class_names, read_pictures
from fcos_edge.train.loader import TrainingPictures, batches, make_loader
from fcos_edge.train.model import Fcos
from fcos_edge.train.presets import LITE0_320
from fcos_edge.train.processes import Processes
from fcos_edge.train.schedule import BatchSchedule
from fcos_edge.train.step import Training
from timing import median_ratio

LEAST_RATIO = 2.0
STEP = "training step"
# Never reached: the loaders are closed when all is timed.
MANY_STEPS = 1_000_000_000
ALL_BYTES = 1 << 40
# What a loader keeps ready for each worker.
READY = 2
LOADER_CALLS = 20


def run(args: argparse.Namespace) -> None:
    torch.set_num_threads(args.threads)
    classes = class_names(args.data, "train")
    pictures = read_pictures(args.data, "train", classes)[: args.pictures]
    preset = LITE0_320
    config = replace(preset, network=replace(preset.network, num_classes=len(classes)), epochs=MANY_STEPS)
    mosaic = replace(config, augment=replace(config.augment, mosaic=0.5))
    counts = {"pictures": len(pictures), "batch": config.batch_size, "workers": 1}
    counts |= {"rounds": args.rounds, "steps": args.steps, "batches": LOADER_CALLS}
    conditions = {"data": args.data.resolve().name} | measure_conditions(args.threads, counts)

    def data(config: TrainConfig, cache_bytes: int = 0) -> TrainingPictures:
        return TrainingPictures(pictures, config, cache_bytes)

    note("reading pictures into memory")
    sources = {
        "loader": data(config),
        "loader, pictures in memory": data(config, ALL_BYTES),
        "loader, every other view a mosaic": data(mosaic),
        "loader, mosaics of pictures in memory": data(mosaic, ALL_BYTES),
    }
    training = Training(config, Fcos(config.network, weights_path=args.weights, pretrained=True), Processes())
    with ExitStack() as stack:
        loaders = {
            name: stack.enter_context(closing(batches(make_loader(source, _schedule(source), 1))))
            for name, source in sources.items()
        }
        some = [next(loaders["loader"]) for _ in range(4)]
        taken = itertools.cycle(some)

        def step() -> None:
            training.step([next(taken)], config.optimizer.learning_rate)

        step()  # warm
        found_ms: dict[str, list[float]] = {name: [] for name in (STEP, *loaders)}
        for _ in track(range(args.rounds), "timing", args.rounds):
            found_ms[STEP].append(mean_ms(step, args.steps))
            for name, loader in loaders.items():
                for _ in range(READY):
                    next(loader)
                found_ms[name].append(mean_ms(loader.__next__, LOADER_CALLS))
    rows = [
        (name, statistics.median(found), 1e3 * config.batch_size / statistics.median(found),
         median_ratio(found_ms[STEP], found))
        for name, found in found_ms.items()
    ]  # fmt: skip
    ratios = {name: ratio for name, _, _, ratio in rows}
    targets = [
        Target(f"{name}, one worker / step", ratios[name], ">=", LEAST_RATIO) for name in tuple(sources)[:2]
    ]
    table = Table("medians of the rounds", ("what", "ms a batch", "pictures/s", "times the step rate"), rows)
    report("loader_speed", conditions, targets, [table], found_ms, args.json)


def mean_ms(call: Callable[[], object], count: int) -> float:
    """Milliseconds of one of `count` calls, one after the other."""
    start = time.perf_counter_ns()
    for _ in range(count):
        call()
    return (time.perf_counter_ns() - start) / 1e6 / count


def _schedule(source: TrainingPictures) -> BatchSchedule:
    return BatchSchedule(source.pictures, source.config, 0, MANY_STEPS)


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="The loader against the training step.")
    parser.add_argument(
        "--data", type=Path, required=True, metavar="DATA", help="data set; its train is read"
    )
    parser.add_argument(
        "--pictures", type=positive_int, default=512, metavar="N", help="at most (default: %(default)s)"
    )
    parser.add_argument("--weights", type=Path, metavar="FILE", help="ImageNet weights, if not installed")
    parser.add_argument("--threads", type=positive_int, default=1, metavar="N", help="default: %(default)s")
    parser.add_argument("--rounds", type=positive_int, default=5, metavar="N", help="default: %(default)s")
    parser.add_argument(
        "--steps",
        type=positive_int,
        default=5,
        metavar="N",
        help="steps in each round (default: %(default)s)",
    )
    add_json(parser)
    return parser


if __name__ == "__main__":
    run_as_script(make_parser(), run)
