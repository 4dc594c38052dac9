"""What every runtime gives back, and how one is found by name.

N     pictures in a batch
L     locations of all levels, P3 first, row by row
C     classes, background not counted
ltrb  distances from a location to the four sides of its box

A runtime is one file in `runtimes/`: it runs a network, and changes layout and dtype, nothing else.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, cast

import numpy as np

from fcos_edge.artifact import ArtifactInfo
from fcos_edge.errors import RuntimeUnavailableError
from fcos_edge.spec import ModelSpec

if TYPE_CHECKING:
    import numpy.typing as npt

    FloatArray = npt.NDArray[np.float32]
    IntArray = npt.NDArray[np.int64]
    UInt8Array = npt.NDArray[np.uint8]
else:
    # Annotations are not read at run time, and each start would pay a millisecond for numpy.typing.
    FloatArray = IntArray = UInt8Array = np.ndarray


@dataclass(frozen=True)
class Branch:
    """One kind of output for all locations.

    values        float32, or int8/uint8 with `quantization`; may be a view of a buffer that the next
                  run overwrites
    quantization  (scale, zero_point) per level; empty where `values` is float32
    """

    values: npt.NDArray[Any]
    quantization: Sequence[tuple[float, int]] = ()


class RawOutputs(NamedTuple):
    """What a network returns for N pictures, all levels one after the other."""

    logits: Branch  # (N, L, C), before the sigmoid
    ltrb: Branch  # (N, L, 4), before the activation
    centerness: Branch  # (N, L), before the sigmoid


class Runtime(Protocol):
    """A loaded network. `close` frees it; no other call may follow."""

    def run(self, images: UInt8Array) -> RawOutputs:
        """images: (N, H, W, 3) uint8, RGB, letterboxed."""
        ...

    def close(self) -> None: ...


class AsyncRuntime(Runtime, Protocol):
    """A runtime that can work on one batch while the caller prepares the next."""

    def submit(self, images: UInt8Array) -> None: ...

    def wait(self) -> RawOutputs: ...


@dataclass(frozen=True)
class LoadOptions:
    """How a runtime is to run a file.

    threads  at least 1
    device   in the runtime's own words: OpenVINO's `GPU`, ONNX Runtime's `CUDA`, a TFLite delegate's
             path; None is the CPU
    is_fast  the runtime may compute in a narrower float than float32
    content  sha256 of the model's files where that is known, for what is kept of it (cache.py), else ""
    """

    threads: int
    device: str | None = None
    is_fast: bool = False
    content: str = ""


class RuntimeFile(Protocol):
    """What a file in `runtimes/` holds. Its package is imported by `load`, and nowhere else."""

    # Suffix -> how to read the JSON document in such a file. The first is the runtime's own format.
    READERS: Mapping[str, Callable[[Path], str]]
    # Packages that it can work with, as imported, the best first; empty: it needs none.
    PACKAGES: Sequence[str]
    # What to install: `pip install` + this; "" where there is nothing to install.
    REQUIREMENT: str
    # `platform.machine()` of the computers where it comes first.
    FIRST_ON: Sequence[str]

    def devices(self) -> Sequence[str]:
        """What `LoadOptions.device` may name on this computer, as far as the package tells; imports it."""
        ...

    def load(self, path: Path, spec: ModelSpec, info: ArtifactInfo, options: LoadOptions) -> Runtime:
        """Raises ArtifactError for a file that it cannot run, RuntimeUnavailableError for a device."""
        ...


def runtime_names() -> tuple[str, ...]:
    """The runtimes there are, installed or not: the files in `runtimes/`."""
    import pkgutil

    from fcos_edge import runtimes

    return tuple(sorted(module.name for module in pkgutil.iter_modules(runtimes.__path__)))


def find_runtime(name: str) -> RuntimeFile:
    """The runtime called `name`, installed or not. Raises RuntimeUnavailableError for an unknown name."""
    module = f"fcos_edge.runtimes.{name}"
    if not name.isidentifier() or importlib.util.find_spec(module) is None:
        raise RuntimeUnavailableError(f"runtime {name!r} is none of {', '.join(runtime_names())}")
    return cast(RuntimeFile, importlib.import_module(module))


def installed_package(runtime: RuntimeFile) -> str | None:
    """The installed package that `runtime` would use, "" where it needs none, None where it has none."""
    if not runtime.PACKAGES:
        return ""
    return next((name for name in runtime.PACKAGES if importlib.util.find_spec(name)), None)


@contextmanager
def importing(package: str, requirement: str) -> Iterator[None]:
    """Around the import of a runtime's package: a failure becomes one line that says what to install.

    Raises RuntimeUnavailableError where the package is missing, or is there and cannot be imported.
    """
    try:
        yield
    except ImportError as error:
        if importlib.util.find_spec(package) is None:
            raise RuntimeUnavailableError(
                f"{package} is not installed; run: pip install '{requirement}'"
            ) from None
        raise RuntimeUnavailableError(f"{package} is broken: {reason_of(error)}") from error


def reason_of(error: BaseException) -> str:
    """A runtime's error message on one line, cut where native code adds its stack."""
    text = " ".join(str(error).split())
    return text if len(text) <= 300 else text[:297] + "..."
