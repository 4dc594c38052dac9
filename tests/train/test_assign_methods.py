"""What every assignment shares: its name, batches without boxes, and whom it listens to."""

from __future__ import annotations

import pytest
import torch

from fcos_edge.errors import UsageError
from fcos_edge.train.assign import assign, find_method
from fcos_edge.train.config import AssignConfig
from fcos_edge.train.targets import BACKGROUND, IGNORED, make_locations
from tests.train import oracles_assign
from tests.train.assign_cases import CPU, GRIDS, PADDING, Picture, predict, run, truth_of

METHODS = ("fcos", "atss", "simota", "task_aligned")
GRID = GRIDS[0]
PLACES = oracles_assign.places(GRID.input_hw, GRID.strides)
BOX = (8.0, 8.0, 40.0, 40.0)


def _config(method: str) -> AssignConfig:
    return AssignConfig(method=method, ranges=GRID.ranges)


def test_find_method__an_unknown_name_is_answered_with_those_that_are() -> None:
    with pytest.raises(UsageError, match="'hungarian' is not known; choose from atss, fcos, simota, task_al"):
        find_method("hungarian")


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "batch",
    [
        [[]],  # not even padding
        [[], []],
        [[PADDING], []],
        [[(BOX, BACKGROUND)]],  # padding is BACKGROUND whatever its numbers are
        [[((10.0, 10.0, 10.0, 10.0), 0)]],  # no area
        [[((-50.0, -50.0, -10.0, -10.0), 0)]],  # beside the picture
        [[((500.0, 500.0, 900.0, 900.0), 0)]],
        [[((9.0, 9.0, 11.0, 11.0), 0)]],  # between locations
    ],
)
def test_assign__nothing_to_learn(method: str, batch: list[Picture]) -> None:
    targets = run(_config(method), GRID, batch, predict(batch, PLACES, 0))
    assert (targets.labels == BACKGROUND).all()
    assert targets.labels.shape == (len(batch), len(PLACES))
    assert targets.ltrb.shape == (len(batch), len(PLACES), 4)
    assert torch.isfinite(targets.ltrb).all()
    assert not targets.centerness.any()
    assert targets.quality is None or not targets.quality.any()


@pytest.mark.parametrize("method", METHODS)
def test_assign__only_an_ignore_region(method: str) -> None:
    batch: list[Picture] = [[(BOX, IGNORED)], []]
    targets = run(_config(method), GRID, batch, predict(batch, PLACES, 0))
    inside = [8 < place.x < 40 and 8 < place.y < 40 for place in PLACES]
    assert (targets.labels[0] == IGNORED).tolist() == inside
    assert (targets.labels[1] == BACKGROUND).all()


@pytest.mark.parametrize("method", METHODS)
def test_assign__pictures_do_not_hear_of_each_other(method: str) -> None:
    batch: list[Picture] = [
        [(BOX, 0)], [((20.0, 4.0, 90.0, 60.0), 1), ((4.0, 4.0, 30.0, 50.0), 2), (BOX, IGNORED)], []
    ]  # fmt: skip
    predictions = predict(batch, PLACES, 5)
    together = run(_config(method), GRID, batch, predictions)
    for index, picture in enumerate(batch):
        own = type(predictions)(*(part[index : index + 1] for part in predictions))
        alone = run(_config(method), GRID, [picture], own)
        assert torch.equal(alone.labels[0], together.labels[index])
        is_positive = alone.labels[0] >= 0
        assert torch.equal(alone.ltrb[0][is_positive], together.ltrb[index][is_positive])
        if alone.quality is not None:
            assert together.quality is not None
            assert torch.equal(alone.quality[0], together.quality[index])
    assert [(row >= 0).any().item() for row in together.labels] == [True, True, False]


@pytest.mark.parametrize("method", METHODS)
def test_assign__has_no_gradient(method: str) -> None:
    batch: list[Picture] = [[(BOX, 0)]]
    predictions = predict(batch, PLACES, 0)
    for part in predictions:
        part.requires_grad_()
    config = _config(method)
    targets = assign(
        predictions, truth_of(batch), make_locations(GRID.input_hw, GRID.strides, config, CPU), config
    )
    assert not any(part.requires_grad for part in targets if part is not None)


@pytest.mark.parametrize("method", METHODS)
def test_assign__soft_scores_are_for_task_aligned_only(method: str) -> None:
    batch: list[Picture] = [[(BOX, 0)]]
    targets = run(_config(method), GRID, batch, predict(batch, PLACES, 0))
    assert (targets.quality is not None) is (method == "task_aligned")
