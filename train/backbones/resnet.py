"""ResNet-50 and -101 (arXiv 1512.03385), and ResNeXt-101 64x4d (arXiv 1611.05431).

Names and shapes of the weights are torchvision's, without `fc`, so that its files load as they are. As
there, a block's stride lies on its 3x3 convolution ("v1.5"); the paper's first networks have it on the 1x1
before. torchvision's weights were trained on RGB, (pixel / 255 - mean) / std.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import cast

from torch import Tensor, nn

from fcos_edge.errors import UsageError
from fcos_edge.train.backbone_weights import load_weights, read_weights
from fcos_edge.train.backbones import IMAGENET_MEAN, IMAGENET_STD, Backbone, BackboneEntry

MEAN, STD = IMAGENET_MEAN, IMAGENET_STD
EXPANSION = 4  # output channels of a block per channel of its stage
STAGE_CHANNELS = (64, 128, 256, 512)


@dataclass(frozen=True)
class Shape:
    """blocks of each stage; groups of the 3x3 convolutions, and their width where a stage has 64 channels"""

    blocks: tuple[int, int, int, int]
    groups: int = 1
    group_width: int = 64


SHAPES = {
    "resnet50": Shape((3, 4, 6, 3)),
    "resnet101": Shape((3, 4, 23, 3)),
    "resnext101_64x4d": Shape((3, 4, 23, 3), groups=64, group_width=4),
}


class Bottleneck(nn.Module):
    """1x1 down, 3x3, 1x1 up; the input is added, through a 1x1 convolution where the shape changes."""

    def __init__(self, in_channels: int, channels: int, stride: int, shape: Shape) -> None:
        super().__init__()
        width = channels * shape.group_width // 64 * shape.groups
        out_channels = channels * EXPANSION
        self.conv1 = nn.Conv2d(in_channels, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, groups=shape.groups, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, out_channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out_channels)
        self.relu = nn.ReLU()
        self.downsample: nn.Module = nn.Identity()
        if stride != 1 or in_channels != out_channels:
            self.downsample = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride, bias=False), nn.BatchNorm2d(out_channels)
            )

    def forward(self, x: Tensor) -> Tensor:
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.relu(self.bn2(self.conv2(out)))
        return cast(Tensor, self.relu(self.bn3(self.conv3(out)) + self.downsample(x)))


class ResNet(Backbone):
    """C3, C4, C5 are what `layer2`, `layer3`, `layer4` return."""

    channels = (512, 1024, 2048)

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU()
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        layers, in_channels = [], 64
        for index, (channels, blocks) in enumerate(zip(STAGE_CHANNELS, shape.blocks, strict=True)):
            rest = [Bottleneck(channels * EXPANSION, channels, 1, shape) for _ in range(blocks - 1)]
            first = Bottleneck(in_channels, channels, 1 if index == 0 else 2, shape)
            layers.append(nn.Sequential(first, *rest))
            in_channels = channels * EXPANSION
        self.layer1, self.layer2, self.layer3, self.layer4 = layers
        for module in self.modules():
            if isinstance(module, nn.Conv2d):  # arXiv 1502.01852; of use only without ImageNet weights
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        c2 = self.layer1(self.maxpool(self.relu(self.bn1(self.conv1(x)))))
        c3 = self.layer2(c2)
        c4 = self.layer3(c3)
        return c3, c4, self.layer4(c4)

    def stage_modules(self) -> Sequence[Sequence[nn.Module]]:
        """Five: "frozen first two stages" of the FCOS paper are the stem and `layer1` (C2)."""
        return [[self.conv1, self.bn1], [self.layer1], [self.layer2], [self.layer3], [self.layer4]]


def build(name: str, pretrained: bool, weights_path: Path | None) -> ResNet:
    """Build one of `SHAPES`, with ImageNet weights where `pretrained`."""
    if pretrained and weights_path is None:
        raise UsageError(
            f"ImageNet weights of {name} come in no package; give torchvision's file with --weights PATH,"
            " or --weights none to start from random numbers"
        )
    network = ResNet(SHAPES[name])
    if pretrained and weights_path is not None:
        load_weights(
            network, read_weights(weights_path, name), f"{weights_path}, read as {name}", unused=("fc.",)
        )
    return network


BACKBONES = {name: BackboneEntry(partial(build, name), MEAN, STD) for name in SHAPES}
