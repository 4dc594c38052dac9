"""The whole network: names, shapes and first outputs."""

from __future__ import annotations

import pytest
import torch

from fcos_edge.spec import ModelSpec
from fcos_edge.train.config import NetworkConfig
from fcos_edge.train.model import Fcos


@pytest.mark.parametrize("input_hw", [(128, 128), (96, 160), (160, 64)])
@pytest.mark.parametrize("strides", [(8, 16, 32, 64, 128), (8, 16, 32)])
def test_fcos__names_and_shapes_are_the_specs(input_hw: tuple[int, int], strides: tuple[int, ...]) -> None:
    config = NetworkConfig(3, fpn_channels=8, tower_depth=1, strides=strides)
    spec = ModelSpec("x", ("a", "b", "c"), input_hw, config.mean, config.std, strides=strides)
    with torch.no_grad():
        maps = Fcos(config).eval()(torch.zeros(2, 3, *input_hw))
    assert tuple(maps) == spec.output_names
    for level, level_hw in zip(spec.level_names, spec.level_hw, strict=True):
        assert tuple(maps[f"logits_{level}"].shape) == (2, 3, *level_hw)
        assert tuple(maps[f"ltrb_{level}"].shape) == (2, 4, *level_hw)
        assert tuple(maps[f"centerness_{level}"].shape) == (2, 1, *level_hw)


def test_fcos__first_class_probability_is_the_prior() -> None:
    torch.manual_seed(0)
    network = Fcos(NetworkConfig(8)).eval()
    with torch.no_grad():
        maps = network(torch.rand(1, 3, 128, 128) * 255)
    for name, values in maps.items():
        if name.startswith("logits"):
            # +- 0.002: the last convolution's N(0, 0.01) weights move it a little.
            assert values.sigmoid().mean().item() == pytest.approx(0.01, abs=0.002)
        if name.startswith("ltrb"):
            assert values.min().item() > 0  # none starts on ReLU's dead side


def test_fcos__head_convolutions_are_shared_and_statistics_are_not() -> None:
    network = Fcos(NetworkConfig(2, fpn_channels=8, tower_depth=2))
    names = {name for name, _ in network.head.named_parameters()}
    assert {name for name in names if name.endswith("weight") and "_bn" not in name} == {
        *(
            f"{tower}_tower.{depth}.{kind}.weight"
            for tower in ("class", "box") for depth in (0, 1) for kind in ("depthwise", "pointwise")
        ),
        "logits.weight", "ltrb.weight", "centerness.weight",
    }  # fmt: skip
    assert {f"class_tower.0.depthwise_bn.p{level}.weight" for level in range(3, 8)} <= names
    assert {f"scales.p{level}.factor" for level in range(3, 8)} <= names


def test_fcos__same_seed_gives_the_same_network() -> None:
    states = []
    for _ in range(2):
        torch.manual_seed(5)
        states.append(Fcos(NetworkConfig(2, fpn_channels=8, tower_depth=1)).state_dict())
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())
