"""What a training run is: frozen values, saved as JSON with every result."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal

from fcos_edge.errors import CheckpointError
from fcos_edge.spec import is_number, shown


@dataclass(frozen=True)
class NetworkConfig:
    """Everything that the shape of the network depends on.

    mean, std  per RGB channel, of pixels 0..255; those that the backbone was trained with
    """

    num_classes: int
    backbone: str = "efficientnet_lite0"
    fpn_channels: int = 96
    tower_depth: int = 3
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


def _are_three_numbers(value: object) -> bool:
    return isinstance(value, tuple) and len(value) == 3 and all(map(is_number, value))


# Of a header that may be damaged: what is let through can be built, at least as shapes.
_NETWORK_RULES: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "num_classes": (lambda v: _is_whole(v, 1 << 16), "a whole number from 1"),
    "backbone": (lambda v: isinstance(v, str) and len(v) < 65, "a name"),
    "fpn_channels": (lambda v: _is_whole(v, 1 << 13), "a whole number from 1 to 8192"),
    "tower_depth": (lambda v: _is_whole(v, 64), "a whole number from 1 to 64"),
    "strides": (
        lambda v: v in [tuple(8 << i for i in range(levels)) for levels in range(3, 8)],
        "three to seven strides, 8, 16, 32, ...",
    ),
    "mean": (_are_three_numbers, "three numbers"),
    "std": (lambda v: _are_three_numbers(v) and min(v) > 0, "three positive numbers"),
}


@dataclass(frozen=True)
class AssignConfig:
    """Which locations learn which box.

    ranges         per level, the largest of l, t, r, b in input pixels must lie in it; both ends belong
    center_radius  in strides: only locations this near a box's centre are positive; 0: the whole box
    """

    ranges: tuple[tuple[float, float], ...] = (
        (0, 64), (64, 128), (128, 256), (256, 512), (512, float("inf")),
    )  # fmt: skip
    center_radius: float = 1.5


@dataclass(frozen=True)
class TrainConfig:
    """One training run.

    input_hw         pixels; random views of the pictures have this size
    small_hw         input size of the first `small_epochs` epochs: most is learned there, at less cost
    losses           "improved": GIoU weighted by center-ness; "paper": -ln IoU, unweighted
    learning_rate    at the reference batch of 16, of AdamW; cosine decay to 1 % after a linear warm-up
    backbone_factor  the backbone's learning rate, as a factor of the others'
    freeze_stages    backbone stages that do not train, the stem counts as one
    ema_decay        of the exponential moving average of the weights, which is what is released
    """

    network: NetworkConfig
    input_hw: tuple[int, int] = (320, 320)
    small_hw: tuple[int, int] = (256, 256)
    small_epochs: int = 0
    assign: AssignConfig = field(default_factory=AssignConfig)
    losses: Literal["improved", "paper"] = "improved"
    epochs: int = 30
    batch_size: int = 16
    learning_rate: float = 1e-3
    backbone_factor: float = 0.5
    weight_decay: float = 0.02
    warmup_steps: int = 200
    freeze_stages: int = 3
    ema_decay: float = 0.998
    clip_norm: float = 5.0
    seed: int = 0
    max_images: int = 0  # 0: all

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
