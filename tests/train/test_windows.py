"""Windows hold every location that they must, and the cheapest box wins."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from fcos_edge.train.config import AssignConfig
from fcos_edge.train.targets import make_locations
from fcos_edge.train.windows import Window, window_around, window_from, winners
from tests.train.assign_cases import CPU

LOCATIONS = make_locations((72, 200), (8, 16, 64), AssignConfig(method="atss"), CPU)
PLACES = 60  # windows at as many random places


def _random_xy(seed: int) -> torch.Tensor:
    """(1, PLACES, 2): half of them on a grid of quarter strides, where ends meet locations; some outside."""
    rng = np.random.default_rng(seed)
    anywhere = rng.uniform((-80, -80), (280, 150), (PLACES // 2, 2))
    on_grid = rng.integers((-40, -40), (140, 75), (PLACES // 2, 2)) * 2.0
    return torch.from_numpy(np.concatenate([anywhere, on_grid])).float()[None]


def _check(window: Window, first: int, count: int) -> None:
    """Places are of the level, none of them twice, and x and y are theirs."""
    places = window.places[0].flatten(1)
    assert ((places >= first) & (places < first + count)).all()
    assert all(len(set(row)) == len(row) for row in places.tolist())
    shape = window.places.shape
    xy = torch.stack([window.x.expand(shape), window.y.expand(shape)], -1)
    assert torch.equal(xy, LOCATIONS.xy[window.places])


@pytest.mark.parametrize("longest", [0.0, 7.9, 8.0, 12.0, 36.0, 64.0, 150.0, math.inf])
@pytest.mark.parametrize("number", range(len(LOCATIONS.levels)))
def test_window_from__holds_all_between(number: int, longest: float) -> None:
    level = LOCATIONS.levels[number]
    lowest = _random_xy(1)
    window = window_from(level, lowest, longest)
    count = level.height * level.width
    _check(window, level.first, count)
    xy = LOCATIONS.xy[level.first : level.first + count]
    for index in range(PLACES):
        is_between = ((xy >= lowest[0, index]) & (xy <= lowest[0, index] + longest)).all(1)
        wanted = set((is_between.nonzero().flatten() + level.first).tolist())
        assert wanted <= set(window.places[0, index].flatten().tolist())


@pytest.mark.parametrize("count", [1, 2, 3, 4, 8, 9])
@pytest.mark.parametrize("number", range(len(LOCATIONS.levels)))
def test_window_around__holds_the_nearest(number: int, count: int) -> None:
    level = LOCATIONS.levels[number]
    locations = level.height * level.width
    count = min(count, locations)
    center = _random_xy(2)
    window = window_around(level, center, count)
    _check(window, level.first, locations)
    xy = LOCATIONS.xy[level.first : level.first + locations]
    for index in range(PLACES):
        # Of equals the first.
        nearest = (xy - center[0, index]).square().sum(1).argsort(stable=True)[:count] + level.first
        assert set(nearest.tolist()) <= set(window.places[0, index].flatten().tolist())


def test_windows__are_small_where_they_can_be() -> None:
    level = LOCATIONS.levels[0]  # 9 rows of 25
    assert window_from(level, _random_xy(0), 24.0).places.shape == (1, PLACES, 4, 4)
    assert window_from(level, _random_xy(0), 96.0).places.shape == (1, PLACES, 9, 13)
    assert window_from(level, _random_xy(0), math.inf).places.shape == (1, PLACES, 9, 25)
    assert window_around(level, _random_xy(0), 9).places.shape == (1, PLACES, 9, 9)


def test_winners__cheapest_then_first() -> None:
    places = torch.tensor([[[0, 1, 2, 3], [3, 2, 1, 0], [1, 2, 4, 0]]])
    cost = torch.tensor(
        [[[5.0, 2.0, math.inf, 1.0], [1.0, math.inf, 2.0, 4.0], [1.5, math.inf, math.inf, 4.0]]]
    )
    # Location 0: the second and the third cost 4. Location 2 and 4: nobody may. Location 3: a tie.
    assert winners(places, cost, 6).tolist() == [[1, 2, -1, 0, -1, -1]]
