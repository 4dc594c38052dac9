"""A network in PyTorch behind the device's `Runtime` protocol.

Evaluation, `detect` without an exported model, and the reference of `export` all go through the same
letterbox and post-processing as on the device.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import nn

from fcos_edge.detector import Detector
from fcos_edge.runtime import Branch, RawOutputs, UInt8Array
from fcos_edge.spec import ModelSpec
from fcos_edge.train.checkpoint import load_checkpoint
from fcos_edge.train.predictions import flatten_maps


def open_checkpoint(path: Path, threads: int) -> Detector:
    """A detector that runs a checkpoint in PyTorch. Raises CheckpointError where it cannot be used.

    threads: of all PyTorch in this process
    """
    checkpoint = load_checkpoint(path)
    torch.set_num_threads(threads)
    runtime = TorchRuntime(checkpoint.network, checkpoint.spec)
    return Detector(runtime, checkpoint.spec, checkpoint.operating_thresholds)


class TorchRuntime:
    """Runs a training network (pictures (N, 3, H, W) float32 -> maps by output name, NCHW).

    The network is put into evaluation mode.
    """

    def __init__(self, network: nn.Module, spec: ModelSpec) -> None:
        self.network = network.eval()
        self.level_names = spec.level_names
        self.device = next(network.parameters()).device

    @torch.inference_mode()
    def run(self, images: UInt8Array) -> RawOutputs:
        """images: (N, H, W, 3) uint8, RGB, letterboxed."""
        pictures = torch.from_numpy(images).to(self.device).permute(0, 3, 1, 2).float()
        raw = flatten_maps(self.network(pictures), self.level_names)
        logits, ltrb, centerness = (np.ascontiguousarray(branch.cpu().numpy()) for branch in raw)
        return RawOutputs(Branch(logits), Branch(ltrb), Branch(centerness))

    def close(self) -> None:
        """Drop the network."""
        self.network = nn.Identity()
