"""The few layers that FCOS networks are made of besides torch's own.

They are kept small because `quantize/deploy.py` folds a network layer by layer and has to know each.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fcos_edge.train.depthwise import depthwise_bf16, is_needed


class Conv2dSame(nn.Conv2d):
    """A convolution with TensorFlow's SAME padding: ceil(side / stride) output pixels.

    total = max((ceil(side / stride) - 1) * stride + kernel - side, 0) zeros, floor(total / 2) of them
    before. For even sides and stride 2 that is one-sided, as EfficientNet-Lite was trained.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int = 1,
        *,
        groups: int = 1,
        bias: bool = False,
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, stride, groups=groups, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        top, bottom = same_padding(x.shape[2], self.kernel_size[0], self.stride[0])
        left, right = same_padding(x.shape[3], self.kernel_size[1], self.stride[1])
        padding = top, left
        if padding != (bottom, right):
            x, padding = F.pad(x, (left, right, top, bottom)), (0, 0)
        if is_needed(x, self):
            return depthwise_bf16(x, self.weight, self.bias, self.stride, padding)
        return F.conv2d(x, self.weight, self.bias, self.stride, padding, groups=self.groups)


def same_padding(side: int, kernel: int, stride: int) -> tuple[int, int]:
    """Zeros before and after one side of `side` pixels."""
    total = max((-(-side // stride) - 1) * stride + kernel - side, 0)
    return total // 2, total - total // 2


class Normalize(nn.Module):
    """(pixel - mean) / std per RGB channel; pixels are 0..255."""

    mean: Tensor
    std: Tensor

    def __init__(self, mean: tuple[float, float, float], std: tuple[float, float, float]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        return (images - self.mean) / self.std


class Upsample2x(nn.Module):
    """Nearest-neighbour enlargement by two."""

    def forward(self, x: Tensor) -> Tensor:
        return F.interpolate(x, scale_factor=2.0, mode="nearest")


class Scale(nn.Module):
    """One learnable factor, s_i of the paper's section 3.2."""

    def __init__(self) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.factor


class CenternessOfDistances(nn.Module):
    """Raw distances (N, 4, h, w) -> the logit of the center-ness that the predicted box has there, float32.

    sqrt(min(l, r) / max(l, r) * min(t, b) / max(t, b)) of the activated distances, whatever their unit. With
    a = -ln of it, half the sum of |ln l - ln r| and |ln t - ln b|, the logit is -ln(e^a - 1). It lies within
    about +-11.5, so that a box around its very centre, or a side without length, gives a finite gradient.
    """

    SMALLEST = 1e-5

    def __init__(self, distance: Literal["relu", "exp"]) -> None:
        super().__init__()
        self.distance = distance

    def forward(self, ltrb: Tensor) -> Tensor:
        logs = ltrb.float()  # what exp would be taken of, is the logarithm already
        if self.distance == "relu":
            logs = logs.clamp(min=self.SMALLEST).log()
        left, top, right, bottom = logs.unbind(dim=1)
        a = ((left - right).abs() + (top - bottom).abs()) / 2
        a = a.clamp(self.SMALLEST, -math.log(self.SMALLEST))
        return -(a + torch.log(-torch.expm1(-a)))[:, None]  # e^a itself would overflow
