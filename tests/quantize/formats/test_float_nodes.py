"""Layers kept in float, in all three formats: against the simulator, and what the runtimes make of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import openvino
import pytest
from ai_edge_litert.interpreter import Interpreter

from fcos_edge.artifact import parse_document
from fcos_edge.quantize.float_values import float_values
from fcos_edge.quantize.formats import onnx as onnx_format
from fcos_edge.quantize.formats import openvino as openvino_format
from fcos_edge.quantize.formats import tflite as tflite_format
from fcos_edge.quantize.graph import Add, Conv, Graph
from fcos_edge.quantize.record import Record
from fcos_edge.quantize.simulate import dequantize, simulate
from fcos_edge.runtime import FloatArray, UInt8Array
from fcos_edge.runtimes.openvino import shared_core
from fcos_edge.trailer import read_trailer
from tests.quantize.graphs import paper_graph, random_pictures, tiny_graph, tiny_record, tiny_spec

IMAGENET: Any = {"mean": (123.675, 116.28, 103.53), "std": (58.395, 57.12, 57.375)}
THRESHOLDS = (0.3, 0.4, 0.5)
GRAPH = tiny_graph(0)
PAPER = paper_graph(0)
CASES = {
    "stem": (GRAPH, ("stem",)),
    "stem behind a float normalization": (tiny_graph(2, **IMAGENET), ("stem",)),
    "between integers": (GRAPH, ("depthwise",)),
    "two in a row": (GRAPH, ("expand", "depthwise")),
    "addition": (GRAPH, ("residual",)),
    "addition with relu": (GRAPH, ("merged",)),
    "block": (GRAPH, ("expand", "depthwise", "project", "block", "residual")),
    "through a resize": (GRAPH, ("c4", "merged", "tower_p4")),
    "output of one level": (GRAPH, ("head_logits_p3",)),
    "all logits": (GRAPH, ("head_logits_p3", "head_logits_p4")),
    "group norms": (PAPER, ()),
    "group norm to a float output": (PAPER, ("tower_ltrb_p3", "head_ltrb_p3")),
    "tower and its outputs": (GRAPH, ("tower_p4", "head_logits_p4", "head_ltrb_p4", "head_centerness_p4")),
}
Outputs = dict[str, FloatArray]


def run_onnx(path: Path, pictures: UInt8Array) -> Outputs:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return _stacked([
        dict(zip(names, session.run(names, {"images": picture[None]}), strict=True)) for picture in pictures
    ])  # fmt: skip


def run_openvino(path: Path, pictures: UInt8Array) -> Outputs:
    request = compiled(path).create_infer_request()
    names = [name for output in request.model_outputs for name in output.names]
    runs = []
    for picture in pictures:
        request.infer([picture[None]])
        runs.append({name: request.get_tensor(name).data.copy() for name in names})
    return _stacked(runs)


def compiled(path: Path) -> openvino.CompiledModel:
    core = shared_core()
    # OpenVINO otherwise takes bf16 where the CPU has it.
    hints = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    return core.compile_model(core.read_model(path), "CPU", hints)


def run_tflite(path: Path, pictures: UInt8Array) -> Outputs:
    interpreter = Interpreter(str(path), num_threads=1)
    interpreter.allocate_tensors()
    (source,) = interpreter.get_input_details()
    runs = []
    for picture in pictures:
        if source["dtype"] == np.int8:
            picture = (picture.astype(np.int16) - 128).astype(np.int8)
        interpreter.set_tensor(source["index"], picture[None])
        interpreter.invoke()
        run = {}
        for detail in interpreter.get_output_details():
            values = interpreter.get_tensor(detail["index"])
            scale, zero_point = detail["quantization"]
            if values.dtype == np.int8:
                values = (values.astype(np.float32) - np.float32(zero_point)) * np.float32(scale)
            run[detail["name"]] = values
        runs.append(run)
    return _stacked(runs)


def _stacked(runs: list[Outputs]) -> Outputs:
    return {name: np.concatenate([run[name] for run in runs]) for name in runs[0]}


RUN = {
    onnx_format: run_onnx, openvino_format: run_openvino, tflite_format: run_tflite,
}  # fmt: skip
IDS = ["onnx", "openvino", "tflite"]


def written(folder: Path, writer: Any, graph: Graph, record: Record) -> Path:
    path: Path = writer.write(folder, graph, record, tiny_spec(graph), "int8", THRESHOLDS)[0]
    return path


@pytest.mark.parametrize("writer", RUN, ids=IDS)
@pytest.mark.parametrize("case", CASES)
def test_float_nodes__as_in_the_simulator(case: str, writer: Any, tmp_path: Path) -> None:
    graph, float_nodes = CASES[case]
    record = tiny_record(graph, float_nodes=float_nodes)
    pictures = random_pictures(graph, 3, seed=9)
    found = RUN[writer](written(tmp_path, writer, graph, record), pictures)
    wanted = dequantize(graph, record, simulate(graph, record, pictures))
    floats = float_values(graph, record)
    is_openvino = writer is openvino_format
    assert set(found) == set(wanted)
    for name, node in graph.outputs.items():
        difference = np.abs(found[name] - wanted[name])
        if node in floats and not is_openvino:
            # Float32 sums in another order.
            assert difference.max() <= 1e-5 * np.abs(wanted[name]).max(), name
        # A float sum near a tie may round the other way, one in ten thousand, and random layers spread it.
        # OpenVINO does so with integers, too.
        assert difference.mean() <= (0.15 if is_openvino else 0.02) * record.points[node].scale, name


@pytest.mark.parametrize("case", CASES)
def test_onnxruntime__runs_the_others_in_integers_and_these_in_float(case: str, tmp_path: Path) -> None:
    graph, float_nodes = CASES[case]
    path = written(tmp_path, onnx_format, graph, tiny_record(graph, float_nodes=float_nodes))
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    options.log_severity_level = 4  # it warns that such a file belongs to this machine
    onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    operators = [node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node]
    convs, adds = ([node.name for node in graph.nodes if isinstance(node, kind)] for kind in (Conv, Add))
    assert operators.count("QLinearConv") == len(set(convs) - set(float_nodes))
    assert operators.count("QLinearAdd") == len(set(adds) - set(float_nodes))
    assert sum(operators.count(name) for name in ("Conv", "FusedConv")) == len(set(convs) & set(float_nodes))


@pytest.mark.parametrize("case", CASES)
def test_openvino__runs_the_others_in_integers_and_these_in_float(case: str, tmp_path: Path) -> None:
    graph, float_nodes = CASES[case]
    path = written(tmp_path, openvino_format, graph, tiny_record(graph, float_nodes=float_nodes))
    precisions = [
        operation.input_value(1).get_element_type().to_string()  # of the weights
        for operation in compiled(path).get_runtime_model().get_ops()
        if operation.get_rt_info()["layerType"].astype(str) == "Convolution"
    ]
    convs = {node.name for node in graph.nodes if isinstance(node, Conv)}
    assert precisions.count("f32") == len(convs & set(float_nodes))
    assert precisions.count("i8") == len(convs - set(float_nodes))


def test_tflite__levels_of_a_kind_have_one_dtype(tmp_path: Path) -> None:
    record = tiny_record(GRAPH, float_nodes=("head_logits_p3",))
    path = written(tmp_path, tflite_format, GRAPH, record)
    _, info = parse_document(read_trailer(path))
    details = Interpreter(str(path)).get_output_details()
    assert [detail["name"] for detail in details] == list(GRAPH.outputs)
    for output, detail in zip(info.outputs, details, strict=True):
        is_float = output.name.startswith("logits")
        assert detail["dtype"] == (np.float32 if is_float else np.int8)
        assert (output.scale is None) == is_float
