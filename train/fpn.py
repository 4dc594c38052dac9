"""The feature pyramid (arXiv 1612.03144) with FCOS's two extra levels, in its edge shape.

C3..C5 are brought to one width by 1x1 convolutions, summed top-down, and smoothed by depthwise-separable
convolutions to P3..P5. P6 comes from P5 and P7 from P6 by stride-2 depthwise-separable convolutions.
"""

from __future__ import annotations

from torch import Tensor, nn

from fcos_edge.train.layers import Conv2dSame, Upsample2x


def separable_conv(channels: int, stride: int = 1) -> nn.Sequential:
    """Depthwise 3x3 and pointwise, each with batch normalization and ReLU."""
    return nn.Sequential(
        Conv2dSame(channels, channels, 3, stride, groups=channels), nn.BatchNorm2d(channels), nn.ReLU(),
        Conv2dSame(channels, channels, 1), nn.BatchNorm2d(channels), nn.ReLU(),
    )  # fmt: skip


class Fpn(nn.Module):
    """(C3, C4, C5) -> the levels P3.. of `num_levels`, each `channels` wide."""

    def __init__(self, in_channels: tuple[int, int, int], channels: int, num_levels: int = 5) -> None:
        super().__init__()
        self.laterals = nn.ModuleList(
            nn.Sequential(Conv2dSame(c, channels, 1), nn.BatchNorm2d(channels)) for c in in_channels
        )
        self.upsample = Upsample2x()
        self.smooth = nn.ModuleList(separable_conv(channels) for _ in in_channels)
        self.extra = nn.ModuleList(separable_conv(channels, stride=2) for _ in range(num_levels - 3))

    def forward(self, features: tuple[Tensor, Tensor, Tensor]) -> list[Tensor]:
        merged = [lateral(x) for lateral, x in zip(self.laterals, features, strict=True)]
        for index in (1, 0):
            merged[index] = merged[index] + self.upsample(merged[index + 1])
        levels = [smooth(x) for smooth, x in zip(self.smooth, merged, strict=True)]
        for extra in self.extra:
            levels.append(extra(levels[-1]))
        return levels
