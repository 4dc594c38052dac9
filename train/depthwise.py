"""Depthwise convolutions whose gradients are quick in bfloat16 on a CPU.

PyTorch's CPU library has quick kernels for the weight gradient of a 3x3 depthwise convolution and for the
input gradient of one of stride 1. In bfloat16 the others fall back to a general grouped convolution, which
then takes more than bfloat16 gains elsewhere (`benchmarks/bf16_speed.py`).

The result is `torch.nn.functional.conv2d`'s, up to rounding.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

Pair = tuple[int, ...]  # of two, as in torch's convolutions

_QUICK_KERNEL = 3


def is_needed(x: Tensor, conv: torch.nn.Conv2d) -> bool:
    """Whether `conv` is depthwise and `x` is of a bfloat16 training step on a CPU."""
    return (
        conv.groups == conv.in_channels == conv.out_channels > 1
        and min(conv.kernel_size) >= _QUICK_KERNEL
        and x.device.type == "cpu"
        and torch.is_grad_enabled()
        and torch.is_autocast_enabled("cpu")
        and torch.get_autocast_dtype("cpu") == torch.bfloat16
        and not torch.compiler.is_compiling()
    )


def depthwise_bf16(x: Tensor, weight: Tensor, bias: Tensor | None, stride: Pair, padding: Pair) -> Tensor:
    """A depthwise convolution in bfloat16.

    x        (N, C, H, W) of any floating type
    weight   (C, 1, kernel height, kernel width), each at least 3
    bias     (C,) or None
    stride   down and across
    padding  zeros above and below, and at the left and right
    """
    out: Tensor = _Depthwise.apply(x.bfloat16(), weight.bfloat16(), stride, padding)  # type: ignore[no-untyped-call]
    return out if bias is None else out + bias.bfloat16()[:, None, None]


class _Depthwise(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: Pair, padding: Pair) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.stride, ctx.padding = stride, padding
        return F.conv2d(x, weight, None, stride, padding, groups=len(weight))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, out_grad: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        x, weight = ctx.saved_tensors
        wants_x, wants_weight = ctx.needs_input_grad[:2]
        x_grad = _input_grad(out_grad, x, weight, ctx.stride, ctx.padding) if wants_x else None
        weight_grad = _weight_grad(out_grad, x, weight, ctx.stride, ctx.padding) if wants_weight else None
        return x_grad, weight_grad, None, None


def _input_grad(out_grad: Tensor, x: Tensor, weight: Tensor, stride: Pair, padding: Pair) -> Tensor:
    # Above stride 1 only float32 has a kernel of its own.
    dtype = out_grad.dtype if set(stride) == {1} else torch.float32
    found = _grads(out_grad.to(dtype), x.to(dtype), weight.to(dtype), stride, padding, (True, False))[0]
    return found.to(out_grad.dtype)


def _weight_grad(out_grad: Tensor, x: Tensor, weight: Tensor, stride: Pair, padding: Pair) -> Tensor:
    """Of a larger kernel as of 3x3 ones that cover it: each sees the input from where it lies."""
    if weight.shape[2:] == (_QUICK_KERNEL, _QUICK_KERNEL):
        return _grads(out_grad, x, weight, stride, padding, (False, True))[1]
    down, across = padding
    padded = F.pad(x, (across, across, down, down))
    height, width = (
        (side - 1) * step + _QUICK_KERNEL for side, step in zip(out_grad.shape[2:], stride, strict=True)
    )
    grad = torch.empty_like(weight)
    for top in _starts(weight.shape[2]):
        for left in _starts(weight.shape[3]):
            part = (..., slice(top, top + _QUICK_KERNEL), slice(left, left + _QUICK_KERNEL))
            seen = padded[:, :, top : top + height, left : left + width]
            seen = seen.contiguous(memory_format=torch.channels_last)
            grad[part] = _grads(out_grad, seen, weight[part], stride, (0, 0), (False, True))[1]
    return grad


def _starts(kernel: int) -> list[int]:
    """Where the parts begin that cover a side; the last one may overlap the one before it."""
    return [min(start, kernel - _QUICK_KERNEL) for start in range(0, kernel, _QUICK_KERNEL)]


def _grads(
    out_grad: Tensor, x: Tensor, weight: Tensor, stride: Pair, padding: Pair, wanted: tuple[bool, bool]
) -> tuple[Tensor, Tensor]:
    """Of input and weight, those that are wanted."""
    x_grad, weight_grad, _ = torch.ops.aten.convolution_backward(
        out_grad, x, weight, None, list(stride), list(padding), [1, 1], False, [0, 0], len(weight),
        [*wanted, False],
    )  # fmt: skip
    return x_grad, weight_grad
