"""Folding: the deploy graph computes what the training network computes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fcos_edge.errors import CheckpointError
from fcos_edge.quantize.deploy import deploy
from fcos_edge.quantize.execute import DeployNetwork
from fcos_edge.quantize.graph import Add, Conv, Graph
from fcos_edge.train.config import NetworkConfig
from fcos_edge.train.layers import Conv2dSame, Normalize, Scale, Upsample2x
from fcos_edge.train.model import Fcos

MEAN, STD = (127.0, 127.0, 127.0), (128.0, 128.0, 128.0)


class Small(nn.Module):
    """Normalize, then whatever the test puts in; the map is returned as `logits_p3`."""

    def __init__(self, *layers: nn.Module, stem: bool = True) -> None:
        super().__init__()
        self.normalize = Normalize(MEAN, STD)
        self.stem = nn.Conv2d(3, 4, 3, 2, 1) if stem else nn.Identity()
        self.layers = nn.Sequential(*layers)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        return {"logits_p3": self.layers(self.stem(self.normalize(images)))}


class Lambda(nn.Module):
    """Any operation inside a module that the tracer looks into."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def with_statistics(network: nn.Module) -> nn.Module:
    """Batch statistics of random pictures, then random affine parts and scales: nothing folds to 1 or 0.

    Statistics come from 320x320, where even P7 has 3x3 locations: of fewer the variance is next to 0.
    """
    torch.manual_seed(0)
    norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = None  # a plain mean
    with torch.no_grad():
        network.train()(torch.rand(4, 3, 320, 320) * 255)
        for norm in filter(lambda norm: norm.affine, norms):
            norm.weight.uniform_(0.7, 1.3)
            norm.bias.uniform_(-0.3, 0.3)
        for module in network.modules():
            if isinstance(module, Scale):
                module.factor.uniform_(0.5, 2.0)
    return network.eval()


def largest_difference(network: nn.Module, graph: Graph) -> float:
    pictures = torch.randint(0, 256, (2, *graph.input_hw, 3), dtype=torch.uint8)
    with torch.no_grad():
        wanted = network(pictures.permute(0, 3, 1, 2).float())
        found = DeployNetwork(graph)(pictures)
    assert list(found) == list(wanted)
    return max(float((wanted[n].permute(0, 2, 3, 1) - found[n]).abs().max()) for n in wanted)


@pytest.fixture(scope="module")
def fcos() -> nn.Module:
    return with_statistics(Fcos(NetworkConfig(num_classes=3)))


@pytest.mark.parametrize("input_hw", [(128, 128), (192, 320)])
def test_deploy__equals_the_training_network(fcos: nn.Module, input_hw: tuple[int, int]) -> None:
    # Logits up to 9; 3e-5 is seen, and float32 differs from float64 by as much in the training network.
    assert largest_difference(fcos, deploy(fcos, input_hw)) < 1e-4


@pytest.mark.parametrize(
    "changes",
    [
        {"convs": "plain"},  # with batch normalization
        {
            "convs": "plain",
            "head_norm": "none",
            "extra_levels_from": "c5",
        },  # the comparison without GroupNorm
        {"head_norm": "none", "distance": "exp", "distance_unit": "pixel"},
        {"extra_levels_from": "c5", "centerness_on": "class"},
        {"backbone": "efficientnet_lite2"},
        {"neck": "pan"},
        {"neck": "pan", "convs": "plain", "head_norm": "group"},
        {"convs": "plain", "head_norm": "group", "distance": "exp", "centerness_on": "class"},  # the paper's
    ],
)
def test_deploy__other_shapes_equal_the_training_network(changes: dict[str, Any]) -> None:
    network = with_statistics(
        Fcos(replace(NetworkConfig(num_classes=3, fpn_channels=32, tower_depth=2), **changes))
    )
    # float32 against float64, relative to logits of up to 10.
    assert largest_difference(network, deploy(network, (96, 160))) < 1e-4


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"quality_from": "distances"}, r'head\.centerness .*train with quality_from "branch"'),
    ],
)
def test_deploy__what_is_for_training_only(changes: dict[str, Any], message: str) -> None:
    network = Fcos(replace(NetworkConfig(num_classes=3, fpn_channels=32, tower_depth=1), **changes))
    with pytest.raises(CheckpointError, match=rf"^layer [^\n]*{message}[^\n]*$"):
        deploy(network.eval(), (64, 64))


def test_deploy__names_are_unique_and_the_same_on_every_run() -> None:
    network = Fcos(NetworkConfig(num_classes=3)).eval()
    first, second = deploy(network, (64, 64)), deploy(network, (64, 64))
    names = [node.name for node in first.nodes]
    assert len(set(names)) == len(names)
    assert names == [node.name for node in second.nodes]
    assert "head.class_tower.0.depthwise_bn.p4" in names
    assert not set(names) & set(first.outputs)  # writers name tensors after both


def test_deploy__inputs_come_first() -> None:
    seen: set[str] = set()
    for node in deploy(Fcos(NetworkConfig(num_classes=3)), (64, 64)).nodes:
        assert set(node.inputs) <= seen
        seen.add(node.name)


@pytest.mark.parametrize(
    ("name", "origin"),
    [
        ("backbone.stem.0", ("backbone.stem.0", "backbone.stem.1")),
        # a convolution that levels share: each has its own normalization
        (
            "head.box_tower.0.depthwise_bn.p4",
            ("head.box_tower.0.depthwise", "head.box_tower.0.depthwise_bn.p4"),
        ),
        ("head.ltrb.ltrb_p5", ("head.ltrb", "head.scales.p5")),
        ("head.logits.logits_p3", ("head.logits",)),
    ],
)
def test_deploy__knows_what_a_convolution_is_folded_from(
    fcos: nn.Module, name: str, origin: tuple[str, ...]
) -> None:
    assert deploy(fcos, (64, 96)).origins[name] == origin


def test_deploy__leaves_the_network_as_it_is() -> None:
    network = Fcos(NetworkConfig(num_classes=3)).train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    deploy(network, (64, 64))
    assert network.training
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())


@pytest.mark.parametrize(
    "layers",
    [
        [nn.BatchNorm2d(4), nn.ReLU6()],
        [nn.BatchNorm2d(4, affine=False), Scale()],  # both into one convolution
        [nn.Identity(), nn.Dropout(), nn.ReLU()],  # nothing stands in the way of the activation
        [Upsample2x(), nn.ReLU()],  # a ReLU that no node can take
        [nn.ReLU6(), nn.ReLU()],  # two activations
        [Conv2dSame(4, 6, 5, 2), Conv2dSame(6, 6, 3, groups=6)],
        [nn.Conv2d(4, 4, 3, 2, padding=(1, 1), groups=2), nn.Upsample(scale_factor=2)],
        [nn.MaxPool2d(3, 2, 1), nn.ReLU()],  # what it pools may be negative
        [nn.ReLU(), nn.MaxPool2d(2)],
        [nn.GroupNorm(2, 4), nn.ReLU()],
        [nn.ReLU(), nn.GroupNorm(2, 4, affine=False), nn.Conv2d(4, 4, 1)],
        [Lambda(lambda x: x + x)],
        [Lambda(lambda x: torch.add(x, x)), nn.ReLU()],
    ],
)
def test_deploy__layers(layers: list[nn.Module]) -> None:
    network = with_statistics(Small(*layers))
    assert largest_difference(network, deploy(network, (32, 48))) < 1e-5


class SharedBeforeRelu(nn.Module):
    """P7 from relu(P6), as the paper has it: P6 is read with and without the activation."""

    def __init__(self, between: nn.Module) -> None:
        super().__init__()
        self.normalize = Normalize(MEAN, STD)
        self.p6, self.between, self.relu, self.p7 = (
            nn.Conv2d(3, 4, 3, 2, 1), between, nn.ReLU(), nn.Conv2d(4, 4, 3, 2, 1),
        )  # fmt: skip

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        p6 = self.p6(self.normalize(images))
        return {"logits_p6": p6, "logits_p7": self.p7(self.relu(self.between(p6)))}


def test_deploy__relu_of_a_shared_map_becomes_a_node_of_its_own() -> None:
    network = SharedBeforeRelu(nn.Identity()).eval()
    graph = deploy(network, (32, 32))
    assert [node.name for node in graph.nodes] == ["input", "p6", "relu", "p7"]
    relu = graph.nodes[2]
    assert isinstance(relu, Conv)
    assert (relu.groups, relu.activation) == (4, "relu")
    assert largest_difference(network, graph) < 1e-5


def test_deploy__addition_takes_its_activation() -> None:
    graph = deploy(Small(Lambda(lambda x: x + x), nn.ReLU6()), (32, 32))
    add = graph.nodes[-1]
    assert isinstance(add, Add)
    assert (add.name, add.activation) == ("layers.0.add", "relu6")


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (Small(nn.MaxPool2d(3, ceil_mode=True)), "only square pools"),
        (Small(nn.MaxPool2d((3, 2))), "only square pools"),
        (Small(Lambda(lambda x: x * 2)), r"mul .* in layers\.0"),
        (Small(Lambda(lambda x: x + 1)), r"add .* in layers\.0"),
        (Small(Lambda(lambda x: x.flatten(1))), r"flatten .* in layers\.0"),
        (Small(Lambda(lambda x: x if x.sum() > 0 else -x)), "cannot be traced"),
        (Small(nn.ReLU(), nn.BatchNorm2d(4)), r"layers\.1 does not follow a convolution"),
        (SharedBeforeRelu(nn.BatchNorm2d(4)), "between does not follow a convolution"),
        (Small(nn.BatchNorm2d(4, track_running_stats=False)), "no running statistics"),
        (Small(nn.Conv2d(4, 4, 3, padding="same")), "only zero padding"),
        (Small(nn.Conv2d(4, 4, 3, dilation=2)), "only zero padding"),
        (Small(nn.Upsample(scale_factor=1.5)), "nearest upsampling"),
        (Small(nn.Upsample(scale_factor=2, mode="bilinear")), "nearest upsampling"),
        (Small(Normalize(MEAN, STD)), "expected that once"),
        (nn.Sequential(nn.Conv2d(3, 4, 1)), "expected Normalize first"),
        (nn.Sequential(Normalize(MEAN, STD), nn.Conv2d(3, 4, 1)), "returns no dict"),
    ],
)
def test_deploy__what_cannot_be_folded_is_named(network: nn.Module, message: str) -> None:
    with pytest.raises(CheckpointError, match=message) as caught:
        deploy(network.eval(), (32, 32))
    assert "\n" not in str(caught.value)


def test_deploy__means_per_channel_reach_the_input() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.normalize = Normalize((1.0, 2.0, 3.0), (4.0, 5.0, 6.0))
            self.conv = nn.Conv2d(3, 2, 1)

        def forward(self, images: Tensor) -> dict[str, Tensor]:
            return {"logits_p3": self.conv(self.normalize(images))}

    network = Net().eval()
    graph = deploy(network, (32, 32))
    assert largest_difference(network, graph) < 1e-4  # values up to 60
    assert graph.nodes[0].name == "input"
    np.testing.assert_array_equal(graph.shapes["conv"], (2, 32, 32))
