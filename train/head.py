"""The FCOS head: two towers whose convolutions are shared over levels, and three outputs a level.

C  classes

The class tower ends in C logits, the box tower in four distances (before activation, times a learnable
scale per level). Center-ness stands on the box tower, where it measures better, or on the class tower,
where the paper first had it; or it has no weights and follows from the predicted distances.

plain      3x3 convolutions, the outputs' too, as in the paper
separable  depthwise and pointwise convolutions, and 1x1 outputs
"""

from __future__ import annotations

import math
from typing import Literal

from torch import Tensor, nn

from fcos_edge.errors import UsageError
from fcos_edge.train.config import NetworkConfig
from fcos_edge.train.layers import CenternessOfDistances, Conv2dSame, Scale

CLASS_PRIOR = 0.01  # pi of the focal loss paper, arXiv 1708.02002 section 3.3
FIRST_DISTANCE = 4.0  # strides; from 0 half of the distances would start on ReLU's dead side
GROUPS = 32  # arXiv 1803.08494's default

HeadNorm = Literal["batch", "group", "none"]


def tower_norm(kind: HeadNorm, channels: int, level_names: tuple[str, ...]) -> nn.Module:
    """Batch normalization of each level's own, by its name; or one module for all levels."""
    if kind == "batch":
        return nn.ModuleDict({name: nn.BatchNorm2d(channels) for name in level_names})
    if kind == "none":
        return nn.Identity()
    if channels % GROUPS:
        raise UsageError(
            f"fpn_channels is {channels}, which does not make {GROUPS} groups; give a multiple of {GROUPS}"
        )
    return nn.GroupNorm(GROUPS, channels)


def of_level(norm: nn.Module, level: str) -> nn.Module:
    """The module of `tower_norm` that one level goes through."""
    return norm[level] if isinstance(norm, nn.ModuleDict) else norm


class SharedSeparableConv(nn.Module):
    """Depthwise 3x3 and pointwise, each with normalization and ReLU; weights are shared over levels."""

    def __init__(self, channels: int, norm: HeadNorm, level_names: tuple[str, ...]) -> None:
        super().__init__()
        bias = norm != "batch"  # that one has its own
        self.depthwise = Conv2dSame(channels, channels, 3, groups=channels, bias=bias)
        self.pointwise = Conv2dSame(channels, channels, 1, bias=bias)
        # "bn" whatever the kind: released checkpoints have these names.
        self.depthwise_bn = tower_norm(norm, channels, level_names)
        self.pointwise_bn = tower_norm(norm, channels, level_names)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor, level: str) -> Tensor:
        x = self.relu(of_level(self.depthwise_bn, level)(self.depthwise(x)))
        out: Tensor = self.relu(of_level(self.pointwise_bn, level)(self.pointwise(x)))
        return out


class SharedPlainConv(nn.Module):
    """3x3, normalization and ReLU; weights are shared over levels."""

    def __init__(self, channels: int, norm: HeadNorm, level_names: tuple[str, ...]) -> None:
        super().__init__()
        self.conv = Conv2dSame(channels, channels, 3, bias=norm != "batch")
        self.norm = tower_norm(norm, channels, level_names)
        self.relu = nn.ReLU()
        _draw(self.conv)

    def forward(self, x: Tensor, level: str) -> Tensor:
        out: Tensor = self.relu(of_level(self.norm, level)(self.conv(x)))
        return out


class FcosHead(nn.Module):
    """Levels P3.. -> raw maps by output name (`logits_p3`, `ltrb_p3`, `centerness_p3`, ...), NCHW."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        channels, names, depth = config.fpn_channels, config.level_names, config.tower_depth
        is_plain = config.convs == "plain"
        conv = SharedPlainConv if is_plain else SharedSeparableConv
        kernel = 3 if is_plain else 1
        self.level_names = names
        self.class_tower = nn.ModuleList(conv(channels, config.head_norm, names) for _ in range(depth))
        self.box_tower = nn.ModuleList(conv(channels, config.head_norm, names) for _ in range(depth))
        self.logits = Conv2dSame(channels, config.num_classes, kernel, bias=True)
        self.ltrb = Conv2dSame(channels, 4, kernel, bias=True)
        self.has_branch = config.quality_from == "branch"
        self.centerness_on_classes = config.centerness_on == "class"
        self.centerness: nn.Module
        if self.has_branch:
            self.centerness = Conv2dSame(channels, 1, kernel, bias=True)
        else:
            self.centerness = CenternessOfDistances(config.distance)
        self.scales = nn.ModuleDict({name: Scale() for name in names})
        _draw(self.logits, bias=-math.log((1 - CLASS_PRIOR) / CLASS_PRIOR))
        _draw(self.ltrb, bias=first_distance(config))
        if isinstance(self.centerness, nn.Conv2d):
            _draw(self.centerness)

    def forward(self, features: list[Tensor]) -> dict[str, Tensor]:
        maps: dict[str, Tensor] = {}
        for level, feature in zip(self.level_names, features, strict=True):
            classes = boxes = feature
            for conv in self.class_tower:
                classes = conv(classes, level)
            for conv in self.box_tower:
                boxes = conv(boxes, level)
            ltrb = self.scales[level](self.ltrb(boxes))
            maps[f"logits_{level}"] = self.logits(classes)
            maps[f"ltrb_{level}"] = ltrb
            if not self.has_branch:
                maps[f"centerness_{level}"] = self.centerness(ltrb)
            else:
                maps[f"centerness_{level}"] = self.centerness(
                    classes if self.centerness_on_classes else boxes
                )
        return maps


def first_distance(config: NetworkConfig) -> float:
    """The bias that distances start from: exp makes 1 of it, ReLU four strides (of the finest level)."""
    if config.distance == "exp":
        return 0.0
    return FIRST_DISTANCE * (config.strides[0] if config.distance_unit == "pixel" else 1)


def _draw(conv: nn.Conv2d, bias: float = 0.0) -> None:
    """N(0, 0.01), as the paper's new layers start."""
    nn.init.normal_(conv.weight, std=0.01)
    if conv.bias is not None:
        nn.init.constant_(conv.bias, bias)
