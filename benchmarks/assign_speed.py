"""How fast a batch's targets and losses are made, against what one writes down from the paper.

    python benchmarks/assign_speed.py
    MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=100000000000 python benchmarks/assign_speed.py

16 pictures of 800x1333 (padded to 1344), P3 to P7, 20 boxes each, 80 classes, one thread: the paper's
assignment and losses, forward, and backward to the predictions. All ways must give the same targets, losses
and gradients before anything is timed. The naive ways (naive_assign.py) make targets picture by picture, and
losses of the whole batch in one formula, or picture by picture, too. The second line keeps freed memory in
the process, which costs the naive ways less: they take more of it. The other assignments are timed with the
same losses, but task-aligned with those that are made for it.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from conditions import Table, Target, add_json, measure_conditions, report, run_as_script
from fcos_edge.arguments import positive_int
from fcos_edge.train.assign import assign
from fcos_edge.train.config import PAPER_LOSS, AssignConfig, LossConfig
from fcos_edge.train.losses import detection_losses, mean_over_workers, normalizers
from fcos_edge.train.predictions import Predictions
from fcos_edge.train.targets import Locations, Targets, Truth, make_locations
from naive_assign import naive_assign, naive_losses, naive_losses_by_picture
from timing import median_ratio, median_times

INPUT_HW = (800, 1344)
STRIDES = (8, 16, 32, 64, 128)
BOXES, CLASSES = 20, 80
LEAST_GAIN = 10.0
PAPER = AssignConfig(center_radius=0)
TASK_ALIGNED_LOSS = LossConfig(classes="quality_focal")
NaiveLosses = Callable[[Predictions, Targets], list[Tensor]]
NAIVE: dict[str, NaiveLosses] = {"naive": naive_losses, "naive by picture": naive_losses_by_picture}
METHODS = {
    "fcos": (PAPER, PAPER_LOSS),
    "fcos, centre sampling": (replace(PAPER, center_radius=1.5), PAPER_LOSS),
    "atss": (AssignConfig(method="atss", top_k=9), PAPER_LOSS),
    "simota": (AssignConfig(method="simota", top_k=10, center_radius=2.5), PAPER_LOSS),
    "task_aligned": (AssignConfig(method="task_aligned", top_k=13), TASK_ALIGNED_LOSS),
}


def run(args: argparse.Namespace) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    conditions = measure_conditions(1, {"pictures": args.pictures, "rounds": args.rounds})
    locations = make_locations(INPUT_HW, STRIDES, PAPER, torch.device("cpu"))
    truth, predictions = random_batch(args.pictures, locations)
    check_same(truth, predictions, locations)

    calls: dict[str, Callable[[], object]] = {}
    for name, losses in NAIVE.items():
        calls[f"{name}, targets"] = partial(naive_assign, truth, locations)
        calls[f"{name}, all"] = partial(naive_step, truth, predictions, locations, losses)
    for name, (config, loss) in METHODS.items():
        calls[f"{name}, targets"] = partial(assign, predictions, truth, locations, config)
        calls[f"{name}, all"] = partial(step, truth, predictions, locations, config, loss)
    medians_us = median_times(calls, args.rounds, 1)
    rows = []
    for name in (*NAIVE, *METHODS):
        targets_us, all_us = medians_us[f"{name}, targets"], medians_us[f"{name}, all"]
        gains = [median_ratio(medians_us[f"{naive}, all"], all_us) for naive in NAIVE]
        rows.append((name, statistics.median(targets_us) / 1e3, statistics.median(all_us) / 1e3, *gains))
    targets = [
        Target(
            f"{naive} / fcos, {part}",
            median_ratio(medians_us[f"{naive}, {key}"], medians_us[f"fcos, {key}"]), ">=", LEAST_GAIN,
        )
        for key, part, naives in (
            ("targets", "targets", ["naive"]), ("all", "targets, losses and gradients", list(NAIVE))
        )
        for naive in naives
    ]  # fmt: skip
    header = ("way", "targets ms", "all ms", *(f"{naive} / this" for naive in NAIVE))
    report("assign_speed", conditions, targets, [Table("medians", header, rows)], medians_us, args.json)


def random_batch(pictures: int, locations: Locations) -> tuple[Truth, Predictions]:
    """Boxes of 8 to 700 pixels a side; predictions as of a network that has begun to learn."""
    height, width = INPUT_HW
    center = torch.rand(pictures, BOXES, 2) * torch.tensor([width, height])
    half = torch.exp(torch.empty(pictures, BOXES, 2).uniform_(1.4, 5.86))
    boxes = torch.cat([center - half, center + half], -1).clamp(min=0)
    boxes = torch.minimum(boxes, torch.tensor([width, height, width, height]))
    truth = Truth(boxes, torch.randint(0, CLASSES, (pictures, BOXES)))
    count = len(locations.xy)
    predictions = Predictions(
        torch.randn(pictures, count, CLASSES) - 4.6,
        torch.rand(pictures, count, 4) * 4 * locations.stride[:, None],
        torch.randn(pictures, count),
    )
    return truth, Predictions(*(part.requires_grad_() for part in predictions))


def step(
    truth: Truth, predictions: Predictions, locations: Locations, config: AssignConfig, loss: LossConfig
) -> tuple[Targets, Tensor]:
    """Targets, losses, and gradients of the predictions."""
    forget(predictions)
    targets = assign(predictions, truth, locations, config)
    divisors = mean_over_workers(normalizers(targets, loss))
    losses = torch.stack(detection_losses(predictions, targets, loss, divisors))
    losses.sum().backward()  # type: ignore[no-untyped-call]
    return targets, losses.detach()


def naive_step(
    truth: Truth, predictions: Predictions, locations: Locations, make_losses: NaiveLosses
) -> tuple[Targets, Tensor]:
    """The same, naively."""
    forget(predictions)
    targets = naive_assign(truth, locations)
    losses = torch.stack(make_losses(predictions, targets))
    losses.sum().backward()  # type: ignore[no-untyped-call]
    return targets, losses.detach()


def forget(predictions: Predictions) -> None:
    for part in predictions:
        part.grad = None


def check_same(truth: Truth, predictions: Predictions, locations: Locations) -> None:
    """All ways come to the same. Raises AssertionError otherwise."""
    found, losses = step(truth, predictions, locations, *METHODS["fcos"])
    gradients = [part.grad for part in predictions]
    for make_losses in NAIVE.values():
        wanted, naive = naive_step(truth, predictions, locations, make_losses)
        assert torch.equal(found.labels, wanted.labels)
        is_positive = wanted.labels >= 0
        torch.testing.assert_close(found.ltrb[is_positive], wanted.ltrb[is_positive])
        torch.testing.assert_close(found.centerness, wanted.centerness)
        # float32 sums of 28 million terms.
        torch.testing.assert_close(losses, naive, rtol=1e-4, atol=0)
        for gradient, part in zip(gradients, predictions, strict=True):
            torch.testing.assert_close(gradient, part.grad, rtol=1e-4, atol=1e-9)


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Targets and losses of a batch, against a naive version.")
    parser.add_argument("--pictures", type=positive_int, default=16, metavar="N", help="default: %(default)s")
    parser.add_argument("--rounds", type=positive_int, default=7, metavar="N", help="default: %(default)s")
    add_json(parser)
    return parser


if __name__ == "__main__":
    run_as_script(make_parser(), run)
