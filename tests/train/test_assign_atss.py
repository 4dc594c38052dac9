"""ATSS against a slow oracle, and by hand."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fcos_edge.train.config import AssignConfig
from fcos_edge.train.targets import BACKGROUND
from tests.train import oracles_assign
from tests.train.assign_cases import GRIDS, Grid, Picture, assert_is, pictures, predict, run
from tests.train.oracles import Box
from tests.train.oracles_assign import Place


@given(grid=st.sampled_from(GRIDS), batch=pictures(), top_k=st.sampled_from([1, 2, 4, 9, 14, 1000]))
@settings(max_examples=100, deadline=None, derandomize=True)
def test_match__is_the_oracle(grid: Grid, batch: list[Picture], top_k: int) -> None:
    def oracle(_: int, where: Sequence[Place], boxes: Sequence[Box], labels: Sequence[int]) -> Sequence[int]:
        return oracles_assign.atss(where, boxes, labels, top_k)

    predictions = predict(batch, oracles_assign.places(grid.input_hw, grid.strides), 0)
    found = run(AssignConfig(method="atss", top_k=top_k), grid, batch, predictions)
    assert_is(found, grid, batch, oracle)


@pytest.mark.parametrize(
    ("side", "positives"),
    [
        # Squares are 64 and 128 pixels wide; boxes stand in the middle of a 256x256 picture.
        (64.0, {8: 4}),  # the four squares around the centre stand out
        (128.0, {16: 4}),
        (1.0, {}),  # no location inside
    ],
)
def test_match__the_level_whose_squares_are_like_the_box(side: float, positives: dict[int, int]) -> None:
    grid = Grid((256, 256), (8, 16, 32), ())
    box = (128 - side / 2, 128 - side / 2, 128 + side / 2, 128 + side / 2)
    where = oracles_assign.places(grid.input_hw, grid.strides)
    labels = run(AssignConfig(method="atss"), grid, [[(box, 1)]], predict([[]], where, 0)).labels[0].tolist()
    found = [place for place, label in zip(where, labels, strict=True) if label != BACKGROUND]
    for stride, count in positives.items():
        near = [place for place in found if place.stride == stride]
        assert sum(abs(place.x - 128) <= stride and abs(place.y - 128) <= stride for place in near) >= count
    assert {place.stride for place in found} == set(positives)


@pytest.mark.parametrize("is_first", [False, True])
def test_match__the_larger_overlap_wins(is_first: bool) -> None:
    # Around one centre; a square of 64 pixels around it is more like the smaller box.
    grid = Grid((128, 128), (8, 16), ())
    like, larger = ((28.0, 28.0, 92.0, 92.0), 0), ((24.0, 24.0, 96.0, 96.0), 1)
    where = oracles_assign.places(grid.input_hw, grid.strides)
    batch = [[like, larger] if is_first else [larger, like]]
    labels = run(AssignConfig(method="atss"), grid, batch, predict([[]], where, 0)).labels[0].tolist()
    assert labels[[place[:3] for place in where].index((60, 60, 8))] == 0
