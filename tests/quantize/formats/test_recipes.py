"""Every kind of weights and activations that a recipe names, in all three formats."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from ai_edge_litert.interpreter import Interpreter
from onnx import numpy_helper

from fcos_edge.quantize.calibrate import calibrate_inputs
from fcos_edge.quantize.formats import onnx as onnx_format
from fcos_edge.quantize.formats import openvino as openvino_format
from fcos_edge.quantize.formats import tflite
from fcos_edge.quantize.graph import Conv
from fcos_edge.quantize.recipe import parse_recipe
from fcos_edge.quantize.simulate import simulate
from tests.quantize.formats.test_onnx import THRESHOLDS, run_onnx, simulated
from tests.quantize.formats.test_openvino import run_openvino
from tests.quantize.formats.test_tflite import IMAGENET, run_tflite
from tests.quantize.graphs import random_pictures, tiny_graph, tiny_spec

GRAPHS = {
    "direct": tiny_graph(0),
    "normalized in float": tiny_graph(1, **IMAGENET),
    "dead channels": tiny_graph(2, dead_bias=4.0),
    "mean 0": tiny_graph(3, mean=(0.0,) * 3, std=(255.0,) * 3),
    "mean 128": tiny_graph(4, mean=(128.0,) * 3, std=(64.0,) * 3),
}


@pytest.mark.parametrize("recipe", [
    "w8t_a8t_minmax", "w7c_a8t_minmax", "w7t_a8t_mse", "w8c_a8s_minmax", "w7t_a8s_mse",
])  # fmt: skip
@pytest.mark.parametrize("name", GRAPHS)
def test_recipe__all_formats_are_the_simulator(name: str, recipe: str, tmp_path: Path) -> None:
    graph = GRAPHS[name]
    spec, pictures = tiny_spec(graph), random_pictures(graph, 3)
    record = calibrate_inputs(graph, pictures, recipe=parse_recipe(recipe))
    integers, wanted = simulate(graph, record, pictures), simulated(graph, record, pictures)
    by_onnx = run_onnx(onnx_format.serialize(graph, record), pictures)
    by_tflite = run_tflite(tflite.write(tmp_path, graph, record, spec, "int8", THRESHOLDS)[0], pictures)
    xml = openvino_format.write(tmp_path, graph, record, spec, "int8", THRESHOLDS)[0]
    by_openvino = run_openvino(xml, pictures)
    for output, source in graph.outputs.items():
        np.testing.assert_array_equal(by_onnx[output], wanted[output], err_msg=output)
        np.testing.assert_array_equal(by_tflite[output].astype(int) + 128, integers[output], err_msg=output)
        steps = np.abs(by_openvino[output] - wanted[output]) / record.points[source].scale
        # It rounds in another order, and random layers spread that; a wrong scale is tens of steps.
        assert steps.mean() < 1.5, output


@pytest.mark.parametrize(("recipe", "is_one"), [("w8t_a8t_minmax", True), ("w8c_a8t_minmax", False)])
def test_recipe__per_tensor_weights_have_one_scale_in_the_file(
    recipe: str, is_one: bool, tmp_path: Path
) -> None:
    graph = GRAPHS["direct"]
    record = calibrate_inputs(graph, random_pictures(graph), recipe=parse_recipe(recipe))
    names = {node.name: len(node.bias) for node in graph.nodes if isinstance(node, Conv)}
    model = onnx.load_from_string(onnx_format.serialize(graph, record))
    shapes = {constant.name: numpy_helper.to_array(constant).shape for constant in model.graph.initializer}
    (path,) = tflite.write(tmp_path, graph, record, tiny_spec(graph), "int8", THRESHOLDS)
    details = {detail["name"]: detail for detail in Interpreter(str(path)).get_tensor_details()}
    for name, channels in names.items():
        is_scalar = is_one or channels == 1
        for part in (f"{name}/weight", f"{name}/bias"):
            assert (
                shapes[f"{part}/scale"] == shapes[f"{part}/zero_point"] == (() if is_scalar else (channels,))
            )
            quantization = details[part]["quantization_parameters"]
            assert len(quantization["scales"]) == (1 if is_scalar else channels)
            assert not is_scalar or quantization["quantized_dimension"] == 0


@pytest.mark.parametrize("name", GRAPHS)
def test_recipe__symmetric_onnx_is_what_tensorrt_takes(name: str) -> None:
    """int8 with zero points of 0 throughout, activations per tensor, weights along axis 0, no Clip."""
    graph = GRAPHS[name]
    record = calibrate_inputs(graph, random_pictures(graph), recipe=parse_recipe("w8c_a8s_minmax"))
    model = onnx.load_from_string(onnx_format.serialize(graph, record))
    onnx.checker.check_model(model, full_check=True)
    constants = {constant.name: numpy_helper.to_array(constant) for constant in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            scale, zero_point = (constants[part] for part in node.input[1:])
            assert zero_point.dtype == np.int8, node.name  # biases are float
            assert not zero_point.any(), node.name
            assert scale.ndim == 0 or (node.input[0] in constants and node.attribute[0].i == 0), node.name
        assert node.op_type != "Clip", node.name
    assert {point.zero_point for point in record.points.values()} == {128}
    for node in graph.nodes:
        if isinstance(node, Conv) and node.activation == "relu6":
            assert np.float32(record.points[node.name].scale) * np.float32(127) <= 6
