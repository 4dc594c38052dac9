"""The process that runs one artifact in one runtime, and does what it is asked.

    python -m fcos_edge.workers.child

Each line on stdin is a request, `{"op": "detect", ...}`, each line on stdout its answer: `{"ok": ...}`, or
`{"error": one line}` for a user's mistake. What libraries print goes to stderr. The process ends with its
stdin.

Operations are the methods of `Child` whose name begins with `do_`; arguments and answers are JSON.
"""

from __future__ import annotations

import json
import os
import platform
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

import numpy as np

from fcos_edge import __version__
from fcos_edge.detections import Detections
from fcos_edge.errors import FcosEdgeError
from fcos_edge.image import read_image_bgr
from fcos_edge.letterbox import Letterbox
from fcos_edge.postprocess import PostProcessor
from fcos_edge.runtime import Runtime, UInt8Array, find_runtime
from fcos_edge.spec import ModelSpec
from fcos_edge.workers.memory import resident_mib
from fcos_edge.workers.perturbation import perturb
from fcos_edge.workers.raw_values import real_values, save_values
from fcos_edge.workers.variants import TORCH, installed_packages


class Child:
    """One network, from `do_load` on."""

    def __init__(self) -> None:
        self._network: Runtime
        self._spec: ModelSpec
        self._thresholds: tuple[float, ...]
        self._postprocess: PostProcessor
        self._images: UInt8Array
        self._kept_bgr: list[UInt8Array]
        self._turn: int

    def do_hello(self) -> dict[str, Any]:
        """Which Python this is, and what it can run."""
        return {
            "fcos_edge": __version__,
            "python": platform.python_version(),
            "packages": installed_packages(),
        }

    def do_load(self, path: str, runtime: str, threads: int) -> dict[str, Any]:
        """Load a model file, or a checkpoint for the runtime `torch`.

        Answers with spec, thresholds and precision, the versions at work, and load_ms.
        """
        before_mib = resident_mib()
        start = time.perf_counter_ns()
        if runtime == TORCH:
            from fcos_edge.train.torch_runtime import open_checkpoint

            detector = open_checkpoint(Path(path), threads)
            self._network, self._spec = detector.runtime, detector.spec
            self._thresholds, precision, description = detector.operating_thresholds, "fp32", "in PyTorch"
        else:
            from fcos_edge.loading import open_artifact

            loaded = open_artifact(path, runtime, threads=threads)
            self._network, self._spec = loaded.runtime, loaded.spec
            self._thresholds, precision = loaded.info.operating_thresholds, loaded.info.precision
            description = loaded.description
        load_ms = _milliseconds(time.perf_counter_ns() - start)
        self._postprocess = PostProcessor(self._spec)
        self._images = np.zeros((1, *self._spec.input_hw, 3), np.uint8)
        return {
            "spec": self._spec.to_dict(),
            "operating_thresholds": list(self._thresholds),
            "precision": precision,
            "description": description,
            "load_ms": load_ms,
            "before_mib": before_mib,
            "versions": _versions(runtime),
        }

    def do_first(self, picture: str) -> dict[str, Any]:
        """The first inference of a process, which costs more than others: first_ms."""
        _, times_ms = self._run_picture(read_image_bgr(Path(picture)), 0.0)
        return {"first_ms": times_ms[1]}

    def do_detect(
        self, pictures: list[str], seeds: list[int], perturbation: str | None = None, raw: str | None = None
    ) -> dict[str, Any]:
        """All detections above the candidate threshold in each picture.

        seeds         of the perturbation, one per picture
        perturbation  `bit` or `noise` (perturbation.py)
        raw           where to write the raw outputs (raw_values.py)
        """
        rows, values = [], []
        for path, seed in zip(pictures, seeds, strict=True):
            image_bgr = read_image_bgr(Path(path))
            letterbox = Letterbox.from_spec(self._spec, (image_bgr.shape[0], image_bgr.shape[1]))
            images = letterbox.apply(image_bgr, out=self._images[0])[None]
            if perturbation is not None:
                images = perturb(images, letterbox, perturbation, (seed,))
            outputs = self._network.run(images)
            rows.append(self._postprocess(outputs, [letterbox])[0].to_lists())
            if raw is not None:
                values.append(real_values(outputs, self._spec))
        if raw is not None:
            save_values(Path(raw), values)
        return {"detections": rows}

    def do_time(self, pictures: list[str], seconds: float, most_calls: int = 1 << 20) -> dict[str, Any]:
        """Run the pictures over and over, as `Detector` does at its operating thresholds.

        Answers with the milliseconds of letterbox, inference and post-processing of each call; pictures are
        read before, and every one is run at least once.
        """
        images_bgr = [read_image_bgr(Path(picture)) for picture in pictures]
        least = min(self._thresholds)
        times_ms: list[list[float]] = []
        end = time.monotonic() + seconds
        while len(times_ms) < most_calls:
            for image_bgr in images_bgr:
                times_ms.append(self._run_picture(image_bgr, least)[1])
            if time.monotonic() >= end:
                break
        return {"ms": times_ms}

    def do_keep(self, pictures: list[str]) -> dict[str, Any]:
        """Read pictures, and keep them for `slice` and `throughput`."""
        self._kept_bgr = [read_image_bgr(Path(picture)) for picture in pictures]
        self._turn = 0
        return {}

    def do_slice(self, calls: int, most_seconds: float) -> dict[str, Any]:
        """Run the kept pictures, one after the other, going on where the last slice ended.

        Answers with the milliseconds of letterbox, inference and post-processing of each call. Before, one
        call is left out: other processes have had the caches.
        """
        least = min(self._thresholds)
        self._run_picture(self._kept_bgr[self._turn % len(self._kept_bgr)], least)
        times_ms: list[list[float]] = []
        end = time.monotonic() + most_seconds
        while len(times_ms) < calls and (not times_ms or time.monotonic() < end):
            times_ms.append(self._run_picture(self._kept_bgr[self._turn % len(self._kept_bgr)], least)[1])
            self._turn += 1
        return {"ms": times_ms}

    def do_throughput(
        self, path: str, runtime: str, networks: int, threads: int, seconds: float
    ) -> dict[str, Any]:
        """Pictures a second, of the kept pictures (throughput.py); needs no `load`."""
        from fcos_edge.workers.throughput import measure_throughput

        return asdict(measure_throughput(Path(path), runtime, networks, threads, self._kept_bgr, seconds))

    def do_memory(self) -> dict[str, Any]:
        """Resident memory now, and the most since the process began, MiB; None where nothing tells."""
        return {"now_mib": resident_mib(), "peak_mib": resident_mib("peak")}

    def do_verify(self, bundle: str, file: str, runtime: str, threads: int) -> dict[str, Any]:
        """The artifact against the bundle's golden pictures, as `fcos-edge verify` does it."""
        from fcos_edge.budgets import BUDGETS, FOREIGN_BUDGETS
        from fcos_edge.bundle import check_files, read_manifest
        from fcos_edge.golden import read_golden
        from fcos_edge.verify import verify_file

        manifest = read_manifest(Path(bundle))
        (artifact,) = (artifact for artifact in manifest.artifacts if artifact.name == file)
        path = check_files(Path(bundle), artifact)
        golden = read_golden(Path(bundle))
        is_own = next(iter(find_runtime(runtime).READERS)) == path.suffix
        budgets = BUDGETS if is_own else FOREIGN_BUDGETS
        return verify_file(path, runtime, artifact, manifest.spec, golden, threads, budgets).to_dict()

    def _run_picture(self, image_bgr: UInt8Array, least_score: float) -> tuple[Detections, list[float]]:
        start = time.perf_counter_ns()
        letterbox = Letterbox.from_spec(self._spec, (image_bgr.shape[0], image_bgr.shape[1]))
        letterbox.apply(image_bgr, out=self._images[0])
        boxed = time.perf_counter_ns()
        outputs = self._network.run(self._images)
        ran = time.perf_counter_ns()
        detections = self._postprocess(outputs, [letterbox], least_score)[0]
        if least_score:
            detections = detections.filtered(self._thresholds)
        done = time.perf_counter_ns()
        return detections, [_milliseconds(t) for t in (boxed - start, ran - boxed, done - ran)]


def serve(requests: IO[str], answers: IO[str]) -> None:
    """Answer every request until there are no more."""
    child = Child()
    for line in requests:
        request = json.loads(line)
        operation: Callable[..., dict[str, Any]] = getattr(child, f"do_{request.pop('op')}")
        answer: dict[str, Any]
        try:
            answer = {"ok": operation(**request)}
        except FcosEdgeError as error:
            answer = {"error": " ".join(str(error).splitlines())}
        print(json.dumps(answer, allow_nan=False), file=answers, flush=True)


def main() -> None:
    # Ctrl-C goes to the whole group; whoever started this ends it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Libraries print to descriptor 1, also from C++: answers go through a copy that they do not know.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    serve(sys.stdin, answers)


def _versions(runtime: str) -> dict[str, str]:
    from importlib.metadata import PackageNotFoundError, version

    package = TORCH if runtime == TORCH else installed_packages().get(runtime, runtime)
    found = {"python": platform.python_version(), "fcos-edge": __version__}
    for name in (package, "numpy", "opencv-python-headless"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:  # the distribution's own build has no such name
            continue
    return found


def _milliseconds(nanoseconds: int) -> float:
    return round(nanoseconds / 1e6, 4)


if __name__ == "__main__":
    main()
