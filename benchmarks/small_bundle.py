"""A bundle of an untrained detector of 96x96 pixels, for benchmarks that need many quick frames.

Straight from the writers: nothing is verified, and what it finds means nothing.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import cast

import cv2
import numpy as np
import torch

from fcos_edge.artifact import Format, Precision
from fcos_edge.bundle import RECORD_NAME, Manifest, ManifestArtifact, describe_file, write_manifest
from fcos_edge.golden import FOLDER
from fcos_edge.quantize.calibrate import calibrate
from fcos_edge.quantize.deploy import deploy
from fcos_edge.quantize.formats import format_names, load_writer
from fcos_edge.quantize.record import Record
from fcos_edge.runtime import UInt8Array
from fcos_edge.spec import ModelSpec
from fcos_edge.train.checkpoint import Checkpoint
from fcos_edge.train.config import NetworkConfig
from fcos_edge.train.model import Fcos

PRECISIONS: tuple[Precision, ...] = ("fp32", "int8")
_SIDE = 96


def small_checkpoint(classes: tuple[str, ...] = ("one", "two", "three")) -> Checkpoint:
    """Calibrated on noise."""
    torch.manual_seed(0)
    config = NetworkConfig(len(classes), fpn_channels=16, tower_depth=1)
    return calibrated_on_noise(config, ModelSpec("small", classes, (_SIDE, _SIDE), config.mean, config.std))


def calibrated_on_noise(config: NetworkConfig, spec: ModelSpec) -> Checkpoint:
    """A checkpoint of random weights with a record."""
    network = Fcos(config).eval()
    # An untrained network is sure of nothing: let it find something everywhere.
    assert network.head.logits.bias is not None
    torch.nn.init.zeros_(network.head.logits.bias)
    record = calibrate(deploy(network, spec.input_hw), [noise(seed) for seed in range(4)], spec)
    return Checkpoint(network, config, spec, (0.5,) * len(spec.classes), record=record.to_dict())


def noise(seed: int, size_hw: tuple[int, int] = (120, 160)) -> UInt8Array:
    """A (H, W, 3) picture of coloured blocks."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), np.uint8)
    size_wh = (size_hw[1], size_hw[0])
    return np.asarray(cv2.resize(coarse, size_wh, interpolation=cv2.INTER_NEAREST), np.uint8)


def write_bundle(
    folder: Path,
    checkpoint: Checkpoint,
    picture_bgr: UInt8Array,
    precisions: tuple[Precision, ...] = PRECISIONS,
) -> None:
    """All formats, the record, and one golden picture."""
    assert checkpoint.record is not None
    record = Record.from_dict(dict(checkpoint.record))
    spec = checkpoint.spec
    graph = deploy(checkpoint.network, spec.input_hw)
    artifacts = []
    for name in format_names():
        writer = load_writer(name)
        for precision in precisions:
            files = writer.write(folder, graph, record, spec, precision, checkpoint.operating_thresholds)
            entries = tuple(map(describe_file, files))
            artifacts.append(ManifestArtifact(entries, cast(Format, name), precision))
    write_manifest(folder, Manifest(spec, tuple(artifacts)))
    (folder / RECORD_NAME).write_text(json.dumps(record.to_dict()))
    (folder / FOLDER).mkdir()
    cv2.imwrite(str(folder / FOLDER / "picture.png"), picture_bgr)
