"""Prove on this machine that a bundle's artifacts are the detector that was exported.

    golden source picture -> letterbox -> runtime -> raw outputs -> detections

Each step is compared with what `golden/` stores: the letterboxed input, PyTorch's float32 outputs and
detections, and for int8 the integer simulator's outputs. `budgets.py` has all limits. Needs neither torch
nor a data set.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fcos_edge.budgets import BUDGETS, Budgets
from fcos_edge.bundle import ManifestArtifact, check_files, read_manifest
from fcos_edge.comparison import Check, Comparison, Run
from fcos_edge.cpu import Cpu, detect_cpu
from fcos_edge.errors import ArtifactError, GateError, RuntimeUnavailableError
from fcos_edge.golden import FOLDER, Golden, GoldenPicture, read_golden
from fcos_edge.image import read_image_bgr
from fcos_edge.letterbox import Letterbox
from fcos_edge.loading import LoadedArtifact, open_artifact
from fcos_edge.postprocess import PostProcessor
from fcos_edge.runtime import RawOutputs, find_runtime, installed_package, runtime_names
from fcos_edge.spec import BRANCHES, ModelSpec

# Where int8 sums are exact on x86 with VNNI: runtime -> its package. tflite-runtime's are where it computes
# them in XNNPACK (xnnpack.py), and requantized otherwise where it does not.
_EXACT_PACKAGES = {"onnxruntime": "onnxruntime", "tflite": "ai_edge_litert"}
# XNNPACK, inside ai-edge-litert, widens before it adds and does not saturate on any CPU.
_SATURATING = ("onnxruntime", "openvino")


@dataclass(frozen=True)
class ArtifactReport:
    """What was found out about one model file.

    file     its name
    runtime  what ran it: `onnxruntime`, ...
    checks   every figure beside its limit
    note     what the user should know about this computer, or ""
    """

    file: str
    precision: str
    runtime: str
    checks: tuple[Check, ...]
    note: str = ""

    @property
    def failures(self) -> tuple[Check, ...]:
        return tuple(check for check in self.checks if not check.passed)

    def to_dict(self) -> dict[str, Any]:
        checks = [check.to_dict() for check in self.checks]
        return {"runtime": self.runtime, "passed": not self.failures, "note": self.note, "checks": checks}


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
                more = len(artifact.failures) - 1
                also = f", and {more} more" if more else ""
                note = f" ({artifact.note})" if artifact.note else ""
                raise GateError(
                    f"{artifact.file} in {artifact.runtime}: {artifact.failures[0].description}{also}{note}"
                )

    def to_dict(self) -> dict[str, Any]:
        return {
            "passed": self.passed,
            "cpu": self.cpu.description,
            "artifacts": [{"file": a.file, "precision": a.precision, **a.to_dict()} for a in self.artifacts],
            "skipped": list(self.skipped),
        }


def verify_bundle(
    folder: Path, runtime: str | None = None, threads: int | None = None, budgets: Budgets = BUDGETS
) -> VerifyReport:
    """Verify every artifact of the bundle at `folder` that an installed runtime reads.

    runtime  only the files of this one

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
            reports.append(verify_file(path, name, artifact, manifest.spec, golden, threads, budgets))
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
) -> ArtifactReport:
    """Verify one model file of a bundle against the bundle's golden pictures."""
    loaded = open_artifact(path, runtime, threads=threads)
    try:
        _check_belongs(loaded, artifact, spec, golden)
        cpu = detect_cpu()
        package = installed_package(find_runtime(runtime))
        is_exact = bool(cpu.has_vnni) and golden.is_integer and _EXACT_PACKAGES.get(runtime) == package
        comparison = Comparison(loaded.info, golden, budgets, is_exact)
        folder = path.parent / FOLDER
        for picture, run in zip(golden.pictures, _run(loaded, folder, golden.pictures), strict=True):
            comparison.add(picture, run)
        note = ""
        if loaded.info.precision == "int8" and cpu.saturates_int8 and runtime in _SATURATING:
            note = "this x86 CPU has no VNNI: int8 products saturate in this runtime; use TFLite or fp32 here"
        return ArtifactReport(path.name, artifact.precision, runtime, comparison.checks(), note)
    finally:
        loaded.close()


def _run(loaded: LoadedArtifact, folder: Path, pictures: Sequence[GoldenPicture]) -> Iterator[Run]:
    postprocess = PostProcessor(loaded.spec)
    for picture in pictures:
        image_bgr = read_image_bgr(folder / picture.source_name)
        letterbox = Letterbox.from_spec(loaded.spec, (image_bgr.shape[0], image_bgr.shape[1]))
        difference = np.abs(letterbox.apply(image_bgr)[None].astype(np.int16) - picture.images)
        # The stored input, so that the network is compared on the same one.
        raw = loaded.runtime.run(picture.images)
        outputs = dict(split_outputs(raw, loaded.spec))
        yield Run(int(difference.max()), outputs, postprocess(raw, [letterbox])[0])


def split_outputs(raw: RawOutputs, spec: ModelSpec) -> Iterator[tuple[str, Any]]:
    """(output name, (h, w, C) float32) of the first picture; integers are dequantized."""
    start = 0
    for level, (name, (height, width)) in enumerate(zip(spec.level_names, spec.level_hw, strict=True)):
        stop = start + height * width
        for kind, branch in zip(BRANCHES, raw, strict=True):
            values = branch.values[0, start:stop].reshape(height, width, -1).astype(np.float32)
            if branch.quantization:
                scale, zero_point = branch.quantization[level]
                values = (values - np.float32(zero_point)) * np.float32(scale)
            yield f"{kind}_{name}", values.copy()
        start = stop


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
