"""Backbones of timm (PyTorch Image Models), called `timm:NAME`, where timm is installed.

timm is optional: it needs torchvision, of a build that fits torch's. Any of its networks will do that
returns feature maps of strides 8, 16 and 32. Whether one can be exported is decided by its layers
(quantize/deploy.py has the list).
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fcos_edge.errors import FcosEdgeError, UsageError
from fcos_edge.train.backbone_weights import load_weights, read_weights
from fcos_edge.train.backbones import IMAGENET_MEAN, IMAGENET_STD, Backbone, BackboneEntry

PROBE_HW = (64, 96)  # what every new backbone is tried with
# timm also takes folders, and places in the net ("hf-hub:..."): a checkpoint must not send us there.
_NAME = re.compile(r"[A-Za-z0-9_]+(\.[A-Za-z0-9_]+)*")


class TimmBackbone(Backbone):
    """A network of timm that returns its last three feature maps."""

    def __init__(self, name: str, features: Any) -> None:
        super().__init__()
        self.name = name
        self.features = features
        c3, c4, c5 = features.feature_info.channels()
        self.channels = (c3, c4, c5)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        c3, c4, c5 = self.features(x)
        return c3, c4, c5

    def stage_modules(self) -> Sequence[Sequence[nn.Module]]:
        """Each stage ends with one of timm's feature maps, also of those that are not asked for."""
        leaves = [
            (name, module)
            for name, module in self.features.named_modules()
            if name and (not [*module.children()] or [*module.parameters(recurse=False)])
        ]
        stages, start = [], 0
        for row in self.features.feature_info.info:
            # Where timm rewrites a network as a list of its parts, "layers.0" is called "layers_0".
            path = row["module"]
            prefixes = tuple(f"{known}." for known in (path, path.replace(".", "_")))
            inside = [i for i, (name, _) in enumerate(leaves) if f"{name}.".startswith(prefixes)]
            if not inside:
                raise UsageError(
                    f"timm:{self.name} does not say where {path} ends; train it with freeze_stages 0"
                )
            end = inside[-1] + 1
            stages.append([module for _, module in leaves[start:end]])
            start = end
        return stages


def entry(name: str) -> BackboneEntry:
    """timm's network `name`, with its own mean and deviation where it states them."""
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"timm:{name[:64]!r} is no name of a network; expected one like timm:resnet18.a1_in1k"
        )
    known = _import_timm().get_pretrained_cfg(name)
    mean = known.mean if known is not None else None
    std = known.std if known is not None else None
    return BackboneEntry(
        partial(build, name), _of_pixels(mean) or IMAGENET_MEAN, _of_pixels(std) or IMAGENET_STD
    )


def build(name: str, pretrained: bool, weights_path: Path | None) -> TimmBackbone:
    """Build timm's network; ImageNet weights come from a file of its state dict.

    timm would fetch them from the net, in its own time and format: that is left to the user.
    """
    if pretrained and weights_path is None:
        raise UsageError(
            f"ImageNet weights of timm:{name} come in no package; give timm's file with --weights PATH,"
            " or --weights none to start from random numbers"
        )
    timm = _import_timm()
    try:
        whole = timm.create_model(name, num_classes=0)
        if pretrained and weights_path is not None:
            classifier = (whole.default_cfg or {}).get("classifier") or ()
            names = [classifier] if isinstance(classifier, str) else classifier
            weights, origin = (
                read_weights(weights_path, f"timm:{name}"),
                f"{weights_path}, read as timm:{name}",
            )
            load_weights(whole, weights, origin, tuple(f"{layer}." for layer in names))
        # The weights go through a whole network, because with `features_only` timm lets missing ones pass.
        features = timm.create_model(
            name, pretrained=pretrained, features_only=True, out_indices=(-3, -2, -1),
            pretrained_cfg_overlay={"state_dict": whole.state_dict()} if pretrained else None,
        )  # fmt: skip
        device = next(features.parameters()).device
        with torch.no_grad():
            found = [tuple(x.shape[2:]) for x in features.eval()(torch.zeros(1, 3, *PROBE_HW, device=device))]
    except FcosEdgeError:
        raise
    except Exception as error:  # timm raises what its many networks do
        reason = " ".join(str(error).split())[:120]
        raise UsageError(
            f"timm:{name} cannot be a backbone ({type(error).__name__}: {reason}); choose another network"
        ) from None
    wanted = [(PROBE_HW[0] // stride, PROBE_HW[1] // stride) for stride in (8, 16, 32)]
    if found != wanted:
        raise UsageError(
            f"timm:{name} cannot be a backbone (feature maps of {found} pixels for an input of {PROBE_HW},"
            f" expected {wanted}); choose another network"
        )
    return TimmBackbone(name, features.train())


def _of_pixels(values: Sequence[float] | None) -> tuple[float, float, float] | None:
    """timm's shares of 1 as pixels of 0..255, where it states three."""
    if values is None or len(values) != 3:
        return None
    red, green, blue = (value * 255 for value in values)
    return red, green, blue


def _import_timm() -> Any:
    try:
        return importlib.import_module("timm")
    except ImportError:
        raise UsageError(
            "timm is not installed; pip install timm, with a torchvision that fits your torch"
        ) from None
    except Exception as error:  # a torchvision of another build raises RuntimeError
        reason = " ".join(str(error).split())[:100]
        raise UsageError(
            f"timm does not load ({type(error).__name__}: {reason}); install the torchvision of your torch"
        ) from None


SOURCES = {"timm": entry}
