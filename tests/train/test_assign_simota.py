"""SimOTA against a slow oracle, and how many locations a box takes."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fcos_edge.train.config import AssignConfig
from fcos_edge.train.predictions import Predictions
from tests.train import oracles_assign
from tests.train.assign_cases import CLASSES, GRIDS, Grid, Picture, assert_is, pictures, predict, run
from tests.train.oracles import Box
from tests.train.oracles_assign import Place


@given(
    grid=st.sampled_from(GRIDS),
    batch=pictures(),
    seed=st.integers(0, 999),
    top_k=st.sampled_from([1, 3, 10]),
    center_radius=st.sampled_from([0.0, 1.5, 2.5]),
)
@settings(max_examples=100, deadline=None, derandomize=True)
def test_match__is_the_oracle(
    grid: Grid, batch: list[Picture], seed: int, top_k: int, center_radius: float
) -> None:
    predictions = predict(batch, oracles_assign.places(grid.input_hw, grid.strides), seed)

    def oracle(
        index: int, where: Sequence[Place], boxes: Sequence[Box], labels: Sequence[int]
    ) -> Sequence[int]:
        logits, ltrb = predictions.logits[index].tolist(), predictions.ltrb[index].tolist()
        return oracles_assign.simota(where, boxes, labels, logits, ltrb, top_k, center_radius)

    config = AssignConfig(method="simota", top_k=top_k, center_radius=center_radius)
    assert_is(run(config, grid, batch, predictions), grid, batch, oracle)


@pytest.mark.parametrize(
    ("good", "count"),
    [
        (0, 1),  # nothing overlaps: the cheapest one still learns
        (1, 1),
        (4, 4),
        (10, 10),
        (20, 10),  # the ten best count
    ],
)
def test_match__a_box_takes_as_many_as_its_overlaps_sum_to(good: int, count: int) -> None:
    grid = Grid((64, 64), (8,), ())
    box = (2.0, 2.0, 62.0, 62.0)
    where = oracles_assign.places(grid.input_hw, grid.strides)
    ltrb = torch.zeros(1, len(where), 4)
    for i in range(good):
        ltrb[0, 10 + i] = torch.tensor(oracles_assign.sides(where[10 + i], box))
    predictions = Predictions(torch.zeros(1, len(where), CLASSES), ltrb, torch.zeros(1, len(where)))
    config = AssignConfig(method="simota", top_k=10, center_radius=0)
    labels = run(config, grid, [[(box, 1)]], predictions).labels
    # IoUs are exactly 1: the predicted boxes are the wanted ones to the last bit.
    assert (labels == 1).sum() == count
    if good:
        assert (labels[0, 10 : 10 + good] == 1).sum() == count
