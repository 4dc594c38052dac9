"""Backbones by name. Adding one is adding a file here that has `BACKBONES`: name -> `BackboneEntry`.

A backbone maps normalized pictures (N, 3, H, W), sides multiples of 32, to the feature maps C3, C4, C5
(strides 8, 16, 32). A file that can build many from names of its own has `SOURCES` instead: prefix ->
function from NAME to entry; such a backbone is called `prefix:NAME`.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TypeVar

from torch import Tensor, nn

from fcos_edge.errors import UsageError

BackboneT = TypeVar("BackboneT", bound="Backbone")
IMAGENET_MEAN = (
    0.485 * 255,
    0.456 * 255,
    0.406 * 255,
)  # of ImageNet's pixels, RGB; what most were trained with
IMAGENET_STD = (0.229 * 255, 0.224 * 255, 0.225 * 255)


class Backbone(nn.Module):
    """What an entry builds.

    channels  of C3, C4, C5
    """

    channels: tuple[int, int, int]

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        raise TypeError(f"{type(self).__name__} defines no forward")

    def stage_modules(self) -> Sequence[Sequence[nn.Module]]:
        """The modules of each stage, the stem's first, in the order of the forward pass."""
        raise TypeError(f"{type(self).__name__} names no stages")

    def freeze(self, stages: int) -> None:
        """Stop training the first `stages` stages, statistics included. The stem counts as one."""
        for modules in self.stage_modules()[:stages]:
            for module in modules:
                module.requires_grad_(False)
        self.train(self.training)

    def freeze_norm(self) -> None:
        """Stop training all batch normalization: statistics and affine parts."""
        for norm in self._batch_norms():
            norm.requires_grad_(False)
        self.train(self.training)

    def train(self: BackboneT, mode: bool = True) -> BackboneT:
        """As every module's; but where the affine parts do not train, the statistics stand still, too."""
        super().train(mode)
        for norm in self._batch_norms():
            if norm.affine and not norm.weight.requires_grad:
                norm.eval()
        return self

    def _batch_norms(self) -> list[nn.BatchNorm2d | nn.SyncBatchNorm]:
        return [m for m in self.modules() if isinstance(m, nn.BatchNorm2d | nn.SyncBatchNorm)]


@dataclass(frozen=True)
class BackboneEntry:
    """How to come by a backbone.

    build      called with `pretrained` and `weights_path`; where the first is true it loads ImageNet weights,
               from that file if one is given, else from an installed package
    mean, std  per RGB channel, of pixels 0..255, as its ImageNet weights were trained
    """

    build: Callable[[bool, Path | None], Backbone]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


def backbone_entries() -> dict[str, BackboneEntry]:
    """Every backbone of this folder that has a name of its own."""
    found: dict[str, BackboneEntry] = {}
    for module in _modules():
        found.update(getattr(module, "BACKBONES", {}))
    return found


def find_backbone(name: str) -> BackboneEntry:
    """The entry of `name`. Raises UsageError where there is none."""
    prefix, colon, rest = name.partition(":")
    sources: dict[str, Callable[[str], BackboneEntry]] = {}
    for module in _modules():
        sources.update(getattr(module, "SOURCES", {}))
    if colon and prefix in sources:
        return sources[prefix](rest)
    entries = backbone_entries()
    if name not in entries:
        known = [*sorted(entries), *(f"{prefix}:NAME" for prefix in sorted(sources))]
        raise UsageError(f"backbone {name[:64]!r} is not known; choose from {', '.join(known)}")
    return entries[name]


def build_backbone(name: str, *, pretrained: bool, weights_path: Path | None = None) -> Backbone:
    """Build a backbone, with ImageNet weights where `pretrained`.

    Raises UsageError for a name that is not there, or weights that are not, and CheckpointError for a file
    that does not hold them.
    """
    return find_backbone(name).build(pretrained, weights_path)


def _modules() -> list[ModuleType]:
    return [importlib.import_module(f"{__name__}.{module.name}") for module in pkgutil.iter_modules(__path__)]
