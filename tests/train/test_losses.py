"""Losses against scalar oracles, and what gets a gradient."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from fcos_edge.train.config import IMPROVED_LOSS, PAPER_LOSS, AssignConfig, LossConfig, NetworkConfig
from fcos_edge.train.losses import (
    Losses,
    detection_losses,
    focal_loss,
    giou_loss,
    iou_loss,
    mean_over_workers,
    normalizers,
)
from fcos_edge.train.predictions import Predictions, flatten_maps, in_pixels
from fcos_edge.train.targets import BACKGROUND, IGNORED, Targets, make_locations
from tests.train import oracles

LOCATIONS = make_locations((16, 16), (8, 16), AssignConfig(ranges=((0, 64), (64, 128))), torch.device("cpu"))
COUNT = 5  # four of stride 8, one of stride 16
RECIPES = (IMPROVED_LOSS, PAPER_LOSS)


def _predictions(seed: int = 0) -> Predictions:
    generator = torch.Generator().manual_seed(seed)

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64).requires_grad_()

    # Distances start positive: ReLU lets nothing else learn.
    ltrb = (random(1, COUNT, 4).detach().abs() + 0.5).requires_grad_()
    return Predictions(random(1, COUNT, 2), ltrb, random(1, COUNT))


def _targets(labels: list[int]) -> Targets:
    ltrb = torch.tensor([[4.0, 6, 8, 10]] * COUNT, dtype=torch.float64)[None]
    is_positive = torch.tensor([labels]) >= 0
    centerness = torch.where(is_positive, 0.25, 0.0).double()
    return Targets(torch.tensor([labels]), ltrb, centerness)


def _losses(predictions: Predictions, targets: Targets, config: LossConfig) -> Losses:
    """Of raw predictions, in strides."""
    divisors = mean_over_workers(normalizers(targets, config))
    found = in_pixels(predictions, LOCATIONS, NetworkConfig(2))
    return detection_losses(found, targets, LOCATIONS, config, divisors)


def _box(ltrb: list[float]) -> list[float]:
    return [-ltrb[0], -ltrb[1], ltrb[2], ltrb[3]]


@pytest.mark.parametrize("recipe", RECIPES)
def test_detection_losses__are_the_sums_of_scalars(recipe: LossConfig) -> None:
    labels = [1, BACKGROUND, IGNORED, 0, 1]
    predictions, targets = _predictions(), _targets(labels)
    positives = [i for i, label in enumerate(labels) if label >= 0]
    classes = sum(
        oracles.focal(predictions.logits[0, i, c].item(), labels[i] == c)
        for i in range(COUNT) if labels[i] != IGNORED for c in range(2)
    )  # fmt: skip
    boxes = centerness = 0.0
    for i in positives:
        stride = 16 if i == 4 else 8
        found = _box([value * stride for value in predictions.ltrb[0, i].tolist()])
        wanted = _box(targets.ltrb[0, i].tolist())
        if recipe is IMPROVED_LOSS:
            boxes += 0.25 * (1 - oracles.giou(found, wanted))
        else:
            shared = oracles.intersection(found, wanted)
            union = oracles.area(found) + oracles.area(wanted) - shared
            boxes -= math.log((shared + 1) / (union + 1))
        p = 1 / (1 + math.exp(-predictions.centerness[0, i].item()))
        centerness -= 0.25 * math.log(p) + 0.75 * math.log(1 - p)
    found_losses = _losses(predictions, targets, recipe)
    # The sum of center-ness targets is 0.75: at least 1 is divided by.
    box_weight = 1 if recipe is IMPROVED_LOSS else len(positives)
    assert [value.item() for value in found_losses] == pytest.approx(
        [classes / 3, boxes / box_weight, centerness / 3], rel=1e-6  # strides are float32
    )  # fmt: skip


@pytest.mark.parametrize("recipe", RECIPES)
def test_detection_losses__gradients_are_right(recipe: LossConfig) -> None:
    targets = _targets([1, BACKGROUND, IGNORED, 0, 1])

    def total(logits: Tensor, ltrb: Tensor, centerness: Tensor) -> Tensor:
        return torch.stack(_losses(Predictions(logits, ltrb, centerness), targets, recipe)).sum()

    assert torch.autograd.gradcheck(total, tuple(_predictions(3)))


@pytest.mark.parametrize("recipe", RECIPES)
def test_detection_losses__without_boxes_only_classes_learn(recipe: LossConfig) -> None:
    predictions = _predictions()
    losses = _losses(predictions, _targets([BACKGROUND] * COUNT), recipe)
    torch.stack(losses).sum().backward()  # type: ignore[no-untyped-call]
    assert all(torch.isfinite(value) for value in losses)
    assert losses.boxes.item() == losses.centerness.item() == 0
    logits, ltrb, centerness = (part.grad for part in predictions)
    assert logits is not None
    assert logits.abs().min() > 0
    for gradient in (ltrb, centerness):
        assert gradient is None or not gradient.any()


def test_detection_losses__ignored_locations_learn_nothing() -> None:
    predictions = _predictions()
    losses = _losses(predictions, _targets([IGNORED, 0, IGNORED, BACKGROUND, 1]), IMPROVED_LOSS)
    torch.stack(losses).sum().backward()  # type: ignore[no-untyped-call]
    for part in predictions:
        assert part.grad is not None
        assert not part.grad[0, [0, 2]].any()
    assert predictions.logits.grad is not None
    assert predictions.logits.grad[0, [1, 3, 4]].abs().min() > 0


def test_detection_losses__dead_distances_stay_finite() -> None:
    predictions = _predictions()
    dead = Predictions(predictions.logits, -predictions.ltrb, predictions.centerness)
    for recipe in RECIPES:
        losses = _losses(dead, _targets([0] * COUNT), recipe)
        assert all(torch.isfinite(value) for value in losses)


@pytest.mark.parametrize("logit", [-30.0, -4.0, 0.0, 2.5, 30.0])
@pytest.mark.parametrize("is_class", [False, True])
def test_focal_loss__scalar(logit: float, is_class: bool) -> None:
    found = focal_loss(torch.tensor([logit], dtype=torch.float64), torch.tensor([float(is_class)]).double())
    assert found.item() == pytest.approx(oracles.focal(logit, is_class), rel=1e-3, abs=1e-12)


def test_focal_loss__extreme_logits_are_finite() -> None:
    logits = torch.tensor([-1e4, 1e4], requires_grad=True)
    loss = focal_loss(logits, torch.tensor([1.0, 0.0])).sum()
    loss.backward()  # type: ignore[no-untyped-call]
    assert loss.item() == pytest.approx(1e4 * 0.25 + 1e4 * 0.75)
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


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


def test_flatten_maps__levels_then_rows_then_columns() -> None:
    maps = {
        f"{branch}_{level}": torch.arange(channels * side * side).view(1, channels, side, side) + offset
        for level, side, offset in (("p3", 2, 0), ("p4", 1, 100))
        for branch, channels in (("logits", 2), ("ltrb", 4), ("centerness", 1))
    }
    raw = flatten_maps(maps, ("p3", "p4"))
    assert raw.logits[0].tolist() == [[0, 4], [1, 5], [2, 6], [3, 7], [100, 101]]
    assert raw.ltrb.shape == (1, 5, 4)
    assert raw.centerness[0].tolist() == [0, 1, 2, 3, 100]
    assert raw.logits.dtype == torch.float32
