"""Four pictures in a view, each box where it shows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from fcos_edge.train.config import AugmentConfig
from fcos_edge.train.targets import IGNORED
from fcos_edge.train.views.augment import Labelled
from fcos_edge.train.views.mosaic import mosaic_view
from tests.train.drawn import compare, draw, extent

PLAIN = AugmentConfig(contrast=0, brightness=0, saturation=0, pad_color=(0, 0, 0))
FOUR = [
    draw((60, 90), (5, 12, 40, 45), 0),
    draw((90, 60), (20, 30, 55, 80), 1),
    draw((40, 40), (3, 3, 36, 25), 2),
    draw((120, 80), (30, 5, 75, 60), 3),
]


@pytest.mark.parametrize("view_hw", [(128, 128), (96, 160), (160, 96)])
@pytest.mark.parametrize("flip", [0.0, 0.5, 1.0])
def test_mosaic_view__boxes_are_where_they_show(view_hw: tuple[int, int], flip: float) -> None:
    labels = []
    for seed in range(80):
        config = replace(PLAIN, flip=flip)
        view = mosaic_view(FOUR, view_hw, config, np.random.default_rng(seed))
        assert view.image.shape == (*view_hw, 3)
        assert view.boxes_xyxy.dtype == np.float32
        assert view.labels.dtype == np.int64
        labels += compare(view, range(4))
    for kind in range(4):
        assert labels.count(kind) > 40
    assert labels.count(IGNORED) > 3  # parts cut boxes, too


def test_mosaic_view__each_picture_keeps_its_part() -> None:
    """Pictures of one colour: top left, top right, bottom left, bottom right, nothing over a border."""
    four = [draw((50, 50), (0, 0, 50, 50), kind) for kind in range(4)]
    corners = []
    for seed in range(40):
        # At twice its part's area each picture is cut at its part's borders.
        view = mosaic_view(four, (100, 200), replace(PLAIN, scale=(4.0, 4.0)), np.random.default_rng(seed))
        found = [extent(view.image, kind) for kind in range(4)]
        x, y = found[0][2:]  # type: ignore[index]
        wanted = [[0, 0, x, y], [x, 0, 200, y], [0, y, x, 100], [x, y, 200, 100]]
        np.testing.assert_array_equal(np.array(found), wanted)
        corners.append((x / 200, y / 100))
    assert np.min(corners) >= 0.3 - 0.005  # rounded to whole pixels
    assert np.max(corners) <= 0.7 + 0.005
    assert np.ptp(corners, axis=0).min() > 0.3


def test_mosaic_view__pictures_without_boxes() -> None:
    empty = Labelled(FOUR[0].image, np.zeros((0, 4), np.float32), np.zeros(0, np.int64))
    view = mosaic_view([empty] * 4, (64, 64), AugmentConfig(), np.random.default_rng(0))
    assert view.boxes_xyxy.shape == (0, 4)
    assert view.labels.shape == (0,)
    view = mosaic_view([*FOUR[:3], empty], (64, 64), PLAIN, np.random.default_rng(0))
    assert 3 not in view.labels
