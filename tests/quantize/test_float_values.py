"""Which values stay float, and what the simulator makes of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from fcos_edge.quantize.execute import DeployNetwork
from fcos_edge.quantize.float_values import float_branches, float_values
from fcos_edge.quantize.simulate import Simulator, dequantize, simulate
from tests.quantize.graphs import random_pictures, tiny_graph, tiny_record

HEADS_P4 = ("head_logits_p4", "head_ltrb_p4", "head_centerness_p4")


@pytest.mark.parametrize(
    ("float_nodes", "wanted"),
    [
        ((), set()),
        (("block",), set()),  # an integer addition reads it
        (("expand", "depthwise"), {"expand"}),  # nothing rounds between the two
        (("project", "block"), set()),  # both are also read by the addition
        (("project", "block", "residual"), {"project", "block"}),  # a whole block: its sum is quantized
        (("residual",), set()),
        (("c4", "merged"), set()),  # tower_p4 reads c4, too
        (("c4", "merged", "tower_p4"), {"c4", "up"}),  # the Resize takes floats along
        (("merged",), set()),  # c4, and so up, are integers
        (("head_logits_p3",), {"head_logits_p3"}),  # an output that nothing reads
        (("tower_p4", *HEADS_P4), {"tower_p4", *HEADS_P4}),
        (("tower_p4", *HEADS_P4[1:]), set(HEADS_P4[1:])),  # one of its readers is an integer convolution
    ],
)  # fmt: skip
def test_float_values__need_readers_that_take_floats(float_nodes: tuple[str, ...], wanted: set[str]) -> None:
    graph = tiny_graph(0)
    assert float_values(graph, tiny_record(graph, float_nodes=float_nodes)) == wanted


def test_float_values__output_that_integers_read_is_quantized() -> None:
    graph = tiny_graph(0)
    graph = replace(graph, outputs={**graph.outputs, "logits_p3": "c4"})
    assert float_values(graph, tiny_record(graph, float_nodes=("c4",))) == set()


def test_float_branches__one_level_takes_all_levels_along() -> None:
    graph = tiny_graph(0)
    record = tiny_record(graph, float_nodes=("head_logits_p3", "c4", "merged"))
    assert float_branches(graph, record) == {"logits_p3", "logits_p4"}


def test_simulator__everything_in_float__is_the_float_network() -> None:
    graph, pictures = tiny_graph(0), random_pictures(tiny_graph(0))
    names = tuple(node.name for node in graph.nodes if node.name not in ("input", "up"))
    record = tiny_record(graph, float_nodes=names)
    found = simulate(graph, record, pictures)
    wanted = DeployNetwork(graph)(torch.from_numpy(pictures))
    for name, value in dequantize(graph, record, found).items():
        assert found[name].dtype == np.float32
        # The picture is its own quantization; what differs is (p - 127) * 2^-7 instead of / 128.
        np.testing.assert_allclose(value, wanted[name].numpy(), rtol=0, atol=1e-6)


def test_simulator__what_stays_float_has_no_grid() -> None:
    graph, pictures = tiny_graph(0), random_pictures(tiny_graph(0))
    record = tiny_record(graph, float_nodes=("expand", "depthwise", "head_ltrb_p3"))
    simulator = Simulator(graph, record)
    for node, value in simulator.run_nodes(pictures):
        is_whole = bool((value == value.round()).all())
        assert is_whole == (node.name not in ("expand", "head_ltrb_p3")), node.name
