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

from torch import Tensor, nn

from fcos_edge.errors import CheckpointError, FcosEdgeError, UsageError
from fcos_edge.train.backbone_weights import load_weights, read_weights
from fcos_edge.train.backbones import IMAGENET_MEAN, IMAGENET_STD, Backbone, BackboneEntry

STRIDES = [8, 16, 32]
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
        """Each stage ends with a feature map of timm's, whatever its stride; the first is the stem."""
        ends = {row["module"].replace(".", "_") for row in self.features.feature_info.info}
        stages: list[list[nn.Module]] = [[]]
        for name, module in self.features.named_children():
            stages[-1].append(module)
            if name in ends:
                stages.append([])
                ends.remove(name)
        if ends:
            raise UsageError(
                f"timm:{self.name} does not say what its stages are; train it with freeze_stages 0"
            )
        return stages[:-1]


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
    """Build timm's network; ImageNet weights from a file of timm's state dict, else as timm gets them."""
    timm = _import_timm()
    overlay = None
    try:
        if pretrained and weights_path is not None:
            # Strictly into a whole network first: with `features_only` timm lets what is missing pass.
            whole = timm.create_model(name, num_classes=0)
            classifier = (whole.default_cfg or {}).get("classifier") or ()
            prefixes = [classifier] if isinstance(classifier, str) else classifier
            weights, origin = (
                read_weights(weights_path, f"timm:{name}"),
                f"{weights_path}, read as timm:{name}",
            )
            load_weights(whole, weights, origin, tuple(f"{prefix}." for prefix in prefixes))
            overlay = {"state_dict": whole.state_dict()}
        features = timm.create_model(
            name, pretrained=pretrained, features_only=True, out_indices=(-3, -2, -1),
            pretrained_cfg_overlay=overlay,
        )  # fmt: skip
        found = features.feature_info.reduction()
    except FcosEdgeError:
        raise
    except Exception as error:  # timm raises what its models, files and downloads do
        reason = " ".join(str(error).split())[:120]
        raise CheckpointError(
            f"timm:{name} cannot be built ({type(error).__name__}: {reason});"
            " choose another network, or give its weights with --weights PATH"
        ) from None
    if list(found) != STRIDES:
        raise UsageError(f"timm:{name} has feature maps of strides {list(found)}, expected {STRIDES}")
    return TimmBackbone(name, features)


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
