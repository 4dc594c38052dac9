"""Prove on this machine that a bundle's artifacts are the detector that was exported.

    conventions -> golden source picture -> letterbox -> runtime -> raw outputs -> detections

Each step is compared with what `golden/` stores: the conventions, the letterboxed input, PyTorch's float32
outputs and detections, and for int8 the integer simulator's outputs. `budgets.py` has all limits. Needs
neither torch nor a data set.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from fcos_edge.budgets import BUDGETS, Budgets
from fcos_edge.bundle import ManifestArtifact, check_files, read_manifest
from fcos_edge.comparison import Check, Comparison, Partners, Run
from fcos_edge.conventions import check_conventions, check_postprocessing, has_shapes_of
from fcos_edge.cpu import Cpu, detect_cpu
from fcos_edge.errors import ArtifactError, GateError, RuntimeUnavailableError
from fcos_edge.golden import FOLDER, Golden, GoldenPicture, read_golden
from fcos_edge.image import read_image_bgr
from fcos_edge.letterbox import Letterbox
from fcos_edge.loading import LoadedArtifact, open_artifact
from fcos_edge.postprocess import PostProcessor
from fcos_edge.raw_outputs import split_outputs
from fcos_edge.runtime import UInt8Array, find_runtime, installed_package, runtime_names
from fcos_edge.saturation import saturation_note
from fcos_edge.spec import ModelSpec

SCHEMA = "fcos-edge.verify/1"
# Of all golden pictures in turn: enough for a median that one busy moment does not move.
LATENCY_RUNS = 12

# Where int8 sums are exact on x86 with VNNI: runtime -> its package. tflite-runtime's are where it computes
# them in XNNPACK (xnnpack.py), and requantized otherwise where it does not.
_EXACT_PACKAGES = {"onnxruntime": "onnxruntime", "tflite": "ai_edge_litert"}
_NOBODY = Partners(0, 0)


@dataclass(frozen=True)
class Latency:
    """Source picture to detections, over all golden pictures in turn."""

    median_ms: float
    runs: int


@dataclass(frozen=True)
class ArtifactReport:
    """What was found out about one model file.

    file      its name
    runtime   what ran it: `onnxruntime`, ...
    checks    every figure beside its limit
    outputs   how near the raw outputs are, in a few words
    partners  of the detections
    threads   it ran with
    latency   None where nobody asked for it
    note      what the user should know about this computer, or ""
    """

    file: str
    precision: str
    runtime: str
    checks: tuple[Check, ...]
    outputs: str = ""
    partners: Partners = _NOBODY
    threads: int = 1
    latency: Latency | None = None
    note: str = ""

    @property
    def failures(self) -> tuple[Check, ...]:
        return tuple(check for check in self.checks if not check.passed)

    @property
    def failure(self) -> str:
        """The first failure in words, and how many more there are; "" where there is none."""
        if not self.failures:
            return ""
        more = len(self.failures) - 1
        return self.failures[0].description + (f", and {more} more" if more else "")

    def to_dict(self) -> dict[str, Any]:
        return {
            "runtime": self.runtime,
            "passed": not self.failures,
            "failure": self.failure,
            "outputs": self.outputs,
            "detections": vars(self.partners),
            "threads": self.threads,
            "latency": vars(self.latency) if self.latency else None,
            "note": self.note,
            "checks": [check.to_dict() for check in self.checks],
        }


@dataclass(frozen=True)
class VerifyReport:
    """All artifacts of a bundle; `skipped` are the files that no installed runtime reads."""

    folder: Path
    cpu: Cpu
    artifacts: tuple[ArtifactReport, ...]
    skipped: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        return not any(artifact.failures for artifact in self.artifacts)

    def require(self) -> None:
        """Raise GateError with the first failure unless all passed."""
        for artifact in self.artifacts:
            if artifact.failures:
                note = f" ({artifact.note})" if artifact.note else ""
                raise GateError(f"{artifact.file} in {artifact.runtime}: {artifact.failure}{note}")

    def to_dict(self) -> dict[str, Any]:
        return {
            "schema": SCHEMA,
            "passed": self.passed,
            "cpu": self.cpu.description,
            "artifacts": [{"file": a.file, "precision": a.precision, **a.to_dict()} for a in self.artifacts],
            "skipped": list(self.skipped),
        }


def verify_bundle(
    folder: Path,
    runtime: str | None = None,
    threads: int | None = None,
    budgets: Budgets = BUDGETS,
    *,
    is_timed: bool = False,
) -> VerifyReport:
    """Verify every artifact of the bundle at `folder` that an installed runtime reads.

    runtime   only the files of this one
    threads   by default as many as this process may use
    is_timed  measure the latency, too: some more runs of each

    A failed check is in the report, not raised. Raises FcosEdgeError where nothing can be verified:
    ArtifactError for a damaged bundle, RuntimeUnavailableError without a runtime for any file.
    """
    manifest = read_manifest(folder)
    golden = read_golden(folder)
    runtimes = _runtimes_by_suffix(runtime)
    reports, skipped = [], []
    for artifact in manifest.artifacts:
        name = runtimes.get(Path(artifact.name).suffix)
        if name is None:
            skipped.append(artifact.name)
        else:
            path = check_files(folder, artifact)
            report = verify_file(
                path, name, artifact, manifest.spec, golden, threads, budgets, is_timed=is_timed
            )
            reports.append(report)
    if not reports:
        requirements = [find_runtime(name).REQUIREMENT for name in runtime_names()]
        wanted = " or ".join(f"pip install '{requirement}'" for requirement in requirements if requirement)
        raise RuntimeUnavailableError(
            f"{folder}: no file for {runtime}; it has {', '.join(skipped)}"
            if runtime
            else f"{folder}: no runtime for its files is installed; run: {wanted}"
        )
    return VerifyReport(folder, detect_cpu(), tuple(reports), tuple(skipped))


def verify_file(
    path: Path,
    runtime: str,
    artifact: ManifestArtifact,
    spec: ModelSpec,
    golden: Golden,
    threads: int | None = None,
    budgets: Budgets = BUDGETS,
    *,
    is_timed: bool = False,
) -> ArtifactReport:
    """Verify one model file of a bundle against the bundle's golden pictures.

    spec  the manifest's
    """
    loaded = open_artifact(path, runtime, threads=threads)
    try:
        _check_belongs(loaded, artifact, spec, golden)
        conventions = check_conventions(loaded.spec, loaded.info, artifact.name, golden)
        report = ArtifactReport(path.name, artifact.precision, runtime, (conventions,))
        report = replace(report, threads=loaded.options.threads)
        if not has_shapes_of(loaded.spec, golden):
            return report  # there is nothing that its outputs could be compared with
        folder = path.parent / FOLDER
        images_bgr = [read_image_bgr(folder / picture.source_name) for picture in golden.pictures]
        source_hws = [(image.shape[0], image.shape[1]) for image in images_bgr]
        postprocessing = check_postprocessing(
            loaded.spec, loaded.info, artifact.name, golden, source_hws, budgets.postprocess
        )
        cpu = detect_cpu()
        package = installed_package(find_runtime(runtime))
        saturates = not cpu.has_vnni and not loaded.info.has_7bit_weights
        is_exact = not saturates and golden.is_integer and _EXACT_PACKAGES.get(runtime) == package
        comparison = Comparison(loaded.info, golden, budgets, is_exact)
        for picture, run in zip(golden.pictures, _run(loaded, images_bgr, golden.pictures), strict=True):
            comparison.add(picture, run)
        report = replace(
            report,
            checks=(conventions, *comparison.checks(), *postprocessing),
            outputs=comparison.outputs_in_words(),
            partners=comparison.partners(),
            latency=_measure_latency(loaded, images_bgr) if is_timed else None,
        )
        if loaded.info.precision == "int8" and not loaded.info.has_7bit_weights:
            report = replace(report, note=saturation_note(cpu, runtime, has_failed=bool(report.failures)))
        return report
    finally:
        loaded.close()


def _run(
    loaded: LoadedArtifact, images_bgr: Sequence[UInt8Array], pictures: Sequence[GoldenPicture]
) -> Iterator[Run]:
    postprocess = PostProcessor(loaded.spec)
    for image_bgr, picture in zip(images_bgr, pictures, strict=True):
        letterbox = Letterbox.from_spec(loaded.spec, (image_bgr.shape[0], image_bgr.shape[1]))
        difference = np.abs(letterbox.apply(image_bgr)[None].astype(np.int16) - picture.images)
        # The stored input, so that the network is compared on the same one.
        raw = loaded.runtime.run(picture.images)
        outputs = dict(split_outputs(raw, loaded.spec))
        yield Run(int(difference.max()), outputs, postprocess(raw, [letterbox])[0])


def _measure_latency(loaded: LoadedArtifact, images_bgr: Sequence[UInt8Array]) -> Latency:
    """The network is warm: it has run all pictures before."""
    detector = loaded.detector()
    times_ms = []
    for index in range(-1, LATENCY_RUNS):
        start = time.perf_counter()
        detector(images_bgr[index % len(images_bgr)])
        if index >= 0:  # the first call made the buffers
            times_ms.append((time.perf_counter() - start) * 1e3)
    return Latency(statistics.median(times_ms), len(times_ms))


def _check_belongs(
    loaded: LoadedArtifact, artifact: ManifestArtifact, spec: ModelSpec, golden: Golden
) -> None:
    """Raise ArtifactError where the file is another model's than the bundle's."""
    is_same = loaded.spec == spec and loaded.info.precision == artifact.precision
    if loaded.info.precision == "int8":
        # Without a record there is nothing to compare with, and both are "".
        is_same &= loaded.info.record_sha256 == golden.record_sha256 != ""
    if not is_same:
        raise ArtifactError(f"{loaded.path}: is not the model of this bundle; export the bundle again")


def _runtimes_by_suffix(runtime: str | None) -> dict[str, str]:
    """Suffix -> the installed runtime whose own format it is."""
    names = runtime_names() if runtime is None else (runtime,)
    found = {}
    for name in names:
        candidate = find_runtime(name)
        if installed_package(candidate) is not None:
            found[next(iter(candidate.READERS))] = name
        elif runtime is not None:
            raise RuntimeUnavailableError(
                f"{runtime} is not installed; run: pip install '{candidate.REQUIREMENT}'"
            )
    return found
