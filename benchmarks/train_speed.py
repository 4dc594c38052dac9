"""What training costs beside the network's own forward and backward.

    python benchmarks/train_speed.py --data coco-person

lite0-320 from ImageNet weights, batches of 16, one loader worker. "Network" is forward and backward on a
batch that lies ready, by the sum of its outputs; "training" is what the loop does for a step: the next batch,
forward, assignment, losses, backward, clipping, optimizer, average. In turn, medians over the rounds.
"""

from __future__ import annotations

import argparse
import statistics
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import torch

from conditions import Table, Target, add_json, measure_conditions, report, run_as_script
from fcos_edge.arguments import positive_int
from fcos_edge.console import track
from fcos_edge.threads import default_threads
from fcos_edge.train.data.formats import class_names, read_pictures
from fcos_edge.train.loader import TrainingPictures, batches, make_loader
from fcos_edge.train.memory import keep_freed_memory
from fcos_edge.train.model import Fcos
from fcos_edge.train.presets import PRESETS
from fcos_edge.train.processes import Processes
from fcos_edge.train.schedule import BatchSchedule
from fcos_edge.train.step import Training
from loader_speed import mean_ms
from timing import median_ratio

MOST_RATIO = 1.1
NETWORK, TRAINING = "network", "training"
CACHE_BYTES = 1 << 31


def run(args: argparse.Namespace) -> None:
    keep_freed_memory()
    torch.set_num_threads(args.threads)
    classes = class_names(args.data, "train")
    pictures = read_pictures(args.data, "train", classes)[: args.pictures]
    preset = PRESETS[args.preset]
    steps = args.rounds * args.steps + 2  # one gives the batch, one warms
    config = replace(preset, network=replace(preset.network, num_classes=len(classes)), epochs=steps)
    counts = {"pictures": len(pictures), "batch": config.batch_size, "loader workers": 1}
    counts |= {"rounds": args.rounds, "steps": args.steps}
    conditions = {"data": args.data.resolve().name, "preset": args.preset}
    conditions |= measure_conditions(args.threads, counts)
    processes = Processes(device=torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    network = Fcos(config.network, pretrained=True, weights_path=args.weights).to(processes.device)
    training = Training(config, network, processes)
    source = TrainingPictures(pictures, config, CACHE_BYTES)
    schedule = BatchSchedule(pictures, config, 0, steps)
    found_ms: dict[str, list[float]] = {NETWORK: [], TRAINING: []}
    with closing(batches(make_loader(source, schedule, 1))) as loader:
        batch = next(loader)
        images = batch.images.to(processes.device).float().contiguous(memory_format=torch.channels_last)

        def network_alone() -> None:
            network.train()
            network.zero_grad(set_to_none=True)
            torch.stack([output.sum() for output in network(images).values()]).sum().backward()  # type: ignore[no-untyped-call]
            _finish()

        def step() -> None:
            training.step([next(loader)], config.optimizer.learning_rate)
            _finish()

        for call in (network_alone, step):  # warm
            call()
        for _ in track(range(args.rounds), "timing", args.rounds):
            found_ms[NETWORK].append(mean_ms(network_alone, args.steps))
            found_ms[TRAINING].append(mean_ms(step, args.steps))
    rows = [
        (name, statistics.median(found), 1e3 * config.batch_size / statistics.median(found))
        for name, found in found_ms.items()
    ]
    ratio = median_ratio(found_ms[TRAINING], found_ms[NETWORK])
    targets = [Target("training / network", ratio, "<=", MOST_RATIO)]
    table = Table("medians of the rounds", ("what", "ms a step", "pictures/s"), rows)
    report("train_speed", conditions, targets, [table], found_ms, args.json)


def _finish() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="A step of training against the network alone.")
    parser.add_argument(
        "--data", type=Path, required=True, metavar="DATA", help="data set; its train is read"
    )
    parser.add_argument("--preset", default="lite0-320", metavar="P", help="default: %(default)s")
    parser.add_argument(
        "--pictures", type=positive_int, default=512, metavar="N", help="at most (default: %(default)s)"
    )
    parser.add_argument("--weights", type=Path, metavar="FILE", help="ImageNet weights, if not installed")
    parser.add_argument(
        "--threads", type=positive_int, default=default_threads(), metavar="N", help="default: all"
    )
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
