"""The float execution of a deploy graph."""

from __future__ import annotations

import pytest
import torch

from fcos_edge.quantize.execute import DeployNetwork
from fcos_edge.quantize.record import check_record
from tests.quantize.graphs import random_pictures, tiny_graph, tiny_record, tiny_spec


@pytest.mark.parametrize("input_hw", [(64, 64), (32, 96)])
def test_deploy_network__shapes_are_those_the_graph_says(input_hw: tuple[int, int]) -> None:
    graph = tiny_graph(input_hw=input_hw)
    pictures = torch.from_numpy(random_pictures(graph, count=2))
    network = DeployNetwork(graph)
    for node, value in network.run_nodes(pictures):
        assert tuple(value.shape) == (2, *graph.shapes[node.name])
    outputs = network(pictures)
    assert tuple(outputs) == tiny_spec(graph).output_names
    for name, value in outputs.items():
        channels, height, width = graph.shapes[graph.outputs[name]]
        assert tuple(value.shape) == (2, height, width, channels)


@pytest.mark.parametrize(
    "pictures",
    [
        torch.zeros(1, 64, 64, 3),  # float
        torch.zeros(1, 3, 64, 64, dtype=torch.uint8),  # NCHW
        torch.zeros(1, 64, 96, 3, dtype=torch.uint8),  # another size
        torch.zeros(64, 64, 3, dtype=torch.uint8),  # no batch
    ],
)
def test_deploy_network__refuses_other_pictures(pictures: torch.Tensor) -> None:
    with pytest.raises(ValueError, match="expected uint8"):
        DeployNetwork(tiny_graph())(pictures)


@pytest.mark.parametrize("dead_bias", [0.0, 3.0])
def test_tiny_record__fits_its_graph(dead_bias: float) -> None:
    graph = tiny_graph(dead_bias=dead_bias)
    check_record(graph, tiny_record(graph, float_nodes=("stem",)))
