"""Percentiles, ratios and trends, against sorting and counting by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from fcos_edge.bench.figures import Latency, Ratio, relative_rounds, trend


def slow_percentile(values: list[float], percent: float) -> float:
    """Between the two nearest of the sorted values, as far as the place lies between them."""
    ordered = sorted(values)
    place = percent / 100 * (len(ordered) - 1)
    low, high = math.floor(place), math.ceil(place)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


@pytest.mark.parametrize(("n", "has_p90", "has_p99"), [
    (1, False, False),
    (19, False, False),
    (20, True, False),
    (199, True, False),
    (200, True, True),
    (1000, True, True),
])  # fmt: skip
def test_latency__a_percentile_needs_enough_calls(n: int, has_p90: bool, has_p99: bool) -> None:
    times_ms = np.random.default_rng(n).gamma(9.0, 1.0, n).tolist()
    latency = Latency.of(times_ms)
    assert (latency.n, latency.largest_ms) == (n, round(max(times_ms), 4))
    expected = [slow_percentile(times_ms, percent) for percent in (50, 90, 99)]
    found = [latency.p50_ms, latency.p90_ms, latency.p99_ms]
    # They are rounded to 0.1 microseconds.
    for value, wanted, is_told in zip(found, expected, (True, has_p90, has_p99), strict=True):
        assert value == (pytest.approx(wanted, abs=1e-4) if is_told else None)


@pytest.mark.parametrize(("times_ms", "slow"), [
    ([1.0, 1.0, 1.0], 0),
    ([1.0, 1.0, 2.0], 0),  # twice is not more than twice
    ([1.0, 1.0, 2.1], 1),
    ([1.0, 1.0, 1.0, 3.0, 9.0], 2),
])  # fmt: skip
def test_latency__calls_over_twice_the_median_are_counted(times_ms: list[float], slow: int) -> None:
    assert Latency.of(times_ms).slow_calls == slow


@pytest.mark.parametrize("n", [1, 2, 199, 200, 201, 5000])
def test_latency__samples_are_in_order_and_reach_from_end_to_end(n: int) -> None:
    samples = Latency.of([float(i + 1) for i in range(n)]).samples_ms
    assert len(samples) == min(n, 200)
    assert list(samples) == sorted(set(samples))
    assert (samples[0], samples[-1]) == (1.0, float(n))


def test_ratio__is_of_each_round() -> None:
    # A neighbour slows both in the second round: the ratio there is the same.
    assert Ratio.of([20.0, 60.0, 22.0], [10.0, 30.0, 10.0]) == Ratio(2.0, 2.0, 2.2, 3)
    # One failed after its first round.
    assert Ratio.of([20.0, 60.0], [10.0]) == Ratio(2.0, 2.0, 2.0, 1)
    assert Ratio.of([], [10.0]) is None


@pytest.mark.parametrize(("values", "expected"), [
    ([1.0] * 5, None),  # too few to have thirds
    ([1.0, 1.0, 5.0, 5.0, 2.0, 2.0], 2.0),
    ([4.0, 4.0, 9.0, 0.0, 0.0, 9.0, 9.0, 2.0, 2.0, 2.0], 0.5),
])  # fmt: skip
def test_trend__last_third_to_first(values: list[float], expected: float | None) -> None:
    assert trend(values) == expected


def test_relative_rounds__networks_of_different_speed_count_alike() -> None:
    assert relative_rounds([[10.0, 10.0, 20.0], [1.0, 1.0, 2.0]]) == [1.0, 1.0, 2.0]
    # What happens to one of three alone is no trend of the machine.
    assert relative_rounds([[10.0, 10.0, 90.0], [1.0, 1.0, 1.0], [5.0, 5.0, 5.0]]) == [1.0, 1.0, 1.0]
    assert relative_rounds([]) == []
