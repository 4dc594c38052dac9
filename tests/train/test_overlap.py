"""IoU, -ln IoU and GIoU of boxes around the same location."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from fcos_edge.train.overlap import giou_loss, iou, iou_loss
from tests.train import oracles

BoxLoss = Callable[[Tensor, Tensor], Tensor]


def _box(ltrb: list[float]) -> list[float]:
    return [-ltrb[0], -ltrb[1], ltrb[2], ltrb[3]]


def _random(seed: int, count: int = 200) -> tuple[Tensor, Tensor]:
    rng = np.random.default_rng(seed)
    a, b = (torch.from_numpy(rng.uniform(0, 10 ** rng.uniform(-1, 3), (count, 4))) for _ in "ab")
    return a, b


@pytest.mark.parametrize(
    ("found", "wanted", "giou", "iou_term"),
    [
        # left top right bottom
        ([2.0, 2, 2, 2], [2.0, 2, 2, 2], 1.0, 1.0),
        ([1.0, 1, 1, 1], [2.0, 2, 2, 2], 4 / 16, 5 / 17),
        ([4.0, 1, 0, 1], [0.0, 1, 4, 1], -0.0, 1 / 17),  # side by side: the hull is the union
        ([0.0, 0, 0, 0], [2.0, 2, 2, 2], 0.0, 1 / 17),
    ],
)
def test_box_losses__table(found: list[float], wanted: list[float], giou: float, iou_term: float) -> None:
    a, b = torch.tensor([found]), torch.tensor([wanted])
    assert giou_loss(a, b).item() == pytest.approx(1 - giou, abs=1e-6)
    assert iou_loss(a, b).item() == pytest.approx(-math.log(iou_term), abs=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_box_losses__are_the_oracles(seed: int) -> None:
    a, b = _random(seed)
    for index in range(len(a)):
        found, wanted = _box(a[index].tolist()), _box(b[index].tolist())
        shared = oracles.intersection(found, wanted)
        union = oracles.area(found) + oracles.area(wanted) - shared
        # float64, but the least area of 1e-6 stands in the code alone.
        assert iou(a, b)[index].item() == pytest.approx(oracles.iou(found, wanted), abs=1e-9)
        assert giou_loss(a, b)[index].item() == pytest.approx(1 - oracles.giou(found, wanted), abs=1e-9)
        assert iou_loss(a, b)[index].item() == pytest.approx(-math.log((shared + 1) / (union + 1)), abs=1e-9)


@pytest.mark.parametrize("loss", [giou_loss, iou_loss])
@pytest.mark.parametrize("seed", range(3))
def test_box_losses__gradients_are_right(loss: BoxLoss, seed: int) -> None:
    a, b = _random(seed, 20)
    assert torch.autograd.gradcheck(loss, (a.requires_grad_(), b))


@pytest.mark.parametrize("loss", [giou_loss, iou_loss])
@pytest.mark.parametrize(
    ("found", "wanted"),
    [
        ([0.0, 0, 0, 0], [0.0, 0, 0, 0]),
        ([0.0, 0, 0, 0], [3.0, 3, 3, 3]),
        ([0.0, 5, 0, 5], [3.0, 3, 3, 3]),  # a line
        ([1e8, 1e8, 1e8, 1e8], [3.0, 3, 3, 3]),  # exp at its limit, in strides of 128
        ([1e-8, 1e-8, 1e-8, 1e-8], [1e-3, 1e-3, 1e-3, 1e-3]),
    ],
)
def test_box_losses__are_finite_in_float32(loss: BoxLoss, found: list[float], wanted: list[float]) -> None:
    a = torch.tensor([found], requires_grad=True)
    value = loss(a, torch.tensor([wanted])).sum()
    value.backward()  # type: ignore[no-untyped-call]
    assert torch.isfinite(value)
    assert a.grad is not None
    assert torch.isfinite(a.grad).all()
    assert iou(a.detach(), torch.tensor([wanted])).item() <= 1
