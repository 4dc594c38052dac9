"""Records from pictures and from checkpoints, and the warning about few pictures."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from fcos_edge.errors import UsageError
from fcos_edge.quantize.calibrate import calibrate_inputs
from fcos_edge.quantize.deploy import deploy
from fcos_edge.quantize.graph import Graph
from fcos_edge.quantize.make_record import calibrated_record, carried_record, trained_record
from fcos_edge.quantize.recipe import Recipe, parse_recipe
from fcos_edge.quantize.record import Record, check_record
from fcos_edge.quantize.spread import ENOUGH_PICTURES, measure_spread
from fcos_edge.train.checkpoint import Checkpoint
from tests.quantize.graphs import random_pictures, tiny_graph
from tests.small_detector import small_detector


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    return small_detector()


@pytest.fixture(scope="module")
def graph(checkpoint: Checkpoint) -> Graph:
    return deploy(checkpoint.network, checkpoint.spec.input_hw)


@pytest.mark.parametrize(("name", "limit"), [("w7c_a8t_minmax", 63), ("w8t_a8t_minmax", 127)])
def test_carried__other_weights_need_no_pictures(
    checkpoint: Checkpoint, graph: Graph, name: str, limit: int
) -> None:
    own = carried_record(checkpoint, graph, None)
    other = carried_record(checkpoint, graph, parse_recipe(name))
    check_record(graph, other)
    assert other.recipe == name
    assert (other.points, other.picture_sha256) == (own.points, own.picture_sha256)
    for node in graph.nodes:
        if node.name in other.weight_scales:
            scales = other.weight_scales[node.name]
            largest = float(np.abs(node.weight).max())  # type: ignore[union-attr]
            assert scales.max() == pytest.approx(largest / limit, rel=1e-6) or limit * scales.max() > largest
            assert name.startswith("w7c") or np.unique(scales).size == 1


@pytest.mark.parametrize("name", ["w8c_a8t_mse", "w8c_a8s_minmax", "w8c_a8t_minmax_bc"])
def test_carried__what_needs_pictures_says_so(checkpoint: Checkpoint, graph: Graph, name: str) -> None:
    with pytest.raises(UsageError, match=f"recipe {name} needs pictures, .* w8c_a8t_minmax; give some with"):
        carried_record(checkpoint, graph, parse_recipe(name))


@pytest.mark.parametrize(
    ("own", "wanted", "is_taken"),
    [
        ("w8t_a8t_mse_qat", None, True),
        ("w8t_a8t_mse_qat", "w8t_a8t_mse_qat", True),
        ("w8t_a8t_mse_qat", "w8c_a8t_mse", False),
        ("w8t_a8t_mse", None, False),  # of calibration: other pictures make another
    ],
)
def test_trained__weights_keep_the_record_they_were_trained_for(
    checkpoint: Checkpoint, own: str, wanted: str | None, is_taken: bool
) -> None:
    carried = {**dict(checkpoint.record or {}), "recipe": own}
    found = trained_record(replace(checkpoint, record=carried), parse_recipe(wanted) if wanted else None)
    assert (found is not None) == is_taken


def test_carried__no_record_is_one_line(checkpoint: Checkpoint, graph: Graph) -> None:
    with pytest.raises(UsageError, match="holds no calibration record"):
        carried_record(replace(checkpoint, record=None), graph, None)


@pytest.mark.parametrize("count", [3, ENOUGH_PICTURES])
def test_calibrated__few_pictures_are_said_with_the_spread_of_their_halves(count: int) -> None:
    graph = tiny_graph(input_hw=(32, 32))
    inputs = random_pictures(graph, count)
    said: list[str] = []
    record = calibrated_record(graph, inputs, (), Recipe(), said.append)
    assert record.recipe == "w8c_a8t_minmax"
    warnings = [line for line in said if line.startswith("warning")]
    assert len(warnings) == (count < ENOUGH_PICTURES)
    if warnings:
        assert (
            "3 pictures are few, 100 or more are better; the scales of its two halves differ by"
            in warnings[0]
        )


def test_spread__is_the_ratio_of_scales() -> None:
    graph = tiny_graph(input_hw=(32, 32))
    inputs = random_pictures(graph, 5)
    spread = measure_spread(graph, inputs, parse_recipe("w8c_a8t_minmax"))
    assert spread is not None
    one, other = (calibrate_inputs(graph, part).points for part in (inputs[::2], inputs[1::2]))

    def part(name: str) -> float:
        sides = sorted((one[name].scale, other[name].scale))
        return sides[1] / sides[0] - 1

    parts = {name: part(name) for name in one if name != "input"}
    assert spread.worst == pytest.approx(max(parts.values()))
    assert part(spread.worst_node) == pytest.approx(spread.worst)
    assert spread.median == pytest.approx(float(np.median(list(parts.values()))))
    # The same pictures twice: the halves are one.
    same = measure_spread(graph, np.repeat(inputs, 2, axis=0), Recipe())
    assert same is not None
    assert same.worst == 0
    assert measure_spread(graph, inputs[:1], Recipe()) is None


def test_record__of_a_carried_recipe_survives_json(checkpoint: Checkpoint, graph: Graph) -> None:
    record = carried_record(checkpoint, graph, parse_recipe("w7c_a8t_minmax"))
    record = replace(record, operating_thresholds={"onnx": (0.25, 0.5)})
    assert Record.from_dict(record.to_dict()).sha256 == record.sha256
