"""The model spec: every convention of one detector, as data.

FCOS implementations differ in where a location lies, how a distance is activated, what is thresholded
and how a picture is resized, and each difference shifts boxes or scores silently. A `ModelSpec` says
which convention holds. It is the same for all artifacts of a model, travels inside each of them as
JSON, and is the only place that pre- and post-processing read conventions from.

level     one feature map, named after its stride: stride 8 is `p3`, 16 is `p4`, ...
location  the point of the input picture that one cell of a level stands for
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from itertools import pairwise
from typing import Any, Literal, cast

from fcos_edge.errors import SpecError

SPEC_VERSION = (1, 0)
INPUT_MULTIPLE = 32
BRANCHES = ("logits", "ltrb", "centerness")

Resize = Literal["letterbox", "stretch"]
PadPosition = Literal["bottom-right", "centre"]
Interpolation = Literal["linear", "area", "cubic", "nearest"]
Distance = Literal["exp", "relu"]
DistanceUnit = Literal["stride", "pixel"]
Score = Literal["sqrt", "product", "class"]
ThresholdOn = Literal["class", "score"]


@dataclass(frozen=True)
class ModelSpec:
    """Conventions of one detector.

    name                    model name, also the bundle folder's name
    classes                 class names; label i is `classes[i]`, background is not counted
    input_hw                network input, pixels, height then width, multiples of 32
    mean, std               per RGB channel: network input = (pixel - mean) / std, pixels 0..255
    resize                  "letterbox" keeps the aspect ratio and pads, "stretch" does not
    pad_color_rgb           colour of the padding, 0..255
    pad_position            where the picture lies: top left ("bottom-right" padding) or in the centre
    interpolation           OpenCV's interpolation of the resize
    strides                 one per level, powers of two, ascending
    location_offset         a location lies at floor(location_offset * stride) + index * stride
    distance                activation of the four distances, "exp" or "relu"
    distance_unit           unit of the activated distances: input "pixel", or "stride" of the level
    score                   "sqrt": sqrt(class * centerness), "product": class * centerness, "class"
    threshold_on            what `candidate_threshold` is compared with: "class" probability or "score"
    candidate_threshold     detections below it do not exist; what AP is computed with
    nms_iou                 a box is dropped where it overlaps a better one by more than this IoU
    nms_per_class           only boxes of the same class suppress each other
    pre_nms_topk_per_level  most candidates kept per level before NMS
    max_detections          most detections of one picture
    provenance              free-form JSON: checkpoint sha256, training metrics, data
    """

    name: str
    classes: tuple[str, ...]
    input_hw: tuple[int, int]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    resize: Resize = "letterbox"
    pad_color_rgb: tuple[int, int, int] = (114, 114, 114)
    pad_position: PadPosition = "bottom-right"
    interpolation: Interpolation = "linear"
    strides: tuple[int, ...] = (8, 16, 32, 64, 128)
    location_offset: float = 0.5
    distance: Distance = "relu"
    distance_unit: DistanceUnit = "stride"
    score: Score = "sqrt"
    threshold_on: ThresholdOn = "class"
    candidate_threshold: float = 0.05
    nms_iou: float = 0.6
    nms_per_class: bool = True
    pre_nms_topk_per_level: int = 1000
    max_detections: int = 100
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, (is_valid, wanted) in _RULES.items():
            value = getattr(self, name)
            if not is_valid(value):
                raise SpecError(f"spec: {name} is {shown(value)}, expected {wanted}")
        if len(set(self.classes)) != len(self.classes):
            raise SpecError("spec: classes holds the same name twice; class names must be unique")

    @property
    def level_names(self) -> tuple[str, ...]:
        """`p3`, `p4`, ...: the base-2 logarithm of each stride."""
        return tuple(f"p{stride.bit_length() - 1}" for stride in self.strides)

    @property
    def level_hw(self) -> tuple[tuple[int, int], ...]:
        """(height, width) of each level: ceil(input side / stride)."""
        height, width = self.input_hw
        return tuple((-(-height // stride), -(-width // stride)) for stride in self.strides)

    @property
    def num_locations(self) -> int:
        """Locations of all levels together, L of `RawOutputs`."""
        return sum(height * width for height, width in self.level_hw)

    @property
    def output_names(self) -> tuple[str, ...]:
        """The fifteen (for five levels) output names, level by level: `logits_p3`, `ltrb_p3`, ..."""
        return tuple(f"{branch}_{level}" for level in self.level_names for branch in BRANCHES)

    def to_dict(self) -> dict[str, Any]:
        """The spec as JSON values; `from_dict` reads it back."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return {"version": "{}.{}".format(*SPEC_VERSION), **json.loads(json.dumps(values))}

    @classmethod
    def from_dict(cls, document: object) -> ModelSpec:
        """Read what `to_dict` wrote.

        Raises SpecError for anything else: a newer major version, an unknown key (it would be a
        convention that this code does not follow), a missing key, a value of the wrong type.
        """
        if not isinstance(document, dict):
            raise SpecError(f"spec: found {shown(document)}, expected a JSON object")
        values = dict(document)
        check_version("spec", values.pop("version", None), SPEC_VERSION)
        known = {f.name for f in fields(cls)}
        check_keys("spec", values, known)
        return cls(**{name: _frozen(name, value) for name, value in values.items()})


def check_version(what: str, found: object, supported: tuple[int, int]) -> None:
    """Raise SpecError unless `found` ("major.minor") has a major version that we know."""
    parts = found.split(".") if isinstance(found, str) else []
    if len(parts) != 2 or not all(part.isascii() and part.isdigit() and len(part) < 6 for part in parts):
        raise SpecError(f'{what}: version is {shown(found)}, expected "major.minor"')
    if int(parts[0]) != supported[0]:
        raise SpecError(
            f"{what}: version {found} is not {supported[0]}.x; install the fcos-edge release that wrote it"
        )


def check_keys(what: str, found: Mapping[str, Any], known: set[str]) -> None:
    """Raise SpecError unless `found` has exactly the keys of `known`."""
    if unknown := sorted(set(map(str, found)) - known):
        raise SpecError(
            f"{what}: unknown key {shown(unknown[0])}; install the fcos-edge release that wrote it"
        )
    if missing := sorted(known - set(found)):
        raise SpecError(f"{what}: key {missing[0]!r} is missing; export the model again")


def _frozen(name: str, value: object) -> Any:
    """JSON lists become the tuples of the dataclass; provenance stays as it is."""
    return tuple(value) if isinstance(value, list) and name != "provenance" else value


def shown(value: object) -> str:
    """`value` as a message may hold it: on one line, and no longer than a name is."""
    try:
        text = repr(value)
    except (RecursionError, ValueError):  # nested too deep, or an integer of more than 4300 digits
        text = f"a {type(value).__name__} that is too large to print"
    return text if len(text) <= 60 else text[:57] + "..."


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def is_number(value: object) -> bool:
    """Whether `value` is a finite int or float; a bool is none."""
    try:
        return (_is_int(value) or isinstance(value, float)) and math.isfinite(cast(float, value))
    except OverflowError:  # JSON has integers that no float holds
        return False


def _is_text(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value) <= 200 and value.isprintable()


def _is_file_name(value: object) -> bool:
    return _is_text(value) and not set(cast(str, value)) & set('/\\:*?"<>|') and cast(str, value)[0] != "."


def _tuple_of(test: Callable[[Any], bool], length: int | None = None) -> Callable[[Any], bool]:
    def is_valid(value: object) -> bool:
        if not isinstance(value, tuple) or not value:
            return False
        return (length is None or len(value) == length) and all(map(test, value))

    return is_valid


def _one_of(*names: str) -> tuple[Callable[[Any], bool], str]:
    return lambda value: isinstance(value, str) and value in names, " or ".join(names)


def _is_side(value: object) -> bool:
    return _is_int(value) and 0 < cast(int, value) <= 1 << 14 and cast(int, value) % INPUT_MULTIPLE == 0


def _is_strides(value: object) -> bool:
    if not _tuple_of(lambda s: _is_int(s) and 0 < s <= 1024 and s & (s - 1) == 0)(value):
        return False
    strides = cast(tuple[int, ...], value)
    return all(low < high for low, high in pairwise(strides))


def _is_fraction(value: object) -> bool:
    return is_number(value) and 0 <= cast(float, value) <= 1


def _is_probability(value: object) -> bool:
    return is_number(value) and 0 < cast(float, value) < 1


def _is_count(value: object) -> bool:
    return _is_int(value) and 0 < cast(int, value) <= 1 << 20


def is_json_object(value: object) -> bool:
    """Whether `value` can be written as JSON and read again: no NaN, at most 64 levels deep."""
    try:
        return isinstance(value, dict) and _is_flat(value, 64) and bool(json.dumps(value, allow_nan=False))
    except (TypeError, ValueError, RecursionError):
        return False


def _is_flat(value: object, levels: int) -> bool:
    """Whether `value` nests at most so deep; deeper JSON can be read, but not always written again."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    containers = [one for one in inner if isinstance(one, dict | list | tuple)]
    return levels >= 0 and all(_is_flat(one, levels - 1) for one in containers)


_RULES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "name": (_is_file_name, "a name without path separators"),
    "classes": (_tuple_of(_is_text), "one or more names"),
    "input_hw": (_tuple_of(_is_side, 2), f"two multiples of {INPUT_MULTIPLE} up to 16384"),
    "mean": (_tuple_of(is_number, 3), "three numbers"),
    "std": (_tuple_of(lambda v: is_number(v) and v > 0, 3), "three positive numbers"),
    "resize": _one_of("letterbox", "stretch"),
    "pad_color_rgb": (_tuple_of(lambda v: _is_int(v) and 0 <= v <= 255, 3), "three integers 0..255"),
    "pad_position": _one_of("bottom-right", "centre"),
    "interpolation": _one_of("linear", "area", "cubic", "nearest"),
    "strides": (_is_strides, "ascending powers of two up to 1024"),
    "location_offset": (_is_fraction, "a number from 0 to 1"),
    "distance": _one_of("exp", "relu"),
    "distance_unit": _one_of("stride", "pixel"),
    "score": _one_of("sqrt", "product", "class"),
    "threshold_on": _one_of("class", "score"),
    "candidate_threshold": (_is_probability, "a number between 0 and 1"),
    "nms_iou": (_is_fraction, "a number from 0 to 1"),
    "nms_per_class": (lambda value: isinstance(value, bool), "true or false"),
    "pre_nms_topk_per_level": (_is_count, "a positive integer"),
    "max_detections": (_is_count, "a positive integer"),
    "provenance": (is_json_object, "a JSON object, at most 64 levels deep"),
}
