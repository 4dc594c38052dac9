"""Pictures a second, from picture to detections, of one or several networks that run at the same time.

Each network has a Python thread of its own: runtimes let go of the interpreter's lock while they compute.
Where a runtime has asynchronous requests, the thread prepares the next picture while the network works.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import cast

import numpy as np

from fcos_edge.letterbox import Letterbox
from fcos_edge.loading import LoadedArtifact, open_artifact
from fcos_edge.postprocess import PostProcessor
from fcos_edge.runtime import AsyncRuntime, RawOutputs, UInt8Array

_WARM_UP_PICTURES = 3


@dataclass(frozen=True)
class Throughput:
    """pictures: counted, without the warm-up; per_second: of all networks together; load_ms: of the first."""

    pictures: int
    per_second: float
    is_asynchronous: bool
    load_ms: float


def measure_throughput(
    path: Path, runtime: str, networks: int, threads: int, images_bgr: Sequence[UInt8Array], seconds: float
) -> Throughput:
    """Load the file `networks` times, each with `threads`, and run the pictures over and over.

    Raises FcosEdgeError where it cannot be loaded.
    """
    start = time.perf_counter_ns()
    loaded = [open_artifact(path, runtime, threads=threads)]
    load_ms = round((time.perf_counter_ns() - start) / 1e6, 4)
    loaded += [open_artifact(path, runtime, threads=threads) for _ in range(networks - 1)]
    lines = [_Line(one, images_bgr) for one in loaded]
    try:
        for line in lines:
            line.run(time.monotonic(), at_least=_WARM_UP_PICTURES)
        counted = _run_together(lines, seconds)
    finally:
        for one in loaded:
            one.close()
    return Throughput(
        sum(count for count, _ in counted),
        sum(count / took_s for count, took_s in counted),
        lines[0].is_asynchronous,
        load_ms,
    )


class _Line:
    """One network, and what is around it."""

    def __init__(self, loaded: LoadedArtifact, images_bgr: Sequence[UInt8Array]) -> None:
        self.is_asynchronous = hasattr(loaded.runtime, "submit")
        self._runtime = loaded.runtime
        self._spec = loaded.spec
        self._thresholds = np.array(loaded.info.operating_thresholds, np.float32)
        self._least = min(loaded.info.operating_thresholds)
        self._postprocess = PostProcessor(loaded.spec)
        self._images = np.empty((1, *loaded.spec.input_hw, 3), np.uint8)
        self._pictures = cycle(images_bgr)

    def run(self, end: float, at_least: int = 1) -> int:
        """Pictures done until `time.monotonic()` is `end`."""
        return self._overlapping(end, at_least) if self.is_asynchronous else self._in_turn(end, at_least)

    def _in_turn(self, end: float, at_least: int) -> int:
        count = 0
        while count < at_least or time.monotonic() < end:
            letterbox = self._prepare()
            self._finish(self._runtime.run(self._images), letterbox)
            count += 1
        return count

    def _overlapping(self, end: float, at_least: int) -> int:
        runtime = cast(AsyncRuntime, self._runtime)
        letterbox = self._prepare()
        runtime.submit(self._images)
        count = 0
        while count < at_least or time.monotonic() < end:
            following = self._prepare()
            raw = runtime.wait()
            runtime.submit(self._images)
            # What was waited for stays as it is while the next one is computed.
            self._finish(raw, letterbox)
            letterbox = following
            count += 1
        runtime.wait()
        return count

    def _prepare(self) -> Letterbox:
        image_bgr = next(self._pictures)
        letterbox = Letterbox.from_spec(self._spec, (image_bgr.shape[0], image_bgr.shape[1]))
        letterbox.apply(image_bgr, out=self._images[0])
        return letterbox

    def _finish(self, raw: RawOutputs, letterbox: Letterbox) -> None:
        self._postprocess(raw, [letterbox], self._least)[0].filtered(self._thresholds)


def _run_together(lines: Sequence[_Line], seconds: float) -> list[tuple[int, float]]:
    """Of each line, its pictures and the seconds that they took."""
    counted: list[tuple[int, float]] = []
    errors: list[BaseException] = []
    together = threading.Barrier(len(lines))

    def work(line: _Line) -> None:
        try:
            together.wait()
            start = time.monotonic()
            count = line.run(start + seconds)
            counted.append((count, time.monotonic() - start))
        except BaseException as error:  # for the thread that waits for all
            errors.append(error)

    threads = [threading.Thread(target=work, args=(line,)) for line in lines]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return counted
