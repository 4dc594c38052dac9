"""What many timed calls say: percentiles, ratios of rounds, and whether the machine slowed down."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

# Fewer calls say nothing of the rarer ones: beyond a percentile lie at least two.
LEAST_CALLS_P90 = 20
LEAST_CALLS_P99 = 200
SLOW_FACTOR = 2.0
_MOST_SAMPLES = 200
# Thirds of less are two rounds, and a neighbour's moment would count as a trend.
_LEAST_ROUNDS_OF_TREND = 6


@dataclass(frozen=True)
class Latency:
    """Milliseconds of `n` calls.

    p90_ms, p99_ms  None where n is too small for them
    slow_calls      that took more than twice the median
    samples_ms      some of them in their order, evenly chosen, for a plot
    """

    n: int
    p50_ms: float
    p90_ms: float | None
    p99_ms: float | None
    largest_ms: float
    slow_calls: int
    samples_ms: tuple[float, ...]

    @classmethod
    def of(cls, times_ms: Sequence[float]) -> Latency:
        """times_ms: of at least one call."""
        values = np.asarray(times_ms, np.float64)
        p50, p90, p99 = (round(float(p), 4) for p in np.percentile(values, (50, 90, 99)))
        chosen = np.linspace(0, len(values) - 1, min(len(values), _MOST_SAMPLES)).round().astype(int)
        return cls(
            len(values),
            p50,
            p90 if len(values) >= LEAST_CALLS_P90 else None,
            p99 if len(values) >= LEAST_CALLS_P99 else None,
            round(float(values.max()), 4),
            int((values > SLOW_FACTOR * np.median(values)).sum()),
            tuple(values[chosen].tolist()),
        )

    def to_dict(self) -> dict[str, Any]:
        return {**vars(self), "samples_ms": list(self.samples_ms)}


@dataclass(frozen=True)
class Ratio:
    """How many times as fast: slow / fast of each round, and the rounds' median."""

    median: float
    least: float
    most: float
    rounds: int

    @classmethod
    def of(cls, slow_ms: Sequence[float], fast_ms: Sequence[float]) -> Ratio | None:
        """Of as many rounds as both have; None where there is none."""
        ratios = [slow / fast for slow, fast in zip(slow_ms, fast_ms, strict=False)]
        if not ratios:
            return None
        median, least, most = statistics.median(ratios), min(ratios), max(ratios)
        return cls(round(median, 3), round(least, 3), round(most, 3), len(ratios))


def trend(values: Sequence[float]) -> float | None:
    """The median of the last third / that of the first; None for too few values."""
    if len(values) < _LEAST_ROUNDS_OF_TREND:
        return None
    third = len(values) // 3
    return statistics.median(values[-third:]) / statistics.median(values[:third])


def relative_rounds(rounds_ms: Sequence[Sequence[float]]) -> list[float]:
    """How slow each round was beside the others, 1 in the middle.

    rounds_ms: of each network, its milliseconds in every round; all have as many rounds
    """
    relative = [np.asarray(of_one) / np.median(of_one) for of_one in rounds_ms if of_one]
    return np.median(relative, axis=0).tolist() if relative else []
