"""What a data set is measured against: the network's levels, their ranges, and how a picture enters it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from fcos_edge.errors import UsageError
from fcos_edge.letterbox import Letterbox
from fcos_edge.spec import ModelSpec
from fcos_edge.train.analyze.boxes import PictureBoxes
from fcos_edge.train.analyze.positives import Level, Rule
from fcos_edge.train.analyze.views import View, letterbox_view, paper_view, short_side_view
from fcos_edge.train.config import AssignConfig, TrainConfig


@dataclass(frozen=True)
class Shape:
    """Conventions of one analysis.

    see   a picture's boxes as the network has them
    text  the same for people, on one line
    """

    rule: Rule
    see: Callable[[PictureBoxes], View]
    text: str


# Both ends of a range belong to it in the first implementation; no centre sampling.
PAPER_ASSIGN = AssignConfig(center_radius=0.0)
PAPER_STRIDES = (8, 16, 32, 64, 128)


def paper_shape() -> Shape:
    """What tables 1 and 2 of arXiv 1904.01355 were measured with."""
    return Shape(
        make_rule(PAPER_STRIDES, PAPER_ASSIGN), paper_view,
        "the paper's conventions: 800/1333, boxes that end in their last pixel, no centre sampling",
    )  # fmt: skip


def config_shape(config: TrainConfig, input_hw: tuple[int, int] | None = None) -> Shape:
    """A preset's network; `input_hw` takes the place of its own input, however that is made."""
    rule = make_rule(config.network.strides, config.assign)
    if config.short_sides and input_hw is None:
        short, longest = max(config.short_sides), config.max_long_side
        return Shape(
            rule, lambda picture: short_side_view(picture, short, longest), f"short side {short}/{longest}"
        )
    spec = ModelSpec(
        "shape", ("any",), input_hw or config.input_hw, config.network.mean, config.network.std,
        strides=config.network.strides,
    )  # fmt: skip
    return spec_shape(spec, config.assign)


def spec_shape(spec: ModelSpec, assign: AssignConfig) -> Shape:
    """A model that is there. Raises UsageError where the ranges are for other levels."""

    def see(picture: PictureBoxes) -> View:
        return letterbox_view(picture, Letterbox.from_spec(spec, picture.size_hw))

    if len(assign.ranges) != len(spec.strides):
        raise UsageError(
            f"the preset has ranges for {len(assign.ranges)} levels, the model has {len(spec.strides)};"
            " name the preset that it was trained with"
        )
    rule = replace(make_rule(spec.strides, assign), location_offset=spec.location_offset)
    height, width = spec.input_hw
    return Shape(rule, see, f"{spec.resize} to {height}x{width} (height x width)")


def make_rule(strides: tuple[int, ...], assign: AssignConfig) -> Rule:
    """The paper's rule with a preset's ranges and radius, whatever method the preset trains with."""
    levels = tuple(
        Level(f"p{stride.bit_length() - 1}", stride, float(low), float(high))
        for stride, (low, high) in zip(strides, assign.ranges, strict=True)
    )
    return Rule(levels, assign.strict_ranges, assign.center_radius)
