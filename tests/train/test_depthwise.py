"""Depthwise convolutions in bfloat16: the gradients are those of torch's own convolution."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from fcos_edge.train.depthwise import depthwise_bf16, is_needed
from fcos_edge.train.layers import Conv2dSame

# Integers this small: every product and sum is exact in bfloat16's accumulator, and so is the result.
SMALL = 3


def integers(*shape: int) -> torch.Tensor:
    return torch.randint(-SMALL, SMALL + 1, shape).float()


@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "size_hw"),
    [
        (3, 1, 1, (7, 9)),
        (3, 2, 0, (9, 7)),
        (5, 1, 2, (6, 5)),
        (5, 2, 0, (11, 9)),  # what SAME padding makes of stride 2
        (7, 1, 3, (8, 8)),  # three parts a side, the last overlapping
        (4, 1, 0, (6, 7)),  # two, overlapping by two
    ],
)
def test_gradients__are_those_of_conv2d(
    kernel: int, stride: int, padding: int, size_hw: tuple[int, int]
) -> None:
    torch.manual_seed(kernel)
    x, weight, bias = integers(2, 16, *size_hw), integers(16, 1, kernel, kernel), integers(16)
    wanted = [t.clone().requires_grad_() for t in (x, weight, bias)]
    reference = F.conv2d(*wanted, stride, padding, groups=16)  # type: ignore[call-overload]
    out_grad = integers(*reference.shape)
    reference.backward(out_grad)
    found = [t.clone().requires_grad_() for t in (x, weight, bias)]
    out = depthwise_bf16(found[0], found[1], found[2], (stride, stride), (padding, padding))
    assert out.dtype == torch.bfloat16
    out.backward(out_grad.bfloat16())  # type: ignore[no-untyped-call]
    # 8 bits of mantissa: sums above 256 are rounded to them, in the result and nowhere before.
    torch.testing.assert_close(out.float(), reference, rtol=2**-8, atol=0)
    for own, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(own.grad, other.grad, rtol=2**-8, atol=0)


def test_conv_same__bf16_step_is_near_float32() -> None:
    torch.manual_seed(0)
    conv = Conv2dSame(32, 32, 5, 2, groups=32)
    x = torch.randn(2, 32, 20, 18)
    grads = []
    for is_bf16 in (True, False):
        leaf = x.clone().requires_grad_()
        with torch.autocast("cpu", torch.bfloat16, enabled=is_bf16):
            out = conv(leaf)
        assert out.dtype == (torch.bfloat16 if is_bf16 else torch.float32)
        out.float().square().sum().backward()
        assert leaf.grad is not None
        assert conv.weight.grad is not None
        grads.append((leaf.grad, conv.weight.grad.clone()))
        conv.zero_grad()
    for found, wanted in zip(*grads, strict=True):
        assert found.dtype == torch.float32
        # Values of 8 bits, squared and summed: a few of their last bits.
        assert (found - wanted).norm() < 0.01 * wanted.norm()


@pytest.mark.parametrize(
    ("conv", "is_bf16", "needed"),
    [
        (Conv2dSame(8, 8, 3, groups=8), True, True),
        (Conv2dSame(8, 8, 3, groups=8), False, False),
        (Conv2dSame(8, 8, 1, groups=8), True, False),  # no 3x3 fits
        (Conv2dSame(8, 8, 3), True, False),
        (Conv2dSame(1, 1, 3), True, False),
    ],
)
def test_is_needed__depthwise_in_bf16(conv: nn.Conv2d, is_bf16: bool, needed: bool) -> None:
    with torch.autocast("cpu", torch.bfloat16, enabled=is_bf16):
        assert is_needed(torch.zeros(1), conv) == needed
        with torch.no_grad():
            assert not is_needed(torch.zeros(1), conv)
