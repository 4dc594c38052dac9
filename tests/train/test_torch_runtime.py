"""A training network behind the device's protocol."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from fcos_edge.errors import CheckpointError
from fcos_edge.spec import ModelSpec
from fcos_edge.train.checkpoint import Checkpoint, save_checkpoint
from fcos_edge.train.config import NetworkConfig
from fcos_edge.train.model import Fcos
from fcos_edge.train.torch_runtime import TorchRuntime, open_checkpoint

CONFIG = NetworkConfig(2, fpn_channels=8, tower_depth=1)
SPEC = ModelSpec("small", ("a", "b"), (64, 96), CONFIG.mean, CONFIG.std)


@pytest.fixture(scope="module")
def network() -> Fcos:
    torch.manual_seed(0)
    return Fcos(CONFIG)


def test_torch_runtime__is_the_network_location_by_location(network: Fcos) -> None:
    images = np.random.default_rng(0).integers(0, 256, (2, 64, 96, 3), np.uint8)
    network.train()
    runtime = TorchRuntime(network, SPEC)
    raw = runtime.run(images)
    assert not network.training  # else its batch statistics would depend on the batch
    with torch.no_grad():
        maps = network(torch.from_numpy(images).permute(0, 3, 1, 2).float())
    for branch, channels in zip(raw, (2, 4, 1), strict=True):
        assert branch.values.dtype == np.float32
        assert branch.values.shape == (2, SPEC.num_locations, channels)[: 3 if channels > 1 else 2]
        assert not branch.quantization
    location = 0
    for level, (height, width) in zip(SPEC.level_names, SPEC.level_hw, strict=True):
        for y in range(height):
            for x in range(width):
                for branch, name in zip(raw, ("logits", "ltrb", "centerness"), strict=True):
                    wanted = maps[f"{name}_{level}"][:, :, y, x].numpy()
                    np.testing.assert_array_equal(branch.values[:, location].reshape(2, -1), wanted)
                location += 1
    assert location == SPEC.num_locations


def test_torch_runtime__close_drops_the_network(network: Fcos) -> None:
    runtime = TorchRuntime(network, SPEC)
    runtime.close()
    assert not list(runtime.network.parameters())


def test_open_checkpoint__is_a_detector(network: Fcos, tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    save_checkpoint(path, Checkpoint(network, CONFIG, SPEC, (0.25, 0.5)))
    threads = torch.get_num_threads()
    with open_checkpoint(path, threads) as detector:
        assert detector.spec == SPEC
        assert detector.operating_thresholds == (0.25, 0.5)
        assert len(detector(np.zeros((30, 40, 3), np.uint8))) == 0
    assert torch.get_num_threads() == threads


def test_open_checkpoint__no_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no such file"):
        open_checkpoint(tmp_path / "x.safetensors", 1)
