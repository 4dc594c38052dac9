"""TensorFlow Lite, for .tflite files: ai-edge-litert where it is installed, else tflite-runtime."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fcos_edge.artifact import ArtifactInfo
from fcos_edge.boundary import InputLayout, OutputLayout, Port, check_input
from fcos_edge.errors import ArtifactError, RuntimeUnavailableError
from fcos_edge.runtime import LoadOptions, RawOutputs, UInt8Array, importing, reason_of
from fcos_edge.spec import ModelSpec
from fcos_edge.trailer import check_model, read_trailer
from fcos_edge.xnnpack import XnnpackDelegate, int8_delegate

READERS = {".tflite": read_trailer}
PACKAGES = ("ai_edge_litert", "tflite_runtime")
REQUIREMENT = "fcos-edge[tflite]"
FIRST_ON = ("aarch64", "arm64", "armv7l", "armv8l")

_FIRST_WITH_NUMPY_2 = (2, 18)
_WITH_KNOWN_XNNPACK = (2, 14)


def devices() -> tuple[str, ...]:
    """XNNPACK; delegates are libraries anywhere."""
    return ("CPU",)


def load(path: Path, spec: ModelSpec, info: ArtifactInfo, options: LoadOptions) -> TfliteRuntime:
    """`options.device` is the path of a delegate's shared library; None or `CPU` is XNNPACK.

    There is nothing for `options.is_fast` to switch on: XNNPACK computes in float32 or int8.
    """
    if not options.content:  # else its sha256 is known to be right
        check_model(path)
    make_interpreter, load_delegate, make_default_delegate = _import_interpreter()
    delegates = None
    if options.device is not None and options.device.upper() != "CPU":
        try:
            # First alone: a delegate whose library is missing fails once more when it is deleted.
            if not hasattr(ctypes.PyDLL(options.device), "tflite_plugin_create_delegate"):
                raise ValueError("it is no TFLite delegate")
            delegates = [load_delegate(options.device)]
        except (OSError, ValueError) as error:
            raise RuntimeUnavailableError(
                f"TFLite cannot load the delegate {options.device!r}: {reason_of(error)};"
                " give the path of its shared library, or CPU"
            ) from error
    elif (delegate := make_default_delegate(options.threads)) is not None:
        delegates = [delegate]
    try:
        interpreter = make_interpreter(
            model_path=str(path), num_threads=options.threads, experimental_delegates=delegates
        )
        interpreter.allocate_tensors()
        inputs, output_details = interpreter.get_input_details(), interpreter.get_output_details()
    except (ValueError, RuntimeError) as error:
        raise ArtifactError(f"{path}: TFLite cannot load it: {reason_of(error)}") from error
    if len(inputs) != 1:
        raise ArtifactError(f"{path}: {len(inputs)} inputs, expected one; export it again")
    input_layout = check_input(path, spec, _port(inputs[0]), (np.uint8, np.int8, np.float32))
    outputs = _named_outputs(path, info, output_details)
    layout = OutputLayout(path, spec, info, {name: _port(detail) for name, detail in outputs.items()})
    _check_quantization(path, info, outputs)
    output_indices = {name: int(detail["index"]) for name, detail in outputs.items()}
    return TfliteRuntime(path, interpreter, input_layout, layout, int(inputs[0]["index"]), output_indices)


class TfliteRuntime:
    """An interpreter; pictures are written into its memory, outputs copied out of it once."""

    def __init__(
        self,
        path: Path,
        interpreter: Any,
        input_layout: InputLayout,
        output_layout: OutputLayout,
        input_index: int,
        output_indices: dict[str, int],
    ) -> None:
        self._path = path
        self._interpreter = interpreter
        self._input_layout = input_layout
        # A .tflite file has one batch size.
        self._outputs = output_layout.allocate(input_layout.batch or 1)
        self._input_tensor = interpreter.tensor(input_index)
        self._copies = [
            (self._outputs.levels[name], interpreter.tensor(index)) for name, index in output_indices.items()
        ]

    def run(self, images: UInt8Array) -> RawOutputs:
        """images: (N, H, W, 3) uint8, RGB, letterboxed. The outputs are overwritten by the next run."""
        self._input_layout.check(images)
        # The views into the interpreter's memory may not outlive their line: it refuses to run with one
        # held, because running may move that memory.
        self._input_layout.encode(self._input_layout.filled_up(images), self._input_tensor())
        try:
            self._interpreter.invoke()
        except RuntimeError as error:
            # Some damage shows only now: operators look at their constants when they run.
            raise ArtifactError(f"{self._path}: TFLite cannot run it: {reason_of(error)}") from error
        for level, tensor in self._copies:
            np.copyto(level, tensor())
        return self._outputs.first(len(images))

    def close(self) -> None:
        """Free the interpreter."""
        self._copies = []
        self._input_tensor = self._interpreter = None


class _Package(NamedTuple):
    """What one of the two packages offers."""

    make_interpreter: Callable[..., Any]
    load_delegate: Callable[[str], Any]
    # Number of threads -> what must be asked for, since the package does not use it by itself.
    make_default_delegate: Callable[[int], Any]


def _import_interpreter() -> _Package:
    with importing("ai_edge_litert", REQUIREMENT):
        try:
            from ai_edge_litert.interpreter import Interpreter, load_delegate
        except ModuleNotFoundError:
            return _import_tflite_runtime()
    return _Package(Interpreter, load_delegate, lambda threads: None)


def _import_tflite_runtime() -> _Package:
    with importing("tflite_runtime", REQUIREMENT):
        import tflite_runtime
        from tflite_runtime.interpreter import Interpreter, load_delegate
    version = _version(tflite_runtime.__version__)
    # It imports under NumPy 2, prints a page and fails when the first interpreter is built.
    if _version(np.__version__) >= (2, 0) and version < _FIRST_WITH_NUMPY_2:
        raise RuntimeUnavailableError(
            f"tflite-runtime {tflite_runtime.__version__} cannot work with NumPy {np.__version__};"
            f" run: pip install '{REQUIREMENT}', or pip install 'numpy<2'"
        )

    def make_delegate(threads: int) -> XnnpackDelegate | None:
        if version != _WITH_KNOWN_XNNPACK:
            return None  # its C interface may differ
        from tflite_runtime import _pywrap_tensorflow_interpreter_wrapper as native

        return int8_delegate(Path(native.__file__), threads)

    return _Package(Interpreter, load_delegate, make_delegate)


def _version(text: str) -> tuple[int, int]:
    major, minor = text.split(".")[:2]
    return int(major), int(minor)


def _named_outputs(
    path: Path, info: ArtifactInfo, details: list[dict[str, Any]]
) -> dict[str, dict[str, Any]]:
    """Name -> detail, in the file's order, which the artifact info records.

    Never by shape: the logits of a network with four classes look like its distances. Where the file
    kept our names, they must say the same.
    """
    names = [output.name for output in info.outputs]
    found = [str(detail["name"]) for detail in details]
    if len(found) != len(names) or (set(found) == set(names) and found != names):
        raise ArtifactError(f"{path}: outputs {found} are not the recorded {names}; export it again")
    return dict(zip(names, details, strict=True))


def _check_quantization(path: Path, info: ArtifactInfo, details: dict[str, dict[str, Any]]) -> None:
    """Raise ArtifactError unless the file quantizes its outputs as recorded."""
    for output in info.outputs:
        if output.scale is None:
            continue
        scale, zero_point = details[output.name]["quantization"]
        # TFLite keeps scales in float32.
        if (np.float32(scale), zero_point) != (np.float32(output.scale), output.zero_point):
            raise ArtifactError(
                f"{path}: output {output.name} has scale {scale} and zero point {zero_point}, recorded are"
                f" {output.scale} and {output.zero_point}; export it again"
            )


def _port(detail: dict[str, Any]) -> Port:
    return Port(tuple(int(side) for side in detail["shape"]), detail["dtype"])
