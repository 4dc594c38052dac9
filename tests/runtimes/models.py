"""Real models of a few kilobytes, the same network for every runtime, and what it must return.

Per level: the pictures are averaged over stride x stride pixels, and a 1x1 convolution per branch follows.
Four classes give logits and distances the same shapes, and the outputs stand in the file in an order of
its own: whoever matches outputs by shape or counts them off gets a wrong answer.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fcos_edge.artifact import DOCUMENT_KEY, ArtifactInfo, Format, OutputInfo, Precision, dump_document
from fcos_edge.spec import BRANCHES, ModelSpec
from fcos_edge.trailer import append_trailer

SPEC = ModelSpec(
    name="tiny",
    classes=("ant", "bee", "cat", "dog"),
    input_hw=(64, 96),
    mean=(127.0, 127.0, 127.0),
    std=(128.0, 128.0, 128.0),
    strides=(8, 16),
)
FILE_ORDER = ("ltrb_p4", "centerness_p3", "logits_p4", "ltrb_p3", "logits_p3", "centerness_p4")
CHANNELS = {"logits": 4, "ltrb": 4, "centerness": 1}
THRESHOLDS = (0.3, 0.3, 0.4, 0.5)

FloatArray = npt.NDArray[np.float32]


def weight(name: str) -> FloatArray:
    """(C, 3) float32: the 1x1 convolution of the output `name`, 1/64 steps so that float32 is exact."""
    rng = np.random.default_rng(SPEC.output_names.index(name))
    return (rng.integers(-64, 64, (CHANNELS[name.split("_")[0]], 3)) / 64).astype(np.float32)


def pictures(batch: int, seed: int = 0) -> npt.NDArray[np.uint8]:
    """(N, 64, 96, 3) uint8 noise that differs from patch to patch."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 240, (batch, 8, 12, 3)).repeat(8, axis=1).repeat(8, axis=2)
    return (coarse + rng.integers(0, 16, coarse.shape)).astype(np.uint8)


def expected_outputs(images: npt.NDArray[np.uint8]) -> dict[str, FloatArray]:
    """Branch -> (N, L, C), of the network on float pixels 0..255."""
    branches = {}
    for branch in BRANCHES:
        levels = []
        for level, stride in zip(SPEC.level_names, SPEC.strides, strict=True):
            n, h, w, _ = images.shape
            patches = images.reshape(n, h // stride, stride, w // stride, stride, 3).astype(np.float64)
            cells = patches.mean(axis=(2, 4)).reshape(n, -1, 3)
            levels.append(cells @ weight(f"{branch}_{level}").T)
        branches[branch] = np.concatenate(levels, axis=1).astype(np.float32)
    return branches


def float_info(format: Format, precision: Precision = "fp32") -> ArtifactInfo:
    outputs = tuple(map(OutputInfo, FILE_ORDER))
    return ArtifactInfo(format=format, precision=precision, outputs=outputs, operating_thresholds=THRESHOLDS)


def onnx_model(
    batch: int | str = 1,
    spec: ModelSpec = SPEC,
    info: ArtifactInfo | None = None,
    rename: dict[str, str] | None = None,
    input_dtype: str = "uint8",
) -> bytes:
    """An ONNX file; `rename` gives outputs other names than the graph boundary's."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    rename = rename or {}
    pixel_type = {"uint8": TensorProto.UINT8, "float32": TensorProto.FLOAT}[input_dtype]
    nodes = [
        helper.make_node("Cast", ["images"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["pixels"], ["pixels_nchw"], perm=[0, 3, 1, 2]),
    ]
    weights, outputs = [], []
    for level, stride in zip(SPEC.level_names, SPEC.strides, strict=True):
        sides = [stride, stride]
        nodes.append(
            helper.make_node("AveragePool", ["pixels_nchw"], [level], kernel_shape=sides, strides=sides)
        )
    for name in FILE_ORDER:
        branch, level = name.split("_")
        weights.append(numpy_helper.from_array(weight(name)[:, :, None, None], f"{name}_weight"))
        nodes.append(helper.make_node("Conv", [level, f"{name}_weight"], [f"{name}_nchw"]))
        nodes.append(
            helper.make_node("Transpose", [f"{name}_nchw"], [rename.get(name, name)], perm=[0, 2, 3, 1])
        )
        hw = SPEC.level_hw[SPEC.level_names.index(level)]
        shape = [batch, *hw, CHANNELS[branch]]
        outputs.append(helper.make_tensor_value_info(rename.get(name, name), TensorProto.FLOAT, shape))
    images = helper.make_tensor_value_info("images", pixel_type, [batch, *SPEC.input_hw, 3])
    graph = helper.make_graph(nodes, "tiny", [images], outputs, weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    helper.set_model_props(model, {DOCUMENT_KEY: dump_document(spec, info or float_info("onnx"))})
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def write_onnx(path: Path, **arguments: Any) -> Path:
    path.write_bytes(onnx_model(**arguments))
    return path


def write_openvino(path: Path, batch: int | str = 1) -> Path:
    """An .xml and a .bin, converted from the ONNX model."""
    import openvino

    from fcos_edge.runtimes.openvino import shared_core

    model = shared_core().read_model(onnx_model(batch))
    model.set_rt_info(dump_document(SPEC, float_info("openvino")), [DOCUMENT_KEY])
    openvino.save_model(model, path, compress_to_fp16=False)
    return path


def edit_document(document: str, **changes: Any) -> str:
    """`document` with keys of its artifact changed."""
    values = json.loads(document)
    values["artifact"].update(changes)
    return json.dumps(values)


def write_tflite(path: Path, io: str = "float32", batch: int = 1, **changes: Any) -> Path:
    """A .tflite file; `io` and `changes` are those of `tflite_model` and `edit_document`."""
    from tests.runtimes.tflite_model import tflite_info, tflite_model

    document = edit_document(dump_document(SPEC, tflite_info(io)), **changes)
    path.write_bytes(append_trailer(tflite_model(io, batch), document))
    return path
