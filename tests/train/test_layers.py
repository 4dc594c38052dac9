"""TensorFlow's SAME padding, and the small layers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from fcos_edge.train.layers import (
    CenternessOfDistances,
    Conv2dSame,
    Normalize,
    Scale,
    Upsample2x,
    same_padding,
)
from tests.train import oracles


@pytest.mark.parametrize(
    ("side", "kernel", "stride", "expected"),
    [
        (8, 3, 1, (1, 1)),
        (8, 3, 2, (0, 1)),  # one-sided: torch's padding=1 would shift the picture by a pixel
        (7, 3, 2, (1, 1)),
        (8, 5, 2, (1, 2)),
        (7, 5, 2, (2, 2)),
        (8, 1, 1, (0, 0)),
        (8, 1, 2, (0, 0)),  # never negative
        (1, 3, 2, (1, 1)),
    ],
)
def test_same_padding__table(side: int, kernel: int, stride: int, expected: tuple[int, int]) -> None:
    assert same_padding(side, kernel, stride) == expected


@pytest.mark.parametrize("kernel", [1, 3, 5])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("height_width", [(4, 7), (5, 6), (1, 2)])
@pytest.mark.parametrize("groups", [1, 2])
def test_conv2d_same__is_tensorflows(
    kernel: int, stride: int, height_width: tuple[int, int], groups: int
) -> None:
    generator = torch.Generator().manual_seed(kernel * 100 + stride)
    conv = Conv2dSame(2, 4, kernel, stride, groups=groups).double()
    x = torch.randn(1, 2, *height_width, generator=generator, dtype=torch.float64)
    with torch.no_grad():
        found = conv(x)[0].numpy()
    wanted = oracles.conv_same(x[0].numpy(), conv.weight.detach().numpy(), stride, groups)
    np.testing.assert_allclose(found, wanted, atol=1e-12)  # float64, another order of additions


def test_conv2d_same__bias_is_added() -> None:
    conv = Conv2dSame(1, 1, 1, bias=True)
    with torch.no_grad():
        conv.weight.fill_(2.0)
        assert conv.bias is not None
        conv.bias.fill_(0.5)
        assert conv(torch.full((1, 1, 1, 1), 3.0)).item() == 6.5


def test_normalize__per_channel() -> None:
    normalize = Normalize((1, 2, 3), (2, 4, 8))
    x = torch.tensor([5.0, 10.0, 19.0]).view(1, 3, 1, 1)
    assert normalize(x).flatten().tolist() == [2, 2, 2]
    assert not normalize.state_dict()  # the spec holds these numbers, weights do not


def test_upsample2x__repeats_pixels() -> None:
    assert Upsample2x()(torch.tensor([[[[1.0, 2.0]]]])).tolist() == [[[[1, 1, 2, 2], [1, 1, 2, 2]]]]


def test_scale__starts_at_one_and_learns() -> None:
    scale = Scale()
    x = torch.tensor([2.0, 3.0])
    out = scale(x)
    assert out.tolist() == [2, 3]
    out.sum().backward()
    assert scale.factor.grad is not None
    assert scale.factor.grad.item() == 5


@pytest.mark.parametrize("distance", ["relu", "exp"])
def test_centerness_of_distances__is_the_papers(distance: Any) -> None:
    raw = torch.randn(2, 4, 5, 7, generator=torch.Generator().manual_seed(0))
    raw = raw.abs() + 0.01 if distance == "relu" else raw
    found = CenternessOfDistances(distance)(raw).numpy()
    assert found.shape == (2, 1, 5, 7)
    left, top, right, bottom = np.moveaxis(raw.double().numpy(), 1, 0)
    if distance == "exp":
        left, top, right, bottom = map(np.exp, (left, top, right, bottom))
    ratio = np.minimum(left, right) / np.maximum(left, right)
    centerness = np.sqrt(ratio * np.minimum(top, bottom) / np.maximum(top, bottom))
    # float32 against float64.
    np.testing.assert_allclose(found[:, 0], np.log(centerness / (1 - centerness)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("distance", ["relu", "exp"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    ("ltrb", "wanted"),
    [
        ((1.0, 1.0, 1.0, 1.0), 11.5),  # the very centre: a logit of infinity would be right
        ((0.0, 0.0, 0.0, 0.0), 11.5),
        ((-3.0, -3.0, 90.0, 90.0), -11.5),  # relu: no length; exp: too large for e^x
        ((-1e4, 1.0, 1e4, 1.0), None),
    ],
)
def test_centerness_of_distances__extremes_are_finite(
    distance: Any, dtype: torch.dtype, ltrb: tuple[float, ...], wanted: float | None
) -> None:
    raw = torch.tensor(ltrb, dtype=dtype).view(1, 4, 1, 1).requires_grad_()
    found = CenternessOfDistances(distance)(raw)
    assert found.dtype == torch.float32
    assert wanted is None or found.item() == pytest.approx(wanted, abs=0.1)
    assert abs(found.item()) < 11.6
    found.sum().backward()
    assert raw.grad is not None
    assert torch.isfinite(raw.grad).all()
