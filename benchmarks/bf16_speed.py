"""What bfloat16 gains a training step on a CPU: with torch's gradients of depthwise convolutions, and ours.

    python benchmarks/bf16_speed.py

lite0-320 from random weights, forward and backward on a batch of noise by the sum of its outputs; the three
ways take turns. A CPU without bfloat16 instructions computes it slowly in all of them.
"""

from __future__ import annotations

import argparse
import statistics
from functools import partial

import torch

from conditions import Table, add_json, measure_conditions, report, run_as_script
from fcos_edge.arguments import positive_int
from fcos_edge.threads import default_threads
from fcos_edge.train import layers
from fcos_edge.train.depthwise import is_needed
from fcos_edge.train.memory import keep_freed_memory
from fcos_edge.train.model import Fcos
from fcos_edge.train.presets import PRESETS
from timing import median_ratio, median_times

FLOAT, TORCHS, OURS = "float32", "bfloat16, torch's gradients", "bfloat16"


def run(args: argparse.Namespace) -> None:
    keep_freed_memory()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    preset = PRESETS[args.preset]
    network = Fcos(preset.network).to(memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    network.backbone.freeze(preset.freeze_stages)
    images = torch.rand(args.batch_size, 3, *preset.input_hw) * 255
    images = images.to(memory_format=torch.channels_last)
    calls = {
        FLOAT: partial(step, network, images, is_bf16=False, is_ours=False),
        TORCHS: partial(step, network, images, is_bf16=True, is_ours=False),
        OURS: partial(step, network, images, is_bf16=True, is_ours=True),
    }
    counts = {"batch": args.batch_size, "rounds": args.rounds, "steps": args.steps}
    conditions = {"preset": args.preset, **measure_conditions(args.threads, counts)}
    found_us = median_times(calls, args.rounds, args.steps)
    rows = [
        (name, statistics.median(times) / 1e3, median_ratio(found_us[FLOAT], times))
        for name, times in found_us.items()
    ]
    table = Table("forward and backward, medians", ("", "ms a step", "times as fast"), rows)
    report("bf16_speed", conditions, [], [table], found_us, args.json)


def step(network: Fcos, images: torch.Tensor, *, is_bf16: bool, is_ours: bool) -> None:
    setattr(layers, "is_needed", is_needed if is_ours else _never)  # noqa: B010 (it is imported there)
    network.zero_grad(set_to_none=True)
    with torch.autocast("cpu", torch.bfloat16, enabled=is_bf16):
        maps = network(images)
    torch.stack([output.float().sum() for output in maps.values()]).sum().backward()  # type: ignore[no-untyped-call]


def _never(x: torch.Tensor, conv: torch.nn.Conv2d) -> bool:
    return False


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="What bfloat16 gains a training step on a CPU.")
    parser.add_argument("--preset", default="lite0-320", metavar="P", help="default: %(default)s")
    parser.add_argument(
        "--batch-size", type=positive_int, default=8, metavar="N", help="default: %(default)s"
    )
    parser.add_argument("--rounds", type=positive_int, default=7, metavar="N", help="default: %(default)s")
    parser.add_argument("--steps", type=positive_int, default=3, metavar="N", help="in each round")
    parser.add_argument(
        "--threads", type=positive_int, default=default_threads(), metavar="N", help="default: all"
    )
    add_json(parser)
    return parser


if __name__ == "__main__":
    run_as_script(make_parser(), run)
