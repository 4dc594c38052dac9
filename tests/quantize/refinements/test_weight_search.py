"""Weight search: moments against a slow loop, and scales that never lose more."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest

from fcos_edge.quantize.graph import Conv, Graph
from fcos_edge.quantize.recipe import parse_recipe
from fcos_edge.quantize.record import Record, check_record, conv_integers, weight_scale_floors, weight_scales
from fcos_edge.quantize.refinements import weight_search
from fcos_edge.quantize.simulate import Simulator
from fcos_edge.runtime import UInt8Array
from tests.quantize.graphs import random_pictures, tiny_graph, tiny_record

SIZE = (32, 32)
Reals = npt.NDArray[np.float64]


def windows_slowly(conv: Conv, x: Reals) -> Reals:
    """(places, G, K): what each group's kernels see of the input (I, h, w), place by place."""
    top, left, bottom, right = conv.pads
    x = np.pad(x, ((0, 0), (top, bottom), (left, right)))
    kernel_h, kernel_w = conv.weight.shape[2:]
    seen = []
    for row in range(0, x.shape[1] - kernel_h + 1, conv.stride):
        for column in range(0, x.shape[2] - kernel_w + 1, conv.stride):
            seen.append(x[:, row : row + kernel_h, column : column + kernel_w].reshape(conv.groups, -1))
    return np.stack(seen)


def all_windows(graph: Graph, record: Record, pictures: UInt8Array) -> dict[str, Reals]:
    """Of every convolution, over all pictures, in the unit of its input."""
    found: dict[str, list[Reals]] = {}
    simulator = Simulator(graph, record)
    for picture in pictures:
        maps = {node.name: value[0].double().numpy() for node, value in simulator.run_nodes(picture[None])}
        for node in graph.nodes:
            if isinstance(node, Conv):
                found.setdefault(node.name, []).append(windows_slowly(node, maps[node.inputs[0]]))
    return {name: np.concatenate(parts) for name, parts in found.items()}


@pytest.mark.parametrize("is_centered", [False, True])
def test_input_moments__equal_a_slow_loop(is_centered: bool) -> None:
    graph = tiny_graph(input_hw=SIZE)
    record, pictures = tiny_record(graph), random_pictures(graph, 2)
    found = weight_search.input_moments(Simulator(graph, record), pictures, is_centered=is_centered)
    for name, seen in all_windows(graph, record, pictures).items():
        seen = seen - seen.mean(axis=0) * is_centered
        wanted = np.einsum("pgk,pgl->gkl", seen, seen) / len(seen)
        # Integers below 2^24 are exact in float32; sums of more than 256 products may lose their last bits.
        np.testing.assert_allclose(found[name], wanted, rtol=0, atol=1e-5 * max(1.0, np.abs(wanted).max()))


def output_errors_slowly(
    graph: Graph, record: Record, seen: dict[str, Reals], *, is_centered: bool
) -> dict[str, Reals]:
    """Mean squared error of each channel's sums that rounding its weights makes, (O,)."""
    errors = {}
    for conv in graph.nodes:
        if isinstance(conv, Conv):
            integers = conv_integers(conv, record)
            stored = integers.weight * integers.weight_scale.astype(np.float64)[:, None, None, None]
            lost = (conv.weight - stored).reshape(conv.groups, len(conv.bias) // conv.groups, -1)
            outputs = np.einsum("pgk,gok->pgo", seen[conv.name], lost).reshape(len(seen[conv.name]), -1)
            errors[conv.name] = ((outputs - outputs.mean(axis=0) * is_centered) ** 2).mean(axis=0)
    return errors


@pytest.mark.parametrize("recipe", ["w8c_a8t_minmax_ws", "w8t_a8t_minmax_ws", "w7c_a8t_minmax_ws_bc"])
@pytest.mark.parametrize("dead_bias", [0.0, 5.0])
def test_refine__no_convolution_loses_more(recipe: str, dead_bias: float) -> None:
    graph = tiny_graph(1, input_hw=SIZE, dead_bias=dead_bias)
    pictures, plain = random_pictures(graph, 3), recipe_record(graph, recipe)
    refined = weight_search.refine(graph, plain, pictures)
    check_record(graph, refined)
    seen = all_windows(graph, plain, pictures)
    before, after = (
        output_errors_slowly(graph, record, seen, is_centered=recipe.endswith("bc"))
        for record in (plain, refined)
    )
    is_per_channel = parse_recipe(recipe).is_per_channel
    for name, errors in after.items():
        rows = (errors, before[name]) if is_per_channel else (errors.sum(), before[name].sum())
        # The moments are float32 sums.
        assert (rows[0] <= rows[1] * (1 + 1e-5) + 1e-12).all(), name
    total = {key: sum(e.sum() for e in es.values()) for key, es in (("before", before), ("after", after))}
    assert total["after"] < 0.95 * total["before"]


def recipe_record(graph: Graph, recipe: str) -> Record:
    record = tiny_record(graph)
    scales = {
        conv.name: weight_scales(conv, record.points[conv.inputs[0]].scale, parse_recipe(recipe))
        for conv in graph.nodes
        if isinstance(conv, Conv)
    }
    return replace(record, recipe=recipe, weight_scales=scales)


def test_refine__scales_keep_their_floors_and_their_kind() -> None:
    graph = tiny_graph(2, input_hw=SIZE, dead_bias=5.0)
    pictures = random_pictures(graph, 2)
    for recipe in ("w8c_a8t_minmax_ws", "w8t_a8t_minmax_ws"):
        record = weight_search.refine(graph, recipe_record(graph, recipe), pictures)
        for conv in graph.nodes:
            if isinstance(conv, Conv):
                scales = record.weight_scales[conv.name]
                floors = weight_scale_floors(conv, record.points[conv.inputs[0]].scale)
                assert scales.dtype == np.float32
                assert (scales >= floors.astype(np.float32)).all(), conv.name
                assert parse_recipe(recipe).is_per_channel or len(set(scales.tolist())) == 1


def test_refine__a_learned_rounding_keeps_its_scales() -> None:
    graph = tiny_graph(3, input_hw=SIZE)
    record = recipe_record(graph, "w8c_a8t_minmax_ws")
    stem = next(node for node in graph.nodes if isinstance(node, Conv))
    record = replace(record, rounded_weights={"stem": conv_integers(stem, record).weight})
    refined = weight_search.refine(graph, record, random_pictures(graph, 2))
    np.testing.assert_array_equal(refined.weight_scales["stem"], record.weight_scales["stem"])


def test_output_errors__a_large_kernel_is_judged_by_the_diagonal(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = tiny_graph(4, input_hw=SIZE)
    record, pictures = recipe_record(graph, "w8c_a8t_minmax_ws"), random_pictures(graph, 2)
    full = weight_search.input_moments(Simulator(graph, record), pictures, is_centered=True)
    monkeypatch.setattr(weight_search, "LARGEST_KERNEL", 20)
    small = weight_search.input_moments(Simulator(graph, record), pictures, is_centered=True)
    for name, moment in full.items():
        if moment.shape[1] > 20:
            np.testing.assert_allclose(small[name], np.einsum("gkk->gk", moment), rtol=1e-4)
    check_record(graph, weight_search.refine(graph, record, pictures))
