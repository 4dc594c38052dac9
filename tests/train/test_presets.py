"""Presets: each builds and fits its input, the paper's numbers are the paper's, a switch changes its own."""

from __future__ import annotations

import itertools
import json
from dataclasses import asdict, replace
from functools import reduce
from typing import Any

import pytest
import torch

from fcos_edge.spec import ModelSpec
from fcos_edge.train.backbones import find_backbone
from fcos_edge.train.config import (
    IMPROVED_LOSS,
    AssignConfig,
    NetworkConfig,
    OptimizerConfig,
    TrainConfig,
)
from fcos_edge.train.model import Fcos
from fcos_edge.train.presets import (
    COCO80_LITE0,
    IMPROVEMENTS,
    PRESET_CLASSES,
    PRESETS,
    R50,
    R50_NO_GN,
    improved,
    lite_ranges,
    with_backbone,
)


def flat(config: TrainConfig) -> dict[str, Any]:
    """Every value by its path, `network.convs` and so on."""
    found: dict[str, Any] = {}
    for key, value in asdict(config).items():
        if isinstance(value, dict):
            found.update({f"{key}.{name}": inner for name, inner in value.items()})
        else:
            found[key] = value
    return found


def difference(a: TrainConfig, b: TrainConfig) -> dict[str, Any]:
    """What `b` has where it differs from `a`."""
    first, second = flat(a), flat(b)
    return {key: value for key, value in second.items() if first[key] != value}


@pytest.mark.parametrize("name", PRESETS)
def test_preset__builds_and_has_its_specs_maps(name: str) -> None:
    config = PRESETS[name]
    network = config.network
    classes = tuple(f"c{index}" for index in range(network.num_classes))
    spec = ModelSpec(
        name, classes, config.input_hw, network.mean, network.std, strides=network.strides,
        distance=network.distance, distance_unit=network.distance_unit, nms_iou=config.nms_iou,
    )  # fmt: skip
    with torch.device("meta"):
        maps = Fcos(network).eval()(torch.zeros(1, 3, *config.input_hw))
    assert tuple(maps) == spec.output_names
    for level, level_hw in zip(spec.level_names, spec.level_hw, strict=True):
        assert tuple(maps[f"logits_{level}"].shape) == (1, network.num_classes, *level_hw)


@pytest.mark.parametrize("name", PRESETS)
def test_preset__parts_fit_each_other(name: str) -> None:
    config = PRESETS[name]
    assert len(config.assign.ranges) == len(config.network.strides)
    lows, highs = zip(*config.assign.ranges, strict=True)
    assert (lows[0], highs[-1], lows[1:]) == (0, float("inf"), highs[:-1])  # no gap, no end
    entry = find_backbone(config.network.backbone)
    assert (config.network.mean, config.network.std) == (entry.mean, entry.std)
    for height, width in (config.input_hw, config.small_hw, *config.sizes_hw):
        assert height % 32 == 0
        assert width % 32 == 0
    assert NetworkConfig.from_dict(json.loads(json.dumps(config.network.to_dict()))) == config.network
    assert config.freeze_stages <= 8
    assert set(PRESET_CLASSES) <= set(PRESETS)


# Section 4 of arXiv 1904.01355, and section 3 for the network; RetinaNet's where it names none of its own.
PAPER = {
    "network.backbone": "resnet50",
    "network.fpn_channels": 256,
    "network.tower_depth": 4,
    "network.neck": "fpn",
    "network.convs": "plain",
    "network.head_norm": "group",
    "network.extra_levels_from": "p5",
    "network.centerness_on": "class",
    "network.quality_from": "branch",
    "network.distance": "exp",
    "network.distance_unit": "pixel",
    "network.strides": (8, 16, 32, 64, 128),
    "short_sides": (800,),
    "max_long_side": 1333,
    "augment.scale": (1.0, 1.0),
    "augment.keep_object": 0.0,
    "augment.flip": 0.5,
    "augment.mosaic": 0.0,
    "augment.paste": 0.0,
    "augment.contrast": 0.0,
    "augment.brightness": 0.0,
    "augment.saturation": 0.0,
    "balance": 0.0,
    "crowd": "drop",
    "assign.method": "fcos",
    "assign.ranges": ((0, 64), (64, 128), (128, 256), (256, 512), (512, float("inf"))),
    "assign.strict_ranges": False,
    "assign.center_radius": 0.0,
    "loss.classes": "focal",
    "loss.boxes": "iou",
    "loss.weight_boxes": False,
    "loss.quality": "centerness",
    "optimizer.name": "sgd",
    "optimizer.learning_rate": 0.01,
    "optimizer.reference_batch": 16,
    "optimizer.momentum": 0.9,
    "optimizer.weight_decay": 1e-4,
    "optimizer.decay_vectors": True,
    "optimizer.backbone_factor": 1.0,
    "optimizer.schedule": "steps",
    "optimizer.warmup_steps": 500,
    "optimizer.warmup_factor": 1 / 3,
    "optimizer.clip_norm": 0.0,
    "optimizer.ema_decay": 0.0,
    "iterations": 90_000,
    "batch_size": 16,
    "accumulate": 1,
    "freeze_stages": 2,
    "frozen_norm": True,
    "nms_iou": 0.6,
}


def test_r50__is_the_papers() -> None:
    found = flat(R50)
    assert {key: found[key] for key in PAPER} == PAPER
    assert [round(share * R50.iterations) for share in R50.optimizer.milestones] == [60_000, 80_000]


def test_r50__numbers_of_the_network() -> None:
    with torch.device("meta"):
        network = Fcos(R50.network)
    count = sum(p.numel() for p in network.parameters())
    # By hand. Backbone: torchvision's. Neck: laterals, three 3x3, P6, P7. Head: 2 x 4 of 3x3 + GroupNorm.
    neck = (512 + 1024 + 2048) * 256 + 3 * 256 + 5 * (9 * 256 * 256 + 256)
    head = 8 * (9 * 256 * 256 + 256 + 2 * 256) + (80 + 4 + 1) * (9 * 256 + 1) + 5
    assert count == 23_508_032 + neck + head


def test_r50_2x__changes_the_schedule() -> None:
    found = difference(R50, PRESETS["r50-2x"])
    assert set(found) == {"iterations", "short_sides"}
    assert (min(found["short_sides"]), max(found["short_sides"])) == (640, 800)
    assert [round(share * found["iterations"]) for share in R50.optimizer.milestones] == [
        120_000,
        160_000,
    ]


def test_r50_no_gn__changes() -> None:
    found = difference(R50, R50_NO_GN)
    assert found.pop("optimizer.clip_norm") > 0
    assert found == {"network.head_norm": "none", "network.extra_levels_from": "c5", "nms_iou": 0.5}


@pytest.mark.parametrize(
    ("name", "backbone"), [("r50", "resnet50"), ("r101", "resnet101"), ("x101", "resnext101_64x4d")]
)
def test_larger_backbones__change_nothing_else(name: str, backbone: str) -> None:
    found = PRESETS[f"{name}-2x"]
    assert found.network.backbone == backbone
    assert set(difference(PRESETS["r50-2x"], found)) <= {"network.backbone"}
    assert PRESETS[f"{name}-improved-2x"] == improved(found)


def test_with_backbone__takes_its_normalization_along() -> None:
    found = difference(R50, with_backbone(R50, "efficientnet_lite1"))
    assert found == {
        "network.backbone": "efficientnet_lite1", "network.mean": (127.0, 127.0, 127.0),
        "network.std": (128.0, 128.0, 128.0),
    }  # fmt: skip


# What each switch may change, and to what.
SWITCHES: dict[str, dict[str, Any]] = {
    "centerness-on-box": {"network.centerness_on": "box"},
    "center-sampling": {"assign.center_radius": 1.5},
    "giou": {"loss.boxes": "giou", "loss.weight_boxes": True},
    "normalized-targets": {"network.distance": "relu", "network.distance_unit": "stride"},
}


def test_improvements__are_the_four() -> None:
    assert set(IMPROVEMENTS) == set(SWITCHES)
    assert PRESETS["r50-improved"].loss == IMPROVED_LOSS


@pytest.mark.parametrize("count", range(5))
def test_improvements__add_up_in_any_order(count: int) -> None:
    for names in itertools.permutations(SWITCHES, count):
        config = reduce(lambda result, name: IMPROVEMENTS[name](result), names, R50)
        wanted: dict[str, Any] = {}
        for name in names:
            wanted |= SWITCHES[name]
        assert difference(R50, config) == wanted, names
        assert (config == PRESETS["r50-improved"]) == (count == 4)


@pytest.mark.parametrize(
    ("input_hw", "ends"),
    [
        ((320, 320), (32, 64, 128, 256)),  # half of the paper's
        ((192, 320), (32, 64, 128, 256)),  # a box may be as long as the long side
        ((256, 256), (25.6, 51.2, 102.4, 204.8)),
        ((512, 512), (51.2, 102.4, 204.8, 409.6)),
    ],
)
def test_lite_ranges__grow_with_the_input(input_hw: tuple[int, int], ends: tuple[float, ...]) -> None:
    ranges = lite_ranges(input_hw)
    assert [low for low, _ in ranges] == pytest.approx([0, *ends])
    assert [high for _, high in ranges] == pytest.approx([*ends, float("inf")])


@pytest.mark.parametrize("size", [0, 1, 2])
@pytest.mark.parametrize(
    ("name", "input_hw"),
    [
        ("256", (256, 256)), ("320", (320, 320)), ("320x192", (192, 320)), ("416", (416, 416)),
        ("512", (512, 512)),
    ],
)  # fmt: skip
def test_lite__sizes(size: int, name: str, input_hw: tuple[int, int]) -> None:
    config = PRESETS[f"lite{size}-{name}"]
    assert (config.network.backbone, config.input_hw) == (f"efficientnet_lite{size}", input_hw)
    assert (config.optimizer.schedule, config.optimizer.ema_decay > 0) == ("cosine", True)


def test_lite0_320__and_the_embedded_detectors_recipe() -> None:
    ranges = ((0.0, 32.0), (32.0, 64.0), (64.0, 128.0), (128.0, 256.0), (256.0, float("inf")))
    lite0 = TrainConfig(
        NetworkConfig(8), input_hw=(320, 320), assign=AssignConfig(ranges=ranges), frozen_norm=False,
        optimizer=OptimizerConfig(learning_rate=2e-3, warmup_steps=100),
    )  # fmt: skip
    assert PRESETS["lite0-320"] == lite0
    assert PRESETS["smoke"] == replace(lite0, epochs=1, max_images=8, batch_size=4, input_hw=(128, 128))
    optimizer = OptimizerConfig(
        learning_rate=8e-4, reference_batch=8, backbone_factor=0.4, warmup_steps=300, warmup_factor=1 / 300,
        ema_decay=0.999,
    )  # fmt: skip
    assert PRESETS["street8-lite0-320"] == replace(
        lite0, epochs=18, small_epochs=13, batch_size=8, optimizer=optimizer, frozen_norm=True
    )
    assert PRESET_CLASSES["street8-lite0-320"] == (
        "person", "bicycle", "car", "motorcycle", "bus", "cat", "dog", "horse",
    )  # fmt: skip


def test_coco80_lite0__is_for_a_gpu() -> None:
    assert COCO80_LITE0.network.num_classes == 80
    assert (COCO80_LITE0.precision, COCO80_LITE0.frozen_norm, COCO80_LITE0.freeze_stages) == (
        "bf16",
        False,
        0,
    )
    assert COCO80_LITE0.augment.mosaic > 0
    assert len(COCO80_LITE0.sizes_hw) > 1


def test_presets__names_are_file_names() -> None:
    for name in PRESETS:
        assert name.replace("-", "").isalnum(), name
