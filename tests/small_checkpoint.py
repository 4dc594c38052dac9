"""An untrained detector of two classes: all that a checkpoint has, in no time."""

from __future__ import annotations

import torch

from fcos_edge.spec import ModelSpec
from fcos_edge.train.checkpoint import Checkpoint
from fcos_edge.train.config import NetworkConfig
from fcos_edge.train.model import Fcos


def small_checkpoint() -> Checkpoint:
    torch.manual_seed(0)
    config = NetworkConfig(2, fpn_channels=8, tower_depth=1)
    spec = ModelSpec("small", ("a", "b"), (64, 96), config.mean, config.std, provenance={"data": ["x"]})
    network = Fcos(config).eval()
    return Checkpoint(network, config, spec, (0.25, 0.5), {"AP": 0.1}, {"epochs": 3}, {"points": {}})
