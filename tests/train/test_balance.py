"""Rare classes come more often: the factors as the paper has them, and as many samples as they say."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from fcos_edge.train.balance import count_samples, draw_repeats, repeat_factors
from fcos_edge.train.data.dataset import IGNORED, LabelledPicture


def _pictures(labels: list[list[int]]) -> list[LabelledPicture]:
    return [
        LabelledPicture(Path(f"{i}.png"), i, np.zeros((len(own), 4), np.float32), np.array(own, np.int64))
        for i, own in enumerate(labels)
    ]


@pytest.mark.parametrize(
    ("threshold", "labels", "wanted"),
    [
        (0.0, [[0], [], [1]], [1, 1, 1]),
        # f = 1 and 1/4: sqrt(1 / (1/4)) is 2
        (1.0, [[0], [0], [0, 1], [0]], [1, 1, 2, 1]),
        # The largest of the picture's classes; several boxes of one class are one.
        (1.0, [[0, 0, 1, 1], [0], [0, 2], [2]], [2, math.sqrt(4 / 3), math.sqrt(2), math.sqrt(2)]),
        # As frequent as the threshold, and above it.
        (0.5, [[0], [0, 1], [0, 1], []], [1, 1, 1, 1]),
        # Pictures without boxes count as pictures; ignore regions are of no class.
        (1.0, [[], [IGNORED], [IGNORED, 5], []], [1, 1, 2, 1]),
        (1.0, [[], []], [1, 1]),
    ],
)
def test_repeat_factors__table(threshold: float, labels: list[list[int]], wanted: list[float]) -> None:
    found = repeat_factors(_pictures(labels), threshold)
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, wanted, rtol=1e-12)  # float64 roots


@pytest.mark.parametrize(
    "factors",
    [
        [1.0, 1.0, 1.0],
        [1.3],
        [1.4, 1.2, 1.0],  # 3.6: four samples
        [1.1, 1.2, 1.1],  # 3.4: three, so the fractions get nothing
        [4.75, 1.0, 2.5, 2.75, 1.0],
        np.random.default_rng(0).uniform(1, 5, 500).tolist(),
        [1.999999, 2.999999, 1.0],
        [1 + 1e-12] * 5,
    ],
)
def test_draw_repeats__always_as_many_and_each_by_its_factor(factors: list[float]) -> None:
    values = np.array(factors)
    draws = np.array([draw_repeats(values, np.random.default_rng(seed)) for seed in range(400)])
    assert draws.dtype == np.int64
    assert set(draws.sum(axis=1).tolist()) == {count_samples(values)} == {round(math.fsum(factors))}
    assert (draws >= np.floor(values)).all()
    assert (draws <= np.floor(values) + 2).all()  # 2 where the sum was rounded up
    whole, fractions = np.floor(values), values - np.floor(values)
    # Fractions share what the rounded sum leaves.
    share = (count_samples(values) - whole.sum()) / max(fractions.sum(), 1e-9)
    # Of 400 draws a mean is off by 0.025 at most, one standard deviation; the worst of 500 by under four.
    np.testing.assert_allclose(draws.mean(axis=0), whole + fractions * share, atol=0.1)


def test_draw_repeats__neighbours_are_independent() -> None:
    """In the given order, halves would take turns."""
    draws = np.array([draw_repeats(np.full(40, 1.5), np.random.default_rng(seed)) for seed in range(200)])
    alike = (draws[:, :-1] == draws[:, 1:]).mean()
    assert alike == pytest.approx(19 / 39, abs=0.03)  # 7,800 pairs: 0.006 is one standard deviation
