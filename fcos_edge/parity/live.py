"""An artifact whose process runs: asked until it fails, and what is known about it then."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fcos_edge.detections import Detections
from fcos_edge.errors import ArtifactError
from fcos_edge.parity.recording import VariantRun
from fcos_edge.runtime import FloatArray
from fcos_edge.spec import ModelSpec
from fcos_edge.workers.process import TIMEOUT_S, LostWorkerError, Worker, WorkerError
from fcos_edge.workers.raw_values import load_values
from fcos_edge.workers.variants import Variant

_WARM_UP_CALLS = 3
_MOST_SECONDS = 10.0  # of a round, on a board that takes seconds for a picture
Values = Mapping[str, FloatArray]


@dataclass(frozen=True)
class Options:
    """How to run: threads of each artifact, seconds to wait for an answer, and what is to be left out.

    is_timed     in rounds
    is_verified  against the golden pictures, too
    """

    threads: int
    timeout_s: float = TIMEOUT_S
    is_timed: bool = True
    is_verified: bool = True


class LiveVariant:
    """A variant whose process runs; after a failure it is asked nothing more."""

    def __init__(
        self,
        stack: ExitStack,
        variant: Variant,
        path: Path,
        num_bytes: int,
        options: Options,
        failure: str = "",
    ) -> None:
        self.variant = variant
        self.detections: list[Detections] = []
        self.spec: ModelSpec | None = None
        self.failure = failure
        self._path = path
        self._options = options
        self._facts: dict[str, Any] = {"bytes": num_bytes}
        self._rounds_ms: list[list[list[float]]] = []
        self._stack = stack
        self._worker: Worker | None = None

    @property
    def is_int8(self) -> bool:
        return self.variant.precision == "int8"

    def call(self, op: str, **arguments: Any) -> dict[str, Any] | None:
        """The answer, None after a failure."""
        if self.failure or self._worker is None:
            return None
        try:
            return self._worker.call(op, **arguments)
        except WorkerError as error:
            self.failure = str(error)
            self._worker.close()
            return None

    def start(self, first: str, timed: Sequence[str], cache: Path) -> None:
        """Load, and run `first`.

        timed  the pictures of `time_round`
        cache  where the runtime keeps what it makes of the file, apart from what the user's programs keep
        """
        if self.failure:
            return
        try:
            self._worker = Worker(self.variant.python, self._options.timeout_s, cache=cache)
        except OSError as error:
            self.failure = f"{self.variant.python} cannot be started: {error.strerror}"
            return
        self._stack.callback(self._worker.close)
        arguments = {"path": str(self._path.resolve()), "runtime": self.variant.runtime}
        answer = self.call("load", **arguments, threads=self._options.threads)
        began = self.call("first", picture=first)
        self.call("keep", pictures=timed)
        self.call("slice", calls=_WARM_UP_CALLS, most_seconds=_MOST_SECONDS)
        if answer is None or began is None:
            return
        self.spec = ModelSpec.from_dict(answer["spec"])
        self._facts |= {
            "spec": self.spec,
            "thresholds": tuple(answer["operating_thresholds"]),
            "versions": answer["versions"],
            "load_ms": answer["load_ms"],
            "first_ms": began["first_ms"],
            "memory_mib": {"before": answer["before_mib"]},
        }
        if memory := self.call("memory"):
            self._facts["memory_mib"]["rest"] = memory["now_mib"]

    def require(self) -> None:
        """Raise ArtifactError where this is gone."""
        if self.failure:
            raise ArtifactError(
                f"the reference, {self.variant.name}: {self.failure}; nothing can be judged without it, mend"
                " it or choose another with --runtime or --checkpoint"
            )

    def detect(self, pictures: Sequence[str], seeds: Sequence[int], raw: Path | None) -> Values | None:
        """Run a block, and keep what was found; its raw values where `raw` says where they can go."""
        answer = self.call("detect", pictures=pictures, seeds=seeds, raw=None if raw is None else str(raw))
        if answer is None:
            return None
        self.detections += map(Detections.from_lists, answer["detections"])
        return None if raw is None else load_values(raw)

    def detect_perturbed(
        self, kind: str, pictures: Sequence[str], seeds: Sequence[int], raw: Path
    ) -> tuple[list[Detections], Values] | None:
        arguments = {"pictures": pictures, "seeds": seeds, "perturbation": kind, "raw": str(raw)}
        answer = self.call("detect", **arguments)
        if answer is None:
            return None
        return list(map(Detections.from_lists, answer["detections"])), load_values(raw)

    def time_round(self, calls: int) -> None:
        if answer := self.call("slice", calls=calls, most_seconds=_MOST_SECONDS):
            self._rounds_ms.append(answer["ms"])

    def ask_memory(self) -> None:
        if memory := self.call("memory"):
            self._facts["memory_mib"]["peak"] = memory["peak_mib"]

    def verify(self, folder: Path) -> None:
        """Against the golden pictures; a bundle that has none is harmed, and can still be measured."""
        if self.failure or self._worker is None:
            return
        try:
            self._facts["verify"] = self._worker.call(
                "verify", bundle=str(folder.resolve()), file=self.variant.file,
                runtime=self.variant.runtime, threads=self._options.threads,
            )  # fmt: skip
        except LostWorkerError as error:
            self.failure = str(error)
        except WorkerError as error:
            self._facts["verify"] = {"passed": False, "failure": str(error), "checks": [], "note": ""}

    def run(self) -> VariantRun:
        return VariantRun(
            self.variant, self._options.threads, **self._facts, rounds_ms=self._rounds_ms,
            failure=self.failure, detections=tuple(self.detections),
        )  # fmt: skip
