"""Training presets by name: the paper's recipes on ResNets, and edge shapes on EfficientNet-Lite.

Only `street8-lite0-320` was trained with the figures that its checkpoint states. Where a preset was never
trained here, which its comment says, no accuracy is claimed for it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import reduce

from fcos_edge.errors import UsageError
from fcos_edge.train.backbones import efficientnet_lite, find_backbone, resnet
from fcos_edge.train.config import (
    FLIP_ONLY,
    IMPROVED_LOSS,
    PAPER_LOSS,
    AssignConfig,
    AugmentConfig,
    NetworkConfig,
    OptimizerConfig,
    TrainConfig,
)

# Edge shapes: ranges that grow with the input. At 320 pixels with the paper's own numbers, which are for a
# short side of 800, almost every box falls to the two finest levels.
_SHARES = (0.0, 0.1, 0.2, 0.4, 0.8)


def lite_ranges(input_hw: tuple[int, int], levels: int = 5) -> tuple[tuple[float, float], ...]:
    """Ranges of P3.. for an input whose long side, at 320 pixels, takes half of the paper's numbers."""
    ends = [share * max(input_hw) for share in _SHARES[:levels]]
    return tuple(zip(ends, [*ends[1:], float("inf")], strict=True))


def lite(size: int, input_hw: tuple[int, int]) -> TrainConfig:
    """EfficientNet-Lite0, 1 or 2. Lite2's neck is wider, as its maps are."""
    network = NetworkConfig(
        num_classes=8, backbone=f"efficientnet_lite{size}", fpn_channels=128 if size == 2 else 96,
        mean=efficientnet_lite.MEAN, std=efficientnet_lite.STD,
    )  # fmt: skip
    return TrainConfig(
        network, input_hw=input_hw, assign=AssignConfig(ranges=lite_ranges(input_hw)),
        # Measured on 185 pictures of blood cells, far from ImageNet: AP50 0.83 after ten epochs, where
        # half the rate and the normalization of ImageNet gave 0.61.
        optimizer=OptimizerConfig(learning_rate=2e-3, warmup_steps=100), frozen_norm=False,
    )  # fmt: skip


# Height first here; names have the width first, as cameras do.
LITE_INPUTS = {
    "256": (256, 256),
    "320": (320, 320),
    "320x192": (192, 320),
    "416": (416, 416),
    "512": (512, 512),
}
# Of these only lite0 at 320 was trained here (below).
LITES = {
    f"lite{size}-{name}": lite(size, input_hw) for size in range(3) for name, input_hw in LITE_INPUTS.items()
}
LITE0_320 = LITES["lite0-320"]

# The embedded default: 18 passes are what two CPU cores do in about 100 minutes.
STREET8_LITE0_320 = replace(
    # Its statistics were ImageNet's, too, but the affine parts of its normalization moved.
    LITE0_320, epochs=18, small_epochs=13, batch_size=8, frozen_norm=True,
    optimizer=OptimizerConfig(
        learning_rate=8e-4, reference_batch=8, backbone_factor=0.4,
        warmup_steps=300, warmup_factor=1 / 300, ema_decay=0.999,
    ),
)  # fmt: skip
SMOKE = replace(LITE0_320, epochs=1, max_images=8, batch_size=4, input_hw=(128, 128))

# For the 118,000 pictures of COCO's train2017 on a GPU: enough of them to train every layer and its
# statistics, and long enough for mosaic. Never trained here.
COCO80_LITE0 = replace(
    LITE0_320, network=replace(LITE0_320.network, num_classes=80),
    sizes_hw=tuple((side, side) for side in range(256, 385, 32)),
    augment=AugmentConfig(mosaic=0.5, plain_epochs=15),
    optimizer=OptimizerConfig(
        learning_rate=2e-3, reference_batch=128, weight_decay=0.05, backbone_factor=1.0,
        warmup_steps=1000, warmup_factor=1e-3, ema_decay=0.9998,
    ),
    epochs=300, batch_size=128, freeze_stages=0, frozen_norm=False, precision="bf16",
)  # fmt: skip

# The paper's ResNet-50 (arXiv 1904.01355, section 4). None of what follows was trained here: it takes COCO,
# torchvision's ImageNet weights (--weights) and a GPU.
R50 = TrainConfig(
    NetworkConfig(
        num_classes=80, backbone="resnet50", fpn_channels=256, tower_depth=4, convs="plain",
        head_norm="group", centerness_on="class", distance="exp", distance_unit="pixel",
        mean=resnet.MEAN, std=resnet.STD,
    ),
    # A letterbox has one shape, so an upright picture is smaller in it than the paper's 800/1333.
    input_hw=(800, 1344), short_sides=(800,), max_long_side=1333,
    augment=FLIP_ONLY, crowd="drop", assign=AssignConfig(center_radius=0.0), loss=PAPER_LOSS,
    optimizer=OptimizerConfig(
        name="sgd", learning_rate=0.01, reference_batch=16, momentum=0.9, weight_decay=1e-4,
        # The paper states one weight decay and excepts nothing.
        decay_vectors=True, backbone_factor=1.0, schedule="steps", milestones=(2 / 3, 8 / 9),
        warmup_steps=500, warmup_factor=1 / 3, clip_norm=0.0, ema_decay=0.0,
    ),
    iterations=90_000, batch_size=16, freeze_stages=2, frozen_norm=True,
)  # fmt: skip


def twice_as_long(config: TrainConfig) -> TrainConfig:
    """The paper's 2x schedule: 180,000 iterations, the short side by lot from 640 to 800.

    The milestones, being shares, fall at 120,000 and 160,000.
    """
    return replace(config, iterations=180_000, short_sides=tuple(range(640, 801)))


def with_backbone(config: TrainConfig, name: str) -> TrainConfig:
    """On another backbone, and its mean and deviation of the pixels."""
    entry = find_backbone(name)
    return replace(config, network=replace(config.network, backbone=name, mean=entry.mean, std=entry.std))


# The paper's comparison with RetinaNet on equal terms. It names no limit for the gradients: 35 is ours.
R50_NO_GN = replace(
    R50, network=replace(R50.network, head_norm="none", extra_levels_from="c5"),
    optimizer=replace(R50.optimizer, clip_norm=35.0), nms_iou=0.5,
)  # fmt: skip


def centerness_on_box(config: TrainConfig) -> TrainConfig:
    return replace(config, network=replace(config.network, centerness_on="box"))


def center_sampling(config: TrainConfig) -> TrainConfig:
    return replace(config, assign=replace(config.assign, center_radius=1.5))


def giou(config: TrainConfig) -> TrainConfig:
    """The improved box term: GIoU, weighted by the center-ness target."""
    loss = replace(config.loss, boxes=IMPROVED_LOSS.boxes, weight_boxes=IMPROVED_LOSS.weight_boxes)
    return replace(config, loss=loss)


def normalized_targets(config: TrainConfig) -> TrainConfig:
    """Distances in strides, with ReLU instead of exp."""
    return replace(config, network=replace(config.network, distance="relu", distance_unit="stride"))


# What came after the paper. Each adds to any other; all four are "improved".
IMPROVEMENTS: dict[str, Callable[[TrainConfig], TrainConfig]] = {
    "centerness-on-box": centerness_on_box,
    "center-sampling": center_sampling,
    "giou": giou,
    "normalized-targets": normalized_targets,
}


def improved(config: TrainConfig) -> TrainConfig:
    """With all of `IMPROVEMENTS`."""
    return reduce(lambda result, change: change(result), IMPROVEMENTS.values(), config)


PAPER = {
    "r50": R50,
    "r50-2x": twice_as_long(R50),
    "r50-no-gn": R50_NO_GN,
    "r50-improved": improved(R50),
    "r50-improved-2x": improved(twice_as_long(R50)),
    "r101-2x": twice_as_long(with_backbone(R50, "resnet101")),
    "r101-improved-2x": improved(twice_as_long(with_backbone(R50, "resnet101"))),
    "x101-2x": twice_as_long(with_backbone(R50, "resnext101_64x4d")),
    "x101-improved-2x": improved(twice_as_long(with_backbone(R50, "resnext101_64x4d"))),
}

PRESETS: dict[str, TrainConfig] = {
    **LITES, "street8-lite0-320": STREET8_LITE0_320, "coco80-lite0": COCO80_LITE0, **PAPER, "smoke": SMOKE,
}  # fmt: skip


def find_preset(name: str) -> TrainConfig:
    """The preset called `name`. Raises UsageError where there is none."""
    if name not in PRESETS:
        raise UsageError(f"preset {name!r} is not known; choose from {', '.join(PRESETS)}")
    return PRESETS[name]


STREET8 = ("person", "bicycle", "car", "motorcycle", "bus", "cat", "dog", "horse")
# Where nobody names the classes: those that both sets of the embedded default label fully.
PRESET_CLASSES = {"street8-lite0-320": STREET8}
