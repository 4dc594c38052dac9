"""OpenVINO, for its own .xml + .bin files and for .onnx files."""

from __future__ import annotations

import functools
import platform
from pathlib import Path
from typing import Any

import numpy as np

from fcos_edge.artifact import ArtifactInfo
from fcos_edge.boundary import FlatOutputs, InputLayout, OutputLayout, Port, check_input
from fcos_edge.cache import CacheEntry
from fcos_edge.document import read_onnx_document, read_openvino_document
from fcos_edge.errors import ArtifactError, RuntimeUnavailableError
from fcos_edge.runtime import LoadOptions, RawOutputs, UInt8Array, importing, reason_of
from fcos_edge.spec import ModelSpec

READERS = {".xml": read_openvino_document, ".onnx": read_onnx_document}
PACKAGES = ("openvino",)
REQUIREMENT = "fcos-edge[openvino]"
FIRST_ON = ("x86_64", "AMD64")

_CPU = "CPU"
# Devices that OpenVINO does not list, because they are made of others: `AUTO`, `HETERO:GPU,CPU`.
_VIRTUAL_DEVICES = ("AUTO", "BATCH", "HETERO", "MULTI")


@functools.cache
def shared_core() -> Any:
    """The one `openvino.Core` of this process.

    Each core's CPU plugin gives the thread an alternate signal stack and takes it away when the core goes.
    Of two cores that go in the order in which they came, the second puts back the stack that the first has
    freed, and the next signal, Ctrl-C or the end of a child, kills the process.
    """
    import openvino

    return openvino.Core()


def devices() -> tuple[str, ...]:
    """`CPU`, `GPU`, ..."""
    return tuple(shared_core().available_devices)


def load(path: Path, spec: ModelSpec, info: ArtifactInfo, options: LoadOptions) -> OpenVinoRuntime:
    """`options.device` is an OpenVINO device name: `CPU`, `GPU`, `NPU`, `AUTO`, ..."""
    with importing("openvino", REQUIREMENT):
        core = shared_core()
    device = (options.device or _CPU).upper()
    if device != _CPU:  # which is always there, and looking for the others takes 20 ms
        _check_device(options.device or device, core.available_devices)
    config = _config(device, options)
    compiled = None
    if device == _CPU:
        compiled = _load_kept(path, config, options.content)
    if compiled is None:
        model = _read_model(path)
        _layouts(path, spec, info, model)  # before it is compiled
        try:
            compiled = core.compile_model(model, device, config)
        except RuntimeError as error:
            raise RuntimeUnavailableError(
                f"{path}: OpenVINO's device {device} refuses it: {reason_of(error)}"
            ) from error
    return OpenVinoRuntime(compiled, *_layouts(path, spec, info, compiled))


def _check_device(named: str, available: list[str]) -> None:
    """Raise RuntimeUnavailableError for what is not here: `GPU`, `GPU.1`, or a part of `HETERO:GPU,CPU`."""
    name, _, parts = named.upper().partition(":")
    # AUTO may be told what not to take: `AUTO:-GPU`.
    wanted = [part for part in parts.split(",") if part and not part.startswith("-")]
    if name not in _VIRTUAL_DEVICES:
        wanted = [named.upper()]
    for device in wanted:
        if device not in available and device.split(".")[0].split("(")[0] not in available:
            raise RuntimeUnavailableError(
                f"OpenVINO has no device {named!r} here; it has {', '.join(available)}"
            )


def _read_model(path: Path) -> Any:
    weights = path.with_suffix(".bin")
    if path.suffix == ".xml" and not (weights.is_file() and weights.stat().st_size):
        raise ArtifactError(f"{weights}: missing or empty, but {path.name} needs it; copy both files again")
    try:
        return shared_core().read_model(path)
    except Exception as error:
        # Besides RuntimeError, a damaged file gives whatever the front end that tries it raises.
        raise ArtifactError(f"{path}: OpenVINO cannot load it: {reason_of(error)}") from error


def _load_kept(path: Path, config: dict[str, Any], content: str) -> Any:
    """The compiled model, which is made and kept where it is not; None where it cannot be.

    Also when it was just made, so that the first start runs what all others do.
    """
    import openvino

    options = str(sorted(config.items()))
    entry = CacheEntry.of_file(path, content, "openvino", openvino.__version__, options)
    if entry is None:
        return None
    core = shared_core()
    try:
        exported = entry.read()
        if exported is None:
            exported = core.compile_model(_read_model(path), _CPU, config).export_model().getvalue()
            entry.write(exported)
        return core.import_model(exported, _CPU, config)
    except (RuntimeError, ArtifactError):
        entry.forget()
        return None  # what is wrong is said when the file is loaded as it is


def _layouts(path: Path, spec: ModelSpec, info: ArtifactInfo, model: Any) -> tuple[InputLayout, OutputLayout]:
    """What goes in and comes out. Raises ArtifactError where that does not fit the spec."""
    if len(model.inputs) != 1:
        raise ArtifactError(f"{path}: {len(model.inputs)} inputs, expected one; export it again")
    # One tensor may carry several names; ours is among them.
    ports = {name: _port(output) for output in model.outputs for name in output.names}
    return check_input(path, spec, _port(model.inputs[0])), OutputLayout(path, spec, info, ports)


class OpenVinoRuntime:
    """A compiled model and its reused requests, whose outputs are the flat buffers.

    `run` needs one request. Asynchronous work alternates between two: the outputs of one picture stay
    as they are while the next picture is computed.
    """

    def __init__(self, compiled: Any, input_layout: InputLayout, output_layout: OutputLayout) -> None:
        self._compiled = compiled
        self._input_layout = input_layout
        self._output_layout = output_layout
        self._requests: list[_Request] = []
        self._turn = 0
        self._submitted: _Request | None = None

    def run(self, images: UInt8Array) -> RawOutputs:
        """images: (N, H, W, 3) uint8, RGB, letterboxed. The outputs are overwritten by the next run."""
        self._input_layout.check(images)
        return self._request(0, len(images)).run(images)

    def submit(self, images: UInt8Array) -> None:
        """Start on (N, H, W, 3) uint8 pictures, which are copied; `wait` must follow before the next."""
        if self._submitted is not None:
            raise RuntimeError("submit: the batch before was not waited for")
        self._input_layout.check(images)
        self._turn = 1 - self._turn
        self._submitted = self._request(self._turn, len(images))
        self._submitted.start(images)

    def wait(self) -> RawOutputs:
        """The outputs of the submitted batch, which stay as they are until the next `wait` or `run`."""
        if self._submitted is None:
            raise RuntimeError("wait: nothing was submitted")
        request, self._submitted = self._submitted, None
        return request.wait()

    def close(self) -> None:
        """Free the model."""
        if self._submitted is not None:
            self.wait()
        self._requests = []
        self._compiled = None

    def _request(self, index: int, batch: int) -> _Request:
        while len(self._requests) <= index:
            self._requests.append(_Request(self._compiled, self._input_layout, self._output_layout))
        request = self._requests[index]
        batch = self._input_layout.batch or batch
        if request.batch != batch:
            request.bind(batch)
        return request


class _Request:
    """One infer request with buffers of its own."""

    def __init__(self, compiled: Any, input_layout: InputLayout, output_layout: OutputLayout) -> None:
        import openvino

        self._tensor = openvino.Tensor
        self._request = compiled.create_infer_request()
        self._input_layout = input_layout
        self._output_layout = output_layout
        self.batch = 0
        self._count = 0

    def bind(self, batch: int) -> None:
        """Point the request to buffers for `batch` pictures."""
        self.batch = batch
        self._images = np.zeros((batch, *self._input_layout.size_hw, 3), np.uint8)
        self._request.set_input_tensor(self._tensor(self._images, shared_memory=True))
        self._outputs: FlatOutputs = self._output_layout.allocate(batch)
        for name, target in self._outputs.targets.items():
            self._request.set_tensor(name, self._tensor(target, shared_memory=True))

    def run(self, images: UInt8Array) -> RawOutputs:
        self._fill(images)
        self._request.infer()
        return self._outputs.gather(self._count)

    def start(self, images: UInt8Array) -> None:
        self._fill(images)
        self._request.start_async()

    def wait(self) -> RawOutputs:
        self._request.wait()
        return self._outputs.gather(self._count)

    def _fill(self, images: UInt8Array) -> None:
        self._count = len(images)
        np.copyto(self._images, self._input_layout.filled_up(images))


def _config(device: str, options: LoadOptions) -> dict[str, Any]:
    config: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY"}
    if not options.is_fast:
        # bf16, which it takes by itself where the CPU has it, is off by 0.5 logit units.
        config["INFERENCE_PRECISION_HINT"] = "f32"
    if device == _CPU:
        # Other devices refuse these.
        config["INFERENCE_NUM_THREADS"] = options.threads
        # Pinned, two networks of one thread share the first core, in one process or in two, and each
        # takes twice its time while the second core idles.
        config["ENABLE_CPU_PINNING"] = False
        if platform.machine() not in FIRST_ON:
            # OpenVINO's int8 convolutions for Arm get these files wrong (2026.0: every output) or refuse them
            # (2026.4: "Convolution input precision should be single"). Without them it computes the same
            # integers in float32: right, and as slow as fp32.
            config["LP_TRANSFORMS_MODE"] = "NO"
    return config


def _port(node: Any) -> Port:
    shape = node.get_partial_shape()
    sides = tuple(None if side.is_dynamic else side.get_length() for side in shape)
    return Port(sides, node.get_element_type().to_dtype())
