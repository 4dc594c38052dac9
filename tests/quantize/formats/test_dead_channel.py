"""A dead channel with a large bias, in all three formats.

Training leaves channels whose weights are zero or next to it. With a weight scale that fits such weights,
the bias would overflow int32; with one that fits the bias, nothing is lost, since the weights do nothing.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fcos_edge.quantize.calibrate import calibrate
from fcos_edge.quantize.formats import onnx as onnx_format
from fcos_edge.quantize.graph import Conv, Graph
from fcos_edge.quantize.record import BIAS_LIMIT, Point, conv_integers
from tests.quantize.formats import test_openvino, test_tflite
from tests.quantize.formats.test_onnx import Outputs, run_onnx, run_torch, simulated
from tests.quantize.graphs import random_pictures, tiny_graph, tiny_spec

DEAD = 3


def with_dead_channel(graph: Graph, name: str, weight: float, bias: float) -> Graph:
    """All weights of one channel of convolution `name` are `weight`, and its bias is `bias`."""
    (conv,) = (node for node in graph.nodes if node.name == name)
    assert isinstance(conv, Conv)
    weights, biases = conv.weight.copy(), conv.bias.copy()
    channel = min(DEAD, len(biases) - 1)
    weights[channel], biases[channel] = weight, bias
    planted = replace(conv, weight=weights, bias=biases)
    return replace(graph, nodes=tuple(planted if node is conv else node for node in graph.nodes))


@pytest.mark.parametrize(("name", "weight", "bias"), [
    ("project", 0.0, 30.0),  # 1x1, no activation
    ("project", 1e-9, -30.0),
    ("c3", -1e-9, 30.0),  # 3x3, ReLU
    ("block", 0.0, 30.0),  # depthwise, ReLU
    ("block", 1e-9, -30.0),
    ("depthwise", 1e-9, 30.0),  # depthwise, ReLU6 makes it 6
    ("head_logits_p3", 0.0, -30.0),  # a class that is never seen
    ("head_logits_p3", 1e-9, 30.0),
    ("head_centerness_p4", 0.0, 30.0),  # its only channel
])  # fmt: skip
def test_dead_channel__is_the_same_in_all_formats(
    name: str, weight: float, bias: float, tmp_path: Path
) -> None:
    graph = with_dead_channel(tiny_graph(0), name, weight, bias)
    pictures = random_pictures(graph, 4)
    spec = tiny_spec(graph)
    record = calibrate(graph, pictures[:, :, :, ::-1], spec)
    (conv,) = (node for node in graph.nodes if node.name == name)
    assert isinstance(conv, Conv)
    integers = conv_integers(conv, record)
    largest = np.abs(integers.bias.astype(np.int64)).max()
    # What is planted really is at the limit, not something that any scale would hold.
    assert BIAS_LIMIT * 0.999 < largest < BIAS_LIMIT * 1.001

    wanted = simulated(graph, record, pictures)
    by_onnx = run_onnx(onnx_format.serialize(graph, record), pictures)
    by_tflite = test_tflite.run_tflite(test_tflite.write(tmp_path, graph, "int8", record), pictures)
    by_openvino = test_openvino.run_openvino(test_openvino.write(tmp_path, graph, record, "int8"), pictures)
    fp32 = run_torch(graph, pictures)
    for output, source in graph.outputs.items():
        point = record.points[source]
        np.testing.assert_array_equal(by_onnx[output], wanted[output], err_msg=output)
        steps = by_tflite[output].astype(np.float32) - np.float32(point.zero_point - 128)
        np.testing.assert_array_equal(steps * np.float32(point.scale), wanted[output], err_msg=output)
        # OpenVINO rounds in another order, which random layers spread. An overflow is a hundred steps.
        assert _steps(by_openvino, wanted, output, point) < 2, output
        for found in (wanted, by_openvino):
            # Thirteen layers of random weights, each rounded to 8 bits: 2.5 steps without a dead channel.
            assert _steps(found, fp32, output, point) < 5, output


def _steps(found: Outputs, wanted: Outputs, output: str, point: Point) -> float:
    """Mean difference, in steps of the output: its 255 cover all that was seen."""
    return float(np.abs(found[output] - wanted[output]).mean()) / point.scale
