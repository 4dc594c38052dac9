"""The whole network: names, shapes and first outputs."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from fcos_edge.errors import UsageError
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


SMALL = NetworkConfig(3, fpn_channels=32, tower_depth=2)


@pytest.mark.parametrize("backbone", ["efficientnet_lite0", "resnet50"])
@pytest.mark.parametrize("convs", ["separable", "plain"])
@pytest.mark.parametrize("head_norm", ["batch", "group", "none"])
@pytest.mark.parametrize("extra_levels_from", ["p5", "c5"])
def test_fcos__every_shape_has_the_specs_maps(
    backbone: str, convs: Any, head_norm: Any, extra_levels_from: Any
) -> None:
    input_hw = (96, 160)  # 160 is no multiple of P7's stride, nor is 96 of P6's
    config = replace(
        SMALL,
        backbone=backbone,
        convs=convs,
        head_norm=head_norm,
        extra_levels_from=extra_levels_from,
    )
    spec = ModelSpec("x", ("a", "b", "c"), input_hw, config.mean, config.std)
    with torch.device("meta"):
        maps = Fcos(config)(torch.zeros(2, 3, *input_hw))
    assert tuple(maps) == spec.output_names
    for level, level_hw in zip(spec.level_names, spec.level_hw, strict=True):
        for branch, channels in (("logits", 3), ("ltrb", 4), ("centerness", 1)):
            assert tuple(maps[f"{branch}_{level}"].shape) == (2, channels, *level_hw)


# Each choice of distances, and what a fresh network of it predicts, in input pixels.
FIRST_DISTANCES: dict[tuple[Any, Any], tuple[float, float]] = {
    ("relu", "stride"): (4 * 8, 4 * 128),
    ("relu", "pixel"): (4 * 8, 4 * 8),
    ("exp", "stride"): (8, 128),
    ("exp", "pixel"): (1, 1),
}


@pytest.mark.parametrize(("distance", "unit"), FIRST_DISTANCES)
@pytest.mark.parametrize("convs", ["separable", "plain"])
@pytest.mark.parametrize("head_norm", ["batch", "group", "none"])
def test_fcos__first_predictions(convs: Any, head_norm: Any, distance: Any, unit: Any) -> None:
    torch.manual_seed(0)
    config = NetworkConfig(
        8, fpn_channels=64, tower_depth=4, convs=convs, head_norm=head_norm, distance=distance,
        distance_unit=unit,
    )  # fmt: skip
    network = Fcos(config).train()  # with batch statistics, as in the first step
    with torch.no_grad():
        maps = network(torch.rand(2, 3, 160, 160) * 255)
    probabilities = torch.cat([maps[f"logits_{level}"].sigmoid().flatten() for level in config.level_names])
    # +- 0.002: the last convolution's N(0, 0.01) weights move it a little.
    assert probabilities.mean().item() == pytest.approx(0.01, abs=0.002)
    for level, stride, wanted in zip(("p3", "p7"), (8, 128), FIRST_DISTANCES[distance, unit], strict=True):
        raw = maps[f"ltrb_{level}"]
        activated = raw.exp() if distance == "exp" else raw.relu()
        assert activated.min().item() > 0  # none starts on ReLU's dead side
        pixels = activated.mean().item() * (stride if unit == "stride" else 1)
        # 10 %: the weights' share, exp of normal numbers of deviation 0.25 and less.
        assert pixels == pytest.approx(wanted, rel=0.1)


@pytest.mark.parametrize(("centerness_on", "moved"), [("box", "box_tower"), ("class", "class_tower")])
@pytest.mark.parametrize("convs", ["separable", "plain"])
def test_fcos__centerness_learns_in_its_tower(centerness_on: Any, moved: str, convs: Any) -> None:
    network = Fcos(replace(SMALL, centerness_on=centerness_on, convs=convs, strides=(8, 16, 32)))
    network(torch.rand(1, 3, 64, 64) * 255)["centerness_p3"].sum().backward()
    towers = {name for name in ("box_tower", "class_tower") if _has_gradient(getattr(network.head, name))}
    assert towers == {moved}


def _has_gradient(module: torch.nn.Module) -> bool:
    return any(p.grad is not None and bool(p.grad.abs().sum() > 0) for p in module.parameters())


def test_fcos__centerness_of_distances_has_no_branch() -> None:
    network = Fcos(replace(SMALL, quality_from="distances", strides=(8, 16, 32))).eval()
    assert not [name for name in network.state_dict() if "centerness" in name]
    with torch.no_grad():
        maps = network(torch.rand(1, 3, 64, 64) * 255)
    left, top, right, bottom = maps["ltrb_p4"].relu().unbind(1)
    ratio = torch.minimum(left, right) / torch.maximum(left, right)
    ratio = ratio * torch.minimum(top, bottom) / torch.maximum(top, bottom)
    # float32, and distances are nearly equal before any training: 1 - c is a small difference.
    torch.testing.assert_close(maps["centerness_p4"][:, 0].sigmoid(), ratio.sqrt(), atol=1e-4, rtol=0)


def test_fcos__p6_is_made_of_what_it_says() -> None:
    for convs, source in itertools.product(("separable", "plain"), ("p5", "c5")):
        network = Fcos(replace(SMALL, convs=convs, extra_levels_from=source))  # type: ignore[arg-type]
        weights = {
            name: v.shape for name, v in network.fpn.state_dict().items() if name.startswith("extra.0")
        }
        channels = 320 if source == "c5" else 32
        name, shape = next(iter(weights.items()))
        assert shape == ((channels, 1, 3, 3) if convs == "separable" else (32, channels, 3, 3)), name
        c3, c4, c5 = (torch.rand(2, c, s, s) for c, s in ((40, 16), (112, 8), (320, 4)))
        network.fpn((c3, c4, c5))[3].sum().backward()
        assert _has_gradient(network.fpn.smooth[2]) == (source == "p5")  # P5's own convolution


@pytest.mark.parametrize("convs", ["separable", "plain"])
def test_fcos__pan_leads_fine_levels_to_coarse_ones(convs: Any) -> None:
    features = [torch.rand(2, c, s, s) for c, s in ((40, 16), (112, 8), (320, 4))]
    for neck, is_led in (("fpn", False), ("pan", True)):
        fpn = Fcos(replace(SMALL, convs=convs, neck=neck)).fpn  # type: ignore[arg-type]
        c3, c4, c5 = (feature.requires_grad_() for feature in features)
        levels = fpn((c3, c4, c5))
        assert [tuple(level.shape[2:]) for level in levels[:3]] == [(16, 16), (8, 8), (4, 4)]
        (gradient,) = torch.autograd.grad(levels[2].square().sum(), c3, allow_unused=True)
        assert (gradient is not None) == is_led  # P5 sees C3 on this way alone


def test_fcos__plain_shape_is_the_papers() -> None:
    config = NetworkConfig(
        80, backbone="resnet50", fpn_channels=256, tower_depth=4, convs="plain", head_norm="group",
        centerness_on="class", distance="exp", distance_unit="pixel",
    )  # fmt: skip
    with torch.device("meta"):
        network = Fcos(config)
    found = {name: tuple(value.shape) for name, value in network.named_parameters() if "backbone" not in name}
    wanted: dict[str, tuple[int, ...]] = {}
    for index, channels in enumerate((512, 1024, 2048)):
        wanted[f"fpn.laterals.{index}.weight"] = (256, channels, 1, 1)
        wanted[f"fpn.smooth.{index}.weight"] = (256, 256, 3, 3)
    for index in range(2):
        wanted[f"fpn.extra.{index}.weight"] = (256, 256, 3, 3)
    for tower, index in itertools.product(("class", "box"), range(4)):
        wanted[f"head.{tower}_tower.{index}.conv.weight"] = (256, 256, 3, 3)
        wanted[f"head.{tower}_tower.{index}.norm.weight"] = (256,)
    for name, channels in (("logits", 80), ("ltrb", 4), ("centerness", 1)):
        wanted[f"head.{name}.weight"] = (channels, 256, 3, 3)
    wanted |= {name.replace("weight", "bias"): shape[:1] for name, shape in wanted.items()}
    wanted |= {f"head.scales.p{level}.factor": () for level in range(3, 8)}
    assert found == wanted


def test_fcos__groups_that_do_not_divide() -> None:
    with pytest.raises(UsageError, match=r"fpn_channels is 80, .*32 groups; give a multiple of 32"):
        Fcos(NetworkConfig(2, fpn_channels=80, head_norm="group"))


def test_fcos__relu_for_relu6_takes_the_same_weights() -> None:
    config = replace(SMALL, strides=(8, 16, 32))
    first, second = Fcos(config).eval(), Fcos(replace(config, activation="relu")).eval()
    second.load_state_dict(first.state_dict())
    assert any(isinstance(module, nn.ReLU6) for module in first.modules())
    assert not any(isinstance(module, nn.ReLU6) for module in second.modules())
    pictures = torch.rand(1, 3, 64, 64) * 255
    with torch.no_grad():
        small, large = ([n(p)["logits_p3"] for n in (first, second)] for p in (pictures, pictures * 1e3))
    # No value reaches 6, so both are one network; then all do.
    assert torch.equal(*small)
    assert not torch.allclose(*large)
