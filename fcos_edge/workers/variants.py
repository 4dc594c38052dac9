"""What there is to run on this machine: every artifact of a bundle with every runtime that reads it.

model.int8.onnx    onnxruntime, and openvino where that is asked for
model.int8.xml     openvino
model.int8.tflite  ai-edge-litert; tflite-runtime, from an interpreter of its own
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fcos_edge.bundle import Manifest, ManifestArtifact
from fcos_edge.errors import RuntimeUnavailableError, UsageError
from fcos_edge.runtime import find_runtime, installed_package, runtime_names

TORCH = "torch"


@dataclass(frozen=True)
class Interpreter:
    """A Python that has fcos-edge, and what it can run.

    python    its path
    packages  runtime -> the package that it would use there, as pip names it: `tflite` -> `ai-edge-litert`
    """

    python: str
    packages: Mapping[str, str]


@dataclass(frozen=True)
class Variant:
    """One artifact in one runtime.

    file       that is loaded, a plain name within the bundle
    precision  of the file
    runtime    a file of `runtimes/`, or `torch`
    package    of the runtime, as pip names it
    python     the interpreter that runs it
    """

    file: str
    precision: str
    runtime: str
    package: str
    python: str = sys.executable

    @property
    def name(self) -> str:
        """`model.int8.onnx in onnxruntime`."""
        return f"{self.file} in {self.package}"


def this_interpreter() -> Interpreter:
    """What the Python that runs this can run."""
    return Interpreter(sys.executable, installed_packages())


def installed_packages() -> dict[str, str]:
    """Runtime -> the installed package that it uses, as pip names it; those that need none are left out."""
    found = {}
    for name in runtime_names():
        package = installed_package(find_runtime(name))
        if package:
            found[name] = package.replace("_", "-")
    return found


def plan_variants(
    manifest: Manifest,
    interpreters: Sequence[Interpreter],
    *,
    runtime: str | None = None,
    has_onnx_in_openvino: bool = False,
) -> tuple[tuple[Variant, ...], tuple[str, ...]]:
    """The variants in the manifest's order, and the files that nothing here runs.

    interpreters          where several have a package, the first runs it
    runtime               only this one
    has_onnx_in_openvino  .onnx files run in OpenVINO, too

    Raises RuntimeUnavailableError where nothing can be run, with what to install, and UsageError for an
    interpreter that was named for another runtime than `runtime`.
    """
    if runtime is not None:
        find_runtime(runtime)  # an unknown name is said as such
        _check_interpreters(interpreters, runtime)
    variants: list[Variant] = []
    skipped = []
    for artifact in manifest.artifacts:
        suffix = Path(artifact.name).suffix
        of_artifact: dict[str, Variant] = {}
        for interpreter in interpreters:
            for name, package in interpreter.packages.items():
                if runtime not in (None, name) or not _reads(name, suffix, has_onnx_in_openvino):
                    continue
                variant = Variant(artifact.name, artifact.precision, name, package, interpreter.python)
                of_artifact.setdefault(package, variant)
        variants += of_artifact.values()
        if not of_artifact:
            skipped.append(artifact.name)
    if not variants:
        raise RuntimeUnavailableError(_why_nothing_runs(manifest, interpreters, runtime))
    return tuple(variants), tuple(skipped)


def chosen_variants(variants: Sequence[Variant], precisions: Sequence[str] | None) -> tuple[Variant, ...]:
    """Those of some precisions. Raises UsageError where none is left."""
    kept = tuple(v for v in variants if precisions is None or v.precision in precisions)
    if not kept:
        held = ", ".join(dict.fromkeys(v.precision for v in variants))
        raise UsageError(f"--precisions {','.join(precisions or ())}: what runs here is {held}")
    return kept


def files_of(manifest: Manifest, variant: Variant) -> ManifestArtifact:
    """The artifact that a variant runs."""
    return next(artifact for artifact in manifest.artifacts if artifact.name == variant.file)


def _check_interpreters(interpreters: Sequence[Interpreter], runtime: str) -> None:
    """What the user named is not left out without a word."""
    for one in interpreters:
        if one.python != sys.executable and runtime not in one.packages:
            raise UsageError(
                f"--python {one.python}: is for {', '.join(one.packages.values())}, which --runtime {runtime}"
                " leaves out; drop one of the two"
            )


def _reads(runtime: str, suffix: str, has_onnx_in_openvino: bool) -> bool:
    """Its own format, or an additional one that was asked for."""
    readers = tuple(find_runtime(runtime).READERS)
    is_own = readers[:1] == (suffix,)
    return is_own or (has_onnx_in_openvino and runtime == "openvino" and suffix in readers)


def _why_nothing_runs(manifest: Manifest, interpreters: Sequence[Interpreter], runtime: str | None) -> str:
    having = {
        name for interpreter in interpreters for name, package in interpreter.packages.items() if package
    }
    if runtime in having or (runtime is not None and not find_runtime(runtime).REQUIREMENT):
        files = ", ".join(artifact.name for artifact in manifest.artifacts)
        return f"the bundle has no file for {runtime}; it has {files}"
    names = runtime_names() if runtime is None else (runtime,)
    requirements = [find_runtime(name).REQUIREMENT for name in names]
    wanted = " or ".join(f"pip install '{requirement}'" for requirement in requirements if requirement)
    return f"no runtime for the files of this bundle is installed; run: {wanted}"
