"""What quantization-aware training begins with."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fcos_edge import embedded
from fcos_edge.errors import UsageError
from fcos_edge.quantize.deploy import deploy
from fcos_edge.quantize.graph import Conv, Graph
from fcos_edge.quantize.qat import carried, short_schedule
from fcos_edge.quantize.recipe import parse_recipe
from fcos_edge.quantize.record import check_record, weight_scales
from fcos_edge.train.checkpoint import Checkpoint, load_checkpoint
from tests.quantize.graphs import tiny_record


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    return load_checkpoint(embedded.CHECKPOINT)


@pytest.fixture(scope="module")
def graph(checkpoint: Checkpoint) -> Graph:
    return deploy(checkpoint.network, checkpoint.spec.input_hw)


@pytest.mark.parametrize(
    ("recipe", "is_carried"),
    [
        ("w8c_a8t_mse", True),
        ("w8t_a8t_mse", True),  # other weights
        ("w8t_a8t_minmax", False),  # other ranges
        ("w8t_a8s_mse", False),
        ("w8t_a8t_mse_ws", False),  # has to look at pictures
    ],
)
def test_carried__points_serve_recipes_that_differ_in_weights(
    checkpoint: Checkpoint, graph: Graph, recipe: str, is_carried: bool
) -> None:
    own = replace(tiny_record(graph), recipe="w8c_a8t_mse_ws_bc")
    checkpoint = replace(checkpoint, record=own.to_dict())
    found = carried(checkpoint, short_schedule(checkpoint), graph, parse_recipe(recipe))
    assert (found is not None) == is_carried
    if found is not None:
        check_record(graph, found)
        assert found.points == own.points
        conv = next(node for node in graph.nodes if isinstance(node, Conv))
        wanted = weight_scales(conv, own.points[conv.inputs[0]].scale, parse_recipe(recipe))
        assert found.weight_scales[conv.name].tolist() == wanted.tolist()


def test_carried__another_input_size_is_calibrated(checkpoint: Checkpoint, graph: Graph) -> None:
    checkpoint = replace(checkpoint, record=replace(tiny_record(graph), recipe="w8c_a8t_mse").to_dict())
    config = replace(short_schedule(checkpoint), input_hw=(256, 256))
    assert carried(checkpoint, config, graph, parse_recipe("w8c_a8t_mse")) is None


def test_schedule__is_short_gentle_and_of_one_size(checkpoint: Checkpoint) -> None:
    config = short_schedule(checkpoint)
    # The embedded detector's header is of an older release: its preset says how it was trained.
    assert config.optimizer.learning_rate == pytest.approx(8e-4 / 20)
    assert (config.network, config.input_hw) == (checkpoint.network_config, checkpoint.spec.input_hw)
    assert (config.small_epochs, config.augment.mosaic, config.freeze_stages) == (0, 0, 0)


def test_schedule__a_checkpoint_that_does_not_say_needs_a_preset(checkpoint: Checkpoint) -> None:
    unknown = replace(checkpoint, spec=replace(checkpoint.spec, name="mine"))
    with pytest.raises(UsageError, match="'mine' does not say how it was trained; give --preset"):
        short_schedule(unknown)
    assert short_schedule(unknown, "lite0-320").epochs == 2
