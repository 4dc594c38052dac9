"""Adaptive rounding, on problems small enough to try every answer and on tiny graphs."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch

from fcos_edge.quantize.calibrate import calibrate_inputs
from fcos_edge.quantize.execute import DeployNetwork, convolve
from fcos_edge.quantize.graph import Conv, Graph
from fcos_edge.quantize.recipe import parse_recipe
from fcos_edge.quantize.record import Record, conv_integers
from fcos_edge.quantize.refinements.rounding import LARGEST_KERNEL, Problem, refine
from fcos_edge.quantize.simulate import Simulator, simulate
from tests.quantize.graphs import random_pictures, tiny_graph

RECIPES = ("w8c_a8t_minmax_ada", "w8c_a8t_minmax_ada_bc", "w7t_a8s_minmax_ada", "w8c_a8t_minmax_ws_ada_bc")


def nearest_record(graph: Graph, recipe: str) -> Record:
    """Everything that comes before the rounding, and nothing after it."""
    before = [part for part in recipe.split("_") if part not in ("ada", "bc")]
    record = calibrate_inputs(graph, random_pictures(graph, 4), (), parse_recipe("_".join(before)))
    return replace(record, recipe=recipe)


def convs(graph: Graph) -> list[Conv]:
    return [node for node in graph.nodes if isinstance(node, Conv)]


def random_problem(seed: int, groups: int, out: int, size: int, limit: int = 127) -> Problem:
    """Inputs that go together, as neighbouring pixels do."""
    random = torch.Generator().manual_seed(seed)
    mixing = torch.randn(groups, size, 3, generator=random, dtype=torch.float64)
    moment = mixing @ mixing.transpose(1, 2) + 0.1 * torch.eye(size, dtype=torch.float64)
    exact = 5 * torch.randn(groups, out, size, generator=random, dtype=torch.float64)
    return Problem(exact, limit, moment, exact @ moment)


def test_best__is_near_the_best_of_all_answers() -> None:
    problem = random_problem(0, 100, 1, 9)
    flips = torch.tensor(list(itertools.product((0.0, 1.0), repeat=9)), dtype=torch.float64)
    every = problem.low + flips[None] * (problem.high - problem.low)  # [G, 512, K]
    least = problem.errors(every).min(1, keepdim=True).values
    found = problem.errors(problem.best()) - least
    nearest = problem.errors(problem.nearest) - least
    assert (found >= -1e-9).all()
    # One flip at a time may end beside the best answer, but nearly all of the way there.
    assert found.sum() < 0.1 * nearest.sum()


@pytest.mark.parametrize(("groups", "out", "size"), [(12, 1, 25), (1, 16, 40), (2, 5, 18)])
def test_best__no_channel_is_worse_than_rounded_to_nearest(groups: int, out: int, size: int) -> None:
    problem = random_problem(0, groups, out, size)
    assert (problem.errors(problem.best()) <= problem.errors(problem.nearest)).all()


def test_best__stays_within_the_limit() -> None:
    problem = random_problem(1, 4, 1, 9, limit=6)
    found = problem.best()
    assert found.abs().max() == 6
    assert ((found == problem.low) | (found == problem.high)).all()


def test_problem__errors_are_the_squared_errors_of_the_outputs() -> None:
    graph = tiny_graph()
    record = nearest_record(graph, "w8c_a8t_minmax_ada")
    pictures = random_pictures(graph, 2)
    real = {n.name: v for n, v in DeployNetwork(graph).run_nodes(torch.from_numpy(pictures))}
    steps = {node.name: value for node, value in Simulator(graph, record).run_nodes(pictures)}
    for node in convs(graph):
        problem = Problem.of(node, record, real, steps, is_centered=False)
        scale = torch.from_numpy(conv_integers(node, record).bias_scale).double().reshape(-1, 1, 1)
        x, x_steps = real[node.inputs[0]].double(), steps[node.inputs[0]].double()
        wanted = convolve(node, x, torch.tensor(node.weight).double(), None)
        counts = torch.ones_like(wanted)
        if node.groups > 1:  # places that the activation clips do not count
            before = wanted + torch.tensor(node.bias).reshape(-1, 1, 1)
            point = record.points[node.name]
            counts = ((before > 0) & (before < (255 - point.zero_point) * point.scale)).double()
        slow = []
        for integers in (problem.low, problem.high, problem.best()):
            weight = integers.reshape(node.weight.shape)
            lost = wanted - convolve(node, x_steps, weight, None) * scale
            slow.append((lost / scale).square().mul(counts).sum((0, 2, 3)).numpy())
        fast = [problem.errors(i).flatten().numpy() for i in (problem.low, problem.high, problem.best())]
        size = slow[0].max()
        for index in (1, 2):  # up to a constant; float32 inputs
            np.testing.assert_allclose(fast[index] - fast[0], slow[index] - slow[0], atol=1e-4 * size)


@pytest.mark.parametrize("recipe", RECIPES)
def test_refine__rounds_the_weights_of_small_kernels_up_or_down(recipe: str) -> None:
    graph = tiny_graph(1)
    record = nearest_record(graph, recipe)
    refined = refine(graph, record, random_pictures(graph, 4))
    limit = parse_recipe(recipe).weight_limit
    changed = 0
    small = [node for node in convs(graph) if node.weight[0].size <= LARGEST_KERNEL]
    assert set(refined.rounded_weights) == {node.name for node in small}
    for node in small:
        weight = refined.rounded_weights[node.name]
        exact = node.weight / record.weight_scales[node.name].astype(np.float64)[:, None, None, None]
        low, high = (np.clip(np.floor(exact) + up, -limit, limit) for up in (0, 1))
        assert ((weight == low) | (weight == high)).all(), node.name
        np.testing.assert_array_equal(conv_integers(node, refined).weight, weight)
        changed += int((weight != conv_integers(node, record).weight).sum())
    assert changed > 100
    assert replace(refined, rounded_weights={}).sha256 == record.sha256


def test_refine__is_the_same_again_and_in_any_order_of_pictures() -> None:
    graph = tiny_graph(2)
    record = nearest_record(graph, RECIPES[1])
    pictures = random_pictures(graph, 4)
    first = refine(graph, record, pictures)
    assert first.sha256 == refine(graph, record, pictures).sha256
    assert first.sha256 == refine(graph, record, pictures[::-1]).sha256


def test_refine__brings_the_outputs_nearer_to_float() -> None:
    # Per tensor and with 7 bits rounding is coarse: there is something to win in every layer.
    graph = tiny_graph(3)
    record = nearest_record(graph, "w7t_a8t_minmax_ada")
    refined = refine(graph, record, random_pictures(graph, 16))
    unseen = random_pictures(graph, 8, seed=5)
    real = DeployNetwork(graph)(torch.from_numpy(unseen))
    errors = []
    for one in (record, refined):
        found, error = simulate(graph, one, unseen), 0.0
        for output, source in graph.outputs.items():
            point = one.points[source]
            lost = (found[output].astype(np.float32) - point.zero_point) * point.scale - real[output].numpy()
            error += float(np.square(lost).sum() / np.square(real[output].numpy()).sum())
        errors.append(error)
    assert errors[1] < 0.8 * errors[0]


def test_refine__keeps_roundings_and_leaves_float_nodes_alone() -> None:
    graph = tiny_graph()
    record = nearest_record(graph, RECIPES[0])
    stem = convs(graph)[0]
    learned = {"stem": np.ones(stem.weight.shape, np.int8)}
    record = replace(record, rounded_weights=learned, float_nodes=("depthwise",))
    refined = refine(graph, record, random_pictures(graph, 2))
    np.testing.assert_array_equal(refined.rounded_weights["stem"], learned["stem"])
    assert "depthwise" not in refined.rounded_weights
    assert "expand" in refined.rounded_weights
