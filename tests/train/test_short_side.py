"""The paper's view: its size, and each box where it shows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from fcos_edge.train.config import FLIP_ONLY
from fcos_edge.train.views.short_side import scaled_hw, short_side_view
from tests.train.drawn import compare, draw


@pytest.mark.parametrize(
    ("source_hw", "short_side", "max_long_side", "wanted_hw"),
    [
        ((480, 640), 800, 1333, (800, 1067)),  # COCO's most frequent size
        ((640, 480), 800, 1333, (1067, 800)),
        ((640, 427), 800, 1333, (1199, 800)),
        ((300, 640), 800, 1333, (625, 1333)),  # the long side decides
        ((640, 300), 800, 1333, (1333, 625)),
        ((480, 640), 640, 1333, (640, 853)),
        ((500, 500), 800, 1333, (800, 800)),
        ((800, 1333), 800, 1333, (800, 1333)),
        ((1, 4000), 800, 1333, (1, 1333)),  # never without a pixel
    ],
)
def test_scaled_hw__table(
    source_hw: tuple[int, int], short_side: int, max_long_side: int, wanted_hw: tuple[int, int]
) -> None:
    assert scaled_hw(source_hw, short_side, max_long_side) == wanted_hw


@pytest.mark.parametrize("source_hw", [(61, 90), (90, 61), (37, 37)])
@pytest.mark.parametrize("flip", [0.0, 1.0])
@pytest.mark.parametrize("short_side", [20, 41, 64, 99])
def test_short_side_view__boxes_are_where_they_show(
    source_hw: tuple[int, int], flip: float, short_side: int
) -> None:
    for box in ((5, 12, 30, 27), (0, 0, 12, 37), (20, 3, 37, 36)):
        config = replace(FLIP_ONLY, flip=flip)
        view = short_side_view(draw(source_hw, box, 1), short_side, 120, config, np.random.default_rng(0))
        assert view.image.shape[:2] == scaled_hw(source_hw, short_side, 120)
        assert compare(view, [1]) == [1]
        # Each side by its own factor: a box from end to end stays one.
        ends = draw(source_hw, (0, 0, source_hw[1], source_hw[0]), 2)
        view = short_side_view(ends, short_side, 120, config, np.random.default_rng(0))
        height, width = view.image.shape[:2]
        np.testing.assert_allclose(view.boxes_xyxy, [[0, 0, width, height]], atol=1e-4)  # float32 of 120


def test_short_side_view__flips_by_lot_and_shows_all() -> None:
    picture = draw((40, 60), (0, 0, 20, 40), 0)
    left_ends = []
    for seed in range(60):
        view = short_side_view(picture, 80, 1333, FLIP_ONLY, np.random.default_rng(seed))
        assert compare(view, [0]) == [0]
        left_ends.append(round(float(view.boxes_xyxy[0, 0])))
    assert set(left_ends) == {0, 80}
    assert 15 < left_ends.count(0) < 45
