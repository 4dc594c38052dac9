"""The fewest layers in float: on losses that are known, and on a network with one layer spoiled by hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import chain, combinations

import numpy as np
import pytest
import torch

from fcos_edge.errors import UsageError
from fcos_edge.quantize.execute import DeployNetwork
from fcos_edge.quantize.graph import Add, Conv, Graph
from fcos_edge.quantize.mixed_precision import (
    choose_float_layers,
    corrected_again,
    layer_order,
    with_float_layers,
)
from fcos_edge.quantize.record import Record
from fcos_edge.quantize.refinements import bias_correction
from fcos_edge.quantize.sensitivity import measure_sensitivity
from fcos_edge.quantize.simulate import Simulator, dequantize
from fcos_edge.sensitivity_table import SensitivityRow, SensitivityTable
from tests.quantize.graphs import random_pictures, tiny_graph, tiny_record, tiny_spec

GRAPH = tiny_graph()
LAYERS = tuple(node.name for node in GRAPH.nodes if isinstance(node, Conv | Add))
RECORD = tiny_record(GRAPH)


def _table(weights: dict[str, float], values: dict[str, float] | None = None) -> SensitivityTable:
    """A table of harms by weights and by outputs; 0 where a layer is not named."""
    rows = []
    for name in LAYERS:
        own, output = weights.get(name, 0.0), (values or {}).get(name, 0.0)
        rows.append(SensitivityRow(name, "linear", 1, 1, own + output, 0, own + output, own, output, False))
    return SensitivityTable("w8c_a8t_minmax", 1, tuple(rows))


def _loss_of(table: SensitivityTable) -> Callable[[Record], float]:
    """What is left of the table's harm: of weights in int8, and of values that something reads in int8."""
    readers: dict[str, set[str]] = {name: set() for name in LAYERS}
    enlarged = {node.name: node.inputs[0] for node in GRAPH.nodes if type(node).__name__ == "Resize"}
    for node in GRAPH.nodes[1:]:
        for name in node.inputs:
            source = enlarged.get(name, name)
            if source in readers and node.name not in enlarged:
                readers[source].add(node.name)

    def loss(record: Record) -> float:
        in_float = set(record.float_nodes)
        left = 0.0
        for row in table.rows:
            if row.layer not in in_float:
                left += row.weights_harm + row.activation_harm
            elif not readers[row.layer] <= in_float:
                left += row.activation_harm
        return left

    return loss


@pytest.mark.parametrize(("weights", "values", "budget", "wanted"), [
    # nothing to mend
    ({"stem": 0.1}, {}, 0.1, ()),
    # one layer does the harm
    ({"stem": 0.1, "c3": 2.0}, {}, 0.5, ("c3",)),
    # the worst ones first, as many as it takes
    ({"stem": 1.0, "c3": 2.0, "c4": 3.0, "block": 4.0}, {}, 3.0, ("block", "c4")),
    ({"stem": 1.0, "c3": 2.0, "c4": 3.0, "block": 4.0}, {}, 2.9, ("block", "c3", "c4")),
    # a value harms until all that reads it is in float: `expand` is read by `depthwise` alone
    ({"stem": 1.0}, {"expand": 5.0}, 1.5, ("expand", "depthwise")),
    # an addition, whose readers are `c3` alone; with the weights of `c3` itself
    ({"c3": 1.0}, {"residual": 5.0}, 0.5, ("residual", "c3")),
    # what is read enlarged: `c4` through `up` by `merged`, and by its tower
    ({}, {"c4": 5.0}, 0.5, ("c4", "merged", "tower_p4")),
    # an output is read by nothing
    ({"stem": 0.1}, {"head_logits_p3": 5.0}, 0.5, ("head_logits_p3",)),
])  # fmt: skip
def test_chosen__are_the_fewest(
    weights: dict[str, float], values: dict[str, float], budget: float, wanted: tuple[str, ...]
) -> None:
    table = _table(weights, values)
    chosen = choose_float_layers(GRAPH, RECORD, table, _loss_of(table), budget)
    assert chosen.names == wanted  # in the network's order
    assert chosen.int8_drop == pytest.approx(sum(weights.values()) + sum(values.values()))
    assert chosen.drop <= budget
    fewer = chain.from_iterable(combinations(LAYERS, count) for count in range(min(len(wanted), 3)))
    loss = _loss_of(table)
    assert all(loss(with_float_layers(RECORD, names)) > budget for names in fewer)


def test_layers_that_only_looked_harmful__are_taken_back() -> None:
    """The table says stem, c3, c4; in truth only c4 harms."""
    truth = _loss_of(_table({"c4": 1.0}))
    chosen = choose_float_layers(GRAPH, RECORD, _table({"stem": 3.0, "c3": 2.0, "c4": 1.0}), truth, 0.5)
    assert chosen.names == ("c4",)


def test_measurements__are_few_and_none_is_made_twice() -> None:
    table = _table(dict.fromkeys(LAYERS, 1.0))
    loss = _loss_of(table)
    seen = []

    def measure(record: Record) -> float:
        seen.append(record.float_nodes)
        return loss(record)

    chosen = choose_float_layers(GRAPH, RECORD, table, measure, len(LAYERS) - 9.5)
    assert len(chosen.names) == 10
    assert len(seen) == len(set(seen)) == chosen.measurements
    assert len(seen) <= 6 + 3 + 12  # () 1 2 4 8 16, halvings, taken back


def test_layers_of_the_record__stay_in_float() -> None:
    table = _table({"stem": 3.0, "c3": 2.0, "c4": 1.0})
    record = replace(RECORD, float_nodes=("stem",))
    chosen = choose_float_layers(GRAPH, record, table, _loss_of(table), 1.5)
    assert chosen.names == ("c3",)
    assert with_float_layers(record, chosen.names).float_nodes == ("c3", "stem")


def test_budget_out_of_reach__is_one_line() -> None:
    table = _table({"stem": 1.0})
    with pytest.raises(UsageError, match=r"^--max-drop 0\.3: with all layers in float 7\.00 are lost; .*$"):
        choose_float_layers(GRAPH, RECORD, table, lambda record: 7.0, 0.3)


def test_order__has_every_layer_once() -> None:
    random = np.random.default_rng(0)
    harms = [{name: float(random.random()) for name in LAYERS} for _ in range(2)]
    order = list(layer_order(GRAPH, _table(*harms)))
    assert sorted(name for step in order for name in step) == sorted(LAYERS)
    rest = list(layer_order(GRAPH, _table(*harms), ("stem", "c3")))
    assert sorted(name for step in rest for name in step) == sorted(set(LAYERS) - {"stem", "c3"})


def test_order__small_maps_first() -> None:
    """`block` reads and puts out 8 x 16 x 16 values, the output at P4 is 3 x 4 x 4."""
    order = list(layer_order(GRAPH, _table({"block": 1.1, "head_logits_p4": 1.0})))
    assert order[:2] == [("head_logits_p4",), ("block",)]
    order = list(layer_order(GRAPH, _table({"block": 3.0, "head_logits_p4": 1.0})))
    assert order[:2] == [("block",), ("head_logits_p4",)]


def test_order__a_value_that_stays_float_is_not_converted() -> None:
    """`expand` puts out 16 x 32 x 32 values: with its only reader in float too, they are left as they are."""
    first, *_ = layer_order(GRAPH, _table({"expand": 1.0}))
    assert first == ("expand", "depthwise")


def test_spoiled_layer__is_the_one_kept_in_float() -> None:
    """The table and the loss measured, on the simulator: mean |logit error| of all levels."""
    graph = tiny_graph(3)
    record = tiny_record(graph)
    scales = {**record.weight_scales, "block": record.weight_scales["block"] * 40}
    record = replace(record, weight_scales=scales)
    pictures = random_pictures(graph, 2)
    table = measure_sensitivity(graph, record, pictures, tiny_spec(graph))

    def error(record: Record) -> float:
        return _logit_error(graph, record, pictures[:1])

    unspoiled = error(tiny_record(graph))
    chosen = choose_float_layers(graph, record, table, error, 1.1 * unspoiled)
    assert chosen.names == ("block",)
    assert chosen.int8_drop > 2 * unspoiled


def test_corrections__are_made_anew_where_the_recipe_has_them() -> None:
    pictures = random_pictures(GRAPH, 2)
    kept = with_float_layers(RECORD, ("stem",))
    assert corrected_again(GRAPH, kept, pictures) is kept
    stale = {"depthwise": np.full(16, 1000, np.int32), "stem": np.full(8, 1000, np.int32)}
    record = replace(kept, recipe="w8c_a8t_minmax_bc", bias_corrections=stale)
    fresh = bias_correction.refine(GRAPH, replace(record, bias_corrections={}), pictures)
    assert corrected_again(GRAPH, record, pictures).to_dict() == fresh.to_dict()
    assert "stem" not in fresh.bias_corrections


def _logit_error(graph: Graph, record: Record, pictures: np.ndarray) -> float:
    with torch.inference_mode():
        wanted = DeployNetwork(graph)(torch.from_numpy(pictures))
    found = dequantize(graph, record, Simulator(graph, record).run(pictures))
    names = [name for name in graph.outputs if name.startswith("logits")]
    return float(np.mean([np.abs(found[name] - wanted[name].numpy()).mean() for name in names]))
