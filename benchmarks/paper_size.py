"""The paper's network, ResNet-50 with GroupNorm heads, through export and into every runtime.

    python benchmarks/paper_size.py --data FOLDER_OF_PICTURES --out FOLDER

No trained weights are at hand, so it is made of random ones that keep every map's variance near one: He's
normal distribution in the backbone, whose batch statistics are those of some of the pictures, and outputs
drawn as wide as their input allows. A deep network of such weights alone is chaotic as no trained one is (its
int8 logits are 0.42 standard deviations from float32's, where 0.3 are allowed), so a block adds a fifth of
its branch (arXiv 1706.02677 starts from none of it), and a tower's convolutions add to their input.

What such a network finds means nothing; its time, its memory and how far the runtimes agree do not ask. The
export is the usual one, with verification, in a process of its own.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from conditions import Table, add_json, measure_conditions, report, run_as_script
from export_cost import resident_bytes
from fcos_edge.arguments import positive_int
from fcos_edge.bundle import read_manifest
from fcos_edge.console import note
from fcos_edge.errors import FcosEdgeError, UsageError
from fcos_edge.golden import read_golden
from fcos_edge.image import read_image_bgr
from fcos_edge.letterbox import Letterbox
from fcos_edge.raw_outputs import split_outputs
from fcos_edge.sources import spread
from fcos_edge.spec import ModelSpec
from fcos_edge.train.backbones.resnet import Bottleneck
from fcos_edge.train.checkpoint import Checkpoint, save_checkpoint
from fcos_edge.train.head import SharedPlainConv
from fcos_edge.train.model import Fcos
from fcos_edge.train.presets import PRESETS
from int8_speed import golden_input, time_calls
from networks import open_networks

PRESET = "r50"
CLASSES = 80
BRANCH_FACTOR = 0.2
FIRST_SIDE = 32.0  # pixels: what distances start from


def run(args: argparse.Namespace) -> None:
    height, width = args.size
    pictures = spread(sorted(p for p in args.data.rglob("*") if p.suffix in (".jpg", ".png")), args.pictures)
    if not pictures:
        raise UsageError(f"{args.data}: no pictures; name a folder with some")
    args.out.mkdir(parents=True, exist_ok=True)
    chosen = args.out / "pictures"
    shutil.rmtree(chosen, ignore_errors=True)
    chosen.mkdir()
    for path in pictures:
        shutil.copy(path, chosen)
    conditions = measure_conditions(args.threads, {"pictures": len(pictures), "rounds": args.rounds})
    conditions["input"] = f"{width}x{height}"
    checkpoint = args.out / f"{PRESET}.safetensors"
    save_checkpoint(checkpoint, random_checkpoint((height, width), pictures))
    bundle = args.out / "bundle"
    wall_s, peak_bytes = export(checkpoint, chosen, bundle)
    sizes = [(entry.name, entry.bytes / 1e6) for a in read_manifest(bundle).artifacts for entry in a.files]
    speed = measure_speed(bundle, args.threads, args.rounds, args.calls)
    agreement = measure_agreement(bundle, args.threads)
    figures = {
        "export_s": wall_s, "peak_bytes": peak_bytes, "speed": speed, "agreement": agreement, "sizes": sizes,
    }  # fmt: skip
    tables = [
        Table("fcos-edge export --int8", ("wall s", "peak GB"), [(wall_s, peak_bytes / 1e9)]),
        Table("files", ("file", "MB"), sizes),
        Table(
            f"one picture of {width}x{height}, {args.threads} threads, medians",
            ("runtime", "fp32 ms", "int8 ms", "ratio"), speed,
        ),
        Table(
            "int8 logits on the golden pictures",
            ("runtime", "equal to the simulator", "mean difference, one-bit floors",
             "of the int8-to-fp32 difference", "correlation with PyTorch"),
            agreement,
        ),
    ]  # fmt: skip
    report("paper_size", conditions, [], tables, figures, args.json)


def random_checkpoint(input_hw: tuple[int, int], pictures: Sequence[Path]) -> Checkpoint:
    """Batch statistics are those of up to four of the pictures together."""
    torch.manual_seed(0)
    config = PRESETS[PRESET]
    network_config = replace(config.network, num_classes=CLASSES)
    network = Fcos(network_config)
    names = tuple(f"class {index}" for index in range(CLASSES))
    spec = ModelSpec(
        PRESET, names, input_hw, network_config.mean, network_config.std, strides=network_config.strides,
        distance=network_config.distance, distance_unit=network_config.distance_unit,
        score="sqrt", nms_iou=config.nms_iou,
    )  # fmt: skip
    _calm(network)
    for conv in (network.head.logits, network.head.ltrb, network.head.centerness):
        # Behind a GroupNorm and a ReLU the mean square is one half.
        nn.init.kaiming_normal_(conv.weight)  # type: ignore[arg-type]
    assert network.head.ltrb.bias is not None
    nn.init.constant_(network.head.ltrb.bias, float(np.log(FIRST_SIDE)))
    with torch.no_grad():
        network.head.ltrb.weight *= 0.25  # of a logarithm: sides of a box that differ by a third
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = None  # a plain mean
    inputs = []
    for path in spread(pictures, 4):
        image_bgr = read_image_bgr(path)
        inputs.append(Letterbox.from_spec(spec, (image_bgr.shape[0], image_bgr.shape[1])).apply(image_bgr))
    with torch.inference_mode():
        network.train()
        network.backbone(network.normalize(torch.from_numpy(np.stack(inputs)).permute(0, 3, 1, 2).float()))
    return Checkpoint(network.eval(), network_config, spec, (0.5,) * CLASSES)


@torch.no_grad()
def _calm(network: Fcos) -> None:
    """Blocks and tower convolutions that change their input, and do not replace it."""
    for module in network.backbone.modules():
        if isinstance(module, Bottleneck):
            nn.init.constant_(module.bn3.weight, BRANCH_FACTOR)
    for tower in (network.head.class_tower, network.head.box_tower):
        for layer in tower:
            assert isinstance(layer, SharedPlainConv)
            nn.init.kaiming_normal_(layer.conv.weight)
            channels = range(layer.conv.out_channels)
            layer.conv.weight[channels, channels, 1, 1] += 1


def export(checkpoint: Path, pictures: Path, bundle: Path) -> tuple[float, int]:
    """Seconds and bytes of resident memory at the peak."""
    command = [
        sys.executable,
        "-m",
        "fcos_edge",
        "export",
        str(checkpoint),
        "--int8",
        "--data",
        str(pictures),
    ]
    start = time.perf_counter()
    process = subprocess.Popen([*command, "--out", str(bundle)], stdout=sys.stderr)
    sampled = 0
    while True:
        # wait4 and not Popen.wait: it reports what this one child has used.
        finished, status, usage = os.wait4(process.pid, os.WNOHANG)
        if finished:
            break
        sampled = max(sampled, resident_bytes(process.pid))
        time.sleep(0.2)
    wall_s = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise FcosEdgeError(f"fcos-edge export ended with {process.returncode}")
    return wall_s, max(sampled, usage.ru_maxrss * 1024)  # Linux counts in KiB


def measure_speed(
    bundle: Path, threads: int, rounds: int, calls: int
) -> list[tuple[str, float, float, float]]:
    """Runtime, milliseconds of fp32 and int8, and the median of the rounds' ratios; by turns."""
    rows = []
    for runtime in ("onnxruntime", "openvino", "tflite"):
        # One runtime's two networks at a time: all at once are gigabytes.
        networks = {
            key: network
            for key, network in open_networks(bundle, ("fp32", "int8"), threads).items()
            if key[0] == runtime or network.close()  # type: ignore[func-returns-value]
        }
        slow, fast = networks[runtime, "fp32"], networks[runtime, "int8"]
        images = golden_input(bundle, slow.spec)
        times: list[tuple[float, float]] = []
        for index in range(rounds + 1):
            pair = [statistics.median(time_calls(network, images, calls)) for network in (slow, fast)]
            if index:  # the first round warms up
                times.append((pair[0], pair[1]))
        fp32_ms, int8_ms = (statistics.median(column) for column in zip(*times, strict=True))
        rows.append((runtime, fp32_ms, int8_ms, statistics.median(a / b for a, b in times)))
        note(f"{runtime}: {fp32_ms:.0f} ms, int8 {int8_ms:.0f} ms")
        for network in networks.values():
            network.close()
    return rows


def measure_agreement(bundle: Path, threads: int) -> list[tuple[str, float, float, float, float]]:
    golden = read_golden(bundle)
    points = {output.name: output for output in golden.outputs}
    logits = [name for name in points if name.startswith("logits")]
    rows = []
    for (runtime, _), network in open_networks(bundle, ("int8",), threads).items():
        found, simulated, reference = [], [], []
        for picture in golden.pictures:
            outputs = dict(split_outputs(network.runtime.run(picture.images), network.spec))
            for name in logits:
                point, integers = points[name], picture.int8[name].astype(np.float32)
                simulated.append(
                    ((integers - np.float32(point.zero_point)) * np.float32(point.scale)).ravel()
                )
                found.append(outputs[name].ravel())
                reference.append(picture.fp32[name].ravel())
        a, b, c = (np.concatenate(parts).astype(np.float64) for parts in (found, simulated, reference))
        cells = [golden.pictures[0].fp32[name].size for name in logits]
        floor = np.average([golden.one_bit_floors[name] for name in logits], weights=cells)
        difference = np.abs(a - b).mean()
        rows.append((
            runtime, float((a == b).mean()), float(difference / floor),
            float(difference / np.abs(b - c).mean()), float(np.corrcoef(a, c)[0, 1]),
        ))  # fmt: skip
        network.close()
    return rows


def size(text: str) -> tuple[int, int]:
    """WIDTHxHEIGHT -> (height, width)."""
    width, _, height = text.partition("x")
    return positive_int(height), positive_int(width)


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description="ResNet-50 with GroupNorm heads through export and runtimes."
    )
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="pictures, no labels needed")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="for checkpoint and bundle")
    parser.add_argument("--size", type=size, default="800x512", metavar="WxH", help="default: %(default)s")
    parser.add_argument("--pictures", type=positive_int, default=8, metavar="N", help="default: %(default)s")
    parser.add_argument("--threads", type=positive_int, default=1, metavar="N", help="default: %(default)s")
    parser.add_argument("--rounds", type=positive_int, default=3, metavar="N", help="default: %(default)s")
    parser.add_argument("--calls", type=positive_int, default=3, metavar="N", help="default: %(default)s")
    add_json(parser)
    return parser


if __name__ == "__main__":
    run_as_script(make_parser(), run)
