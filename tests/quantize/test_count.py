"""Costs against numbers worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from fcos_edge.quantize.count import layer_costs, output_cost
from fcos_edge.quantize.graph import Add, Conv, Graph, Input, Resize


def _conv(name: str, source: str, shape: tuple[int, int, int, int], stride: int = 1, groups: int = 1) -> Conv:
    weight, bias = np.zeros(shape, np.float32), np.zeros(shape[0], np.float32)
    return Conv(name, (source,), weight, bias, stride, (0, 0, 0, 0), groups, "none")


GRAPH = Graph(
    nodes=(
        Input("input", (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
        _conv("stem", "input", (8, 3, 3, 3), stride=2),
        _conv("depthwise", "stem", (8, 1, 5, 5), groups=8),
        _conv("pointwise", "depthwise", (4, 8, 1, 1)),
        _conv("grouped", "pointwise", (4, 2, 3, 3), groups=2),
        Resize("up", ("grouped",), 2),
        Add("sum", ("up", "up"), "none"),
    ),
    outputs={"logits_p3": "sum"},
    input_hw=(32, 64),
    shapes={
        "input": (3, 32, 64), "stem": (8, 16, 32), "depthwise": (8, 16, 32), "pointwise": (4, 16, 32),
        "grouped": (4, 16, 32), "up": (4, 32, 64), "sum": (4, 32, 64),
    },
)  # fmt: skip


@pytest.mark.parametrize(("name", "kind", "parameters", "multiply_adds"), [
    ("input", "input", 0, 0),
    # 8 * 3 * 3 * 3 = 216 weights and 8 biases; each weight once for each of 16 * 32 = 512 pixels
    ("stem", "conv 3x3 /2", 224, 110_592),
    # 8 * 5 * 5 = 200 weights
    ("depthwise", "depthwise 5x5", 208, 102_400),
    # 4 * 8 = 32 weights
    ("pointwise", "pointwise", 36, 16_384),
    # 4 * 2 * 3 * 3 = 72 weights
    ("grouped", "conv 3x3", 76, 36_864),
    ("up", "resize", 0, 0),
    ("sum", "add", 0, 0),
])  # fmt: skip
def test_layer_costs__match_those_by_hand(name: str, kind: str, parameters: int, multiply_adds: int) -> None:
    cost = {layer.name: layer for layer in layer_costs(GRAPH)}[name]
    assert (cost.kind, cost.parameters, cost.multiply_adds) == (kind, parameters, multiply_adds)
    assert cost.output_chw == GRAPH.shapes[name]


def test_layer_costs__keep_the_graphs_order() -> None:
    assert [layer.name for layer in layer_costs(GRAPH)] == [node.name for node in GRAPH.nodes]


def test_output_cost__of_the_papers_levels() -> None:
    # The paper's 800x1024: 100 * 128 + 50 * 64 + 25 * 32 + 13 * 16 + 7 * 8 locations, 80 classes.
    cost = output_cost(17_064, 80)
    assert cost.values == 17_064 * 85
    # Section 2: "9x fewer" outputs than with nine anchors; center-ness takes a little of that back.
    assert cost.anchor_values == 17_064 * 9 * 84
    assert cost.anchor_values / cost.values == pytest.approx(8.89, abs=0.01)
