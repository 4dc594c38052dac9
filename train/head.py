"""The FCOS head in its edge shape: convolutions shared over levels, batch normalization per level.

C  classes

Two towers of depthwise-separable convolutions. The class tower ends in C logits, the box tower in four
distances (before activation, times a learnable scale per level) and the center-ness logit: on the box
tower it measures better than on the class tower, where the paper first had it.
"""

from __future__ import annotations

import math

from torch import Tensor, nn

from fcos_edge.train.layers import Conv2dSame, Scale

CLASS_PRIOR = 0.01  # pi of the focal loss paper, arXiv 1708.02002 section 3.3
FIRST_DISTANCE = 4.0  # strides; from 0 half of the distances would start on ReLU's dead side


class SharedSeparableConv(nn.Module):
    """Depthwise 3x3 and pointwise; weights shared over levels, statistics and affine parts are not."""

    def __init__(self, channels: int, level_names: tuple[str, ...]) -> None:
        super().__init__()
        self.depthwise = Conv2dSame(channels, channels, 3, groups=channels)
        self.pointwise = Conv2dSame(channels, channels, 1)
        self.depthwise_bn = nn.ModuleDict({name: nn.BatchNorm2d(channels) for name in level_names})
        self.pointwise_bn = nn.ModuleDict({name: nn.BatchNorm2d(channels) for name in level_names})
        self.relu = nn.ReLU()

    def forward(self, x: Tensor, level: str) -> Tensor:
        x = self.relu(self.depthwise_bn[level](self.depthwise(x)))
        out: Tensor = self.relu(self.pointwise_bn[level](self.pointwise(x)))
        return out


class FcosHead(nn.Module):
    """Levels P3.. -> raw maps by output name (`logits_p3`, `ltrb_p3`, `centerness_p3`, ...), NCHW."""

    def __init__(self, channels: int, num_classes: int, level_names: tuple[str, ...], depth: int = 3) -> None:
        super().__init__()
        self.level_names = level_names
        self.class_tower = nn.ModuleList(SharedSeparableConv(channels, level_names) for _ in range(depth))
        self.box_tower = nn.ModuleList(SharedSeparableConv(channels, level_names) for _ in range(depth))
        self.logits = Conv2dSame(channels, num_classes, 1, bias=True)
        self.ltrb = Conv2dSame(channels, 4, 1, bias=True)
        self.centerness = Conv2dSame(channels, 1, 1, bias=True)
        self.scales = nn.ModuleDict({name: Scale() for name in level_names})
        for conv in (self.logits, self.ltrb, self.centerness):
            nn.init.normal_(conv.weight, std=0.01)
            assert conv.bias is not None
            nn.init.zeros_(conv.bias)
        assert self.logits.bias is not None
        assert self.ltrb.bias is not None
        nn.init.constant_(self.ltrb.bias, FIRST_DISTANCE)
        nn.init.constant_(self.logits.bias, -math.log((1 - CLASS_PRIOR) / CLASS_PRIOR))

    def forward(self, features: list[Tensor]) -> dict[str, Tensor]:
        maps: dict[str, Tensor] = {}
        for level, feature in zip(self.level_names, features, strict=True):
            classes = boxes = feature
            for conv in self.class_tower:
                classes = conv(classes, level)
            for conv in self.box_tower:
                boxes = conv(boxes, level)
            maps[f"logits_{level}"] = self.logits(classes)
            maps[f"ltrb_{level}"] = self.scales[level](self.ltrb(boxes))
            maps[f"centerness_{level}"] = self.centerness(boxes)
        return maps
