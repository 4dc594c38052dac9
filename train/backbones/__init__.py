"""Backbones by name. Adding one is adding a file here that has `BACKBONES`: name -> builder.

A builder returns a module that maps normalized pictures (N, 3, H, W) to the feature maps C3, C4, C5
(strides 8, 16, 32) and has `channels`, their channel counts. Called with `pretrained=True` it loads
ImageNet weights, from `weights_path` if one is given.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from pathlib import Path

from torch import Tensor, nn

from fcos_edge.errors import UsageError


class Backbone(nn.Module):
    """What `BACKBONES` builds."""

    channels: tuple[int, int, int]

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        raise TypeError(f"{type(self).__name__} defines no forward")

    def freeze(self, stages: int) -> None:
        """Stop training the first `stages` stages (the stem counts as one)."""
        raise TypeError(f"{type(self).__name__} cannot be frozen")


Builder = Callable[[bool, Path | None], Backbone]


def backbone_builders() -> dict[str, Builder]:
    """Every backbone of this folder by name."""
    found: dict[str, Builder] = {}
    for module in pkgutil.iter_modules(__path__):
        found.update(importlib.import_module(f"{__name__}.{module.name}").BACKBONES)
    return found


def build_backbone(name: str, *, pretrained: bool, weights_path: Path | None = None) -> Backbone:
    """Build a backbone. Raises UsageError for a name that is not there."""
    builders = backbone_builders()
    if name not in builders:
        raise UsageError(f"backbone {name!r} is not known; choose from {', '.join(sorted(builders))}")
    return builders[name](pretrained, weights_path)
