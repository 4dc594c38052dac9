"""The calibration record: JSON to the bit, strict reading, and the one function that rounds."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fcos_edge.errors import CheckpointError, FcosEdgeError
from fcos_edge.quantize.graph import Conv
from fcos_edge.quantize.record import (
    BIAS_LIMIT,
    Point,
    Record,
    conv_integers,
    quantized_bounds,
    weight_scales,
)

SCALES = st.floats(2.0**-60, 2.0**60, width=32)


def one_conv(weight: list[float], bias: list[float]) -> Conv:
    """A 1x1 convolution with one input channel."""
    weights = np.array(weight, np.float32).reshape(-1, 1, 1, 1)
    return Conv("conv", ("x",), weights, np.array(bias, np.float32), 1, (0, 0, 0, 0), 1, "none")


def record_of(conv: Conv, input_scale: float) -> Record:
    return Record(
        points={"x": Point(float(np.float32(input_scale)), 3), "conv": Point(0.5, 128)},
        weight_scales={"conv": weight_scales(conv, float(np.float32(input_scale)))},
        picture_sha256=("0" * 64,),
    )


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # machines may be busy
@given(SCALES, st.integers(0, 255), st.lists(SCALES, min_size=1, max_size=5))
def test_record__json_keeps_float32_scales_to_the_bit(
    scale: float, zero_point: int, scales: list[float]
) -> None:
    record = Record({"x": Point(scale, zero_point)}, {"conv": np.array(scales, np.float32)})
    back = Record.from_dict(json.loads(json.dumps(record.to_dict())))
    assert back.points == record.points
    np.testing.assert_array_equal(back.weight_scales["conv"], record.weight_scales["conv"])
    assert back.sha256 == record.sha256


def test_record__rounded_weights_survive_json() -> None:
    weights = np.arange(-12, 12, dtype=np.int8).reshape(2, 3, 2, 2)
    record = Record({}, {}, rounded_weights={"conv": weights})
    back = Record.from_dict(json.loads(json.dumps(record.to_dict())))
    np.testing.assert_array_equal(back.rounded_weights["conv"], weights)


def test_record__sha256_ignores_order_and_sees_one_bit() -> None:
    a, b = Point(0.5, 1), Point(0.25, 2)
    assert Record({"a": a, "b": b}, {}).sha256 == Record({"b": b, "a": a}, {}).sha256
    next_scale = float(np.nextafter(np.float32(0.5), np.float32(1)))
    assert Record({"a": a}, {}).sha256 != Record({"a": Point(next_scale, 1)}, {}).sha256


@pytest.mark.parametrize(
    "spoil",
    [
        lambda d: d.update(version="3.0"),  # a newer major version
        lambda d: d.update(version=None),
        lambda d: d.update(surprise=1),  # an unknown key
        lambda d: d.pop("points"),
        lambda d: d.update(points=[]),
        lambda d: d["points"].update(x=[0.0, 3]),  # a scale of zero
        lambda d: d["points"].update(x=[float("nan"), 3]),
        lambda d: d["points"].update(x=[1e300, 3]),
        lambda d: d["points"].update(x=[True, 3]),
        lambda d: d["points"].update(x=[0.5, 256]),  # no uint8
        lambda d: d["points"].update(x=[0.5, 1.0]),
        lambda d: d["points"].update(x=[0.5]),
        lambda d: d["weight_scales"].update(conv=[]),
        lambda d: d["weight_scales"].update(conv=["1"]),
        lambda d: d.update(float_nodes="conv"),
        lambda d: d.update(picture_sha256=["abc"]),
        lambda d: d["rounded_weights"].update(conv={"shape": [1], "int8": "AA=="}),  # not four dimensions
        lambda d: d["rounded_weights"].update(conv={"shape": [1, 1, 1, 1], "int8": "gA=="}),  # -128
        lambda d: d["rounded_weights"].update(conv={"shape": [1, 1, 1, 2], "int8": "AA=="}),
        lambda d: d["rounded_weights"].update(conv={"shape": [1, 1, 1, 1], "int8": "?"}),
        lambda d: d["rounded_weights"].update(conv=3),
        lambda d: d.update(recipe="w4c_a8t_mse"),
        lambda d: d["bias_corrections"].update(conv=[0.5]),
        lambda d: d["bias_corrections"].update(conv=[1 << 31]),
        lambda d: d["channel_factors"].update(conv=[0.0]),
        lambda d: d.update(operating_thresholds={"onnx": [1.5]}),
    ],
)
def test_record__malformed_json_is_one_line(spoil: Callable[[dict[str, Any]], Any]) -> None:
    document = record_of(one_conv([1.0], [0.0]), 0.1).to_dict()
    spoil(document)
    with pytest.raises(FcosEdgeError) as caught:
        Record.from_dict(document)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("document", [None, [], "record", 1])
def test_record__no_object_is_refused(document: object) -> None:
    with pytest.raises(CheckpointError, match="expected a JSON object"):
        Record.from_dict(document)


def test_conv_integers__rounds_half_to_even() -> None:
    # The largest weight makes the scale exactly 1, so that halves stay halves.
    conv = one_conv([127.0, 0.5, 1.5, -2.5], [0.0, 0.25, 0.75, -1.25])
    record = Record({"x": Point(0.5, 0)}, {"conv": np.ones(4, np.float32)})
    integers = conv_integers(conv, record)
    assert integers.weight.ravel().tolist() == [127, 0, 2, -2]
    assert integers.bias.tolist() == [0, 0, 2, -2]
    assert [integers.weight.dtype.name, integers.bias.dtype.name] == ["int8", "int32"]
    np.testing.assert_array_equal(integers.bias_scale, np.full(4, 0.5, np.float32))


@pytest.mark.parametrize("weight", [0.0, 1e-30, 1e-12])
@pytest.mark.parametrize("bias", [0.0, 1e-3, -5.0, 1e6])
def test_conv_integers__dead_channel_with_a_bias_fits_int32(weight: float, bias: float) -> None:
    conv = one_conv([1.0, weight], [0.0, bias])
    integers = conv_integers(conv, record_of(conv, 0.02))
    assert abs(int(integers.bias[1])) <= BIAS_LIMIT * (1 + 1e-6)
    assert integers.bias[1] * float(integers.bias_scale[1]) == pytest.approx(bias, abs=1e-6, rel=1e-6)


def test_conv_integers__a_scale_below_the_floor_is_refused() -> None:
    conv = one_conv([1e-20], [5.0])
    record = Record({"x": Point(0.02, 0)}, {"conv": np.array([1e-22], np.float32)})
    with pytest.raises(CheckpointError, match="bias of conv"):
        conv_integers(conv, record)


def test_conv_integers__learned_rounding_is_taken_as_it_is() -> None:
    conv = one_conv([1.0], [0.0])
    rounded = np.full((1, 1, 1, 1), 126, np.int8)
    record = record_of(conv, 0.1)
    record = Record(record.points, record.weight_scales, rounded_weights={"conv": rounded})
    assert conv_integers(conv, record).weight.item() == 126


@pytest.mark.parametrize(
    ("activation", "point", "bounds"),
    [
        ("none", Point(0.1, 7), (0, 255)),
        ("relu", Point(0.1, 7), (7, 255)),
        ("relu6", Point(0.1, 7), (7, 67)),
        ("relu6", Point(0.01, 0), (0, 255)),  # 6 lies above the range
    ],
)
def test_quantized_bounds(activation: Any, point: Point, bounds: tuple[int, int]) -> None:
    assert quantized_bounds(activation, point) == bounds


def test_record__one_from_before_recipes_is_read() -> None:
    document = record_of(one_conv([1.0], [0.0]), 0.1).to_dict()
    for key in ("recipe", "bias_corrections", "channel_factors", "operating_thresholds"):
        del document[key]
    record = Record.from_dict({**document, "version": "1.0"})
    assert record.recipe == "w8c_a8t_minmax"
    assert record.bias_corrections == record.channel_factors == record.operating_thresholds == {}
