"""The runtimes called as their manuals say, without our wrappers: what "bare inference" means.

The fastest way that each manual offers: buffers bound or filled once, then nothing but the call that
computes. The same options as our wrappers choose, one thread.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from fcos_edge.runtime import UInt8Array


def bare_call(runtime: str, path: Path, images: UInt8Array) -> Callable[[], object]:
    """A call that runs the file at `path` on `images`, (1, H, W, 3) uint8, and nothing else."""
    return {"onnxruntime": _onnxruntime, "openvino": _openvino, "tflite": _tflite}[runtime](path, images)


def _onnxruntime(path: Path, images: UInt8Array) -> Callable[[], object]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    binding = session.io_binding()
    binding.bind_cpu_input(session.get_inputs()[0].name, images)
    outputs = [np.empty(output.shape, np.float32) for output in session.get_outputs()]
    for output, buffer in zip(session.get_outputs(), outputs, strict=True):
        binding.bind_output(output.name, "cpu", 0, np.float32, buffer.shape, buffer.ctypes.data)

    def call(outputs: object = outputs) -> None:  # which must live as long as the call
        session.run_with_iobinding(binding)

    return call


def _openvino(path: Path, images: UInt8Array) -> Callable[[], object]:
    import openvino

    from fcos_edge.runtimes.openvino import shared_core

    options = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "f32",
        "INFERENCE_NUM_THREADS": 1,
        "ENABLE_CPU_PINNING": False,
    }
    request = shared_core().compile_model(path, "CPU", options).create_infer_request()
    request.set_input_tensor(openvino.Tensor(images, shared_memory=True))
    return lambda: request.infer()


def _tflite(path: Path, images: UInt8Array) -> Callable[[], object]:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(path), num_threads=1)
    interpreter.allocate_tensors()
    (source,) = interpreter.get_input_details()
    shift = 128 if source["dtype"] == np.int8 else 0
    interpreter.set_tensor(source["index"], (images.astype(np.int16) - shift).astype(source["dtype"]))
    return lambda: interpreter.invoke()
