"""Task-aligned assignment against a slow oracle, with its soft class scores."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
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
    grid=st.sampled_from(GRIDS), batch=pictures(), seed=st.integers(0, 999), top_k=st.sampled_from([1, 5, 13])
)
@settings(max_examples=100, deadline=None, derandomize=True)
def test_match__is_the_oracle(grid: Grid, batch: list[Picture], seed: int, top_k: int) -> None:
    predictions = predict(batch, oracles_assign.places(grid.input_hw, grid.strides), seed)
    found = run(AssignConfig(method="task_aligned", top_k=top_k), grid, batch, predictions)

    def oracle(
        index: int, where: Sequence[Place], boxes: Sequence[Box], labels: Sequence[int]
    ) -> Sequence[int]:
        logits, ltrb = predictions.logits[index].tolist(), predictions.ltrb[index].tolist()
        matched, quality = oracles_assign.task_aligned(where, boxes, labels, logits, ltrb, top_k)
        if found.quality is None:
            assert not any(quality)
        else:
            # float32: six times the error of a logarithm.
            np.testing.assert_allclose(found.quality[index].numpy(), quality, rtol=1e-4, atol=1e-6)
        return matched

    assert_is(found, grid, batch, oracle)


def test_match__bad_boxes_are_told_apart() -> None:
    # IoU about 1e-7: its sixth power is 0 in float32, but the best of bad boxes is still the best.
    grid = Grid((64, 64), (8,), ())
    box = (2.0, 2.0, 62.0, 62.0)
    where = oracles_assign.places(grid.input_hw, grid.strides)
    ltrb = torch.full((1, len(where), 4), 0.008)
    ltrb[0, 20] = 0.009
    predictions = Predictions(torch.zeros(1, len(where), CLASSES), ltrb, torch.zeros(1, len(where)))
    targets = run(AssignConfig(method="task_aligned", top_k=1), grid, [[(box, 1)]], predictions)
    assert (targets.labels[0] == 1).nonzero().flatten().tolist() == [20]
    assert targets.quality is not None
    assert 0 < targets.quality[0, 20] < 1e-6


def test_match__of_two_boxes_the_one_that_is_overlapped_more_wins() -> None:
    # The class says the second box, and so does t: 0.8^6 against e^-14.
    grid = Grid((64, 64), (8,), ())
    where = oracles_assign.places(grid.input_hw, grid.strides)
    near, wider = (16.0, 16.0, 48.0, 48.0), (16.0, 16.0, 48.0, 56.0)
    ltrb = torch.zeros(1, len(where), 4)
    ltrb[0, 27] = torch.tensor(oracles_assign.sides(where[27], near))
    logits = torch.full((1, len(where), CLASSES), -14.0)
    logits[0, 27, 1] = 5.0
    targets = run(
        AssignConfig(method="task_aligned", top_k=1), grid, [[(wider, 1), (near, 0)]],
        Predictions(logits, ltrb, torch.zeros(1, len(where))),
    )  # fmt: skip
    assert targets.labels[0, 27] == 0
