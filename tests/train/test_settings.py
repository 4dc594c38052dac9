"""Settings by name: what is taken, and one line for what is not."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from fcos_edge.errors import CheckpointError, UsageError
from fcos_edge.train.backbones import resnet
from fcos_edge.train.config import NetworkConfig, TrainConfig
from fcos_edge.train.settings import with_setting

CONFIG = TrainConfig(NetworkConfig(3))


@pytest.mark.parametrize(
    ("text", "path", "value"),
    [
        ("epochs=7", "epochs", 7),
        ("input_hw=[192,320]", "input_hw", (192, 320)),
        ("sizes_hw=[[64,64],[96,96]]", "sizes_hw", ((64, 64), (96, 96))),
        ("assign.method=atss", "assign.method", "atss"),
        ("assign.center_radius=0", "assign.center_radius", 0.0),
        ('assign.ranges=[[0,32],[32,"inf"]]', "assign.ranges", ((0.0, 32.0), (32.0, float("inf")))),
        ("loss.weight_boxes=false", "loss.weight_boxes", False),
        ("loss.boxes=iou", "loss.boxes", "iou"),
        ("optimizer.learning_rate=1e-4", "optimizer.learning_rate", 1e-4),
        ("augment.mosaic=1", "augment.mosaic", 1.0),
        ("augment.paste=1.5", "augment.paste", 1.5),
    ],
)
def test_with_setting(text: str, path: str, value: Any) -> None:
    changed: Any = with_setting(CONFIG, text)
    document, before = changed.to_dict(), CONFIG.to_dict()
    found = changed
    for name in path.split("."):
        found = getattr(found, name)
    assert found == value
    assert type(found) is type(value)
    # Nothing else has changed, and the config can be saved.
    *groups, last = path.split(".")
    inside, inside_before = document, before
    for group in groups:
        inside, inside_before = inside[group], inside_before[group]
    inside[last] = inside_before[last]
    assert document == before
    assert TrainConfig.from_dict(changed.to_dict()) == changed


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("epochs", "has no value; give name=value"),
        ("epoch=3", "is not known; epoch may be network, input_hw"),
        ("assign.radius=3", "is not known; radius may be method, ranges"),
        ("assign=3", "is a group; set one of assign.method, assign.ranges"),
        ("epochs.more=3", "is not known; epochs is no group of settings"),
        ("epochs=many", "is 'many', expected a whole number"),
        ("epochs=1.5", "is 1.5, expected a whole number"),
        ("epochs=true", "is True, expected a whole number"),
        ("loss.boxes=diou", "is 'diou', expected iou or giou"),
        ("loss.weight_boxes=1", "is 1, expected true or false"),
        ("input_hw=[320]", "expected a list, tuple[int, int]"),
        ("input_hw=320", "expected a list, tuple[int, int]"),
        ("augment.scale=[1,2,3]", "expected a list, tuple[float, float]"),
        ("optimizer.learning_rate=null", "is None, expected a number"),
        ("augment.paste=-1", "setting augment.paste is -1.0, expected a number from 0 to 100"),
        ("augment.keep_object=2", "augment.keep_object is 2.0, expected a number from 0 to 1"),
        ("balance=1.5", "setting balance is 1.5, expected a number from 0 to 1"),
        ("augment.paste=inf", "setting augment.paste is inf, expected a number from 0 to 100"),
    ],
)
def test_with_setting__what_cannot_be(text: str, line: str) -> None:
    with pytest.raises(UsageError) as error:
        with_setting(CONFIG, text)
    assert line in str(error.value)
    assert len(str(error.value).splitlines()) == 1


def test_with_setting__a_backbone_brings_its_own_mean_and_deviation() -> None:
    network = with_setting(CONFIG, "network.backbone=resnet50").network
    assert network == replace(CONFIG.network, backbone="resnet50", mean=resnet.MEAN, std=resnet.STD)


def test_with_setting__rules_of_the_network() -> None:
    with pytest.raises(CheckpointError, match="fpn_channels is 0, expected a whole number from 1 to 8192"):
        with_setting(CONFIG, "network.fpn_channels=0")
