"""The feature pyramid (arXiv 1612.03144) with FCOS's extra levels, in two shapes.

C3..C5 are brought to one width by 1x1 convolutions, summed top-down, and smoothed to P3..P5. P6 comes
from P5 (or C5) by a stride-2 convolution, and every further level so from the one before it.

With the neck "pan" (path aggregation, arXiv 1803.01534 section 3.1) a second pass leads from P3 to P5: what
lies before is halved by a stride-2 convolution, added to the level, and the sum smoothed again.

plain      3x3 convolutions with bias and no normalization, as in the papers; from P7 on a ReLU stands before
separable  depthwise and pointwise convolutions, each with batch normalization and ReLU
"""

from __future__ import annotations

from torch import Tensor, nn

from fcos_edge.train.config import NetworkConfig
from fcos_edge.train.layers import Conv2dSame, Upsample2x


class Fpn(nn.Module):
    """(C3, C4, C5) -> the levels P3.. of `config.strides`, each `config.fpn_channels` wide."""

    def __init__(self, in_channels: tuple[int, int, int], config: NetworkConfig) -> None:
        super().__init__()
        channels = config.fpn_channels
        is_plain = config.convs == "plain"
        conv = plain_conv if is_plain else separable_conv
        self.laterals = nn.ModuleList(
            plain_conv(c, channels, kernel=1) if is_plain
            else nn.Sequential(Conv2dSame(c, channels, 1), nn.BatchNorm2d(channels))
            for c in in_channels
        )  # fmt: skip
        self.upsample = Upsample2x()
        self.smooth = nn.ModuleList(conv(channels, channels) for _ in in_channels)
        between = len(in_channels) - 1 if config.neck == "pan" else 0
        self.halve = nn.ModuleList(conv(channels, channels, stride=2) for _ in range(between))
        self.smooth_again = nn.ModuleList(conv(channels, channels) for _ in range(between))
        self.starts_from_c5 = config.extra_levels_from == "c5"
        first = in_channels[-1] if self.starts_from_c5 else channels
        self.extra = nn.ModuleList(
            conv(first if index == 0 else channels, channels, stride=2)
            for index in range(len(config.strides) - 3)
        )
        # Separable convolutions end in a ReLU themselves.
        self.between_extra = nn.ReLU() if is_plain else nn.Identity()

    def forward(self, features: tuple[Tensor, Tensor, Tensor]) -> list[Tensor]:
        merged = [lateral(x) for lateral, x in zip(self.laterals, features, strict=True)]
        for index in (1, 0):
            merged[index] = merged[index] + self.upsample(merged[index + 1])
        levels = [smooth(x) for smooth, x in zip(self.smooth, merged, strict=True)]
        for index, (halve, smooth) in enumerate(zip(self.halve, self.smooth_again, strict=True)):
            levels[index + 1] = smooth(levels[index + 1] + halve(levels[index]))
        for index, extra in enumerate(self.extra):
            if index == 0:
                levels.append(extra(features[-1] if self.starts_from_c5 else levels[-1]))
            else:
                levels.append(extra(self.between_extra(levels[-1])))
        return levels


def plain_conv(in_channels: int, channels: int, stride: int = 1, kernel: int = 3) -> nn.Conv2d:
    """With bias, from 0; weights have variance 1 / fan-in ("Xavier" in the FPN paper's framework)."""
    conv = nn.Conv2d(in_channels, channels, kernel, stride, kernel // 2)
    nn.init.kaiming_uniform_(conv.weight, a=1)
    assert conv.bias is not None
    nn.init.zeros_(conv.bias)
    return conv


def separable_conv(in_channels: int, channels: int, stride: int = 1) -> nn.Sequential:
    """Depthwise 3x3 and pointwise, each with batch normalization and ReLU."""
    return nn.Sequential(
        Conv2dSame(in_channels, in_channels, 3, stride, groups=in_channels), nn.BatchNorm2d(in_channels),
        nn.ReLU(), Conv2dSame(in_channels, channels, 1), nn.BatchNorm2d(channels), nn.ReLU(),
    )  # fmt: skip
