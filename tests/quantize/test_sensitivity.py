"""Each layer's harm: against a slow version, and on networks with one layer spoiled by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from fcos_edge.quantize.execute import DeployNetwork, activate, convolve
from fcos_edge.quantize.graph import Add, Conv, Graph, Input
from fcos_edge.quantize.record import Point, Record, conv_integers, quantized_bounds
from fcos_edge.quantize.refinements.equalization import equalized
from fcos_edge.quantize.sensitivity import (
    LEAST_CANDIDATES,
    PICTURES,
    affordable_pictures,
    measure_sensitivity,
)
from fcos_edge.runtime import FloatArray, UInt8Array
from fcos_edge.sensitivity_table import SensitivityRow
from fcos_edge.spec import ModelSpec
from tests.quantize.graphs import random_pictures, tiny_graph, tiny_record, tiny_spec

CLASSES = 3
Maps = dict[str, FloatArray]


def _run(
    graph: Graph, picture: UInt8Array, record: Record, layer: str, *, weights: bool, output: bool
) -> Maps:
    """The whole float network with one layer quantized: output name -> (C, h, w)."""
    values: dict[str, torch.Tensor] = {}
    network = DeployNetwork(graph)
    for node, plain in network.run_nodes(torch.from_numpy(picture[None])):
        if isinstance(node, Input):
            value = plain
        else:
            value = network.run_node(node, [values[name] for name in node.inputs])
        if node.name == layer and weights and isinstance(node, Conv):
            integers = conv_integers(node, record)
            weight = integers.weight * integers.weight_scale.reshape(-1, 1, 1, 1)
            bias = torch.from_numpy(integers.bias * integers.bias_scale.astype(np.float64)).float()
            value = activate(
                node.activation, convolve(node, values[node.inputs[0]], torch.from_numpy(weight), bias)
            )
        if node.name == layer and output:
            assert isinstance(node, Conv | Add)
            point = record.points[layer]
            integers_of = (value / point.scale + point.zero_point).round()
            value = (
                integers_of.clamp(*quantized_bounds(node.activation, point)) - point.zero_point
            ) * point.scale
        values[node.name] = value
    return {name: values[node][0].numpy() for name, node in graph.outputs.items()}


def _candidates(maps: Maps, spec: ModelSpec) -> dict[tuple[str, int, int, int], tuple[float, list[float]]]:
    """(level, class, row, column) -> score and the box as x1, y1, x2, y2 around its location, in strides."""
    found = {}
    for level in spec.level_names:
        for (label, row, column), logit in np.ndenumerate(maps[f"logits_{level}"]):
            quality = _sigmoid(maps[f"centerness_{level}"][0, row, column])
            left, top, right, bottom = (max(0.0, float(d)) for d in maps[f"ltrb_{level}"][:, row, column])
            score = math.sqrt(_sigmoid(logit) * quality)
            found[level, label, row, column] = (score, [-left, -top, right, bottom])
    return found


def _sigmoid(logit: float) -> float:
    return 1 / (1 + math.exp(-logit))


def _iou(a: list[float], b: list[float]) -> float:
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
    return width * height / max(sum(areas) - width * height, 1e-6)


def _harm_slowly(
    graph: Graph, record: Record, pictures: UInt8Array, layer: str, *, weights: bool, output: bool
) -> tuple[float, float]:
    """Score change and box loss."""
    spec = tiny_spec(graph, CLASSES)
    total = score_change = box_loss = 0.0
    for picture in pictures:
        plain = _run(graph, picture, record, layer, weights=False, output=False)
        changed = _candidates(_run(graph, picture, record, layer, weights=weights, output=output), spec)
        logits = {
            (level, *place): float(logit)
            for level in spec.level_names
            for place, logit in np.ndenumerate(plain[f"logits_{level}"])
        }
        hundredth = sorted(map(_sigmoid, logits.values()))[-LEAST_CANDIDATES]
        for key, (score, box) in _candidates(plain, spec).items():
            has_area = (box[2] - box[0]) * (box[3] - box[1]) > 0
            if has_area and _sigmoid(logits[key]) >= min(hundredth, spec.candidate_threshold):
                total += score
                score_change += score * abs(changed[key][0] - score)
                box_loss += score * (1 - _iou(changed[key][1], box))
    return score_change / total, box_loss / total


def _unsure(graph: Graph) -> Graph:
    """Class logits so low that most of the candidates are the best hundred only."""
    names = {graph.outputs[name] for name in graph.outputs if name.startswith("logits")}
    nodes = [
        replace(node, bias=node.bias - 8) if isinstance(node, Conv) and node.name in names else node
        for node in graph.nodes
    ]
    return replace(graph, nodes=tuple(nodes))


@pytest.mark.parametrize(
    ("graph", "layer"),
    [
        (tiny_graph(1), "depthwise"),  # before both levels
        (tiny_graph(1), "residual"),  # an addition has no weights
        (tiny_graph(1), "lateral"),  # before P3 alone
        (tiny_graph(1), "head_ltrb_p4"),  # an output: boxes change, scores do not
        (_unsure(tiny_graph(2)), "stem"),
    ],
)
def test_harm__is_the_slow_versions(graph: Graph, layer: str) -> None:
    record, pictures = tiny_record(graph), random_pictures(graph, 2, seed=5)
    (row,) = (
        row
        for row in measure_sensitivity(graph, record, pictures, tiny_spec(graph)).rows
        if row.layer == layer
    )
    for weights, output, harm in ((True, True, row.harm), (True, False, row.weights_harm),
                                  (False, True, row.activation_harm)):  # fmt: skip
        score_change, box_loss = _harm_slowly(graph, record, pictures, layer, weights=weights, output=output)
        # Float sums in another order; 1 - IoU of equal boxes is a few float32 roundings.
        assert harm == pytest.approx(score_change + box_loss, rel=1e-3, abs=1e-5)
        if weights and output:
            assert (row.score_change, row.box_loss) == pytest.approx(
                (score_change, box_loss), rel=1e-3, abs=1e-5
            )


def _ranked(graph: Graph, record: Record) -> tuple[SensitivityRow, ...]:
    return measure_sensitivity(graph, record, random_pictures(graph, 2), tiny_spec(graph)).ranked


def test_spoiled_weights__top_the_table_by_their_weights() -> None:
    graph = tiny_graph(3)
    record = tiny_record(graph)
    scales = {**record.weight_scales, "block": record.weight_scales["block"] * 40}
    worst, second = _ranked(graph, replace(record, weight_scales=scales))[:2]
    assert worst.layer == "block"
    assert worst.weights_harm > 3 * max(worst.activation_harm, second.harm)


@pytest.mark.parametrize("layer", ["expand", "residual"])
def test_spoiled_point__tops_the_table_by_its_output(layer: str) -> None:
    graph = tiny_graph(3)
    record = tiny_record(graph)
    point = record.points[layer]
    coarse = Point(point.scale * 40, round(point.zero_point / 40))
    worst, second = _ranked(graph, replace(record, points={**record.points, layer: coarse}))[:2]
    assert worst.layer == layer
    assert worst.activation_harm > 3 * max(worst.weights_harm, second.harm)


def test_kept_in_float__is_marked_and_measured_all_the_same() -> None:
    graph = tiny_graph(3)
    plain, kept = (
        {row.layer: row for row in _ranked(graph, tiny_record(graph, float_nodes=names))}
        for names in ((), ("stem",))
    )
    assert kept["stem"] == replace(plain["stem"], is_float=True)
    assert {row for name, row in kept.items() if name != "stem"} == {
        row for name, row in plain.items() if name != "stem"
    }


def test_channel_factors__are_applied() -> None:
    """The factors undo each other in float, so that harms are those of the equalized network."""
    graph = tiny_graph(3)
    factors = {"expand": np.linspace(0.5, 4, 16, dtype=np.float32)}
    folded = equalized(graph, factors)
    record = tiny_record(folded)
    assert _ranked(graph, replace(record, channel_factors=factors)) == _ranked(folded, record)


def test_rows__come_in_the_networks_order_with_their_kind() -> None:
    graph = tiny_graph()
    table = measure_sensitivity(graph, tiny_record(graph), random_pictures(graph, 4), tiny_spec(graph), 3)
    assert (table.recipe, table.pictures) == ("w8c_a8t_minmax", 3)
    layers = [node for node in graph.nodes if isinstance(node, Conv | Add)]
    assert [row.layer for row in table.rows] == [node.name for node in layers]
    kinds = {row.layer: row.kind for row in table.rows}
    wanted = {
        "stem": "stem", "expand": "pointwise", "depthwise": "depthwise", "project": "linear",
        "residual": "add", "c3": "dense", "head_logits_p3": "output",
    }  # fmt: skip
    assert {name: kinds[name] for name in wanted} == wanted
    stem = table.rows[0]
    # 8 kernels of 3 * 3 * 3, stride 2, on 64x64.
    assert (stem.parameters, stem.multiply_adds) == (8 * 27 + 8, 8 * 27 * 32 * 32)


def test_affordable_pictures__as_many_as_the_work_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = tiny_graph(0)
    assert affordable_pictures(graph) == PICTURES
    for work, wanted in ((1e6, 0), (1e8, PICTURES)):
        monkeypatch.setattr("fcos_edge.quantize.sensitivity.MOST_WORK", work)
        assert affordable_pictures(graph) == wanted
