"""ONNX Runtime, for .onnx files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from fcos_edge.artifact import ArtifactInfo
from fcos_edge.boundary import FlatOutputs, InputLayout, OutputLayout, Port, check_input
from fcos_edge.cache import CacheEntry
from fcos_edge.document import read_onnx_document
from fcos_edge.errors import ArtifactError, RuntimeUnavailableError
from fcos_edge.runtime import LoadOptions, RawOutputs, UInt8Array, importing, reason_of
from fcos_edge.spec import ModelSpec

READERS = {".onnx": read_onnx_document}
PACKAGES = ("onnxruntime",)
REQUIREMENT = "fcos-edge[onnx]"
FIRST_ON = ()

_CPU = "CPUExecutionProvider"
_DTYPES = {"tensor(float)": np.float32, "tensor(uint8)": np.uint8, "tensor(int8)": np.int8}
# Its threads would wait for the next run spinning, on the cores that another network, or the rest of the
# program, needs: int8 in turns with fp32 took twice its time so, and between the frames of a camera a core
# was busy doing nothing. The second is for releases that do not know the first.
LIMITED_SPINNING = {"session.intra_op.spin_duration_us": "500", "session.force_spinning_stop": "1"}
# On x86 it would compute symmetric int8 activations in float wherever it finds no way to make them uint8.
INT8_ACTIVATIONS = {"session.qdqisint8allowed": "1"}
# Above "error" there is only "fatal": what fails arrives as an exception, not as text on the terminal.
_LOG_FATAL = 4


def devices() -> tuple[str, ...]:
    """The installed build's execution providers: `CPU`, `CUDA`, ..."""
    import onnxruntime

    return tuple(name.removesuffix("ExecutionProvider") for name in onnxruntime.get_available_providers())


def load(path: Path, spec: ModelSpec, info: ArtifactInfo, options: LoadOptions) -> OnnxRuntime:
    """`options.device` is an execution provider's name, `CUDA` or `CUDAExecutionProvider`."""
    with importing("onnxruntime", REQUIREMENT):
        import onnxruntime

    provider = _provider(options.device, onnxruntime.get_available_providers())
    session = None
    if provider == _CPU:
        session = _load_kept(path, options)
    if session is None:
        session = _load_file(path, provider, options)
    # ONNX Runtime goes on with the CPU when a provider's libraries are missing.
    if session.get_providers()[0] != provider:
        raise RuntimeUnavailableError(f"ONNX Runtime has {provider} but cannot start it on this machine")
    inputs = session.get_inputs()
    if len(inputs) != 1:
        raise ArtifactError(f"{path}: {len(inputs)} inputs, expected one; export it again")
    input_layout = check_input(path, spec, _port(path, inputs[0]))
    ports = {output.name: _port(path, output) for output in session.get_outputs()}
    return OnnxRuntime(session, input_layout, OutputLayout(path, spec, info, ports))


def _load_file(path: Path, provider: str, options: LoadOptions) -> Any:
    """A session of the file as it is. Raises ArtifactError, RuntimeUnavailableError for other providers."""
    try:
        return _session(str(path), _session_options(options), provider)
    except Exception as error:
        # ONNX Runtime's exceptions share no base class but Exception.
        kind = ArtifactError if provider == _CPU else RuntimeUnavailableError
        raise kind(f"{path}: ONNX Runtime cannot load it for {provider}: {reason_of(error)}") from error


def _load_kept(path: Path, options: LoadOptions) -> Any:
    """A session of the optimized graph, which is made and kept where it is not; None where it cannot be.

    Also when it was just made, so that the first start runs what all others do.
    """
    import onnxruntime

    entry = CacheEntry.of_file(
        path, options.content, "onnxruntime", onnxruntime.__version__, str(options.is_fast)
    )
    if entry is None:
        return None
    optimized = entry.read()
    if optimized is None:
        optimized = _optimize(path, options)
        if optimized is None:
            return None
        entry.write(optimized)
    session_options = _session_options(options)
    session_options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        return _session(optimized, session_options, _CPU)
    except Exception:
        entry.forget()
        return None


def _optimize(path: Path, options: LoadOptions) -> bytes | None:
    """The ONNX file after ONNX Runtime's optimizations for this CPU, None where it refuses."""
    import tempfile  # only a first start optimizes

    try:
        with tempfile.TemporaryDirectory(prefix="fcos-edge-") as folder:
            optimized = Path(folder, "optimized.onnx")
            session_options = _session_options(options)
            session_options.optimized_model_filepath = str(optimized)
            _session(str(path), session_options, _CPU)
            return optimized.read_bytes()
    except Exception:
        # Nowhere to write, or a file that is wrong: that is said when it is loaded as it is.
        return None


def _session_options(options: LoadOptions) -> Any:
    import onnxruntime

    session_options = onnxruntime.SessionOptions()
    session_options.intra_op_num_threads = options.threads
    session_options.inter_op_num_threads = 1
    session_options.log_severity_level = _LOG_FATAL
    for key, value in {**LIMITED_SPINNING, **INT8_ACTIVATIONS}.items():
        session_options.add_session_config_entry(key, value)
    if options.is_fast:
        session_options.add_session_config_entry("mlas.enable_gemm_fastmath_arm64_bfloat16", "1")
    return session_options


def _session(model: str | bytes, session_options: Any, provider: str) -> Any:
    import onnxruntime

    return onnxruntime.InferenceSession(
        model,
        session_options,
        providers=[provider] if provider == _CPU else [provider, _CPU],
        enable_fallback=0,  # it prints, and tries the same again
    )


class OnnxRuntime:
    """A session whose outputs are bound to the flat buffers."""

    def __init__(self, session: Any, input_layout: InputLayout, output_layout: OutputLayout) -> None:
        self._session = session
        self._input_layout = input_layout
        self._output_layout = output_layout
        self._input_name = session.get_inputs()[0].name
        self._binding: Any = None
        self._outputs: FlatOutputs | None = None

    def run(self, images: UInt8Array) -> RawOutputs:
        """images: (N, H, W, 3) uint8, RGB, letterboxed. The outputs are overwritten by the next run."""
        self._input_layout.check(images)
        count = len(images)
        images = np.ascontiguousarray(self._input_layout.filled_up(images))
        outputs = self._outputs
        if outputs is None or len(outputs.raw.logits.values) != len(images):
            outputs = self._outputs = self._bind_outputs(len(images))
        self._binding.bind_input(self._input_name, "cpu", 0, np.uint8, images.shape, images.ctypes.data)
        self._session.run_with_iobinding(self._binding)
        return outputs.gather(count)

    def close(self) -> None:
        """Free the session."""
        self._session = self._binding = self._outputs = None

    def _bind_outputs(self, batch: int) -> FlatOutputs:
        outputs = self._output_layout.allocate(batch)
        self._binding = self._session.io_binding()
        for name, target in outputs.targets.items():
            self._binding.bind_output(name, "cpu", 0, target.dtype, target.shape, target.ctypes.data)
        return outputs


def _provider(device: str | None, available: list[str]) -> str:
    wanted = (device or _CPU).lower().removesuffix("executionprovider")
    for name in available:
        if name.lower().removesuffix("executionprovider") == wanted:
            return name
    raise RuntimeUnavailableError(
        f"ONNX Runtime has no device {device!r} here; it has {', '.join(available)}"
    )


def _port(path: Path, node: Any) -> Port:
    if node.type not in _DTYPES:
        raise ArtifactError(f"{path}: {node.name} is a {node.type}, expected {', '.join(_DTYPES)}")
    # A size that is not fixed comes as its symbol's name, or None.
    return Port(tuple(side if isinstance(side, int) else None for side in node.shape), _DTYPES[node.type])
