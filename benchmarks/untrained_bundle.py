"""An int8 bundle of an untrained network, to time its shape before anybody trains it.

    python benchmarks/untrained_bundle.py lite0-320 --out plain
    python benchmarks/untrained_bundle.py lite0-320 --set network.neck=pan --out pan
    python benchmarks/int8_cost.py plain pan

Random weights, calibrated on noise; nothing is verified, and what it finds means nothing.
"""

from __future__ import annotations

import argparse
from functools import reduce
from pathlib import Path

import torch

from conditions import run_as_script
from fcos_edge.errors import UsageError
from fcos_edge.spec import ModelSpec
from fcos_edge.train.presets import find_preset
from fcos_edge.train.settings import with_setting
from small_bundle import calibrated_on_noise, noise, write_bundle


def run(args: argparse.Namespace) -> None:
    if args.out.exists():
        raise UsageError(f"{args.out}: is there already; choose another --out")
    config = reduce(with_setting, args.set, find_preset(args.preset))
    network = config.network
    classes = tuple(f"class {number}" for number in range(network.num_classes))
    spec = ModelSpec(
        args.preset, classes, config.input_hw, network.mean, network.std, strides=network.strides,
        distance=network.distance, distance_unit=network.distance_unit, nms_iou=config.nms_iou,
    )  # fmt: skip
    torch.manual_seed(0)
    checkpoint = calibrated_on_noise(network, spec)
    args.out.mkdir(parents=True)
    write_bundle(args.out, checkpoint, noise(9), ("int8",))
    print(args.out)


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="An int8 bundle of an untrained network.")
    parser.add_argument("preset", metavar="PRESET")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a setting")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of the bundle")
    return parser


if __name__ == "__main__":
    run_as_script(make_parser(), run)
