"""From a path to a running detector: which file, which runtime, how many threads.

A bundle holds one model several times. What is taken unless the caller says: int8, in the runtime that
is fastest on this kind of computer (OpenVINO on x86-64, TFLite on Arm) if it is installed, else in one
that is. Nothing is taken silently: `LoadedArtifact.description` says what it was.
"""

from __future__ import annotations

import platform
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from fcos_edge.artifact import PRECISIONS, ArtifactInfo, parse_document
from fcos_edge.bundle import MANIFEST_NAME, ManifestArtifact, check_files, read_manifest
from fcos_edge.errors import ArtifactError, RuntimeUnavailableError, SpecError, UsageError
from fcos_edge.runtime import (
    LoadOptions,
    Runtime,
    RuntimeFile,
    find_runtime,
    installed_package,
    runtime_names,
)
from fcos_edge.spec import ModelSpec
from fcos_edge.threads import checked_threads

if TYPE_CHECKING:
    from fcos_edge.detector import Detector

# The runtime may choose the precision that it computes floats in; not the precision of a file.
FAST = "fast"
# Where nothing is said. fp16 and w8 files are smaller, not faster, and less exact: last.
_PRECISION_ORDER = ("int8", "fp32", "fp16", "w8")


@dataclass(frozen=True)
class LoadedArtifact:
    """One model file, ready to run.

    path          the file
    spec, info    from the document inside it
    runtime_name  `onnxruntime`, `openvino`, ...
    options       the threads and device that it runs with
    """

    runtime: Runtime
    path: Path
    spec: ModelSpec
    info: ArtifactInfo
    runtime_name: str
    options: LoadOptions

    @property
    def description(self) -> str:
        """One line: `model.int8.xml (int8) in openvino on CPU, 2 threads`."""
        threads = "1 thread" if self.options.threads == 1 else f"{self.options.threads} threads"
        fast = ", fast floats" if self.options.is_fast else ""
        device = self.options.device or "CPU"
        return f"{self.path.name} ({self.info.precision}) in {self.runtime_name} on {device}, {threads}{fast}"

    def detector(self) -> Detector:
        """The model's conventions around the network; it owns the network from now on."""
        from fcos_edge.detector import Detector

        on_cores = (self.options.device or "CPU").upper().startswith("CPU")
        threads = self.options.threads if on_cores else 0
        detector = Detector(self.runtime, self.spec, self.info.operating_thresholds, threads)
        detector.description = self.description
        return detector

    def close(self) -> None:
        """Free the runtime."""
        self.runtime.close()


class _Candidate(NamedTuple):
    """A file that an installed runtime can read."""

    artifact: ManifestArtifact
    runtime_name: str


def load(
    path: str | Path,
    runtime: str | None = None,
    precision: str | None = None,
    device: str | None = None,
    threads: int | None = None,
) -> Detector:
    """A detector from a bundle's folder, or from one .onnx, .xml or .tflite file.

    runtime    `onnxruntime`, `openvino` or `tflite`; by default what suits this computer
    precision  `int8`, `fp32`, `fp16` or `w8`: which file of a bundle; `fast`: the runtime may compute in a
               narrower float than float32
    device     in the runtime's words: OpenVINO's `GPU`, ONNX Runtime's `CUDA`, a TFLite delegate's path
    threads    by default as many as this process may use

    What was taken is in `detector.description`, and logged. Raises FcosEdgeError: ArtifactError for a
    damaged file, RuntimeUnavailableError with what to install, UsageError for arguments that do not fit.
    """
    loaded = open_artifact(path, runtime, precision, device, threads)
    # Whoever wants to see log messages has imported logging; for all others it would be 4 ms at each start.
    if logging := sys.modules.get("logging"):
        logging.getLogger(__name__).info("%s", loaded.description)
    return loaded.detector()


def open_artifact(
    path: str | Path,
    runtime: str | None = None,
    precision: str | None = None,
    device: str | None = None,
    threads: int | None = None,
) -> LoadedArtifact:
    """The bare network behind `load`, for what compares or times networks. Same arguments and errors."""
    path = Path(path)
    if precision not in (None, FAST, *PRECISIONS):
        raise UsageError(f"precision {precision!r} is none of {', '.join((*PRECISIONS, FAST))}")
    if device == "":
        raise UsageError("device is empty; name one as the runtime does, or leave it out for the CPU")
    threads = checked_threads(threads)
    names = runtime_names() if runtime is None else (runtime,)
    runtimes = {name: find_runtime(name) for name in names}
    file_precision = None if precision == FAST else precision
    manifest_spec, content = None, ""
    if path.is_dir():
        folder = path
        artifact, runtime_name, manifest_spec = choose_from_bundle(folder, runtimes, file_precision)
        path = check_files(folder, artifact)
        content = artifact.content
    else:
        runtime_name = _choose_runtime(path, runtimes)
    spec, info = _read_document(path, runtimes[runtime_name])
    if manifest_spec not in (None, spec):
        raise ArtifactError(f"{path}: its spec differs from {MANIFEST_NAME}'s; export the bundle again")
    if file_precision not in (None, info.precision):
        raise UsageError(f"{path}: is {info.precision}, not {file_precision}; give its bundle instead")
    options = LoadOptions(threads, device, precision == FAST, content)
    network = runtimes[runtime_name].load(path, spec, info, options)
    return LoadedArtifact(network, path, spec, info, runtime_name, options)


def read_document(path: Path) -> tuple[ModelSpec, ArtifactInfo]:
    """What the model file at `path` says about itself; needs no runtime installed.

    Raises ArtifactError for a file that cannot be read, SpecError for a document that is not ours.
    """
    runtimes = {name: find_runtime(name) for name in runtime_names()}
    readable = [runtime for runtime in runtimes.values() if path.suffix in runtime.READERS]
    if not readable:
        raise ArtifactError(f"{path}: no model file; expected {_suffixes(runtimes)}, or a bundle's folder")
    return _read_document(path, readable[0])


def _read_document(path: Path, runtime: RuntimeFile) -> tuple[ModelSpec, ArtifactInfo]:
    if not path.is_file():
        raise ArtifactError(f"{path}: no such file")
    try:
        return parse_document(runtime.READERS[path.suffix](path))
    except SpecError as error:
        raise SpecError(f"{path}: {error}") from None


def choose_from_bundle(
    folder: Path, runtimes: dict[str, RuntimeFile], precision: str | None
) -> tuple[ManifestArtifact, str, ModelSpec]:
    """The best artifact for an installed one of `runtimes`; that runtime; the manifest's spec."""
    manifest = read_manifest(folder)
    fitting = [a for a in manifest.artifacts if precision in (None, a.precision)]
    readable = [
        _Candidate(artifact, name)
        for artifact in fitting
        for name, runtime in runtimes.items()
        if _suffix(artifact) in runtime.READERS
    ]
    if not readable:
        held = ", ".join(artifact.name for artifact in manifest.artifacts) or "no model"
        wanted = f"{precision or 'model'} for {' or '.join(runtimes)}"
        raise UsageError(f"{folder}: no {wanted}; {MANIFEST_NAME} lists {held}")
    candidates = [c for c in readable if installed_package(runtimes[c.runtime_name]) is not None]
    if not candidates:
        raise _not_installed(runtimes[c.runtime_name] for c in readable)
    best = min(candidates, key=lambda c: (_PRECISION_ORDER.index(c.artifact.precision), *_rank(c, runtimes)))
    return best.artifact, best.runtime_name, manifest.spec


def _choose_runtime(path: Path, runtimes: dict[str, RuntimeFile]) -> str:
    """The best installed runtime that can read the file at `path`."""
    readable = [name for name, runtime in runtimes.items() if path.suffix in runtime.READERS]
    if not path.exists():
        raise ArtifactError(f"{path}: no such file or folder; check the path")
    if not readable:
        readers = " or ".join(runtimes)
        raise ArtifactError(f"{path}: not for {readers}; expected {_suffixes(runtimes)} or a bundle's folder")
    installed = [name for name in readable if installed_package(runtimes[name]) is not None]
    if not installed:
        raise _not_installed(runtimes[name] for name in readable)
    return min(installed, key=lambda name: _preference(name, runtimes[name], path.suffix))


def _rank(candidate: _Candidate, runtimes: dict[str, RuntimeFile]) -> tuple[int, bool, str]:
    name = candidate.runtime_name
    return _preference(name, runtimes[name], _suffix(candidate.artifact))


def _preference(name: str, runtime: RuntimeFile, suffix: str) -> tuple[int, bool, str]:
    """Smaller is better: a runtime's own format, then the runtime that suits this computer."""
    return list(runtime.READERS).index(suffix), platform.machine() not in runtime.FIRST_ON, name


def _not_installed(runtimes: Iterator[RuntimeFile]) -> RuntimeUnavailableError:
    lines = dict.fromkeys(f"pip install '{runtime.REQUIREMENT}'" for runtime in runtimes)
    return RuntimeUnavailableError(f"no runtime for this model is installed; run: {' or '.join(lines)}")


def _suffix(artifact: ManifestArtifact) -> str:
    return Path(artifact.name).suffix


def _suffixes(runtimes: dict[str, RuntimeFile]) -> str:
    return ", ".join(dict.fromkeys(suffix for runtime in runtimes.values() for suffix in runtime.READERS))
