"""The three loss terms against scalar oracles, and what gets a gradient."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from typing import Literal

import pytest
import torch
from torch import Tensor

from fcos_edge.train.assign import assign
from fcos_edge.train.config import IMPROVED_LOSS, PAPER_LOSS, AssignConfig, LossConfig, NetworkConfig
from fcos_edge.train.losses import Losses, detection_losses, mean_over_workers, normalizers
from fcos_edge.train.model import Fcos
from fcos_edge.train.predictions import Predictions, flatten_maps, in_pixels
from fcos_edge.train.targets import BACKGROUND, IGNORED, Targets, Truth, make_locations
from tests.train import oracles

LOCATIONS = make_locations((16, 16), (8, 16), AssignConfig(ranges=((0, 64), (64, 128))), torch.device("cpu"))
COUNT = 5  # four of stride 8, one of stride 16
LABELS = [1, BACKGROUND, IGNORED, 0, 1]
ALL_OPTIONS = [
    LossConfig(*options)  # type: ignore[arg-type]
    for options in itertools.product(
        ("focal", "quality_focal"), ("iou", "giou"), (False, True), ("centerness", "iou", "none")
    )
]


def _predictions(seed: int = 0) -> Predictions:
    """Raw ones."""
    generator = torch.Generator().manual_seed(seed)

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64).requires_grad_()

    # Distances start positive: ReLU lets nothing else learn.
    ltrb = (random(1, COUNT, 4).detach().abs() + 0.5).requires_grad_()
    return Predictions(random(1, COUNT, 2), ltrb, random(1, COUNT))


def _targets(labels: list[int], is_soft: bool = False) -> Targets:
    ltrb = torch.tensor([[4.0, 6, 8, 10]] * COUNT, dtype=torch.float64)[None]
    is_positive = torch.tensor([labels]) >= 0
    centerness = torch.where(is_positive, torch.linspace(0.25, 0.75, COUNT).double(), 0.0)
    quality = torch.where(is_positive, torch.linspace(0.9, 0.4, COUNT).double(), 0.0)
    return Targets(torch.tensor([labels]), ltrb, centerness, quality if is_soft else None)


def _losses(predictions: Predictions, targets: Targets, config: LossConfig) -> Losses:
    """Of raw predictions, in strides."""
    divisors = mean_over_workers(normalizers(targets, config))
    found = in_pixels(predictions, LOCATIONS, NetworkConfig(2))
    return detection_losses(found, targets, config, divisors)


def _box(ltrb: list[float]) -> list[float]:
    return [-ltrb[0], -ltrb[1], ltrb[2], ltrb[3]]


def _oracle(predictions: Predictions, targets: Targets, config: LossConfig) -> list[float]:
    """Location by location."""
    sums = [0.0, 0.0, 0.0]
    weights, positives = 0.0, 0
    for i, label in enumerate(targets.labels[0].tolist()):
        stride = 16 if i == 4 else 8
        found = _box([value * stride for value in predictions.ltrb[0, i].tolist()])
        wanted = _box(targets.ltrb[0, i].tolist())
        iou = oracles.iou(found, wanted)
        soft = iou if targets.quality is None else targets.quality[0, i].item()
        for category, logit in enumerate(predictions.logits[0, i].tolist()):
            if label != IGNORED and config.classes == "focal":
                sums[0] += oracles.focal(logit, label == category)
            elif label != IGNORED:
                sums[0] += oracles.quality_focal(logit, soft if label == category else 0.0)
        if label < 0:
            continue
        centerness = targets.centerness[0, i].item()
        weight = 1.0
        if config.weight_boxes:
            weight = centerness if targets.quality is None else targets.quality[0, i].item()
        shared = oracles.intersection(found, wanted)
        union = oracles.area(found) + oracles.area(wanted) - shared
        box = (
            1 - oracles.giou(found, wanted)
            if config.boxes == "giou"
            else -math.log((shared + 1) / (union + 1))
        )
        sums[1] += weight * box
        weights += weight
        positives += 1
        p = 1 / (1 + math.exp(-predictions.centerness[0, i].item()))
        if config.quality != "none":
            says = iou if config.quality == "iou" else centerness
            sums[2] -= says * math.log(p) + (1 - says) * math.log(1 - p)
    return [sums[0] / max(positives, 1), sums[1] / max(weights, 1), sums[2] / max(positives, 1)]


@pytest.mark.parametrize("is_soft", [False, True])
@pytest.mark.parametrize("config", ALL_OPTIONS)
def test_detection_losses__are_the_sums_of_scalars(config: LossConfig, is_soft: bool) -> None:
    predictions, targets = _predictions(), _targets(LABELS, is_soft)
    found = [value.item() for value in _losses(predictions, targets, config)]
    # Strides and divisors are float32.
    assert found == pytest.approx(_oracle(predictions, targets, config), rel=1e-6)


@pytest.mark.parametrize("is_soft", [False, True])
@pytest.mark.parametrize("config", ALL_OPTIONS)
def test_detection_losses__gradients_are_right(config: LossConfig, is_soft: bool) -> None:
    targets = _targets(LABELS, is_soft)
    predictions = _predictions(3)
    # Targets that follow from the predicted box are detached: to a difference quotient they must stand still.
    fixed = in_pixels(predictions, LOCATIONS, NetworkConfig(2)).ltrb.detach()
    if config.classes == "quality_focal" and not is_soft:
        targets = targets._replace(quality=_iou_of(fixed, targets.ltrb))
    if config.quality == "iou":
        targets = targets._replace(centerness=_iou_of(fixed, targets.ltrb))
        config = replace(config, quality="centerness")

    def total(logits: Tensor, ltrb: Tensor, centerness: Tensor) -> Tensor:
        return torch.stack(_losses(Predictions(logits, ltrb, centerness), targets, config)).sum()

    assert torch.autograd.gradcheck(total, tuple(predictions))


def _iou_of(a: Tensor, b: Tensor) -> Tensor:
    rows = zip(a[0].tolist(), b[0].tolist(), strict=True)
    return torch.tensor([[oracles.iou(_box(x), _box(y)) for x, y in rows]], dtype=torch.float64)


@pytest.mark.parametrize("config", ALL_OPTIONS)
def test_detection_losses__soft_targets_are_no_way_to_learn(config: LossConfig) -> None:
    # Only the box term moves distances, also where their IoU is a target.
    predictions = _predictions()
    losses = _losses(predictions, _targets(LABELS), config)
    (losses.classes + losses.centerness).backward()  # type: ignore[no-untyped-call]
    assert predictions.ltrb.grad is None or not predictions.ltrb.grad.any()


@pytest.mark.parametrize("config", ALL_OPTIONS)
def test_detection_losses__without_boxes_only_classes_learn(config: LossConfig) -> None:
    predictions = _predictions()
    losses = _losses(predictions, _targets([BACKGROUND] * COUNT), config)
    torch.stack(losses).sum().backward()  # type: ignore[no-untyped-call]
    assert all(torch.isfinite(value) for value in losses)
    assert losses.boxes.item() == losses.centerness.item() == 0
    assert predictions.logits.grad is not None
    assert predictions.logits.grad.abs().min() > 0
    # Zeros and not None: a worker without boxes still has a part in every gradient.
    for part in predictions[1:]:
        assert part.grad is not None
        assert not part.grad.any()


def test_detection_losses__no_quality_is_a_gradient_of_zero_whatever_the_branch_says() -> None:
    predictions = _predictions()
    centerness = torch.full((1, COUNT), math.inf, requires_grad=True)
    losses = _losses(
        predictions._replace(centerness=centerness), _targets(LABELS), LossConfig(quality="none")
    )
    assert losses.centerness.item() == 0
    losses.centerness.backward()  # type: ignore[no-untyped-call]
    assert centerness.grad is not None
    assert not centerness.grad.any()


def test_detection_losses__ignored_locations_learn_nothing() -> None:
    predictions = _predictions()
    losses = _losses(predictions, _targets([IGNORED, 0, IGNORED, BACKGROUND, 1]), IMPROVED_LOSS)
    torch.stack(losses).sum().backward()  # type: ignore[no-untyped-call]
    for part in predictions:
        assert part.grad is not None
        assert not part.grad[0, [0, 2]].any()
    assert predictions.logits.grad is not None
    assert predictions.logits.grad[0, [1, 3, 4]].abs().min() > 0


@pytest.mark.parametrize("config", ALL_OPTIONS)
def test_detection_losses__dead_distances_stay_finite(config: LossConfig) -> None:
    predictions = _predictions()
    dead = Predictions(predictions.logits, -predictions.ltrb, predictions.centerness)
    losses = _losses(dead, _targets([0] * COUNT), config)
    torch.stack(losses).sum().backward()  # type: ignore[no-untyped-call]
    assert all(torch.isfinite(value) for value in losses)
    assert predictions.ltrb.grad is not None
    assert torch.isfinite(predictions.ltrb.grad).all()


def test_detection_losses__parts_of_a_batch_add_up() -> None:
    # Gradients of micro-batches may be summed, if all of them are divided by the same.
    pictures = [_targets(LABELS), _targets([BACKGROUND] * COUNT), _targets([0, 0, 1, 1, IGNORED])]
    labels, ltrb, centerness, _ = zip(*pictures, strict=True)
    joined = Targets(torch.cat(labels), torch.cat(ltrb), torch.cat(centerness))
    predictions = [_predictions(seed) for seed in range(3)]
    found = Predictions(*(torch.cat([p[i] for p in predictions]) for i in range(3)))
    divisors = normalizers(joined, IMPROVED_LOSS)
    whole = detection_losses(found, joined, IMPROVED_LOSS, divisors)
    parts = [
        torch.stack(detection_losses(p, target, IMPROVED_LOSS, divisors))
        for p, target in zip(predictions, pictures, strict=True)
    ]
    sums = [normalizers(target, IMPROVED_LOSS) for target in pictures]
    torch.testing.assert_close(divisors, torch.stack(sums).sum(0))
    torch.testing.assert_close(torch.stack(whole), torch.stack(parts).sum(0))


@pytest.mark.parametrize(
    ("config", "is_soft", "wanted"),
    [
        (PAPER_LOSS, False, [3, 3]),
        (IMPROVED_LOSS, False, [3, 0.25 + 0.625 + 0.75]),
        (IMPROVED_LOSS, True, [3, 0.9 + 0.525 + 0.4]),
        (PAPER_LOSS, True, [3, 3]),
    ],
)
def test_normalizers__table(config: LossConfig, is_soft: bool, wanted: list[float]) -> None:
    assert normalizers(_targets(LABELS, is_soft), config).tolist() == pytest.approx(wanted)


def test_mean_over_workers__one_worker_at_least_1() -> None:
    assert mean_over_workers(torch.tensor([0.0, 0.3])).tolist() == [1, 1]
    assert mean_over_workers(torch.tensor([5.0, 1.5])).tolist() == [5, 1.5]


@pytest.mark.parametrize("convs", ["separable", "plain"])
def test_first_step__class_probability_is_the_prior(convs: Literal["separable", "plain"]) -> None:
    torch.manual_seed(0)
    config = NetworkConfig(8, fpn_channels=32, tower_depth=2, convs=convs)
    network = Fcos(config).train()
    images = torch.rand(2, 3, 128, 160) * 255
    raw = flatten_maps(network(images), config.level_names)
    assert raw.logits.sigmoid().mean().item() == pytest.approx(0.01, abs=0.002)
    locations = make_locations((128, 160), config.strides, AssignConfig(), torch.device("cpu"))
    truth = Truth(torch.tensor([[[8.0, 8, 90, 100]], [[0, 0, 0, 0]]]), torch.tensor([[3], [BACKGROUND]]))
    found = in_pixels(raw, locations, config)
    targets = assign(found, truth, locations, AssignConfig())
    divisors = mean_over_workers(normalizers(targets, IMPROVED_LOSS))
    losses = detection_losses(found, targets, IMPROVED_LOSS, divisors)
    assert divisors[0] > 0
    # A positive costs 0.25 * 0.99^2 * -ln 0.01 = 1.13; thousands of negatives at 7.5e-7 each add little.
    assert 1.0 < losses.classes.item() < 1.4
    torch.stack(losses).sum().backward()  # type: ignore[no-untyped-call]
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in network.parameters())
