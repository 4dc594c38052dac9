"""Focal and quality focal loss against scalar oracles."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from fcos_edge.train import focal
from fcos_edge.train.focal import Positives, focal_sum
from tests.train import oracles

ONE = torch.tensor(1.0, dtype=torch.float64)


def _case(seed: int, count: int = 40, classes: int = 3) -> tuple[Tensor, Tensor, Positives]:
    """Logits (N, C), what is ignored (N,), and positives with soft scores, in float64."""
    rng = np.random.default_rng(seed)
    logits = torch.from_numpy(rng.normal(-1, 3, (count, classes)))
    kind = torch.from_numpy(rng.choice([0, 1, 2], count, p=[0.6, 0.2, 0.2]))
    rows = (kind == 1).nonzero().flatten()
    category = torch.from_numpy(rng.integers(0, classes, len(rows)))
    return logits, kind == 2, Positives(rows, category, torch.from_numpy(rng.random(len(rows))))


def _oracle(logits: Tensor, is_ignored: Tensor, positives: Positives) -> float:
    """Term by term."""
    quality = {}
    for place, (row, category) in enumerate(
        zip(positives.rows.tolist(), positives.classes.tolist(), strict=True)
    ):
        quality[row, category] = None if positives.quality is None else positives.quality[place].item()
    total = 0.0
    for row, values in enumerate(logits.tolist()):
        for category, logit in enumerate(values):
            if is_ignored[row]:
                continue
            if positives.quality is not None:
                total += oracles.quality_focal(logit, quality.get((row, category)) or 0.0)
            else:
                total += oracles.focal(logit, (row, category) in quality)
    return total


@pytest.mark.parametrize("is_soft", [False, True])
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("block", [1, 7, 50, 1 << 16])  # elements: one row, a few with a rest, all
def test_focal_sum__is_the_sum_of_scalars(
    is_soft: bool, seed: int, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(focal, "CPU_BLOCK", block)
    logits, is_ignored, positives = _case(seed)
    positives = positives if is_soft else positives._replace(quality=None)
    found = focal_sum(logits, is_ignored, positives, 7 * ONE)
    assert found.item() == pytest.approx(_oracle(logits, is_ignored, positives) / 7, rel=1e-12)
    # float32: a few hundred terms.
    assert focal_sum(logits.float(), is_ignored, positives, ONE).item() == pytest.approx(
        found.item() * 7, rel=1e-5
    )


@pytest.mark.parametrize("is_soft", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_focal_sum__gradient_is_right(is_soft: bool, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(focal, "CPU_BLOCK", 50)
    logits, is_ignored, positives = _case(seed)
    positives = positives if is_soft else positives._replace(quality=None)

    def scaled(x: Tensor) -> Tensor:
        return 3 * focal_sum(x, is_ignored, positives, 7 * ONE)

    logits.requires_grad_()
    assert torch.autograd.gradcheck(scaled, (logits,))
    assert torch.autograd.gradcheck(lambda x: focal_sum(x, is_ignored, positives, 7 * ONE), (logits,))


def test_focal_sum__what_is_ignored_learns_nothing() -> None:
    logits, is_ignored, positives = _case(1)
    logits.requires_grad_()
    focal_sum(logits, is_ignored, positives, ONE).backward()  # type: ignore[no-untyped-call]
    assert logits.grad is not None
    assert not logits.grad[is_ignored].any()
    assert logits.grad[~is_ignored].abs().min() > 0


def test_focal_sum__two_classes_at_one_location() -> None:
    # Assignment never asks for it; the sum is right anyway.
    logits = torch.tensor([[0.3, -1.2, 2.0]], dtype=torch.float64)
    positives = Positives(torch.tensor([0, 0]), torch.tensor([0, 2]), None)
    is_ignored = torch.tensor([False])
    assert focal_sum(logits, is_ignored, positives, ONE).item() == pytest.approx(
        _oracle(logits, is_ignored, positives), rel=1e-12
    )


@pytest.mark.parametrize("quality", [None, torch.tensor([0.4])])
def test_focal_sum__extreme_logits_are_finite(quality: Tensor | None) -> None:
    logits = torch.tensor([[-1e4, 1e4]], requires_grad=True)
    positives = Positives(torch.tensor([0]), torch.tensor([0]), quality)
    loss = focal_sum(logits, torch.tensor([False]), positives, torch.tensor(1.0))
    loss.backward()  # type: ignore[no-untyped-call]
    wanted = 0.25 * 1e4 + 0.75 * 1e4 if quality is None else 0.4**2 * 0.4 * 1e4 + 1e4
    assert loss.item() == pytest.approx(wanted)
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize("logit", [-30.0, -10.0, -4.0, 0.0, 2.5, 30.0])
@pytest.mark.parametrize("is_class", [False, True])
def test_focal_sum__single_terms_in_float32(logit: float, is_class: bool) -> None:
    rows = torch.zeros(int(is_class), dtype=torch.int64)
    found = focal_sum(
        torch.tensor([[logit]]), torch.tensor([False]), Positives(rows, rows, None), torch.tensor(1.0)
    )
    # 1 - p of p near 1 in the oracle itself: 2e-13 of it is left at 30.
    assert found.item() == pytest.approx(oracles.focal(logit, is_class), rel=1e-3, abs=1e-12)


@pytest.mark.parametrize("shape", [(0, 3), (4, 0)])
def test_focal_sum__of_nothing(shape: tuple[int, int]) -> None:
    nothing = torch.zeros(0, dtype=torch.int64)
    logits = torch.zeros(shape, requires_grad=True)
    loss = focal_sum(logits, torch.zeros(shape[0], dtype=torch.bool), Positives(nothing, nothing, None), ONE)
    loss.backward()  # type: ignore[no-untyped-call]
    assert loss.item() == 0


def test_focal_sum__without_gradient() -> None:
    logits, is_ignored, positives = _case(2)
    assert not focal_sum(logits, is_ignored, positives, ONE).requires_grad
