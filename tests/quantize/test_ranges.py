"""Range estimators: what each one minimizes or averages, against the obvious."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fcos_edge.quantize.ranges import BINS, ESTIMATORS, Values


def observed(pictures: npt.NDArray[np.float64]) -> Values:
    """Of the values of each picture, (N, values)."""
    values = Values()
    for picture in pictures:
        values.add(float(picture.min()), float(picture.max()))
    values.counts = np.histogram(pictures, BINS, (values.low, values.high))[0].astype(np.float64)
    return values


def squared_error(samples: npt.NDArray[np.float64], low: float, high: float) -> float:
    scale = (high - low) / 255
    quantized = np.clip(np.rint((samples - low) / scale), 0, 255) * scale + low
    return float(((quantized - samples) ** 2).mean())


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 2**32 - 1), st.sampled_from([0.0, 3.0, 10.0]))
def test_mse__loses_no_more_than_minmax(seed: int, outlier: float) -> None:
    random = np.random.default_rng(seed)
    pictures = random.normal(0, 1, (4, 5000))
    pictures[0, 0] += outlier * random.choice([-1, 1])
    values = observed(pictures)
    found, plain = (squared_error(pictures, *ESTIMATORS[name](values)) for name in ("mse", "minmax"))
    # The estimator sees values as the centers of 2048 bins, eight to a step: 1 % of a step's error.
    assert found <= plain * 1.02


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_estimators__no_order_of_the_pictures_matters(estimator: str) -> None:
    pictures = np.random.default_rng(0).normal(0, 1, (7, 1000))
    assert ESTIMATORS[estimator](observed(pictures)) == ESTIMATORS[estimator](observed(pictures[::-1]))


def test_average__is_the_mean_of_each_pictures_ends() -> None:
    pictures = np.array([[-1.0, 2.0], [-3.0, 8.0]])
    assert ESTIMATORS["average"](observed(pictures)) == (-2.0, 5.0)
    assert ESTIMATORS["minmax"](observed(pictures)) == (-3.0, 8.0)
