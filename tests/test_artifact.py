"""The document inside every artifact: what JSON gives back, and that nothing but SpecError comes out."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fcos_edge.artifact import ArtifactInfo, OutputInfo, dump_document, parse_document
from fcos_edge.errors import SpecError
from tests.small_specs import SMALL_SPEC
from tests.test_spec import HUGE, json_values

FLOAT_INFO = ArtifactInfo(
    format="onnx",
    precision="fp32",
    outputs=tuple(map(OutputInfo, SMALL_SPEC.output_names)),
    operating_thresholds=(0.25, 0.5, 1.0),
    tool_versions={"onnx": "1.23.2"},
)
INT8_INFO = replace(
    FLOAT_INFO,
    format="tflite",
    precision="int8",
    outputs=tuple(OutputInfo(name, 0.1, -128) for name in reversed(SMALL_SPEC.output_names)),
    record_sha256="ab" * 32,
)
DOCUMENT = {"spec": SMALL_SPEC.to_dict(), "artifact": INT8_INFO.to_dict()}


def spoil(path: tuple[str | int, ...], value: Any) -> Any:
    """The document with one value replaced; a path into nothing leaves it as it is."""
    document = json.loads(json.dumps(DOCUMENT))
    place = document
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return document


@pytest.mark.parametrize("info", [FLOAT_INFO, INT8_INFO])
def test_document__comes_back(info: ArtifactInfo) -> None:
    text = dump_document(SMALL_SPEC, info)
    assert parse_document(text) == parse_document(text.encode()) == (SMALL_SPEC, info)
    assert dump_document(*parse_document(text)) == text  # the same bytes: exports are reproducible


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("artifact", "format"), "pb", "format must be"),
        (("artifact", "format"), ["onnx"], "format must be"),
        (("artifact", "precision"), "int4", "precision must be"),
        (("artifact", "version"), "2.0", "version 2.0 is not 1.x"),
        (("artifact", "size"), 1, "unknown key 'size'"),
        (("artifact", "record_sha256"), None, "record_sha256"),
        (("artifact", "tool_versions"), {"onnx": 1}, "tool_versions"),
        (("artifact", "operating_thresholds"), [0.5, 0.5], "2 operating thresholds for 3 classes"),
        (("artifact", "operating_thresholds"), [0.5, 0.5, 1.5], "in 0..1"),
        (("artifact", "operating_thresholds"), [0.5, 0.5, math.nan], "in 0..1"),
        (("artifact", "operating_thresholds"), [0.5, 0.5, True], "in 0..1"),
        (("artifact", "operating_thresholds"), [0.5, 0.5, HUGE], "in 0..1"),
        (("artifact", "outputs"), {}, "outputs must be a list"),
        (("artifact", "outputs"), [], "do not fit the spec"),
        (("artifact", "outputs", 0), {"name": "logits_p3"}, "name, scale and zero_point"),
        (("artifact", "outputs", 0, "name"), "logits_p3", "do not fit the spec"),  # twice
        (("artifact", "outputs", 0, "name"), "logits_p6", "do not fit the spec"),
        (("artifact", "outputs", 0, "scale"), None, "scale of 'centerness_p5'"),  # half quantized
        (("artifact", "outputs", 0, "scale"), 0, "scale of"),
        (("artifact", "outputs", 0, "scale"), -0.1, "scale of"),
        (("artifact", "outputs", 0, "scale"), math.nan, "scale of"),
        (("artifact", "outputs", 0, "scale"), math.inf, "scale of"),
        (("artifact", "outputs", 0, "scale"), HUGE, "scale of"),
        (("artifact", "outputs", 0, "scale"), True, "scale of"),
        (("artifact", "outputs", 0, "zero_point"), None, "zero point of"),
        (("artifact", "outputs", 0, "zero_point"), 256, "zero point of"),
        (("artifact", "outputs", 0, "zero_point"), -129, "zero point of"),
        (("artifact", "outputs", 0, "zero_point"), 0.0, "zero point of"),
        # Names are shown as Python writes them, and not at any length.
        (("artifact", "outputs", 0), {"name": "a\nb", "scale": 0, "zero_point": 0}, r"scale of 'a\\nb'"),
        (("artifact", "outputs", 0, "name"), "x" * 5000, "do not fit the spec"),
        (("artifact", "y" * 5000), 1, "unknown key 'yyy"),
        (("spec", "strides"), [8, 16], "do not fit the spec"),
        (("spec", "nms"), "soft", "unknown key 'nms'"),
        (("licence",), "MIT", "unknown key 'licence'"),
    ],
)
def test_document__refuses(path: tuple[str | int, ...], value: Any, message: str) -> None:
    with pytest.raises(SpecError, match=message) as caught:
        parse_document(json.dumps(spoil(path, value)))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    "text",
    ["", "{", "null", "[]", "5", '"text"', "NaN", b"\xff\xfe", b"\x00", "[" * 100_000, '{"a":' * 100_000,
     "9" * 10_000, '{"spec": {}, "artifact": {}}', '{"spec": null, "artifact": null}'],
)  # fmt: skip
def test_document__that_is_none(text: str | bytes) -> None:
    with pytest.raises(SpecError):
        parse_document(text)


def is_refused_or_read(text: str | bytes) -> None:
    try:
        spec, info = parse_document(text)
    except SpecError as error:
        assert "\n" not in str(error)  # noqa: PT017
        return
    assert parse_document(dump_document(spec, info)) == (spec, info)


PATHS: list[tuple[str | int, ...]] = [
    ("spec",),
    ("artifact",),
    *(("artifact", key) for key in DOCUMENT["artifact"]),
    *(("artifact", "outputs", 0, key) for key in ("name", "scale", "zero_point")),
    ("artifact", "outputs", 0),
]


@given(path=st.sampled_from(PATHS), value=json_values())
@settings(deadline=None, max_examples=500)  # machines are shared
def test_document__with_one_value_spoilt(path: tuple[str | int, ...], value: Any) -> None:
    is_refused_or_read(json.dumps(spoil(path, value)))


@given(data=st.data())
@settings(deadline=None)
def test_document__with_bytes_spoilt(data: st.DataObject) -> None:
    text = bytearray(dump_document(SMALL_SPEC, INT8_INFO).encode())
    for at in data.draw(st.lists(st.integers(0, len(text) - 1), min_size=1, max_size=3)):
        text[at] = data.draw(st.integers(0, 255))
    is_refused_or_read(bytes(text))


@given(text=st.text() | st.binary())
@settings(deadline=None)
def test_document__of_anything(text: str | bytes) -> None:
    is_refused_or_read(text)
