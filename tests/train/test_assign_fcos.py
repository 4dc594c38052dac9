"""FCOS's own assignment against a slow oracle, and the paper's rules one by one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fcos_edge.train.config import AssignConfig
from fcos_edge.train.targets import BACKGROUND, IGNORED, Targets
from tests.train import oracles_assign
from tests.train.assign_cases import GRIDS, INFINITE, Grid, Picture, assert_is, pictures, predict, run
from tests.train.oracles import Box
from tests.train.oracles_assign import Place

GRID = GRIDS[0]
PLACES = oracles_assign.places(GRID.input_hw, GRID.strides)


def _run(grid: Grid, batch: Sequence[Picture], center_radius: float, strict: bool = False) -> Targets:
    config = AssignConfig(ranges=grid.ranges, center_radius=center_radius, strict_ranges=strict)
    return run(config, grid, batch, predict(batch, oracles_assign.places(grid.input_hw, grid.strides), 0))


def _assign(boxes: list[Box], labels: list[int], center_radius: float = 0.0, strict: bool = False) -> Targets:
    return _run(GRID, [list(zip(boxes, labels, strict=True))], center_radius, strict)


def _at(x: float, y: float, stride: int) -> int:
    """Index of a location."""
    return [place[:3] for place in PLACES].index((x, y, stride))


@given(
    grid=st.sampled_from(GRIDS),
    batch=pictures(),
    center_radius=st.sampled_from([0.0, 0.5, 1.5, 2.25]),
    strict=st.booleans(),
)
@settings(max_examples=100, deadline=None, derandomize=True)
def test_match__is_the_oracle(grid: Grid, batch: list[Picture], center_radius: float, strict: bool) -> None:
    def oracle(_: int, where: Sequence[Place], boxes: Sequence[Box], labels: Sequence[int]) -> Sequence[int]:
        return oracles_assign.fcos(where, boxes, labels, grid.ranges, center_radius, strict)

    assert_is(_run(grid, batch, center_radius, strict), grid, batch, oracle)


@pytest.mark.parametrize("center_radius", [0.0, 1.5])
def test_match__is_the_oracle_on_a_large_picture(center_radius: float) -> None:
    # The paper's levels and ranges; sides of any length, from 3 to 500 pixels.
    grid = Grid((384, 608), (8, 16, 32, 64, 128), AssignConfig().ranges)
    rng = np.random.default_rng(3)
    batch: list[Picture] = []
    for _ in range(2):
        center, half = rng.uniform(0, (608, 384), (25, 2)), np.exp(rng.uniform(0.5, 5.5, (25, 2)))
        corners = np.hstack([center - half, center + half]).astype(np.float32)
        batch.append([(cast(Box, tuple(map(float, box))), label) for label, box in enumerate(corners)])

    def oracle(_: int, where: Sequence[Place], boxes: Sequence[Box], labels: Sequence[int]) -> Sequence[int]:
        return oracles_assign.fcos(where, boxes, labels, grid.ranges, center_radius, False)

    found = _run(grid, batch, center_radius)
    assert (found.labels >= 0).sum() > 200
    assert_is(found, grid, batch, oracle)


@pytest.mark.parametrize(
    ("place", "box", "belongs", "belongs_strictly"),
    [
        ((12, 20, 8), (4, 4, 28, 28), True, False),  # the largest distance is 16, the upper end of 0..16
        ((20, 20, 8), (3.5, 4, 28, 28), False, False),  # 16.5
        ((24, 24, 16), (8, 8, 40, 40), True, False),  # 16 is the lower end of 16..40, too
        ((24, 24, 16), (8.5, 8.5, 39.5, 39.5), False, False),  # 15.5
        ((24, 24, 16), (7.5, 7.5, 40, 40), True, True),  # 16.5
        ((24, 24, 16), (0, 0, 64, 64), True, False),  # 40
        ((24, 24, 16), (0, 0, 64.5, 64), False, False),  # 40.5
    ],
)
@pytest.mark.parametrize("strict", [False, True])
def test_match__both_ends_of_a_range_belong_or_strictly_neither(
    place: tuple[int, int, int], box: Box, belongs: bool, belongs_strictly: bool, strict: bool
) -> None:
    found = _assign([box], [0], strict=strict).labels[0, _at(*place)].item()
    assert (found == 0) is (belongs_strictly if strict else belongs)


def test_match__no_upper_end_is_no_end_when_strict() -> None:
    box = (-400.0, -400.0, 400.0, 400.0)
    assert (_assign([box], [0], strict=True).labels[0, _at(48, 48, 32)] == 0).all()
    assert GRID.ranges[2][1] == INFINITE


def test_match__smallest_area_wins_and_ties_go_to_the_first() -> None:
    place = _at(20, 20, 8)
    large, small, twin = (8.0, 8.0, 34.0, 34.0), (10.0, 12.0, 30.0, 30.0), (12.0, 10.0, 30.0, 30.0)
    assert _assign([large, small], [0, 1]).labels[0, place].item() == 1
    assert _assign([small, large], [1, 0]).labels[0, place].item() == 1
    assert _assign([small, twin], [1, 2]).labels[0, place].item() == 1
    assert _assign([twin, small], [2, 1]).labels[0, place].item() == 2


@pytest.mark.parametrize("center_radius", [0.0, 1.5])
def test_match__border_of_a_box_is_outside(center_radius: float) -> None:
    # (12, 12) lies on the left side: min(l, t, r, b) is 0.
    assert (
        _assign([(12.0, 4.0, 20.0, 20.0)], [0], center_radius).labels[0, _at(12, 12, 8)].item() == BACKGROUND
    )


def test_match__center_sampling_takes_the_middle_only() -> None:
    box = (0.0, 0.0, 96.0, 48.0)  # centre (48, 24): on stride 32, half a stride reaches 16 pixels, exclusive
    everywhere, middle = (_assign([box], [0], radius).labels[0] for radius in (0.0, 0.5))
    assert everywhere[_at(16, 16, 32)].item() == 0
    assert middle[_at(16, 16, 32)].item() == BACKGROUND
    assert middle[_at(48, 16, 32)].item() == 0


def test_match__center_sampling_stays_inside_the_box() -> None:
    # 1.5 strides of 8 around the centre (20, 20) would reach (12, 20) and (28, 20).
    labels = _assign([(14.0, 10.0, 26.0, 30.0)], [0], 1.5).labels[0]
    assert [labels[_at(x, 20, 8)].item() for x in (12, 20, 28)] == [BACKGROUND, 0, BACKGROUND]


def test_match__ignore_region() -> None:
    region, box = (0.0, 0.0, 64.0, 64.0), (8.0, 8.0, 32.0, 32.0)
    labels = _assign([region, box], [IGNORED, 1]).labels[0]
    assert labels[_at(20, 20, 8)].item() == 1  # a box inside still trains
    assert labels[_at(52, 52, 8)].item() == IGNORED
    assert labels[_at(84, 52, 8)].item() == BACKGROUND  # outside


def test_match__ignore_region_takes_no_location_from_a_larger_box() -> None:
    labels = _assign([(18.0, 18.0, 22.0, 22.0), (8.0, 8.0, 32.0, 32.0)], [IGNORED, 1]).labels[0]
    assert labels[_at(20, 20, 8)].item() == 1


def test_match__border_of_an_ignore_region_is_outside() -> None:
    labels = _assign([(12.0, 12.0, 28.0, 28.0)], [IGNORED]).labels[0]
    assert [labels[_at(x, 20, 8)].item() for x in (12, 20, 28)] == [BACKGROUND, IGNORED, BACKGROUND]


def test_match__box_as_large_as_the_picture_is_not_padding() -> None:
    # Padding is BACKGROUND whatever its numbers are.
    box = (0.0, 0.0, 96.0, 64.0)
    assert (_assign([box], [BACKGROUND]).labels == BACKGROUND).all()
    assert (_assign([box], [0]).labels == 0).any()
