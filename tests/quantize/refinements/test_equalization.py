"""Cross-layer equalization: what it may touch, and that the network stays what it is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from fcos_edge.errors import CheckpointError
from fcos_edge.quantize.calibrate import calibrate_inputs
from fcos_edge.quantize.execute import DeployNetwork
from fcos_edge.quantize.graph import Conv, Graph, Node
from fcos_edge.quantize.recipe import parse_recipe
from fcos_edge.quantize.record import Record, weight_scales
from fcos_edge.quantize.refinements.equalization import LARGEST_FACTOR, channel_factors, equalized
from fcos_edge.quantize.simulate import dequantize, simulate
from tests.quantize.graphs import random_pictures, tiny_graph


def relu_graph(seed: int = 0, *, dead_bias: float = 0.0) -> Graph:
    """`tiny_graph` with ReLU where it has ReLU6."""
    graph = tiny_graph(seed, dead_bias=dead_bias)
    return with_nodes(graph, lambda c: replace(c, activation="relu") if c.activation == "relu6" else c)


def with_nodes(graph: Graph, change: object) -> Graph:
    assert callable(change)
    nodes: list[Node] = [change(node) if isinstance(node, Conv) else node for node in graph.nodes]
    return replace(graph, nodes=tuple(nodes))


def uneven(graph: Graph, seed: int = 0) -> Graph:
    """The same with output channels whose weights differ by up to a hundred times."""
    random = np.random.default_rng(seed)

    def change(conv: Conv) -> Conv:
        factor = (10 ** random.uniform(-1, 1, len(conv.bias))).astype(np.float32)
        return replace(conv, weight=conv.weight * factor[:, None, None, None], bias=conv.bias * factor)

    return with_nodes(graph, change)


def test_channel_factors__stand_where_only_convolutions_read_and_no_relu6_is() -> None:
    # project, block, c4, lateral feed an addition or a Resize; the heads are outputs.
    always = {"c3", "tower_p3", "tower_p4"}
    assert set(channel_factors(relu_graph())) == {"stem", "expand", "depthwise"} | always
    assert set(channel_factors(tiny_graph())) == always  # the others end in a ReLU6


@pytest.mark.parametrize("dead_bias", [0.0, 5.0])
@pytest.mark.parametrize("seed", range(3))
def test_equalized__computes_the_same(seed: int, dead_bias: float) -> None:
    graph = uneven(relu_graph(seed, dead_bias=dead_bias), seed)
    factors = channel_factors(graph)
    pictures = torch.from_numpy(random_pictures(graph, 3))
    found = {node.name: value for node, value in DeployNetwork(equalized(graph, factors)).run_nodes(pictures)}
    for node, value in DeployNetwork(graph).run_nodes(pictures):
        factor = torch.from_numpy(factors.get(node.name, np.ones(1, np.float32))).reshape(-1, 1, 1)
        wanted = value * factor
        # Weights, factors and sums of up to 400 products are float32, through thirteen layers.
        torch.testing.assert_close(found[node.name], wanted, rtol=0, atol=1e-5 * float(wanted.abs().max()))


def test_channel_factors__make_the_two_sides_of_a_channel_equal() -> None:
    graph = uneven(relu_graph())
    convs = {
        node.name: node for node in equalized(graph, channel_factors(graph)).nodes if isinstance(node, Conv)
    }
    for maker, reader, axes in (("expand", "depthwise", (1, 2, 3)), ("depthwise", "project", (0, 2, 3))):
        made = np.abs(convs[maker].weight).max(axis=(1, 2, 3))
        read = np.abs(convs[reader].weight).max(axis=axes)
        np.testing.assert_allclose(made, read, rtol=5e-3)  # the sweeps end at 1e-3, of each of three factors


def test_channel_factors__one_scale_for_all_weights_loses_less() -> None:
    graph = uneven(relu_graph())
    assert relative_loss(equalized(graph, channel_factors(graph))) < 0.5 * relative_loss(graph)


def relative_loss(graph: Graph) -> float:
    """Mean rounding error of weights with one scale per convolution, in parts of each channel's largest."""
    losses = []
    for conv in graph.nodes:
        if isinstance(conv, Conv):
            scales = weight_scales(conv, 1.0, parse_recipe("w8t_a8t_minmax"))[:, None, None, None]
            lost = np.abs(np.rint(conv.weight / scales) * scales - conv.weight)
            largest = np.abs(conv.weight).max(axis=(1, 2, 3), keepdims=True)
            losses.append(float((lost / largest).mean()))
    return float(np.mean(losses))


def test_channel_factors__a_dead_channel_is_not_blown_up() -> None:
    graph = relu_graph(dead_bias=5.0)  # weights of 1e-20
    dead = with_nodes(graph, lambda c: replace(c, weight=c.weight * (np.abs(c.weight) > 1e-19)))
    for one in (graph, dead):
        for factor in channel_factors(one).values():
            assert factor.dtype == np.float32
            assert 1 / LARGEST_FACTOR <= factor.min() <= factor.max() <= LARGEST_FACTOR
    assert channel_factors(dead)["expand"][0] == 1


def test_calibrate__a_recipe_with_cle_carries_the_factors() -> None:
    graph = uneven(relu_graph())
    pictures = random_pictures(graph, 4)
    record = calibrate_inputs(graph, pictures, (), parse_recipe("w8t_a8t_minmax_cle"))
    plain = calibrate_inputs(graph, pictures, (), parse_recipe("w8t_a8t_minmax"))
    assert set(record.channel_factors) == set(channel_factors(graph))
    assert output_error(graph, record) < 0.7 * output_error(graph, plain)


def output_error(graph: Graph, record: Record) -> float:
    """Mean over the outputs of |int8 - float| as a part of the largest value."""
    pictures = random_pictures(graph, 4)
    wanted = DeployNetwork(graph)(torch.from_numpy(pictures))
    found = dequantize(graph, record, simulate(graph, record, pictures))
    return float(np.mean([np.abs(found[n] - v.numpy()).mean() / v.abs().max() for n, v in wanted.items()]))


def test_equalized__a_factor_where_none_can_be__is_refused() -> None:
    with pytest.raises(CheckpointError, match="residual cannot be equalized"):
        equalized(tiny_graph(), {"project": np.full(8, 2, np.float32)})
