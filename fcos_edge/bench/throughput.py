"""The best number of pictures a second: one network of many threads, or many networks of few."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from fcos_edge.bench.report import Setting, ThroughputReport
from fcos_edge.workers.process import Worker, WorkerError
from fcos_edge.workers.variants import Variant

# More hold the same weights once more each, and gain next to nothing.
_MOST_NETWORKS = 8
# Less is mostly the networks' start.
LEAST_SECONDS = 0.4


def settings_for(cores: int) -> tuple[Setting, ...]:
    """All that keep `cores` busy, or nearly: networks in powers of two, and as many as cores."""
    networks = [count for count in (1, 2, 4, _MOST_NETWORKS, cores) if count <= min(cores, _MOST_NETWORKS)]
    return tuple(Setting(count, cores // count) for count in dict.fromkeys(networks))


def measure_variant(
    variant: Variant,
    path: Path,
    pictures: Sequence[Path],
    cores: int,
    seconds: float,
    load_s: float,
    timeout_s: float,
    cache: Path,
) -> ThroughputReport:
    """Try every setting for which `seconds` are enough, and the first in any case.

    load_s  that one network takes to load
    cache   where the runtime has kept what it made of the file
    """
    end = time.monotonic() + seconds
    tried: dict[Setting, tuple[int, float]] = {}
    load_again_ms = None
    try:
        with Worker(variant.python, timeout_s, cache=cache) as worker:
            worker.call("keep", pictures=[str(picture.resolve()) for picture in pictures])
            settings = settings_for(cores)
            for place, setting in enumerate(settings):
                left_s = end - time.monotonic()
                networks_s = load_s * setting.networks
                if tried and left_s < networks_s + LEAST_SECONDS:
                    continue
                answer = worker.call(
                    "throughput", path=str(path.resolve()), runtime=variant.runtime,
                    networks=setting.networks, threads=setting.threads,
                    seconds=max(LEAST_SECONDS, left_s / (len(settings) - place) - networks_s),
                )  # fmt: skip
                done = Setting(setting.networks, setting.threads, answer["is_asynchronous"])
                if load_again_ms is None:  # the only one whose process was fresh
                    load_again_ms = answer["load_ms"]
                    load_s = answer["load_ms"] / 1e3
                tried[done] = (answer["pictures"], round(answer["per_second"], 1))
    except OSError as error:
        return ThroughputReport(variant, failure=f"{variant.python} cannot be started: {error.strerror}")
    except WorkerError as error:
        return ThroughputReport(variant, tried, load_again_ms, str(error))
    return ThroughputReport(variant, tried, load_again_ms)
