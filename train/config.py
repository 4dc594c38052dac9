"""What a training run is: frozen values, saved as JSON with every result."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal

from fcos_edge.errors import CheckpointError
from fcos_edge.spec import is_number, shown


@dataclass(frozen=True)
class NetworkConfig:
    """Everything that the shape of the network depends on, and what its distances mean.

    neck               "fpn", or "pan": with a second pass from the fine levels to the coarse ones
    convs              of neck and head, "separable": depthwise and pointwise, each with batch normalization;
                       "plain": 3x3, as in the paper
    head_norm          of the towers: "batch" (every level its own), "group" (32 groups) or "none"
    extra_levels_from  P6 is made from "p5" or "c5"
    centerness_on      the tower that the center-ness branch stands on: "box" or "class"
    quality_from       the center-ness map is the "branch"'s, or computed from the predicted "distances" (an
                       ablation of the paper: it has no place in an exported file)
    activation         of the backbone: its "own", or "relu" where that is ReLU6 (`quantize/refinements/
                       equalization.py` needs it); weights fit both
    distance           activation of the distances, "relu" or "exp"
    distance_unit      "stride" (normalized targets) or input "pixel"
    mean, std          per RGB channel, of pixels 0..255; those that the backbone was trained with
    """

    num_classes: int
    backbone: str = "efficientnet_lite0"
    fpn_channels: int = 96
    neck: Literal["fpn", "pan"] = "fpn"
    tower_depth: int = 3
    convs: Literal["separable", "plain"] = "separable"
    head_norm: Literal["batch", "group", "none"] = "batch"
    extra_levels_from: Literal["p5", "c5"] = "p5"
    centerness_on: Literal["box", "class"] = "box"
    quality_from: Literal["branch", "distances"] = "branch"
    activation: Literal["own", "relu"] = "own"
    distance: Literal["relu", "exp"] = "relu"
    distance_unit: Literal["stride", "pixel"] = "stride"
    strides: tuple[int, ...] = (8, 16, 32, 64, 128)
    mean: tuple[float, float, float] = (127.0, 127.0, 127.0)
    std: tuple[float, float, float] = (128.0, 128.0, 128.0)

    @property
    def level_names(self) -> tuple[str, ...]:
        """`p3`, `p4`, ... as `ModelSpec.level_names`."""
        return tuple(f"p{stride.bit_length() - 1}" for stride in self.strides)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, document: dict[str, Any]) -> NetworkConfig:
        """Read what `to_dict` wrote, also after JSON made lists of the tuples."""
        if unknown := set(document) - {f.name for f in fields(cls)}:
            raise CheckpointError(
                f"network config: unknown key {shown(sorted(unknown)[0])}; update fcos-edge"
            )
        values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in document.items()}
        if missing := {"num_classes"} - set(values):
            raise CheckpointError(f"network config: {missing.pop()} is missing; train or download it again")
        for name, value in values.items():
            is_valid, wanted = _NETWORK_RULES[name]
            if not is_valid(value):
                raise CheckpointError(f"network config: {name} is {shown(value)}, expected {wanted}")
        return cls(**values)


def _is_whole(value: object, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value <= most


def _one_of(*names: str) -> tuple[Callable[[Any], bool], str]:
    return lambda value: value in names, " or ".join(names)


def _are_three_numbers(value: object) -> bool:
    return isinstance(value, tuple) and len(value) == 3 and all(map(is_number, value))


# Of a header that may be damaged: what is let through can be built, at least as shapes.
_NETWORK_RULES: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "num_classes": (lambda v: _is_whole(v, 1 << 16), "a whole number from 1"),
    "backbone": (lambda v: isinstance(v, str) and len(v) < 65, "a name"),
    "fpn_channels": (lambda v: _is_whole(v, 1 << 13), "a whole number from 1 to 8192"),
    "tower_depth": (lambda v: _is_whole(v, 64), "a whole number from 1 to 64"),
    "neck": _one_of("fpn", "pan"),
    "convs": _one_of("separable", "plain"),
    "head_norm": _one_of("batch", "group", "none"),
    "extra_levels_from": _one_of("p5", "c5"),
    "centerness_on": _one_of("box", "class"),
    "quality_from": _one_of("branch", "distances"),
    "activation": _one_of("own", "relu"),
    "distance": _one_of("relu", "exp"),
    "distance_unit": _one_of("stride", "pixel"),
    "strides": (
        lambda v: v in [tuple(8 << i for i in range(levels)) for levels in range(3, 8)],
        "three to seven strides, 8, 16, 32, ...",
    ),
    "mean": (_are_three_numbers, "three numbers"),
    "std": (lambda v: _are_three_numbers(v) and min(v) > 0, "three positive numbers"),
}


@dataclass(frozen=True)
class AugmentConfig:
    """How far a random view of a picture may stray.

    scale         the picture's size, relative to the size that just fits the input
    keep_object   probability that an enlarged picture is cut so that the centre of a box, by lot, is in view
                  (as SSD's crops, arXiv 1512.02325 section 2.2, hold an object)
    flip          probability of mirroring left and right
    contrast      factor range is 1 - contrast .. 1 + contrast
    brightness    added, +-, in 0..255
    saturation    factor range is 1 - saturation .. 1 + saturation
    mosaic        probability that four pictures share the view
    paste         objects of other pictures that are pasted into a view where they hide little, on average
                  (after arXiv 2012.07177, as rectangles: `views/paste.py`)
    plain_epochs  last epochs without mosaic and pasted objects
    min_visible   a box of which less than this share of the area is left becomes an ignore region
    pad_color     around pictures, RGB, 0..255
    """

    scale: tuple[float, float] = (0.6, 1.7)
    keep_object: float = 0.0
    flip: float = 0.5
    contrast: float = 0.3
    brightness: float = 24.0
    saturation: float = 0.4
    mosaic: float = 0.0
    paste: float = 0.0
    plain_epochs: int = 0
    min_visible: float = 0.3
    pad_color: tuple[int, int, int] = (114, 114, 114)


FLIP_ONLY = AugmentConfig(scale=(1.0, 1.0), contrast=0.0, brightness=0.0, saturation=0.0)


@dataclass(frozen=True)
class AssignConfig:
    """Which locations learn which box.

    method         a file in train/assign/: "fcos", "atss", "simota" or "task_aligned"
    ranges         of "fcos", per level: the largest of l, t, r, b in input pixels must lie in it
    strict_ranges  a box at a range's very end belongs to neither level; else to both
    center_radius  of "fcos" and "simota", in strides: only locations this near a box's centre are positive;
                   0: the whole box
    top_k          candidates per box: of a level ("atss", 9), of all ("simota", 10; "task_aligned", 13)
    """

    method: str = "fcos"
    ranges: tuple[tuple[float, float], ...] = (
        (0, 64), (64, 128), (128, 256), (256, 512), (512, float("inf")),
    )  # fmt: skip
    strict_ranges: bool = False
    center_radius: float = 1.5
    top_k: int = 9


@dataclass(frozen=True)
class LossConfig:
    """What the three branches are told.

    classes       "focal", or "quality_focal": the class probability learns the box's quality
    boxes         "iou" is -ln IoU, "giou" is 1 - GIoU
    weight_boxes  the box term is weighted by the center-ness target, and divided by the sum of those
    quality       what the center-ness branch learns: "centerness", "iou" of the predicted box, or "none"
    """

    classes: Literal["focal", "quality_focal"] = "focal"
    boxes: Literal["iou", "giou"] = "giou"
    weight_boxes: bool = True
    quality: Literal["centerness", "iou", "none"] = "centerness"


PAPER_LOSS = LossConfig(boxes="iou", weight_boxes=False)
IMPROVED_LOSS = LossConfig()


@dataclass(frozen=True)
class DistillConfig:
    """How much each branch learns from a teacher (`train/distill.py`), where the run has one.

    Beside 1 for FCOS's own terms; 0: nothing.
    """

    classes: float = 1.0
    boxes: float = 1.0
    centerness: float = 1.0


@dataclass(frozen=True)
class OptimizerConfig:
    """How weights move.

    learning_rate    at `reference_batch` pictures a step; scales with the batch (arXiv 1706.02677)
    momentum         of SGD
    backbone_factor  the backbone's learning rate, as a factor of the others'
    decay_vectors    weight decay on biases and normalization too
    schedule         "cosine": down to 1 %; "steps": times 0.1 at each of `milestones`, shares of the run
    warmup_steps     linear, from `warmup_factor` of the learning rate
    clip_norm        largest norm of all gradients together; 0: no limit
    ema_decay        of the exponential moving average of the weights, which is what is released; 0: none
    """

    name: Literal["adamw", "sgd"] = "adamw"
    learning_rate: float = 1e-3
    reference_batch: int = 16
    momentum: float = 0.9
    weight_decay: float = 0.02
    decay_vectors: bool = False
    backbone_factor: float = 0.5
    schedule: Literal["cosine", "steps"] = "cosine"
    milestones: tuple[float, ...] = ()
    warmup_steps: int = 200
    warmup_factor: float = 0.005
    clip_norm: float = 5.0
    ema_decay: float = 0.998


@dataclass(frozen=True)
class TrainConfig:
    """One training run.

    input_hw         pixels; the network's input after training, and while it trains unless said otherwise
    sizes_hw         multi-scale: each batch is made at one of these, by lot; none: `input_hw`
    small_hw         input size of the first `small_epochs` epochs: most is learned there, at less cost
    short_sides      as the paper: pictures are scaled until the short side is one of these (by lot) and the
                     long side at most `max_long_side`, and padded to the batch's largest; none: `sizes_hw`
    augment          how far a random view of a picture strays
    balance          pictures with a class that less than this share of all pictures has come more than once
                     an epoch (arXiv 1908.03195, `train/balance.py`); 0: every picture comes once
    crowd            crowd boxes are ignore regions, or dropped as in the paper
    iterations       length in steps of `optimizer.reference_batch` pictures; 0: `epochs` decides
    batch_size       pictures of a step, of all processes together
    accumulate       forward and backward passes that a step is made of
    freeze_stages    backbone stages that do not train, the stem counts as one
    frozen_norm      the backbone keeps the statistics and affine parts of its batch normalization
    sync_norm        batch statistics of all processes together (on CUDA)
    precision        of the network while it trains: "fp32", or mixed with "bf16" or "fp16"
    compile          torch.compile
    nms_iou          of the detector's post-processing
    max_images       so many of the training pictures, evenly spread; 0: all
    """

    network: NetworkConfig
    input_hw: tuple[int, int] = (320, 320)
    sizes_hw: tuple[tuple[int, int], ...] = ()
    small_hw: tuple[int, int] = (256, 256)
    small_epochs: int = 0
    short_sides: tuple[int, ...] = ()
    max_long_side: int = 1333
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    balance: float = 0.0
    crowd: Literal["ignore", "drop"] = "ignore"
    assign: AssignConfig = field(default_factory=AssignConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    distill: DistillConfig = field(default_factory=DistillConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    epochs: int = 30
    iterations: int = 0
    batch_size: int = 16
    accumulate: int = 1
    freeze_stages: int = 3
    frozen_norm: bool = True
    sync_norm: bool = False
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    compile: bool = False
    nms_iou: float = 0.6
    seed: int = 0
    max_images: int = 0

    def steps(self, per_epoch: int) -> int:
        """Steps of the whole run, where a pass over the data takes `per_epoch`."""
        if self.iterations:
            return -(-self.iterations * self.optimizer.reference_batch // self.batch_size)
        return self.epochs * per_epoch

    def epoch_input_hw(self, epoch: int) -> tuple[int, int]:
        """Input size of an epoch, counted from 0."""
        return self.small_hw if epoch < self.small_epochs else self.input_hw

    def to_dict(self) -> dict[str, Any]:
        """JSON values (an infinite range end becomes the text "inf")."""
        document = asdict(self)
        document["assign"]["ranges"] = [
            [low, "inf" if high == float("inf") else high] for low, high in self.assign.ranges
        ]
        return document

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> TrainConfig:
        """Read what `to_dict` wrote. Raises KeyError, TypeError or ValueError for anything else."""
        ranges = tuple((float(low), float(high)) for low, high in document["assign"]["ranges"])
        parts = {
            "network": NetworkConfig.from_dict(document["network"]),
            "augment": AugmentConfig(**_with_tuples(document["augment"])),
            "assign": AssignConfig(**{**_with_tuples(document["assign"]), "ranges": ranges}),
            "loss": LossConfig(**document["loss"]),
            "distill": DistillConfig(**document.get("distill", {})),  # earlier runs have none
            "optimizer": OptimizerConfig(**_with_tuples(document["optimizer"])),
        }
        return cls(**{**_with_tuples(document), **parts})


@dataclass(frozen=True)
class CheckpointFile:
    """A whole detector that a run needs.

    checkpoint  its file
    sha256      of that file, hexadecimal
    """

    checkpoint: str
    sha256: str


@dataclass(frozen=True)
class QatConfig:
    """Quantization-aware training: what it begins with, and how.

    checkpoint  its file
    sha256      of that file, hexadecimal
    recipe      of the record that comes out (`quantize/recipe.py`)
    ranges      scales are "learned" as weights are, or stay as "observed" in calibration
    """

    checkpoint: str
    sha256: str
    recipe: str
    ranges: Literal["learned", "observed"] = "learned"


def _with_tuples(document: Mapping[str, Any]) -> dict[str, Any]:
    """JSON's lists as the tuples that they were."""

    def as_tuple(value: Any) -> Any:
        return tuple(map(as_tuple, value)) if isinstance(value, list) else value

    return {name: as_tuple(value) for name, value in document.items()}
