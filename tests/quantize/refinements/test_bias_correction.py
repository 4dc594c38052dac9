"""Bias correction against a slow walk through the network, location by location."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import torch

from fcos_edge.quantize.execute import DeployNetwork
from fcos_edge.quantize.graph import Add, Conv, Graph, Input
from fcos_edge.quantize.record import BIAS_LIMIT, Point, Record, check_record, conv_integers
from fcos_edge.quantize.refinements import bias_correction
from fcos_edge.quantize.refinements.chosen_inputs import chosen_inputs
from fcos_edge.quantize.simulate import Simulator
from fcos_edge.runtime import UInt8Array
from tests.quantize.graphs import random_pictures, tiny_graph, tiny_record
from tests.quantize.oracles import Ints, node_slowly

SIZE = (32, 32)
Reals = npt.NDArray[np.float64]


def errors_slowly(conv: Conv, record: Record, x: Reals, q: Ints) -> list[list[float]]:
    """Per channel, float's sum less the integers' at every place where not both are clipped; one picture.

    x  (I, h, w) what the float network reads
    q  (I, h, w) what the integer network reads, 0..255
    """
    integers = conv_integers(conv, record)
    source, point = record.points[conv.inputs[0]], record.points[conv.name]
    top, left, bottom, right = conv.pads
    x = np.pad(x, ((0, 0), (top, bottom), (left, right)))
    steps = np.pad(q - source.zero_point, ((0, 0), (top, bottom), (left, right)))
    channels, kernel_h, kernel_w = conv.weight.shape[1:]
    errors: list[list[float]] = [[] for _ in conv.bias]
    for out in range(len(conv.bias)):
        first = out // (len(conv.bias) // conv.groups) * channels
        low = -point.zero_point * point.scale if conv.activation == "none" else 0.0
        high = (255 - point.zero_point) * point.scale
        for row in range(0, x.shape[1] - kernel_h + 1, conv.stride):
            for column in range(0, x.shape[2] - kernel_w + 1, conv.stride):
                rows, columns = slice(row, row + kernel_h), slice(column, column + kernel_w)
                window = (slice(first, first + channels), rows, columns)
                real = float((x[window] * conv.weight[out]).sum() + conv.bias[out])
                products = steps[window] * integers.weight[out].astype(np.int64)
                found = int(products.sum() + integers.bias[out]) * float(integers.bias_scale[out])
                if low < real < high or low < found < high:
                    errors[out].append(real - found)
    return errors


def walk_slowly(graph: Graph, record: Record, pictures: UInt8Array) -> dict[str, Ints]:
    """Corrections of all convolutions, each found behind those before it."""
    network = DeployNetwork(graph)
    runs = [network.run_nodes(torch.from_numpy(picture[None])) for picture in pictures]
    floats = [{node.name: value[0].double().numpy() for node, value in run} for run in runs]
    integers: list[dict[str, Ints]] = [{} for _ in pictures]
    corrections: dict[str, Ints] = {}
    for node in graph.nodes:
        if isinstance(node, Conv) and node.name not in record.float_nodes:
            source = node.inputs[0]
            maps = zip(floats, integers, strict=True)
            found = [errors_slowly(node, record, real[source], q[source]) for real, q in maps]
            scale = conv_integers(node, record).bias_scale.astype(np.float64)
            places = len(pictures) * np.prod(graph.shapes[node.name][1:])
            corrections[node.name] = np.array([
                round(sum(map(sum, channel)) / max(sum(map(len, channel)), 0.02 * places) / s)
                for channel, s in zip(zip(*found, strict=True), scale, strict=True)
            ])  # fmt: skip
            so_far = {**record.bias_corrections, node.name: corrections[node.name].astype(np.int32)}
            record = replace(record, bias_corrections=so_far)
        for values, picture in zip(integers, pictures, strict=True):
            values[node.name] = node_slowly(node, record, [values[name] for name in node.inputs], picture)
    return corrections


def found_corrections(graph: Graph, record: Record) -> dict[str, Ints]:
    """With zeros where a convolution has none."""
    return {
        node.name: record.bias_corrections.get(node.name, np.zeros(len(node.bias), np.int32)).astype(np.int64)
        for node in graph.nodes
        if isinstance(node, Conv)
    }


def test_corrections__equal_those_of_a_slow_walk() -> None:
    graph = tiny_graph(0, input_hw=SIZE)
    record = tiny_record(graph)
    pictures = random_pictures(graph, 3, seed=5)
    refined = bias_correction.refine(graph, record, pictures)
    check_record(graph, refined)
    wanted = walk_slowly(graph, record, pictures)
    found = found_corrections(graph, refined)
    for name in wanted:
        # The float network's sums are float32 in another order; a mean on a half may fall to either side.
        assert np.abs(found[name] - wanted[name]).max() <= 1, name
    # There was something to correct.
    assert sum(np.abs(correction).sum() for correction in wanted.values()) > 100


def test_corrections__leave_no_mean_error_where_nothing_is_clipped() -> None:
    graph = tiny_graph(4, input_hw=SIZE)
    record, pictures = tiny_record(graph), random_pictures(graph, 3)
    wide = {name: Point(float(np.float32(p.scale * 2)), p.zero_point) for name, p in record.points.items()}
    record = replace(record, points={**wide, "input": record.points["input"]})
    refined = bias_correction.refine(graph, record, pictures)
    before, after = mean_errors(graph, record, pictures), mean_errors(graph, refined, pictures)
    assert set(after) == {"project", "c4", "lateral", *graph.outputs.values()}
    for node in graph.nodes:
        if isinstance(node, Conv) and node.name in after:
            # A whole number of steps is taken out: half a step is left, and what float32 sums lose.
            most = 0.51 * conv_integers(node, refined).bias_scale
            assert (np.abs(after[node.name]) <= most).all(), node.name
            assert np.abs(after[node.name]).mean() < np.abs(before[node.name]).mean(), node.name


def mean_errors(graph: Graph, record: Record, pictures: UInt8Array) -> dict[str, Reals]:
    """Of each channel, (O,), of the convolutions without an activation; none of their places is clipped."""
    network, simulator = DeployNetwork(graph), Simulator(graph, record)
    errors: dict[str, list[Reals]] = {}
    for picture in pictures:
        real = {n.name: v[0].double().numpy() for n, v in network.run_nodes(torch.from_numpy(picture[None]))}
        steps = {node.name: value[0].numpy() for node, value in simulator.run_nodes(picture[None])}
        for node in graph.nodes:
            if isinstance(node, Conv) and node.activation == "none":
                source = node.inputs[0]
                whole = steps[source].astype(np.int64) + record.points[source].zero_point
                found = errors_slowly(node, record, real[source], whole)
                errors.setdefault(node.name, []).append(np.mean(found, axis=1))
    return {name: np.mean(of_pictures, axis=0) for name, of_pictures in errors.items()}


def test_corrections__a_convolution_kept_in_float_gets_none() -> None:
    graph = tiny_graph(0, input_hw=SIZE)
    kept = ("stem", "block", "head_ltrb_p3")
    record = tiny_record(graph, float_nodes=kept)
    refined = bias_correction.refine(graph, record, random_pictures(graph, 2))
    assert refined.bias_corrections
    assert not set(refined.bias_corrections) & set(kept)


def test_corrections__a_planted_shift_is_taken_out_exactly() -> None:
    graph = tiny_graph(1, input_hw=SIZE)
    record, pictures = tiny_record(graph), random_pictures(graph, 4)
    plain = found_corrections(graph, bias_correction.refine(graph, record, pictures))
    # Layers without clamps: a shift changes which places a clamp hides.
    planted: Mapping[str, Ints] = {"project": np.arange(-4, 4) * 50, "lateral": np.full(8, -77)}
    shifts = {name: shift.astype(np.int32) for name, shift in planted.items()}
    spoiled = replace(record, bias_corrections=shifts)
    found = found_corrections(graph, bias_correction.refine(graph, spoiled, pictures))
    for name, correction in found.items():
        np.testing.assert_array_equal(correction, plain[name], err_msg=name)


def test_corrections__no_order_of_the_pictures_matters() -> None:
    graph = tiny_graph(2, input_hw=SIZE)
    record, pictures = tiny_record(graph), random_pictures(graph, 5)
    forward = bias_correction.refine(graph, record, pictures)
    assert forward.sha256 == bias_correction.refine(graph, record, pictures[::-1]).sha256
    assert forward.sha256 != record.sha256


def test_corrections__a_bias_stays_within_its_limit() -> None:
    graph = tiny_graph(3, input_hw=SIZE, dead_bias=5.0)  # its bias is at the limit
    record, pictures = tiny_record(graph), random_pictures(graph, 2)
    refined = bias_correction.refine(graph, record, pictures)
    check_record(graph, refined)
    for node in graph.nodes:
        if isinstance(node, Conv):
            assert np.abs(conv_integers(node, refined).bias.astype(np.int64)).max() <= BIAS_LIMIT * (1 + 1e-6)


def test_chosen_inputs__few_are_the_same_in_any_order() -> None:
    pictures = random_pictures(tiny_graph(input_hw=SIZE), 6)
    np.testing.assert_array_equal(chosen_inputs(pictures, 3), chosen_inputs(pictures[::-1], 3))
    assert len(chosen_inputs(pictures, 9)) == 6


def test_with_last_reads__every_value_lives_until_its_last_reader() -> None:
    graph = tiny_graph()
    alive: set[str] = set()
    for node, done in bias_correction.with_last_reads(graph):
        assert set(node.inputs) <= alive
        alive = (alive | {node.name}) - set(done)
    assert not alive
    assert any(isinstance(node, Add | Input) for node in graph.nodes)
