"""Exponential moving average of a network's weights; the average is what is evaluated and released."""

from __future__ import annotations

import copy

import torch
from torch import nn


class Ema:
    """`network` is the averaged copy.

    The decay rises with the step, min(decay, (1 + step) / (10 + step)), so that the random start is
    forgotten soon.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.network = copy.deepcopy(network).eval().requires_grad_(False)
        self.decay = decay
        self.step = 0

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Move the average towards `network`; integer buffers are copied."""
        self.step += 1
        weight = 1 - min(self.decay, (1 + self.step) / (10 + self.step))
        averages, values = [], []
        state = network.state_dict()
        for name, average in self.network.state_dict().items():
            if average.is_floating_point():
                averages.append(average)
                values.append(state[name])
            else:
                average.copy_(state[name])
        torch._foreach_lerp_(averages, values, weight)
