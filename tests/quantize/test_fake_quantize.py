"""The float twin computes what the integer simulator computes, and has the gradients of its formulas."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fcos_edge.quantize.calibrate import calibrate_inputs
from fcos_edge.quantize.deploy import deploy
from fcos_edge.quantize.fake_quantize import FakeQuantizedFcos, with_fixed_scale, with_learned_scale
from fcos_edge.quantize.graph import Graph
from fcos_edge.quantize.recipe import parse_recipe
from fcos_edge.quantize.record import Record
from fcos_edge.quantize.simulate import dequantize, simulate
from fcos_edge.runtime import UInt8Array
from fcos_edge.train.config import NetworkConfig
from fcos_edge.train.layers import Scale
from fcos_edge.train.model import Fcos
from tests.quantize.graphs import random_pictures

INPUT_HW = (64, 64)
# Weights are folded in float32, so about one in a million lies on the other side of a tie; sixty layers carry
# that on. Without any rounding of the weights half of all values differ.
MOST_DIFFERENT = 0.05


@pytest.fixture(scope="module")
def network() -> Fcos:
    """Of two classes, with random statistics, affine parts and scales: nothing folds to 1 or 0."""
    torch.manual_seed(0)
    network = Fcos(NetworkConfig(2, fpn_channels=8, tower_depth=1, activation="relu")).eval()
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                assert module.running_mean is not None
                assert module.running_var is not None
                module.running_mean.uniform_(-0.3, 0.3)
                module.running_var.uniform_(0.5, 2.0)
                module.weight.uniform_(0.7, 1.3)
                module.bias.uniform_(-0.3, 0.3)
            if isinstance(module, Scale):
                module.factor.uniform_(0.5, 2.0)
    return network


@pytest.fixture(scope="module")
def graph(network: Fcos) -> Graph:
    return deploy(network, INPUT_HW)


@pytest.fixture(scope="module")
def pictures(graph: Graph) -> UInt8Array:
    return random_pictures(graph, 2)


def _record(graph: Graph, pictures: UInt8Array, recipe: str, float_nodes: tuple[str, ...] = ()) -> Record:
    return calibrate_inputs(graph, pictures, (), parse_recipe(recipe), float_nodes)


def _as_images(pictures: UInt8Array) -> Tensor:
    return torch.from_numpy(pictures).permute(0, 3, 1, 2).float()


def _backward(loss: Tensor) -> None:
    loss.backward()  # type: ignore[no-untyped-call]


@pytest.mark.parametrize(
    ("recipe", "float_nodes", "is_learned"),
    [
        ("w8c_a8t_minmax", (), False),
        ("w8c_a8t_minmax", (), True),
        ("w8t_a8t_minmax", (), False),
        ("w8t_a8t_minmax_cle", (), True),
        ("w7c_a8t_minmax_cle", (), False),
        # an integer output and a float one; a value that stays float on its way
        (
            "w8c_a8t_minmax",
            ("backbone.stem.0", "backbone.stages.0.0.layers.0", "head.logits.logits_p3"),
            True,
        ),
    ],
)
def test_twin__equals_the_simulator(
    network: Fcos, graph: Graph, pictures: UInt8Array,
    recipe: str, float_nodes: tuple[str, ...], is_learned: bool,
) -> None:  # fmt: skip
    record = _record(graph, pictures, recipe, float_nodes)
    twin = FakeQuantizedFcos(network, graph, record, is_learned=is_learned)
    assert _share_that_differs(twin.train(), record, pictures) < MOST_DIFFERENT


@pytest.mark.parametrize("is_learned", [False, True])
def test_twin__group_normalization_stays_float(is_learned: bool) -> None:
    torch.manual_seed(0)
    config = NetworkConfig(2, fpn_channels=32, tower_depth=1, head_norm="group", strides=(8, 16, 32))
    network = Fcos(config).eval()
    graph = deploy(network, INPUT_HW)
    pictures = random_pictures(graph, 1)
    record = _record(graph, pictures, "w8c_a8t_minmax")
    twin = FakeQuantizedFcos(network, graph, record, is_learned=is_learned)
    assert _share_that_differs(twin, record, pictures) < MOST_DIFFERENT
    maps = twin(_as_images(pictures))
    _backward(torch.stack([value.square().mean() for value in maps.values()]).sum())
    norms = [m for m in network.modules() if isinstance(m, nn.GroupNorm)]
    assert norms
    assert all(norm.weight.grad is not None for norm in norms)


def _share_that_differs(twin: FakeQuantizedFcos, record: Record, pictures: UInt8Array) -> float:
    """Of the outputs' values, those that are half a step or more from the simulator's."""
    with torch.no_grad():
        found = twin(_as_images(pictures))
    wanted = dequantize(twin.graph, record, simulate(twin.graph, record, pictures))
    assert list(found) == list(wanted)
    steps = []
    for name, values in wanted.items():
        difference = np.abs(found[name].permute(0, 2, 3, 1).numpy() - values)
        steps.append((difference / record.points[twin.graph.outputs[name]].scale).ravel())
    return float(np.mean(np.concatenate(steps) > 0.5))


def test_twin__shares_the_parameters_and_moves_no_statistics(
    network: Fcos, graph: Graph, pictures: UInt8Array
) -> None:
    before = {name: value.clone() for name, value in network.named_buffers()}
    twin = FakeQuantizedFcos(network, graph, _record(graph, pictures, "w8t_a8t_minmax"), is_learned=True)
    twin.train()
    maps = twin(_as_images(pictures)).values()
    _backward(torch.stack([value.square().mean() for value in maps]).sum())
    without = [name for name, p in twin.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert not without
    assert set(dict(twin.named_parameters())) - set(dict(network.named_parameters())) == {
        "log_point_scales", "log_weight_scales",
    }  # fmt: skip
    assert all(torch.equal(value, before[name]) for name, value in network.named_buffers())
    twin.zero_grad()


def test_twin__wrong_size_is_refused(network: Fcos, graph: Graph, pictures: UInt8Array) -> None:
    twin = FakeQuantizedFcos(network, graph, _record(graph, pictures, "w8c_a8t_minmax"))
    with pytest.raises(ValueError, match="pictures are 64x96, expected 64x64"):
        twin(torch.zeros(1, 3, 64, 96))


@pytest.mark.parametrize(
    ("x", "fake", "slope", "slope_of_scale"),
    [
        (0.0, 0.0, 1, 0.0),
        (0.25, 0.0, 1, -0.5),  # a tie goes to even: -x / s
        (0.75, 1.0, 1, 0.5),
        (0.4, 0.5, 1, 0.2),
        (-0.4, -0.5, 1, -0.2),
        (-0.8, -0.5, 0, -1.0),  # below low = 2: q - z
        (1.1, 1.0, 1, -0.2),  # 2.2 steps round to high
        (1.3, 1.0, 0, 2.0),  # 2.6 do not
    ],
)
def test_fake_quantization__value_and_gradients(
    x: float, fake: float, slope: float, slope_of_scale: float
) -> None:
    values, scale = torch.tensor([x], requires_grad=True), torch.tensor(0.5, requires_grad=True)
    out = with_learned_scale(values, scale, 3, (2, 5))
    _backward(out)
    fixed = with_fixed_scale(values, 0.5, 3, (2, 5))
    assert out.item() == fixed.item() == fake
    assert values.grad is not None
    assert scale.grad is not None
    assert values.grad.item() == slope
    assert torch.autograd.grad(fixed, values)[0].item() == slope
    assert scale.grad.item() == pytest.approx(slope_of_scale, abs=1e-6)  # float32


def test_fake_quantization__scales_per_channel_have_gradients_of_their_own() -> None:
    x = torch.tensor([[0.4, 9.0], [0.4, 0.4]])
    scales = torch.tensor([[0.5], [1.0]], requires_grad=True)
    _backward(with_learned_scale(x, scales, 0, (-2, 2)).sum())
    assert scales.grad is not None
    # 1 - 0.8 and the end, 2; then twice 0 - 0.4
    assert scales.grad.flatten().tolist() == pytest.approx([2.2, -0.8])
