"""Maps to one tensor per branch, and distances to pixels."""

from __future__ import annotations

import math
from typing import Literal

import pytest
import torch

from fcos_edge.train.config import AssignConfig, NetworkConfig
from fcos_edge.train.predictions import Predictions, flatten_maps, in_pixels
from fcos_edge.train.targets import make_locations

LOCATIONS = make_locations((16, 16), (8, 16), AssignConfig(ranges=((0, 64), (64, 128))), torch.device("cpu"))


def _maps(dtype: torch.dtype) -> dict[str, torch.Tensor]:
    return {
        f"{branch}_{level}": (torch.arange(channels * side**2) + offset)
        .view(1, channels, side, side)
        .to(dtype)
        for level, side, offset in (("p3", 2, 0), ("p4", 1, 100))
        for branch, channels in (("logits", 2), ("ltrb", 4), ("centerness", 1))
    }


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_flatten_maps__levels_then_rows_then_columns(dtype: torch.dtype) -> None:
    raw = flatten_maps(_maps(dtype), ("p3", "p4"))
    assert raw.logits[0].tolist() == [[0, 4], [1, 5], [2, 6], [3, 7], [100, 101]]
    assert raw.ltrb.shape == (1, 5, 4)
    assert raw.centerness[0].tolist() == [0, 1, 2, 3, 100]
    assert {part.dtype for part in raw} == {torch.float32}


@pytest.mark.parametrize(
    ("distance", "unit", "raw", "fine", "coarse"),
    [
        # raw value, in pixels on stride 8 and on stride 16
        ("relu", "stride", 1.5, 12, 24),
        ("relu", "stride", -1.5, 0, 0),
        ("relu", "pixel", 1.5, 1.5, 1.5),
        ("exp", "stride", 1.5, 8 * math.exp(1.5), 16 * math.exp(1.5)),
        ("exp", "pixel", -1.5, math.exp(-1.5), math.exp(-1.5)),
    ],
)
def test_in_pixels__table(
    distance: Literal["relu", "exp"], unit: Literal["stride", "pixel"], raw: float, fine: float, coarse: float
) -> None:
    network = NetworkConfig(2, distance=distance, distance_unit=unit)
    ltrb = torch.full((1, 5, 4), raw)
    found = in_pixels(Predictions(torch.zeros(1, 5, 2), ltrb, torch.zeros(1, 5)), LOCATIONS, network)
    assert found.ltrb[0, :4].flatten().tolist() == pytest.approx([fine] * 16)
    assert found.ltrb[0, 4].tolist() == pytest.approx([coarse] * 4)
    assert found.ltrb.dtype == torch.float32


def test_in_pixels__exp_of_anything_has_a_finite_area() -> None:
    network = NetworkConfig(2, distance="exp", distance_unit="stride")
    ltrb = torch.full((1, 5, 4), 65504.0, requires_grad=True)  # the largest float16
    found = in_pixels(Predictions(torch.zeros(1, 5, 2), ltrb, torch.zeros(1, 5)), LOCATIONS, network)
    area = (2 * found.ltrb[..., 0]) * (2 * found.ltrb[..., 1])
    assert torch.isfinite(area).all()
    area.sum().backward()  # type: ignore[no-untyped-call]
    assert ltrb.grad is not None
    assert torch.isfinite(ltrb.grad).all()
