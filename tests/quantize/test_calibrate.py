"""Calibration: ranges, ties between nodes, and what it refuses."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fcos_edge.calibration_pictures import picture_sha256
from fcos_edge.errors import CheckpointError, DataError, SpecError
from fcos_edge.letterbox import Letterbox
from fcos_edge.quantize.calibrate import TIE_MARGIN, calibrate, range_point
from fcos_edge.quantize.execute import DeployNetwork
from fcos_edge.quantize.graph import Activation, Conv, Graph, Node
from fcos_edge.quantize.ranges import BINS, ESTIMATORS, Values
from fcos_edge.quantize.recipe import Recipe
from fcos_edge.quantize.record import check_record
from fcos_edge.quantize.simulate import dequantize, simulate
from fcos_edge.runtime import UInt8Array
from tests.quantize.graphs import random_pictures, tiny_graph, tiny_spec

IMAGENET_MEAN, IMAGENET_STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)


def source_pictures(count: int = 6, seed: int = 0) -> list[UInt8Array]:
    """BGR pictures of several sizes."""
    pictures = random_pictures(tiny_graph(input_hw=(96, 128)), count, seed)
    return [np.ascontiguousarray(picture[: 60 + 5 * index]) for index, picture in enumerate(pictures)]


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("kwargs", [{}, {"dead_bias": 4.0}, {"mean": IMAGENET_MEAN, "std": IMAGENET_STD}])
def test_calibrate__record_fits_and_the_integers_follow_the_float_network(
    estimator: str, kwargs: dict[str, object]
) -> None:
    graph = tiny_graph(**kwargs)  # type: ignore[arg-type]
    spec, pictures = tiny_spec(graph), source_pictures()
    record = calibrate(graph, iter(pictures), spec, recipe=Recipe(estimator=estimator))
    check_record(graph, record)
    inputs = np.stack([Letterbox.from_spec(spec, (p.shape[0], p.shape[1])).apply(p) for p in pictures])
    wanted = DeployNetwork(graph)(torch.from_numpy(inputs))
    for name, real in dequantize(graph, record, simulate(graph, record, inputs)).items():
        reference = wanted[name].numpy()
        # Random weights amplify what ten quantized layers lose; a broken scale gives 0.5 and more.
        assert np.abs(real - reference).mean() < 0.05 * np.abs(reference).max()


def test_calibrate__same_pictures_in_any_order_give_the_same_record() -> None:
    graph, pictures = tiny_graph(), source_pictures()
    forward = calibrate(graph, pictures, tiny_spec(graph))
    backward = calibrate(graph, pictures[::-1], tiny_spec(graph))
    assert forward.sha256 == backward.sha256
    assert forward.picture_sha256 == tuple(sorted(map(picture_sha256, pictures)))


def test_calibrate__points_obey_their_nodes() -> None:
    graph = tiny_graph()
    record = calibrate(graph, source_pictures(), tiny_spec(graph), float_nodes=("stem",))
    assert (record.points["input"].scale, record.points["input"].zero_point) == (1 / 128, 127)
    assert record.points["up"] == record.points["c4"]  # a Resize moves values, no more
    assert record.float_nodes == ("stem",)
    for node in graph.nodes:
        if isinstance(node, Conv) and node.activation != "none":
            point = record.points[node.name]
            assert point.zero_point == 0
            assert node.activation == "relu" or np.float32(point.scale) * np.float32(255) <= 6


def test_calibrate__a_map_that_is_always_zero_gets_a_coarse_scale() -> None:
    graph = with_bias(tiny_graph(), "tower_p4", -1e3)  # dead behind its ReLU
    record = calibrate(graph, source_pictures(), tiny_spec(graph))
    check_record(graph, record)
    source, output = record.points["c4"].scale, record.points["tower_p4"].scale
    # XNNPACK refuses a convolution whose multiplier reaches 256.
    assert float(record.weight_scales["tower_p4"].max()) * source / output < 256


def with_bias(graph: Graph, name: str, bias: float) -> Graph:
    def changed(node: Node) -> Node:
        if not isinstance(node, Conv) or node.name != name:
            return node
        return replace(node, bias=np.full_like(node.bias, bias))

    return replace(graph, nodes=tuple(map(changed, graph.nodes)))


def test_calibrate__float_normalization_has_no_pixel_on_a_tie() -> None:
    graph = tiny_graph(mean=(0.0, 0.0, 0.0), std=(2.0, 4.0, 8.0))  # plain min/max puts many on ties
    point = calibrate(graph, source_pictures(1), tiny_spec(graph)).points["input"]
    steps = np.arange(256)[:, None] / np.array([2.0, 4.0, 8.0]) / point.scale
    # A little less, since the runtimes compute the pixels in float32.
    assert np.abs(steps - np.floor(steps) - 0.5).min() > 0.9 * TIE_MARGIN
    assert steps.max() <= 255.5 - TIE_MARGIN  # and the range still holds white


@pytest.mark.parametrize(
    ("pictures", "graph", "error", "message"),
    [
        ([], tiny_graph(), DataError, "no pictures"),
        (source_pictures(1), tiny_graph(input_hw=(96, 64)), SpecError, r"\(64, 64\).*\(96, 64\)"),
        (source_pictures(1), with_bias(tiny_graph(), "c3", np.nan), CheckpointError, "c3 puts out nan"),
    ],
)
def test_calibrate__mistakes_are_one_line(
    pictures: list[UInt8Array], graph: Graph, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        calibrate(graph, pictures, tiny_spec(tiny_graph()))


def test_picture_sha256__sees_shape_and_bytes() -> None:
    flat = np.zeros((2, 3, 3), np.uint8)
    assert picture_sha256(flat) != picture_sha256(flat.reshape(3, 2, 3))
    assert picture_sha256(flat) != picture_sha256(flat + np.uint8(1))
    header = b"".join(side.to_bytes(8, "little") for side in (2, 3, 3))
    assert picture_sha256(flat) == hashlib.sha256(header + bytes(18)).hexdigest()


def observed(samples: npt.NDArray[np.float64]) -> Values:
    low, high = min(samples.min(), 0.0), max(samples.max(), 0.0)
    counts, _ = np.histogram(samples, BINS, (low, high))
    return Values(low, high, [low], [high], counts.astype(np.float64))


def test_estimators__an_outlier_is_kept_or_cut() -> None:
    samples = np.append(np.random.default_rng(0).normal(0, 1, 200_000), 100.0)
    values = observed(samples)
    assert ESTIMATORS["minmax"](values) == (values.low, 100.0)
    assert ESTIMATORS["percentile"](values)[1] < 6
    assert ESTIMATORS["mse"](values)[1] < 90  # where d/dh of (100 - h)^2 + 200,000 s^2 / 12 is 0: 79
    for estimate in ESTIMATORS.values():
        assert estimate(values)[0] < -2  # the other side stays


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_estimators__a_constant_zero_is_an_empty_range(estimator: str) -> None:
    counts = np.zeros(BINS)
    counts[0] = 10
    assert ESTIMATORS[estimator](Values(0.0, 0.0, [0.0], [0.0], counts)) == (0.0, 0.0)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.floats(-1e4, 1e4), st.floats(-1e4, 1e4), st.sampled_from(["none", "relu", "relu6"]))
def test_range_point__zero_is_exact_and_the_range_is_covered(
    one: float, other: float, activation: Activation
) -> None:
    low, high = min(one, other), max(one, other)
    point = range_point(low, high, activation)
    assert 0 <= point.zero_point <= 255
    assert np.float32(point.scale) == point.scale > 0
    if activation == "none":
        # The zero point is rounded, so that an end may lie half a step outside.
        assert (0 - point.zero_point - 0.5001) * point.scale <= min(low, 0)
        assert (255 - point.zero_point + 0.5001) * point.scale >= max(high, 0)
    else:
        assert point.zero_point == 0
