"""The average of the weights."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from fcos_edge.train.ema import Ema


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(1, 1)
        self.norm = nn.BatchNorm1d(1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.norm(self.linear(x))
        return out


def _network(value: float) -> Small:
    network = Small()
    for tensor in (*network.parameters(), *network.buffers()):
        nn.init.constant_(tensor, value) if tensor.is_floating_point() else tensor.fill_(int(value))
    return network


def test_ema__follows_the_definition() -> None:
    network, wanted = _network(0.0), 0.0
    ema = Ema(network, 0.3)
    for step in range(1, 6):
        for parameter in network.parameters():
            nn.init.constant_(parameter, float(step))
        ema.update(network)
        decay = min(0.3, (1 + step) / (10 + step))
        wanted = decay * wanted + (1 - decay) * step
    average = ema.network.state_dict()
    assert average["linear.weight"].item() == pytest.approx(wanted)
    assert average["norm.running_mean"].item() == 0
    assert ema.step == 5


def test_ema__first_steps_forget_the_start() -> None:
    network = _network(0.0)
    ema = Ema(network, 0.999)
    nn.init.constant_(network.linear.weight, 1.0)
    ema.update(network)
    assert ema.network.state_dict()["linear.weight"].item() == pytest.approx(1 - 2 / 11)


def test_ema__counters_and_statistics_are_taken_along() -> None:
    network = _network(0.0)
    ema = Ema(network, 0.0)
    network.train()(torch.tensor([[1.0], [3.0]]))
    ema.update(network)
    wanted = network.state_dict()
    assert all(torch.equal(value, wanted[name]) for name, value in ema.network.state_dict().items())


def test_ema__is_a_copy_that_does_not_train() -> None:
    network = _network(1.0)
    ema = Ema(network, 0.5)
    assert not ema.network.training
    assert not any(parameter.requires_grad for parameter in ema.network.parameters())
    nn.init.constant_(network.linear.weight, 9.0)
    assert ema.network.state_dict()["linear.weight"].item() == 1
    assert network.linear.weight.requires_grad
