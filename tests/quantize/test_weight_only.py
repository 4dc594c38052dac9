"""Float weights in fewer bytes, in all formats: int8 with float activations, and float16."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from ai_edge_litert.interpreter import Interpreter

from fcos_edge.errors import ArtifactError
from fcos_edge.loading import open_artifact, read_document
from fcos_edge.quantize.formats import load_writer
from fcos_edge.quantize.graph import Conv, Graph
from fcos_edge.quantize.weight_only import rounded_weights, with_rounded_weights
from fcos_edge.raw_outputs import split_outputs
from tests.quantize.formats.test_onnx import THRESHOLDS, run_torch
from tests.quantize.graphs import random_pictures, tiny_graph, tiny_spec

RUNTIMES = {"onnx": "onnxruntime", "openvino": "openvino", "tflite": "tflite"}
GRAPHS = {"plain": tiny_graph(0), "dead channels": tiny_graph(1, dead_bias=4.0)}


def write(folder: Path, name: str, graph: Graph, precision: str) -> Path:
    return load_writer(name).write(folder, graph, None, tiny_spec(graph), precision, THRESHOLDS)[0]


@pytest.mark.parametrize("graph", GRAPHS.values(), ids=GRAPHS)
@pytest.mark.parametrize(("name", "tolerance"), [
    ("onnx", 1e-5),  # float32 sums in another order
    ("openvino", 5e-3),  # it keeps the constants as float16
    ("tflite", 2e-5),
])  # fmt: skip
def test_w8__is_the_float_network_of_rounded_weights(
    name: str, tolerance: float, graph: Graph, tmp_path: Path
) -> None:
    path = write(tmp_path, name, graph, "w8")
    assert path.name.startswith("model.w8.")
    assert read_document(path)[1].precision == "w8"
    pictures = random_pictures(graph, 1)
    loaded = open_artifact(path, RUNTIMES[name], threads=1)
    found = dict(split_outputs(loaded.runtime.run(pictures), tiny_spec(graph)))
    loaded.close()
    for output, wanted in run_torch(with_rounded_weights(graph), pictures).items():
        limit = tolerance * np.abs(wanted).max()
        np.testing.assert_allclose(found[output], wanted[0], rtol=0, atol=limit, err_msg=output)


@pytest.mark.parametrize("graph", GRAPHS.values(), ids=GRAPHS)
def test_rounded_weights__half_a_step_away_at_most(graph: Graph) -> None:
    for node in graph.nodes:
        if isinstance(node, Conv):
            integers, scale = rounded_weights(node)
            assert integers.dtype == np.int8
            assert np.abs(integers.astype(int)).max() == 127
            steps = node.weight / scale[:, None, None, None]
            assert np.abs(steps - integers).max() <= 0.5 + 1e-4  # scales are rounded to float32


def test_rounded_weights__of_zeros() -> None:
    (conv,) = (node for node in GRAPHS["plain"].nodes if node.name == "project")
    assert isinstance(conv, Conv)
    integers, scale = rounded_weights(replace(conv, weight=np.zeros_like(conv.weight)))
    assert not integers.any()
    assert (scale > 0).all()


def test_onnx_fp16__computes_in_float32_with_rounded_weights(tmp_path: Path) -> None:
    graph = tiny_graph(2)
    path = write(tmp_path, "onnx", graph, "fp16")
    onnx.checker.check_model(path, full_check=True)
    nodes = tuple(
        replace(node, weight=half(node.weight), bias=half(node.bias)) if isinstance(node, Conv) else node
        for node in graph.nodes
    )
    pictures = random_pictures(graph, 1)
    loaded = open_artifact(path, "onnxruntime", threads=1)
    found = dict(split_outputs(loaded.runtime.run(pictures), tiny_spec(graph)))
    loaded.close()
    for output, wanted in run_torch(replace(graph, nodes=nodes), pictures).items():
        # Float32 sums in another order.
        np.testing.assert_allclose(found[output], wanted[0], rtol=0, atol=1e-5 * np.abs(wanted).max())
    kept = [constant for constant in onnx.load(path).graph.initializer if "/weight" in constant.name]
    assert {constant.data_type for constant in kept} == {onnx.TensorProto.FLOAT16}


def half(values: np.ndarray) -> np.ndarray:
    return values.astype(np.float16).astype(np.float32)


def test_onnx_fp16__weight_beyond_its_range__is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="too large for float16; export fp32 or int8"):
        write(tmp_path, "onnx", tiny_graph(0, dead_bias=1e5), "fp16")
    assert not list(tmp_path.iterdir())


def test_tflite_w8__xnnpack_takes_everything_but_the_resize(tmp_path: Path) -> None:
    interpreter = Interpreter(str(write(tmp_path, "tflite", GRAPHS["plain"], "w8")))
    interpreter.allocate_tensors()
    # As in test_tflite.py: the parts before and after the one Resize.
    operators = [operator["op_name"] for operator in interpreter._get_ops_details()]
    assert operators.count("DELEGATE") == 2
