"""Two processes share one batch: together they learn what one process would."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import Tensor
from torch.multiprocessing.spawn import spawn

from fcos_edge.train.config import IMPROVED_LOSS, PAPER_LOSS, LossConfig
from fcos_edge.train.losses import detection_losses, mean_over_workers, normalizers
from fcos_edge.train.predictions import Predictions
from fcos_edge.train.targets import BACKGROUND, Targets

CONFIGS = {"paper": PAPER_LOSS, "improved": IMPROVED_LOSS}
# Of the two processes: unequal numbers of positives, and one process without any.
CASES = {
    "unequal": ([0, 1, 1, BACKGROUND], [1, BACKGROUND, BACKGROUND, BACKGROUND]),
    "one without": ([0, 1, 1, 0], [BACKGROUND] * 4),
    "both without": ([BACKGROUND] * 4, [BACKGROUND] * 4),
}


def _part(rank: int, labels: list[int]) -> tuple[Predictions, Targets]:
    generator = torch.Generator().manual_seed(rank)
    logits, ltrb, centerness, wanted, weight = (
        torch.rand(1, 4, *shape, generator=generator, dtype=torch.float64)
        for shape in ((2,), (4,), (), (4,), ())
    )
    found = Predictions(logits.requires_grad_(), (9 * ltrb).requires_grad_(), centerness.requires_grad_())
    label = torch.tensor([labels])
    return found, Targets(label, 9 * wanted, torch.where(label >= 0, weight, 0.0))


def _losses_and_gradients(
    found: Predictions, targets: Targets, config: LossConfig, divisors: Tensor
) -> list[Tensor]:
    losses = torch.stack(detection_losses(found, targets, config, divisors))
    return [losses.detach(), *torch.autograd.grad(losses.sum(), list(found))]


def _work(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    results = {}
    for case, labels in CASES.items():
        for name, config in CONFIGS.items():
            found, targets = _part(rank, labels[rank])
            divisors = mean_over_workers(normalizers(targets, config))
            results[case, name] = _losses_and_gradients(found, targets, config, divisors)
    torch.save(results, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> list[dict[tuple[str, str], list[Tensor]]]:
    folder = tmp_path_factory.mktemp("workers")
    spawn(_work, args=(str(folder),), nprocs=2)  # type: ignore[no-untyped-call]
    return [torch.load(Path(folder) / f"{rank}.pt") for rank in (0, 1)]


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("case", CASES)
def test_two_workers__learn_what_one_would(
    results: list[dict[tuple[str, str], list[Tensor]]], case: str, name: str
) -> None:
    config = CONFIGS[name]
    parts = [_part(rank, CASES[case][rank]) for rank in (0, 1)]
    found = Predictions(*(torch.cat([p[i] for p, _ in parts]).detach().requires_grad_() for i in range(3)))
    targets = Targets(*(torch.cat([t[i] for _, t in parts]) for i in range(3)))  # type: ignore[misc]
    divisors = mean_over_workers(normalizers(targets, config))
    losses, *gradients = _losses_and_gradients(found, targets, config, divisors)
    first, second = (result[case, name] for result in results)
    # What the processes of a run do with their losses and gradients is to take the mean.
    torch.testing.assert_close((first[0] + second[0]) / 2, losses)
    for whole, *halves in zip(gradients, first[1:], second[1:], strict=True):
        torch.testing.assert_close(torch.cat(halves) / 2, whole)
    assert all(torch.isfinite(value).all() for value in (*first, *second))
