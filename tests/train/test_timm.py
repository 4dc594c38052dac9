"""Backbones of timm: our border around it with a stand-in, and timm itself where it loads.

timm needs a torchvision that loads beside this torch, which not every index has.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fcos_edge.errors import CheckpointError, FcosEdgeError, UsageError
from fcos_edge.train.backbones import backbone_entries, build_backbone, find_backbone
from fcos_edge.train.config import NetworkConfig
from fcos_edge.train.model import Fcos


class Network(nn.Module):
    """Five halvings, as timm has networks: a classifier, or feature maps; strides up to 2^halvings."""

    default_cfg = {"classifier": "fc"}  # noqa: RUF012 (as timm has it)

    def __init__(self, halvings: int, features_only: bool) -> None:
        super().__init__()
        self.halvings = halvings
        for index in range(halvings):
            self.add_module(f"stage_{index}", nn.Conv2d(3 if index == 0 else 4, 4, 3, 2, 1))
        self.features_only = features_only
        self.feature_info = SimpleNamespace(
            info=[{"module": f"stage.{index}"} for index in range(halvings)], channels=lambda: [4, 4, 4]
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        maps = []
        for index in range(self.halvings):
            x = self.get_submodule(f"stage_{index}")(x)
            maps.append(x)
        return maps[-3:]


@pytest.fixture
def timm_stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """The three names of timm that are called, with timm's signatures."""

    def create_model(
        name: str, pretrained: bool = False, pretrained_cfg_overlay: Any = None, num_classes: int = 1000,
        features_only: bool = False, out_indices: tuple[int, ...] = (),
    ) -> Network:  # fmt: skip
        if name not in ("five", "four"):
            raise RuntimeError(f"Unknown model\n({name})")
        network = Network(5 if name == "five" else 4, features_only)
        if pretrained:
            network.load_state_dict(pretrained_cfg_overlay["state_dict"], strict=False)
        return network

    module: Any = ModuleType("timm")
    module.create_model = create_model
    module.get_pretrained_cfg = lambda name: (
        SimpleNamespace(mean=(0.5, 0.5, 0.5), std=(0.5, 0.25, 0.5)) if name == "five" else None
    )
    monkeypatch.setitem(sys.modules, "timm", module)


def test_timm__has_no_name_of_its_own() -> None:
    assert not [name for name in backbone_entries() if "timm" in name]


def test_timm__not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(UsageError, match="timm is not installed; pip install timm, with a torchvision"):
        build_backbone("timm:resnet18", pretrained=False)


def test_timm__does_not_load(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "timm.py").write_text("raise RuntimeError('operator torchvision::nms\\ndoes not exist')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "timm", raising=False)
    with pytest.raises(
        UsageError, match=r"timm does not load \(RuntimeError: operator torchvision::nms does"
    ):
        build_backbone("timm:resnet18", pretrained=False)


@pytest.mark.usefixtures("timm_stand_in")
@pytest.mark.parametrize(
    "name", ["", "hf-hub:someone/net", "hf_hub:x", "local-dir:/tmp", "a/b", "../x", "x\ny"]
)
def test_timm__names_that_lead_elsewhere(name: str) -> None:
    with pytest.raises(UsageError, match=r"^[^\n]*is no name of a network[^\n]*$"):
        find_backbone(f"timm:{name}")


@pytest.mark.usefixtures("timm_stand_in")
@pytest.mark.parametrize(
    ("name", "pretrained", "message"),
    [
        ("six", False, r"timm:six cannot be a backbone \(RuntimeError: Unknown model \(six\)\)"),
        ("four", False, r"feature maps of \[\(16, 24\), \(8, 12\), \(4, 6\)\] pixels"),
        ("five", True, r"timm:five come in no package; .*--weights PATH, or --weights none"),
    ],
)
def test_timm__what_cannot_be_built(name: str, pretrained: bool, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        build_backbone(f"timm:{name}", pretrained=pretrained)
    assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("timm_stand_in")
def test_timm__mean_and_deviation() -> None:
    entry = find_backbone("timm:five")
    assert (entry.mean, entry.std) == ((127.5, 127.5, 127.5), (127.5, 63.75, 127.5))
    # Where timm states none, ImageNet's.
    assert find_backbone("timm:four").mean == find_backbone("resnet50").mean


@pytest.mark.usefixtures("timm_stand_in")
@pytest.mark.parametrize("stages", [0, 2])
def test_timm__frozen_stages(stages: int) -> None:
    backbone = build_backbone("timm:five", pretrained=False)
    backbone.freeze(stages)
    frozen = {name.split(".")[1] for name, p in backbone.named_parameters() if not p.requires_grad}
    assert frozen == {f"stage_{index}" for index in range(stages)}


@pytest.mark.usefixtures("timm_stand_in")
def test_timm__weights_must_be_complete(tmp_path: Path) -> None:
    weights = {**Network(5, False).state_dict(), "fc.weight": torch.zeros(3)}
    torch.save(weights, tmp_path / "w.pth")
    backbone = build_backbone("timm:five", pretrained=True, weights_path=tmp_path / "w.pth")
    loaded = backbone.state_dict()
    assert torch.equal(loaded["features.stage_4.weight"], weights["stage_4.weight"])
    del weights["stage_1.bias"]
    torch.save(weights, tmp_path / "w.pth")
    with pytest.raises(CheckpointError, match=r"read as timm:five: stage_1\.bias is missing"):
        build_backbone("timm:five", pretrained=True, weights_path=tmp_path / "w.pth")


@pytest.mark.usefixtures("timm_stand_in")
def test_timm__under_a_detector() -> None:
    config = NetworkConfig(2, backbone="timm:five", fpn_channels=8, tower_depth=1, strides=(8, 16, 32))
    for device in ("cpu", "meta"):  # without memory: how a checkpoint's header is tried
        with torch.device(device):
            maps = Fcos(config).eval()(torch.zeros(1, 3, 64, 96))
        assert tuple(maps["logits_p3"].shape) == (1, 2, 8, 12)


@pytest.mark.parametrize("name", ["resnet18", "mobilenetv3_small_100", "convnext_atto"])
def test_timm__itself(name: str, tmp_path: Path) -> None:
    try:
        timm = importlib.import_module("timm")
    except (ImportError, RuntimeError) as error:
        pytest.skip(f"timm does not load: {' '.join(str(error).split())[:80]}")
    whole = timm.create_model(name)
    torch.save(whole.state_dict(), tmp_path / "w.pth")
    backbone = build_backbone(f"timm:{name}", pretrained=True, weights_path=tmp_path / "w.pth").eval()
    # Every tensor of the backbone is the file's, whatever timm calls it now.
    sums = {round(float(value.double().sum()), 9) for value in whole.state_dict().values()}
    assert all(round(float(value.double().sum()), 9) in sums for value in backbone.state_dict().values())
    with torch.no_grad():
        features = backbone(torch.rand(1, 3, 64, 96))
    assert [tuple(x.shape[1:]) for x in features] == [
        (channels, 64 // stride, 96 // stride)
        for channels, stride in zip(backbone.channels, (8, 16, 32), strict=True)
    ]
    backbone.freeze(2)
    assert {p.requires_grad for p in backbone.parameters()} == {True, False}
    with pytest.raises(FcosEdgeError, match="cannot be a backbone"):
        build_backbone("timm:no_such_network", pretrained=False)
