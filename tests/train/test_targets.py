"""Where locations are, and the center-ness of a box around one."""

from __future__ import annotations

import math

import pytest
import torch

from fcos_edge.errors import UsageError
from fcos_edge.train.config import AssignConfig
from fcos_edge.train.targets import centerness, make_locations
from tests.train import oracles_assign
from tests.train.assign_cases import CPU, GRIDS, Grid


@pytest.mark.parametrize("grid", GRIDS)
def test_make_locations__floor_half_stride_plus_index_times_stride(grid: Grid) -> None:
    locations = make_locations(grid.input_hw, grid.strides, AssignConfig(ranges=grid.ranges), CPU)
    wanted = oracles_assign.places(grid.input_hw, grid.strides)
    assert locations.xy.tolist() == [[place.x, place.y] for place in wanted]
    assert locations.stride.tolist() == [place.stride for place in wanted]
    for number, level in enumerate(locations.levels):
        assert (level.stride, level.allowed) == (grid.strides[number], grid.ranges[number])
        assert level.first == [place.level for place in wanted].index(number)
        assert level.height * level.width == [place.level for place in wanted].count(number)


def test_make_locations__level_side_is_rounded_up() -> None:
    config = AssignConfig(ranges=((0, 64),))
    assert make_locations((32, 96), (64,), config, CPU).xy.tolist() == [[32, 32], [96, 32]]


def test_make_locations__one_range_a_level_where_ranges_count() -> None:
    with pytest.raises(UsageError, match=r"5 ranges for 2 levels; give assign\.ranges one a level"):
        make_locations((64, 64), (8, 16), AssignConfig(), CPU)
    assert len(make_locations((64, 64), (8, 16), AssignConfig(method="atss"), CPU).levels) == 2


def test_centerness__equation_3() -> None:
    ltrb = torch.tensor([[4.0, 4, 4, 4], [1, 4, 4, 4], [1, 1, 4, 9], [0, 4, 4, 4], [-1, 4, 4, 4]])
    assert centerness(ltrb).tolist() == pytest.approx([1, 0.5, math.sqrt(1 / 4 * 1 / 9), 0, 0])
