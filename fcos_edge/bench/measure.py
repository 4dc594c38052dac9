"""Measure every artifact with every number of threads, within a time.

Each has a process of its own, and one computes at a time. They take turns in short slices, in another
order every round, so that a busy neighbour slows all of them: ratios are of one round, and their median
counts. Afterwards each artifact shows how many pictures a second it can do.
"""

from __future__ import annotations

import math
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from fcos_edge.bench.advice import remarks
from fcos_edge.bench.case import WARM_UP_CALLS, Case
from fcos_edge.bench.figures import LEAST_CALLS_P90, Ratio, relative_rounds, trend
from fcos_edge.bench.report import BenchReport, CaseReport, Gain, ThroughputReport
from fcos_edge.bench.throughput import measure_variant, settings_for
from fcos_edge.bundle import Manifest, check_files
from fcos_edge.conditions import measure_conditions
from fcos_edge.console import Progress
from fcos_edge.heat import measure_heat
from fcos_edge.threads import default_threads
from fcos_edge.workers.memory import available_mib
from fcos_edge.workers.variants import Variant, files_of

# Of the time that is left when everything is loaded, also what throughput will load; and the most with that.
_THROUGHPUT_SHARE, _MOST_THROUGHPUT_SHARE = 0.12, 0.4
_SLICE_S = 0.12
# A very slow one may take so much longer than the others.
_MOST_SLICE_S = 0.8
_LEAST_TIMEOUT_S = 60.0
# A board without swap ends processes; its file cache is worth something, too.
_SPARE_MIB = 200.0


def bench_variants(
    folder: Path,
    manifest: Manifest,
    variants: Sequence[Variant],
    threads: Sequence[int],
    pictures: Sequence[Path],
    seconds: float,
    *,
    has_throughput: bool = True,
) -> BenchReport:
    """Measure `variants` of the bundle at `folder` with each number of threads.

    pictures  files that can be read, at least one
    seconds   for all of it; a process that hangs takes longer

    What happens to one artifact is in its `failure`. Raises ArtifactError where a file is not the bundle's.
    """
    began = time.monotonic()
    paths = {variant: check_files(folder, files_of(manifest, variant)) for variant in variants}
    conditions = measure_conditions(max(threads))
    timeout_s = max(_LEAST_TIMEOUT_S, seconds)
    cases = [
        Case(variant, count, paths[variant], sum(entry.bytes for entry in files_of(manifest, variant).files))
        for count in threads
        for variant in variants
    ]
    # A cache of its own: it sees a first start and later ones, and drops nothing of the user's.
    cache = tempfile.TemporaryDirectory(prefix="fcos-edge-bench-")
    session = _Session(began, seconds, timeout_s, pictures, Path(cache.name))
    try:
        session.run_cases(cases, has_throughput)
        throughput = []
        if has_throughput:
            throughput = list(session.run_throughput(cases, paths, min(max(threads), default_threads())))
    finally:
        session.progress.close()
        cache.cleanup()
    reports = {case: case.report() for case in cases}
    rounds = [case.inference_rounds_ms() for case in cases]
    most_rounds = max(map(len, rounds))
    report = BenchReport(
        folder.resolve().name,
        conditions,
        tuple(picture.name for picture in pictures),
        seconds,
        round(time.monotonic() - began, 1),
        WARM_UP_CALLS,
        most_rounds,
        tuple(reports.values()),
        tuple(_int8_gains(cases, reports)),
        tuple(_thread_gains(cases, reports)),
        tuple(throughput),
        (*session.heat, session.heat_now()),
        trend(relative_rounds([one for one in rounds if len(one) == most_rounds])),
    )
    return replace(report, remarks=tuple(remarks(report)))


class _Session:
    """The time there is, and what was seen on the way."""

    def __init__(
        self, began: float, seconds: float, timeout_s: float, pictures: Sequence[Path], cache: Path
    ) -> None:
        self.progress = Progress("measuring, seconds", math.ceil(seconds))
        self.heat: list[dict[str, Any]] = []
        self._began, self._end = began, began + seconds
        self._timeout_s = timeout_s
        self._pictures = pictures
        self._cache = cache
        self.heat.append(self.heat_now())

    def heat_now(self) -> dict[str, Any]:
        return {"s": round(time.monotonic() - self._began, 1), **measure_heat()}

    def run_cases(self, cases: Sequence[Case], has_throughput: bool) -> None:
        """All together, or where memory is short in groups, one after the other.

        has_throughput: time is to be left for it
        """
        waiting = list(cases)
        while waiting:
            group: list[Case] = []
            with ExitStack() as stack:
                while waiting and (not group or _has_room(group)):
                    case = waiting.pop(0)
                    stack.callback(case.close)
                    self._advance(f"loading {case.variant.name}")
                    case.start(self._pictures, self._timeout_s, self._cache)
                    group.append(case)
                left_s = self._end - time.monotonic()
                if has_throughput:
                    starts_s = self._starts_of_throughput_s(cases)
                    kept_s = starts_s + _THROUGHPUT_SHARE * (left_s - starts_s)
                    left_s -= min(kept_s, _MOST_THROUGHPUT_SHARE * left_s)
                share_s = left_s * len(group) / (len(group) + len(waiting))
                self._run_rounds([case for case in group if not case.failure], share_s)
                for case in group:
                    case.ask_memory()

    def run_throughput(
        self, cases: Sequence[Case], paths: dict[Variant, Path], cores: int
    ) -> Iterator[ThroughputReport]:
        """Of every variant that did not fail before."""
        load_s = {case.variant: case.load_s for case in cases if not case.failure}
        for place, (variant, seconds) in enumerate(load_s.items()):
            self._advance(f"throughput of {variant.name}")
            share_s = max(0.0, (self._end - time.monotonic()) / (len(load_s) - place))
            yield measure_variant(
                variant, paths[variant], self._pictures, cores, share_s, seconds, self._timeout_s, self._cache
            )

    def _starts_of_throughput_s(self, cases: Sequence[Case]) -> float:
        """What its processes take to start, and to load their networks."""
        of_variant = {case.variant: case for case in cases if not case.failure}
        cores = min(default_threads(), max(case.threads for case in cases))
        networks = sum(setting.networks for setting in settings_for(cores))
        return sum(case.start_s + case.load_s * networks for case in of_variant.values())

    def _run_rounds(self, cases: Sequence[Case], seconds: float) -> None:
        if not cases:
            return
        calls = max(2, round(_SLICE_S * 1e3 / statistics.median(case.warm_ms for case in cases)))
        self._warn_if_short(cases, seconds)
        end = time.monotonic() + seconds
        turn, round_s = 0, 0.0
        # The last round ends about in time; one is made in any case.
        while turn == 0 or time.monotonic() + round_s / 2 < end:
            start = time.monotonic()
            for place in range(len(cases)):
                cases[(turn + place) % len(cases)].run_slice(calls, _MOST_SLICE_S)
            self.heat.append(self.heat_now())
            turn, round_s = turn + 1, time.monotonic() - start
            self._advance()

    def _warn_if_short(self, cases: Sequence[Case], seconds: float) -> None:
        """Before the time is spent: it will not do."""
        pass_s = sum(min(case.warm_ms / 1e3, _MOST_SLICE_S) for case in cases)
        if pass_s and seconds / pass_s < LEAST_CALLS_P90:
            missing_s = (LEAST_CALLS_P90 * pass_s - seconds) / (1 - _MOST_THROUGHPUT_SHARE)
            wanted = math.ceil(missing_s + self._end - self._began)
            self.progress.say(
                f"{len(cases)} artifacts and threads share {max(0.0, seconds):.0f} s: too short for"
                f" {LEAST_CALLS_P90} calls of each; give --seconds {wanted}, or choose fewer of --threads,"
                " --precisions or --runtime"
            )

    def _advance(self, doing: str = "measuring") -> None:
        done = min(self.progress.total, int(time.monotonic() - self._began))
        self.progress.advance(done, doing)


def _has_room(group: Sequence[Case]) -> bool:
    """Whether there is memory for one more case beside those that run."""
    available = available_mib()
    return available is None or available - 2 * max(case.peak_mib for case in group) > _SPARE_MIB


def _int8_gains(cases: Sequence[Case], reports: dict[Case, CaseReport]) -> Iterator[Gain]:
    for fp32 in cases:
        for int8 in cases:
            of_both = (_network(fp32), fp32.threads) == (_network(int8), int8.threads)
            if of_both and (fp32.variant.precision, int8.variant.precision) == ("fp32", "int8"):
                yield from _gain(fp32, int8, reports)


def _thread_gains(cases: Sequence[Case], reports: dict[Case, CaseReport]) -> Iterator[Gain]:
    for variant in dict.fromkeys(case.variant for case in cases):
        of_variant = [case for case in cases if case.variant == variant]
        for fewer, more in pairwise(sorted(of_variant, key=lambda case: case.threads)):
            yield from _gain(fewer, more, reports)


def _gain(slow: Case, fast: Case, reports: dict[Case, CaseReport]) -> Iterator[Gain]:
    ratio = Ratio.of(slow.inference_rounds_ms(), fast.inference_rounds_ms())
    if ratio is not None:
        yield Gain(reports[slow], reports[fast], ratio)


def _network(case: Case) -> tuple[str, ...]:
    """What int8 and fp32 have in common."""
    variant = case.variant
    return Path(variant.file).suffix, variant.package, variant.python
