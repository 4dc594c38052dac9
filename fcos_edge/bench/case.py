"""One artifact with one number of threads: its process, asked in short slices until it fails."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fcos_edge.bench.figures import Latency
from fcos_edge.bench.report import STAGES, CaseReport
from fcos_edge.workers.process import Worker, WorkerError
from fcos_edge.workers.variants import Variant

WARM_UP_CALLS = 10
_MOST_WARM_UP_S = 0.4


class Case:
    """A case from `start` to `close`; after a failure it is asked nothing more."""

    def __init__(self, variant: Variant, threads: int, path: Path, size_bytes: int) -> None:
        self.variant, self.threads = variant, threads
        self.failure = ""
        # Of every round: of every call, milliseconds of letterbox, inference, post-processing.
        self.rounds_ms: list[list[list[float]]] = []
        self.peak_mib = 0.0
        self.warm_ms = 0.0
        # Of the process until it answers; of its network, from the file.
        self.start_s = self.load_s = 0.0
        self._path = path
        self._size_bytes = size_bytes
        self._facts: dict[str, Any] = {}
        self._memory: dict[str, float | None] = {}
        self._worker: Worker | None = None

    def start(self, pictures: Sequence[Path], timeout_s: float, cache: Path) -> None:
        """Load, run a first time, warm up, keep the pictures.

        cache: where the runtime keeps what it makes of the file
        """
        began = time.monotonic()
        try:
            self._worker = Worker(self.variant.python, timeout_s, cache=cache)
        except OSError as error:
            self.failure = f"{self.variant.python} cannot be started: {error.strerror}"
            return
        paths = [str(picture.resolve()) for picture in pictures]
        arguments = {"path": str(self._path.resolve()), "runtime": self.variant.runtime}
        loaded = self._ask("load", **arguments, threads=self.threads)
        answered = time.monotonic()
        first = self._ask("first", picture=paths[0])
        warm = self._ask("time", pictures=paths[:1], seconds=_MOST_WARM_UP_S, most_calls=WARM_UP_CALLS)
        memory = self._ask("memory")
        self._ask("keep", pictures=paths)
        if loaded is None or first is None or warm is None or memory is None:
            return
        self.load_s = loaded["load_ms"] / 1e3
        self.start_s = answered - began - self.load_s
        self.warm_ms = statistics.median(map(sum, warm["ms"]))
        self.peak_mib = memory["peak_mib"] or 0.0
        self._memory = {"before": loaded["before_mib"], "rest": memory["now_mib"]}
        self._facts = {
            "versions": loaded["versions"], "load_ms": loaded["load_ms"], "first_ms": first["first_ms"],
        }  # fmt: skip

    def run_slice(self, calls: int, most_seconds: float) -> None:
        """Its part of a round."""
        if answer := self._ask("slice", calls=calls, most_seconds=most_seconds):
            self.rounds_ms.append(answer["ms"])

    def ask_memory(self) -> None:
        """After the last round: the most that it took."""
        if memory := self._ask("memory"):
            self._memory["peak"] = memory["peak_mib"]

    def close(self) -> None:
        """End the process, whatever it is doing."""
        if self._worker is not None:
            self._worker.close()
            self._worker = None

    def inference_rounds_ms(self) -> list[float]:
        """The median inference of each round."""
        return [statistics.median(ms[1] for ms in calls) for calls in self.rounds_ms]

    def report(self) -> CaseReport:
        calls = [ms for of_round in self.rounds_ms for ms in of_round]
        latency = {}
        if calls:
            columns = [*zip(*calls, strict=True), tuple(map(sum, calls))]
            latency = {stage: Latency.of(ms) for stage, ms in zip(STAGES, columns, strict=True)}
        return CaseReport(
            self.variant, self.threads, self._size_bytes, **self._facts, memory_mib=self._memory,
            latency=latency, failure=self.failure,
        )  # fmt: skip

    def _ask(self, op: str, **arguments: Any) -> dict[str, Any] | None:
        if self.failure or self._worker is None:
            return None
        try:
            return self._worker.call(op, **arguments)
        except WorkerError as error:
            self.failure = str(error)
            self._worker.close()
            self._worker = None
            return None
