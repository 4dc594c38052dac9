"""Learning rates as a table, and which weights get which."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from fcos_edge.train.config import NetworkConfig, OptimizerConfig
from fcos_edge.train.model import Fcos
from fcos_edge.train.optimizer import learning_rate, make_optimizer, set_learning_rate

COSINE = OptimizerConfig(learning_rate=1.0, warmup_steps=200, warmup_factor=0.0)
PAPER = OptimizerConfig(
    name="sgd", learning_rate=0.01, schedule="steps", milestones=(2 / 3, 8 / 9), warmup_steps=500,
    warmup_factor=1 / 3,
)  # fmt: skip


@pytest.mark.parametrize(
    ("config", "batch_size", "step", "steps", "rate"),
    [
        (COSINE, 16, 0, 2000, 0.0),
        (COSINE, 16, 100, 2000, 0.5 * 0.993908),  # half warm; the cosine has begun
        (COSINE, 16, 1000, 2000, 0.01 + 0.99 / 2),  # half way
        (COSINE, 16, 2000, 2000, 0.01),
        (COSINE, 64, 1000, 2000, 4 * (0.01 + 0.99 / 2)),  # four times the batch
        (replace(COSINE, reference_batch=8), 8, 1000, 2000, 0.01 + 0.99 / 2),
        (replace(COSINE, warmup_steps=0), 16, 0, 2000, 1.0),
        # The paper's run of 90,000 steps.
        (PAPER, 16, 0, 90_000, 0.01 / 3),
        (PAPER, 16, 250, 90_000, 0.01 * 2 / 3),
        (PAPER, 16, 500, 90_000, 0.01),
        (PAPER, 16, 59_999, 90_000, 0.01),
        (PAPER, 16, 60_000, 90_000, 0.001),
        (PAPER, 16, 79_999, 90_000, 0.001),
        (PAPER, 16, 80_000, 90_000, 0.0001),
        (PAPER, 8, 120_000, 180_000, 0.0005),  # half the batch: twice the steps, half the rate
    ],
)
def test_learning_rate(config: OptimizerConfig, batch_size: int, step: int, steps: int, rate: float) -> None:
    assert learning_rate(config, batch_size, step, steps) == pytest.approx(rate, rel=1e-5, abs=1e-9)


@pytest.mark.parametrize("config", [COSINE, replace(PAPER, decay_vectors=True, backbone_factor=1.0)])
def test_make_optimizer__groups(config: OptimizerConfig) -> None:
    network = Fcos(NetworkConfig(3, fpn_channels=16, tower_depth=1))
    network.backbone.freeze(3)
    optimizer = make_optimizer(config, network)
    assert type(optimizer) is (torch.optim.SGD if config.name == "sgd" else torch.optim.AdamW)
    trained = [p for p in network.parameters() if p.requires_grad]
    grouped = [p for group in optimizer.param_groups for p in group["params"]]
    assert sorted(map(id, grouped)) == sorted(map(id, trained))
    in_backbone = {id(p) for p in network.backbone.parameters()}
    set_learning_rate(optimizer, 2.0)
    for group in optimizer.param_groups:
        for p in group["params"]:
            decays = p.ndim > 1 or config.decay_vectors
            assert group["weight_decay"] == (config.weight_decay if decays else 0)
            assert group["lr"] == 2.0 * (config.backbone_factor if id(p) in in_backbone else 1)
