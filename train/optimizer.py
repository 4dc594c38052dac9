"""How weights move: SGD or AdamW, and the learning rate of every step."""

from __future__ import annotations

import math

import torch

from fcos_edge.train.config import OptimizerConfig
from fcos_edge.train.model import Fcos

COSINE_END = 0.01
STEP_FACTOR = 0.1


def make_optimizer(config: OptimizerConfig, network: Fcos) -> torch.optim.Optimizer:
    """The optimizer of all weights that train: vectors apart from matrices, the backbone from the rest."""
    groups = []
    in_backbone = {id(parameter) for parameter in network.backbone.parameters()}
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    for is_backbone, factor in ((True, config.backbone_factor), (False, 1.0)):
        for is_vector in (True, False):
            chosen = [
                parameter for parameter in trained
                if (id(parameter) in in_backbone) == is_backbone and (parameter.ndim <= 1) == is_vector
            ]  # fmt: skip
            decay = 0.0 if is_vector and not config.decay_vectors else config.weight_decay
            groups.append({"params": chosen, "weight_decay": decay, "factor": factor})
    if config.name == "sgd":
        return torch.optim.SGD(groups, lr=config.learning_rate, momentum=config.momentum)
    # On a CPU, too, several times as fast as a loop over hundreds of small tensors.
    return torch.optim.AdamW(groups, lr=config.learning_rate, fused=True)


def learning_rate(config: OptimizerConfig, batch_size: int, step: int, steps: int) -> float:
    """The rate of a step, counted from 0, of a run of `steps`: warm-up times schedule.

    It grows with the batch (the linear rule of arXiv 1706.02677).
    """
    share = min(step / config.warmup_steps, 1.0) if config.warmup_steps else 1.0
    warmup = config.warmup_factor + (1 - config.warmup_factor) * share
    if config.schedule == "cosine":
        factor = COSINE_END + (1 - COSINE_END) * (1 + math.cos(math.pi * step / steps)) / 2
    else:
        # Rounded, so that two thirds of 90,000 are 60,000.
        factor = STEP_FACTOR ** sum(step >= round(milestone * steps) for milestone in config.milestones)
    return config.learning_rate * batch_size / config.reference_batch * warmup * factor


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Give every group its share of the rate."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["factor"]
