"""Times of rounds in which every artifact had its turn: percentiles by stage, ratios within a round."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from fcos_edge.bench.figures import Latency, Ratio

STAGES = ("letterbox", "inference", "postprocess")
# Of each round the milliseconds of STAGES, call by call.
Rounds = Sequence[Sequence[Sequence[float]]]


def stage_latencies(rounds_ms: Rounds) -> dict[str, Latency]:
    """Of each stage, and of the whole; of at least one call."""
    calls = [call for one in rounds_ms for call in one]
    stages = {name: Latency.of([call[place] for call in calls]) for place, name in enumerate(STAGES)}
    return {**stages, "whole": Latency.of([sum(call) for call in calls])}


def time_ratio(rounds_ms: Rounds, others_ms: Rounds) -> Ratio | None:
    """Whole time / the others', of the medians of each round; a busy neighbour slows both sides of one."""
    return Ratio.of(_medians(rounds_ms), _medians(others_ms))


def _medians(rounds_ms: Rounds) -> list[float]:
    return [statistics.median(map(sum, calls)) for calls in rounds_ms if calls]
