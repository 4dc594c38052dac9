"""The integer simulator against a slow oracle, to the bit."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fcos_edge.errors import CheckpointError
from fcos_edge.quantize.calibrate import calibrate_inputs
from fcos_edge.quantize.execute import DeployNetwork
from fcos_edge.quantize.float_values import is_computed_in_float
from fcos_edge.quantize.graph import Activation, Conv, Graph, Input
from fcos_edge.quantize.recipe import parse_recipe
from fcos_edge.quantize.record import Point, Record, weight_scales
from fcos_edge.quantize.simulate import Simulator, dequantize, simulate
from fcos_edge.runtime import FloatArray
from tests.quantize.graphs import LITE_MEAN, LITE_STD, paper_graph, random_pictures, tiny_graph, tiny_record
from tests.quantize.oracles import node_slowly

SIZE = (32, 32)
IMAGENET_MEAN, IMAGENET_STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)


def assert_equals_oracle(graph: Graph, record: Record) -> None:
    pictures = random_pictures(graph, count=2, seed=7)
    simulator = Simulator(graph, record)
    maps = {node.name: value for node, value in simulator.run_nodes(pictures)}
    floats = simulator.float_values
    found: dict[str, npt.NDArray[Any]] = {name: value.numpy() for name, value in maps.items()}
    for name in set(found) - floats:
        found[name] = found[name].astype(np.int64) + record.points[name].zero_point
    for index, picture in enumerate(pictures):
        for node in graph.nodes:
            inputs = [found[name][index] for name in node.inputs]
            wanted = node_slowly(node, record, inputs, picture, floats)
            steps = np.abs(found[node.name][index] - wanted)
            if node.name in floats:
                assert steps.max() <= 1e-6 * np.abs(wanted).max(), node.name  # the oracle sums in float64
                continue
            # Float sums depend on their order: one in 100,000 falls on the other side of a half.
            allowed = 1 if is_computed_in_float(node, record) else 0
            assert steps.max() <= allowed, node.name
            assert steps.mean() <= 0.01 * allowed, node.name


@pytest.mark.parametrize(
    ("graph", "float_nodes"),
    [
        (paper_graph(0, input_hw=SIZE), ()),
        (tiny_graph(0, input_hw=SIZE), ()),
        (tiny_graph(1, input_hw=SIZE, dead_bias=-4.0), ()),  # sums beyond what float32 holds exactly
        (tiny_graph(2, input_hw=SIZE, mean=IMAGENET_MEAN, std=IMAGENET_STD), ()),  # float normalization
        (tiny_graph(3, input_hw=SIZE), ("stem", "depthwise", "merged", "head_logits_p4")),
        (tiny_graph(4, input_hw=SIZE), ("expand", "depthwise", "project", "block", "residual")),
    ],
    ids=[
        "group norms and a pool",
        "plain",
        "dead channels",
        "normalized in float",
        "mixed",
        "block in float",
    ],
)
def test_simulator__equals_the_oracle(graph: Graph, float_nodes: tuple[str, ...]) -> None:
    assert_equals_oracle(graph, tiny_record(graph, float_nodes=float_nodes))


@pytest.mark.parametrize("mean", [0.0, 127.0, 128.0])
def test_simulator__symmetric_activations_equal_the_oracle(mean: float) -> None:
    graph = tiny_graph(5, input_hw=SIZE, mean=(mean,) * 3, std=LITE_STD)
    record = calibrate_inputs(graph, random_pictures(graph), recipe=parse_recipe("w8c_a8s_minmax"))
    assert {point.zero_point for point in record.points.values()} == {128}
    assert_equals_oracle(graph, record)


def test_simulator__activation_bounds_hold_for_any_record() -> None:
    # A record whose ReLU ranges reach below 0 and above 6: the clamp does the work, not the range.
    graph = tiny_graph(4, input_hw=SIZE)
    record = tiny_record(graph)
    points = {name: Point(float(np.float32(p.scale * 1.5)), 40) for name, p in record.points.items()}
    points["input"], points["up"] = record.points["input"], points["c4"]
    assert_equals_oracle(graph, replace(record, points=points))


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.integers(0, 2**32 - 1), st.sampled_from(["none", "relu", "relu6"]), st.sampled_from([1, 2, 4]),
    st.sampled_from([1, 3]), st.integers(1, 2), st.tuples(*[st.integers(0, 2)] * 4), st.integers(0, 255),
)  # fmt: skip
def test_simulator__any_convolution_equals_the_oracle(
    seed: int, activation: Activation, groups: int, kernel: int, stride: int, pads: tuple[int, int, int, int],
    zero_point: int,
) -> None:  # fmt: skip
    random = np.random.default_rng(seed)
    first, weight = _normal(random, 4, 3, 1, 1), _normal(random, 4, 4 // groups, kernel, kernel)
    widen = Conv("widen", ("input",), first, _normal(random, 4), 1, (0, 0, 0, 0), 1, "none")
    conv = Conv("conv", ("widen",), weight, _normal(random, 4), stride, pads, groups, activation)
    shapes = {"input": (3, 6, 5), "widen": (4, 6, 5), "conv": (4, 0, 0)}
    graph = Graph((Input("input", LITE_MEAN, LITE_STD), widen, conv), {"out": "conv"}, (6, 5), shapes)
    points = {
        "input": Point(1 / 128, 127),
        "widen": Point(float(np.float32(random.uniform(0.01, 0.03))), zero_point),
        "conv": Point(float(np.float32(random.uniform(0.01, 0.1))), int(random.integers(0, 256))),
    }
    scales = {node.name: weight_scales(node, points[node.inputs[0]].scale) for node in (widen, conv)}
    assert_equals_oracle(graph, Record(points, scales))


def _normal(random: np.random.Generator, *shape: int) -> FloatArray:
    return random.normal(0, 0.5, shape).astype(np.float32)


def test_simulate__outputs_are_nhwc_uint8_and_near_the_float_network() -> None:
    graph = tiny_graph(5)
    record = tiny_record(graph, seed=1)
    pictures = random_pictures(graph, count=3, seed=1)
    integers = simulate(graph, record, pictures)
    real = dequantize(graph, record, integers)
    wanted = DeployNetwork(graph)(torch.from_numpy(pictures))
    assert list(integers) == list(graph.outputs)
    for name, node in graph.outputs.items():
        channels, height, width = graph.shapes[node]
        assert integers[name].shape == (3, height, width, channels)
        assert integers[name].dtype == np.uint8
        reference = wanted[name].numpy()
        # Ten quantized layers with random weights; a broken scale gives 0.5 and more.
        assert np.abs(real[name] - reference).mean() < 0.05 * np.abs(reference).max()


def test_simulate__a_batch_is_its_pictures_one_by_one() -> None:
    graph = tiny_graph(6, input_hw=SIZE)
    record = tiny_record(graph)
    pictures = random_pictures(graph, count=3)
    together = simulate(graph, record, pictures)
    for index in range(3):
        for name, value in simulate(graph, record, pictures[index : index + 1]).items():
            np.testing.assert_array_equal(value[0], together[name][index])


def test_simulator__learned_rounding_is_used() -> None:
    graph = tiny_graph(7, input_hw=SIZE)
    record = tiny_record(graph)
    (stem,) = (node for node in graph.nodes if isinstance(node, Conv) and node.name == "stem")
    rounded = np.random.default_rng(0).integers(-127, 128, stem.weight.shape).astype(np.int8)
    assert_equals_oracle(graph, replace(record, rounded_weights={"stem": rounded}))


def test_simulator__refuses_the_record_of_another_graph() -> None:
    record = tiny_record(tiny_graph())
    points = {name: point for name, point in record.points.items() if name != "stem"}
    with pytest.raises(CheckpointError, match="stem"):
        Simulator(tiny_graph(), replace(record, points=points))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda r: replace(r, float_nodes=("up",)), "'up'. kept in float is no convolution"),
        (lambda r: replace(r, points={**r.points, "up": Point(0.5, 3)}), "up is not quantized as its input"),
        (lambda r: replace(r, points={**r.points, "input": Point(0.5, 3)}), "as the picture is"),
        (lambda r: replace(r, weight_scales={}), "weights do not fit"),
        (lambda r: replace(r, rounded_weights={"stem": np.zeros((1, 1, 1, 1), np.int8)}), "another shape"),
    ],
)
def test_check_record__what_does_not_fit_is_named(spoil: object, message: str) -> None:
    graph = tiny_graph()
    assert callable(spoil)
    with pytest.raises(CheckpointError, match=message):
        Simulator(graph, spoil(tiny_record(graph)))
