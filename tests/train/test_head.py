"""The head against the same sums written out, layer by layer, with torch's functions."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from fcos_edge.train.config import NetworkConfig
from fcos_edge.train.head import FcosHead


def written_out(
    state: dict[str, Tensor], config: NetworkConfig, feature: Tensor, level: str
) -> dict[str, Tensor]:
    """One level's maps, statistics as in evaluation."""

    def norm(x: Tensor, name: str) -> Tensor:
        if config.head_norm == "group":
            return F.group_norm(x, 32, state[f"{name}.weight"], state[f"{name}.bias"])
        if config.head_norm == "none":
            return x
        own = f"{name}.{level}"  # each level has its own
        return F.batch_norm(
            x, state[f"{own}.running_mean"], state[f"{own}.running_var"], state[f"{own}.weight"],
            state[f"{own}.bias"],
        )  # fmt: skip

    def conv(x: Tensor, name: str) -> Tensor:
        weight = state[f"{name}.weight"]
        bias = state.get(f"{name}.bias")
        return F.conv2d(x, weight, bias, padding=weight.shape[-1] // 2, groups=x.shape[1] // weight.shape[1])

    def tower(kind: str) -> Tensor:
        x = feature
        for depth in range(config.tower_depth):
            name = f"{kind}_tower.{depth}"
            if config.convs == "plain":
                x = norm(conv(x, f"{name}.conv"), f"{name}.norm").relu()
            else:
                x = norm(conv(x, f"{name}.depthwise"), f"{name}.depthwise_bn").relu()
                x = norm(conv(x, f"{name}.pointwise"), f"{name}.pointwise_bn").relu()
        return x

    classes, boxes = tower("class"), tower("box")
    return {
        f"logits_{level}": conv(classes, "logits"),
        f"ltrb_{level}": conv(boxes, "ltrb") * state[f"scales.{level}.factor"],
        f"centerness_{level}": conv(classes if config.centerness_on == "class" else boxes, "centerness"),
    }


@pytest.mark.parametrize("convs", ["separable", "plain"])
@pytest.mark.parametrize("head_norm", ["batch", "group", "none"])
@pytest.mark.parametrize("centerness_on", ["box", "class"])
def test_head__equals_what_is_written_out(convs: Any, head_norm: Any, centerness_on: Any) -> None:
    torch.manual_seed(0)
    config = NetworkConfig(
        3, fpn_channels=32, tower_depth=2, convs=convs, head_norm=head_norm, centerness_on=centerness_on,
        strides=(8, 16, 32),
    )  # fmt: skip
    head = FcosHead(config).eval()
    with torch.no_grad():
        for name, value in head.state_dict().items():  # nothing is 0 or 1, and no two levels are alike
            if value.is_floating_point():
                value.uniform_(0.5, 1.5) if "running_var" in name else value.normal_(std=0.3)
        features = [torch.randn(2, 32, height, 5) for height in (6, 3, 1)]
        found = head(features)
        wanted: dict[str, Tensor] = {}
        for level, feature in zip(config.level_names, features, strict=True):
            wanted |= written_out(head.state_dict(), config, feature, level)
    assert list(found) == list(wanted)
    for name, value in wanted.items():
        torch.testing.assert_close(found[name], value, msg=name)


@pytest.mark.parametrize("convs", ["separable", "plain"])
@pytest.mark.parametrize("head_norm", ["batch", "group", "none"])
@pytest.mark.parametrize("quality_from", ["branch", "distances"])
def test_head__every_weight_learns(convs: Any, head_norm: Any, quality_from: Any) -> None:
    # A weight without a gradient stops training in several processes.
    config = NetworkConfig(
        3, fpn_channels=64, tower_depth=2, convs=convs, head_norm=head_norm, quality_from=quality_from
    )
    head = FcosHead(config)
    maps = head([torch.rand(2, 64, side, side) for side in (16, 8, 4, 2, 2)])
    torch.stack([value.square().mean() for value in maps.values()]).sum().backward()  # type: ignore[no-untyped-call]
    assert not [name for name, p in head.named_parameters() if p.grad is None]


def test_head__towers_start_as_the_papers() -> None:
    torch.manual_seed(0)
    head = FcosHead(NetworkConfig(80, fpn_channels=128, tower_depth=2, convs="plain", head_norm="group"))
    for name, value in head.named_parameters():
        if name.endswith("weight") and value.ndim == 4:
            # N(0, 0.01): of the fewest, 1,152 values, the deviation itself deviates by 2 %.
            assert value.std().item() == pytest.approx(0.01, rel=0.1), name
            assert abs(value.mean().item()) < 0.002, name
        elif name.endswith(".conv.bias") or name == "centerness.bias":
            assert value.abs().max().item() == 0, name
    assert {p.item() for name, p in head.named_parameters() if name.startswith("scales")} == {1.0}
