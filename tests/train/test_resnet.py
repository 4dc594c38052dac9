"""ResNets: their weights have torchvision's names and shapes, and mean the same there and here."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fcos_edge.errors import CheckpointError, UsageError
from fcos_edge.train.backbones import Backbone, build_backbone

# Of the lines "name shape", sorted, of torchvision 0.29.2's state dicts without `fc`: how many, and their
# sha256; and the parameters, without `fc`, too.
TORCHVISION = {
    "resnet50": (318, "c1f7fd3808aa49e7afb0ec26ebebafda398d447a68e9547c34a3d6fc8945c74c", 23_508_032),
    "resnet101": (624, "a36254db3e8fffb450c31dd6b494ba0ab8b688950ec8119a20d04d4406f2c20d", 42_500_160),
    "resnext101_64x4d": (624, "e19c9a2750c846e568d0d73549de500f435b99d30371f88bcb17db6d3c9c3b71", 81_406_272),
}


def on_meta(name: str) -> Backbone:
    with torch.device("meta"):
        return build_backbone(name, pretrained=False)


@pytest.mark.parametrize("name", TORCHVISION)
def test_resnet__names_and_shapes_are_torchvisions(name: str) -> None:
    network = on_meta(name)
    lines = sorted(f"{key} {tuple(value.shape)}" for key, value in network.state_dict().items())
    parameters = sum(p.numel() for p in network.parameters())
    found = (len(lines), hashlib.sha256("\n".join(lines).encode()).hexdigest(), parameters)
    assert found == TORCHVISION[name]


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("conv1.weight", (64, 3, 7, 7)),
        ("layer1.0.downsample.0.weight", (256, 64, 1, 1)),
        ("layer2.0.conv2.weight", (128, 128, 3, 3)),
        ("layer4.2.bn3.running_var", (2048,)),
    ],
)
def test_resnet50__some_of_the_names(name: str, shape: tuple[int, ...]) -> None:
    assert on_meta("resnet50").state_dict()[name].shape == shape


@pytest.mark.parametrize("name", TORCHVISION)
def test_resnet__equals_torchvisions(name: str, tmp_path: Path) -> None:
    models = _torchvision_models()
    torch.manual_seed(0)
    theirs = getattr(models, name)().eval()
    for module in theirs.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.3, 0.6)
            nn.init.uniform_(module.bias, -0.2, 0.2)
            assert module.running_mean is not None
            nn.init.uniform_(module.running_mean, -0.1, 0.1)
    torch.save(theirs.state_dict(), tmp_path / "w.pth")
    ours = build_backbone(name, pretrained=True, weights_path=tmp_path / "w.pth").eval()
    x = torch.randn(1, 3, 64, 96)
    wanted: list[Tensor] = []
    with torch.no_grad():
        y = theirs.layer1(theirs.maxpool(theirs.relu(theirs.bn1(theirs.conv1(x)))))
        for layer in (theirs.layer2, theirs.layer3, theirs.layer4):
            y = layer(y)
            wanted.append(y)
        assert all(torch.equal(a, b) for a, b in zip(wanted, ours(x), strict=True))


def _torchvision_models() -> Any:
    try:
        import torchvision.models
    except (ImportError, RuntimeError) as error:  # RuntimeError: its operators do not fit this torch
        pytest.skip(f"torchvision does not load: {' '.join(str(error).split())[:80]}")
    return torchvision.models


@pytest.mark.parametrize("height_width", [(64, 64), (32, 96), (160, 224)])
def test_resnet50__channels_and_strides(height_width: tuple[int, int]) -> None:
    height, width = height_width
    network = on_meta("resnet50")
    features = network(torch.zeros(1, 3, height, width, device="meta"))
    assert [tuple(f.shape) for f in features] == [
        (1, channels, height // stride, width // stride)
        for channels, stride in zip(network.channels, (8, 16, 32), strict=True)
    ]


@pytest.mark.parametrize(
    ("stages", "frozen"),
    [
        (0, ()),
        (1, ("conv1", "bn1")),
        (2, ("conv1", "bn1", "layer1")),  # the paper's "first two stages"
        (5, ("conv1", "bn1", "layer1", "layer2", "layer3", "layer4")),
    ],
)
def test_resnet50__frozen_stages(stages: int, frozen: tuple[str, ...]) -> None:
    network = on_meta("resnet50")
    network.freeze(stages)
    found = {name.split(".")[0] for name, p in network.named_parameters() if not p.requires_grad}
    trained = {name.split(".")[0] for name, p in network.named_parameters() if p.requires_grad}
    assert found == set(frozen)
    assert not found & trained


@pytest.mark.parametrize("name", TORCHVISION)
def test_resnet__without_a_weights_file(name: str) -> None:
    with pytest.raises(UsageError, match=rf"{name} come in no package; .*--weights PATH, or --weights none"):
        build_backbone(name, pretrained=True)


@pytest.mark.parametrize(
    ("file", "asked", "message"),
    [
        ("resnet50", "resnet101", r"layer3\.6\.conv1\.weight is missing"),
        ("resnet101", "resnet50", r"'layer3\.6\.conv1\.weight' belongs to another network"),
        ("resnext101_64x4d", "resnet101", r"layer1\.0\.conv1\.weight has shape \(256, 64, 1, 1\), expected"),
    ],
)
def test_resnet__weights_of_another(file: str, asked: str, message: str, tmp_path: Path) -> None:
    # One value in the place of all: the file is small, its shapes are right.
    weights = {key: torch.zeros(()).expand(value.shape) for key, value in on_meta(file).state_dict().items()}
    torch.save(weights, tmp_path / "w.pth")
    with pytest.raises(CheckpointError, match=rf"^[^\n]*w\.pth, read as {asked}: {message}[^\n]*$"):
        build_backbone(asked, pretrained=True, weights_path=tmp_path / "w.pth")


def test_resnet__classifier_is_passed_over(tmp_path: Path) -> None:
    network = build_backbone("resnet50", pretrained=False)
    weights = {**network.state_dict(), "fc.weight": torch.zeros(1000, 2048), "fc.bias": torch.zeros(1000)}
    torch.save(weights, tmp_path / "w.pth")
    loaded = build_backbone("resnet50", pretrained=True, weights_path=tmp_path / "w.pth").state_dict()
    assert all(torch.equal(value, loaded[name]) for name, value in network.state_dict().items())
