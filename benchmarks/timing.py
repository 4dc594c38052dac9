"""Calls that take turns: what is compared is timed side by side, so that a busy neighbour slows all of it."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence

from fcos_edge.console import track

WARM_UP_CALLS = 10


def median_times(
    calls: Mapping[str, Callable[[], object]], rounds: int, calls_per_round: int
) -> dict[str, list[float]]:
    """Microseconds of each call: one median per round, in which every call has a run of its own."""
    for call in calls.values():
        for _ in range(WARM_UP_CALLS):
            call()
    medians_us: dict[str, list[float]] = {name: [] for name in calls}
    for _ in track(range(rounds), "timing", rounds):
        for name, call in calls.items():
            times_us = []
            for _ in range(calls_per_round):
                start = time.perf_counter_ns()
                call()
                times_us.append((time.perf_counter_ns() - start) / 1e3)
            medians_us[name].append(statistics.median(times_us))
    return medians_us


def median_ratio(numerators: Sequence[float], denominators: Sequence[float]) -> float:
    """The median of the rounds' ratios."""
    return statistics.median(a / b for a, b in zip(numerators, denominators, strict=True))
