"""The calibration record: one set of integers that three formats serialize.

A record says how every tensor of a deploy graph is quantized. Real value = (q - zero_point) * scale:

activations  q in 0..255, one scale and zero point per node (int8 TFLite stores q - 128, zero_point - 128)
weights      q in -127..127, zero point 0, one scale per output channel (s_w)
biases       q int32, zero point 0, scale s_x * s_w, with s_x the scale of the convolution's input

Weights and biases follow from the record in one function, `conv_integers`; nothing else rounds them.

O, I     output and input channels
kh, kw   kernel height and width
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from fcos_edge.errors import CheckpointError, UsageError
from fcos_edge.quantize.graph import Activation, Add, Conv, Graph, Input, Selecting
from fcos_edge.quantize.recipe import Recipe, parse_recipe
from fcos_edge.runtime import FloatArray
from fcos_edge.spec import check_keys, check_version

Int8Array = npt.NDArray[np.int8]
Int32Array = npt.NDArray[np.int32]

RECORD_VERSION = (2, 0)
_KEYS_1_0 = {"points", "weight_scales", "float_nodes", "picture_sha256", "rounded_weights"}
PLAIN_RECIPE = Recipe()
WEIGHT_LIMIT = PLAIN_RECIPE.weight_limit
BIAS_LIMIT = 1 << 30  # half of int32: the other half is left to the products
# A channel this much weaker than its layer's strongest cannot move an 8-bit output: a finer scale for it
# only leads to denormal requantization factors.
WEAKEST_CHANNEL = 2.0**-24
_OBJECTS = (
    "points", "weight_scales", "rounded_weights", "bias_corrections", "channel_factors",
    "operating_thresholds",
)  # fmt: skip
MIDDLE = 128  # the zero point of symmetric activations: 0 as int8
SCALE_RANGE = (2.0**-64, 2.0**64)  # scales outside overflow float32 in the runtimes' products


@dataclass(frozen=True)
class Point:
    """How one tensor is quantized.

    scale       a float32 value, > 0
    zero_point  0..255
    """

    scale: float
    zero_point: int


@dataclass(frozen=True, eq=False)
class Record:
    """All decisions of a calibration.

    points           node name -> quantization of its output
    weight_scales    convolution name -> (O,) float32
    float_nodes      convolutions and additions computed in float; `float_values.py` says where their values
                     are quantized
    picture_sha256   of the decoded pictures it was calibrated on, sorted
    rounded_weights  convolution name -> (O, I / groups, kh, kw) int8, where the rounding was learned
    recipe           name of the recipe that it was made by (`quantize/recipe.py`)
    bias_corrections convolution name -> (O,) int32, added to the rounded bias
    channel_factors  convolution name -> (O,) float32: its output channels are multiplied, what reads them
                     divides again (`refinements/equalization.py`)
    operating_thresholds  format -> per class, of its int8 file; a format that is not there has those of the
                     float network
    """

    points: Mapping[str, Point]
    weight_scales: Mapping[str, FloatArray]
    float_nodes: tuple[str, ...] = ()
    picture_sha256: tuple[str, ...] = ()
    rounded_weights: Mapping[str, Int8Array] = field(default_factory=dict)
    recipe: str = PLAIN_RECIPE.name
    bias_corrections: Mapping[str, Int32Array] = field(default_factory=dict)
    channel_factors: Mapping[str, FloatArray] = field(default_factory=dict)
    operating_thresholds: Mapping[str, tuple[float, ...]] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """The record as JSON values; `from_dict` reads it back, float32 scales to the bit."""
        return {
            "version": "{}.{}".format(*RECORD_VERSION),
            "points": {name: [_short(p.scale), p.zero_point] for name, p in sorted(self.points.items())},
            "weight_scales": {name: list(map(_short, s)) for name, s in sorted(self.weight_scales.items())},
            "float_nodes": sorted(self.float_nodes),
            "picture_sha256": sorted(self.picture_sha256),
            "rounded_weights": {
                name: {"shape": list(w.shape), "int8": base64.b64encode(w.astype(np.int8).tobytes()).decode()}
                for name, w in sorted(self.rounded_weights.items())
            },
            "recipe": self.recipe,
            "bias_corrections": {name: c.tolist() for name, c in sorted(self.bias_corrections.items())},
            "channel_factors": {
                name: list(map(_short, f)) for name, f in sorted(self.channel_factors.items())
            },
            "operating_thresholds": {
                name: list(thresholds) for name, thresholds in sorted(self.operating_thresholds.items())
            },
        }

    @classmethod
    def from_dict(cls, document: object) -> Record:
        """Read what `to_dict` wrote. Raises CheckpointError or SpecError for anything else."""
        _require(isinstance(document, dict), "expected a JSON object")
        assert isinstance(document, dict)
        values = dict(document)
        version = values.pop("version", None)
        if version == "1.0":  # before there were recipes
            check_keys("calibration record", values, _KEYS_1_0)
            version, values = "2.0", {**cls({}, {}).to_dict(), **values}
            del values["version"]
        check_version("calibration record", version, RECORD_VERSION)
        check_keys("calibration record", values, {f.name for f in fields(cls)})
        for key in _OBJECTS:
            _require(isinstance(values[key], dict), f"{key} must be an object")
        for key in ("float_nodes", "picture_sha256"):
            is_list = isinstance(values[key], list) and all(isinstance(v, str) for v in values[key])
            _require(is_list, f"{key} must be a list of text")
        is_hash = all(re.fullmatch("[0-9a-f]{64}", digest) for digest in values["picture_sha256"])
        _require(is_hash, "picture_sha256 must hold SHA-256 digests")
        return cls(
            points={name: _read_point(name, v) for name, v in values["points"].items()},
            weight_scales={name: _read_scales(name, v) for name, v in values["weight_scales"].items()},
            float_nodes=tuple(values["float_nodes"]),
            picture_sha256=tuple(values["picture_sha256"]),
            rounded_weights={name: _read_int8(name, v) for name, v in values["rounded_weights"].items()},
            recipe=_read_recipe(values["recipe"]),
            bias_corrections={name: _read_int32(name, v) for name, v in values["bias_corrections"].items()},
            channel_factors={name: _read_scales(name, v) for name, v in values["channel_factors"].items()},
            operating_thresholds={
                name: _read_thresholds(v) for name, v in values["operating_thresholds"].items()
            },
        )

    @property
    def sha256(self) -> str:
        """SHA-256 of the record's canonical JSON, hexadecimal."""
        text = json.dumps(self.to_dict(), sort_keys=True, separators=(",", ":"), allow_nan=False)
        return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True, eq=False)
class ConvIntegers:
    """One convolution as every format stores it.

    weight        (O, I / groups, kh, kw) int8, -127..127
    bias          (O,) int32
    weight_scale  (O,) float32, s_w
    bias_scale    (O,) float32, s_x * s_w rounded to float32
    """

    weight: Int8Array
    bias: Int32Array
    weight_scale: FloatArray
    bias_scale: FloatArray

    @property
    def has_one_scale(self) -> bool:
        """All channels share a scale: formats then store it once, as accelerators without the others ask."""
        return bool((self.weight_scale == self.weight_scale[0]).all())


def conv_integers(conv: Conv, record: Record) -> ConvIntegers:
    """Round the weights and biases of one convolution: half to even, in float64.

    Raises CheckpointError where the record does not fit the convolution.
    """
    scale = record.weight_scales.get(conv.name)
    _require(scale is not None and scale.shape == conv.bias.shape, f"no weight scales fit {conv.name}")
    _require(conv.inputs[0] in record.points, f"{conv.inputs[0]} has no scale")
    assert scale is not None
    bias_scale = np.float32(record.points[conv.inputs[0]].scale) * scale
    weight = record.rounded_weights.get(conv.name)
    if weight is None:
        rounded = np.rint(conv.weight.astype(np.float64) / scale.astype(np.float64)[:, None, None, None])
        limit = parse_recipe(record.recipe).weight_limit
        weight = np.clip(rounded, -limit, limit).astype(np.int8)
    _require(weight.shape == conv.weight.shape, f"the rounded weights of {conv.name} have another shape")
    bias = np.rint(conv.bias.astype(np.float64) / bias_scale.astype(np.float64))
    correction = record.bias_corrections.get(conv.name)
    if correction is not None:
        _require(correction.shape == bias.shape, f"the bias corrections of {conv.name} have another shape")
        bias = bias + correction
    worst = float(np.abs(bias).max(initial=0.0))
    # The scale is a rounded float32, so that the bias may exceed the limit by a few parts in 1e7.
    _require(worst <= BIAS_LIMIT * (1 + 1e-6), f"a bias of {conv.name} is {worst:.3g}, above {BIAS_LIMIT}")
    return ConvIntegers(weight, bias.astype(np.int32), scale, bias_scale)


def weight_scales(conv: Conv, input_scale: float, recipe: Recipe = PLAIN_RECIPE) -> FloatArray:
    """Scales per output channel, (O,) float32: the largest |weight| becomes 127, or 63 with 7 bits.

    A recipe that is not per channel gives all channels the largest of their scales. Never below
    `weight_scale_floors`.
    """
    largest = np.abs(conv.weight.astype(np.float64)).reshape(len(conv.weight), -1).max(axis=1)
    scales: FloatArray = np.maximum(largest / recipe.weight_limit, weight_scale_floors(conv, input_scale))
    if not recipe.is_per_channel:
        scales = np.full_like(scales, scales.max())
    return scales.astype(np.float32)


def weight_scale_floors(conv: Conv, input_scale: float) -> npt.NDArray[np.float64]:
    """The finest scales per output channel, (O,): |bias| / (input_scale * 2^30) at least.

    A dead channel has tiny weights, and its bias would overflow int32.
    """
    largest = np.abs(conv.weight.astype(np.float64)).reshape(len(conv.weight), -1).max(axis=1)
    floor = np.abs(conv.bias.astype(np.float64)) / (input_scale * BIAS_LIMIT)
    strongest = float(largest.max()) or 1.0
    weakest = np.full_like(floor, strongest / WEIGHT_LIMIT * WEAKEST_CHANNEL)
    floors: npt.NDArray[np.float64] = np.maximum(floor, weakest)
    return floors


def is_picture(node: Input, point: Point) -> bool:
    """The picture's own integers are the quantized input: nothing has to be computed."""
    return node.uniform is not None and point == Point(*node.uniform)


def quantized_bounds(activation: Activation, point: Point) -> tuple[int, int]:
    """The smallest and largest q that the activation lets through, within 0..255."""
    if activation == "none":
        return 0, 255
    if activation == "relu":
        return point.zero_point, 255
    return point.zero_point, min(255, point.zero_point + round(6.0 / point.scale))


def check_record(graph: Graph, record: Record) -> None:
    """Raise CheckpointError unless the record fits the graph."""
    names = {node.name for node in graph.nodes}
    convs = {node.name for node in graph.nodes if isinstance(node, Conv)}
    for what, wanted, found in (("points", names, record.points), ("weights", convs, record.weight_scales)):
        odd = sorted(wanted ^ set(found))
        _require(not odd, f"its {what} do not fit the network: {odd[:1]} is in only one of them")
    can_be_float = {node.name for node in graph.nodes if isinstance(node, Conv | Add)}
    odd = sorted(set(record.float_nodes) - can_be_float)
    _require(not odd, f"{odd[:1]} kept in float is no convolution and no addition of the network")
    for node in graph.nodes:
        point = record.points[node.name]
        if isinstance(node, Conv):
            conv_integers(node, record)
        elif isinstance(node, Selecting):
            _require(point == record.points[node.inputs[0]], f"{node.name} is not quantized as its input is")
        elif isinstance(node, Input) and node.uniform and not parse_recipe(record.recipe).is_symmetric:
            _require(is_picture(node, point), f"{node.name} is not quantized as the picture is")
    if parse_recipe(record.recipe).is_symmetric:
        odd = sorted(name for name, point in record.points.items() if point.zero_point != MIDDLE)
        _require(not odd, f"{odd[:1]} is not symmetric, as its recipe says")


def _short(scale: float) -> float:
    """The shortest decimal that names this float32: 9 digits instead of 17, and no bit lost."""
    return float(str(np.float32(scale)))


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _read_recipe(value: object) -> str:
    _require(isinstance(value, str), "recipe must be text")
    try:
        return parse_recipe(str(value)).name
    except UsageError as error:
        raise CheckpointError(f"calibration record: {error}; install the release that wrote it") from None


def _read_thresholds(value: object) -> tuple[float, ...]:
    is_list = isinstance(value, list) and all(_is_number(t) and 0 <= t <= 1 for t in value)
    _require(is_list, "operating_thresholds must be lists of numbers in 0..1")
    assert isinstance(value, list)
    return tuple(map(float, value))


def _read_int32(name: str, value: object) -> Int32Array:
    is_list = isinstance(value, list) and all(isinstance(v, int) and not isinstance(v, bool) for v in value)
    _require(is_list, f"the bias corrections of {name} must be a list of integers")
    assert isinstance(value, list)
    _require(all(abs(v) <= BIAS_LIMIT for v in value), f"a bias correction of {name} exceeds {BIAS_LIMIT}")
    return np.array(value, np.int32)


def _read_scale(name: str, value: object) -> float:
    _require(_is_number(value), f"a scale of {name} is no number")
    assert isinstance(value, int | float)
    _require(SCALE_RANGE[0] <= value <= SCALE_RANGE[1], f"a scale of {name} is {value:.3g}")
    return float(np.float32(value))


def _read_point(name: str, value: object) -> Point:
    _require(isinstance(value, list) and len(value) == 2, f"the point {name} must be [scale, zero point]")
    assert isinstance(value, list)
    is_zero_point = isinstance(value[1], int) and not isinstance(value[1], bool) and 0 <= value[1] <= 255
    _require(is_zero_point, f"the zero point of {name} must be an integer in 0..255")
    return Point(_read_scale(name, value[0]), value[1])


def _read_scales(name: str, value: object) -> FloatArray:
    _require(isinstance(value, list) and len(value) > 0, f"the weight scales of {name} must be a list")
    assert isinstance(value, list)
    return np.array([_read_scale(name, scale) for scale in value], np.float32)


def _read_int8(name: str, value: object) -> Int8Array:
    unreadable = f"the rounded weights of {name} cannot be read"
    _require(isinstance(value, dict) and set(value) == {"shape", "int8"}, unreadable)
    assert isinstance(value, dict)
    try:
        weights = np.frombuffer(base64.b64decode(value["int8"], validate=True), np.int8)
        weights = weights.reshape([int(side) for side in value["shape"]])
    except (TypeError, ValueError):  # binascii.Error is a ValueError
        raise CheckpointError(f"calibration record: {unreadable}; calibrate again with --data") from None
    _require(weights.ndim == 4 and weights.size > 0 and int(weights.min()) >= -WEIGHT_LIMIT, unreadable)
    return weights


def _require(condition: bool, found: str) -> None:
    if not condition:
        raise CheckpointError(f"calibration record: {found}; calibrate again with --data")
