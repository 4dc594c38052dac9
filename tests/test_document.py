"""Reading the document of an ONNX or OpenVINO file without a runtime."""

from __future__ import annotations

from pathlib import Path

import pytest

from fcos_edge.document import read_onnx_document, read_openvino_document
from fcos_edge.errors import ArtifactError


def field(number: int, content: bytes) -> bytes:
    """One length-delimited protobuf field, shorter than 128 bytes."""
    return bytes([number << 3 | 2, len(content)]) + content


def entry(key: str, value: str) -> bytes:
    """One of an ONNX model's metadata_props."""
    return field(14, field(1, key.encode()) + field(2, value.encode()))


IR_VERSION = b"\x08\x09"  # a varint field
GRAPH = field(7, b"\x12\x04tiny")
OURS = entry("fcos_edge.json", '{"name": "Köter"}')
DOCUMENT = '{"name": "Köter"}'


@pytest.mark.parametrize(
    "content",
    [
        IR_VERSION + GRAPH + OURS,
        OURS + GRAPH + IR_VERSION,  # protobuf promises no order
        IR_VERSION + entry("author", "x") + OURS + GRAPH,
        b"\x79" + bytes(8) + b"\x7d" + bytes(4) + OURS,  # fields of fixed size that ONNX may gain
    ],
)
def test_read_onnx_document__finds_it(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    assert read_onnx_document(path) == DOCUMENT


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no fcos_edge.json"),
        (IR_VERSION + GRAPH, "no fcos_edge.json"),  # a model of another program
        (IR_VERSION + GRAPH[:-1], "damaged or cut short"),
        (IR_VERSION + b"\x72", "damaged or cut short"),  # ends after a tag
        (b"\x72" + b"\xff" * 11, "damaged or cut short"),  # a number without end
        (b"\x03", "damaged or cut short"),  # wire type 3
        (b"\x02\x00", "damaged or cut short"),  # field number 0
        (b"PK\x03\x04 not a model at all", "damaged or cut short"),
        (entry("fcos_edge.json", "?").replace(b"?", b"\xff"), "damaged or cut short"),  # not UTF-8
    ],
)
def test_read_onnx_document__other_file_is_one_line(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    with pytest.raises(ArtifactError, match=message) as caught:
        read_onnx_document(path)
    assert "\n" not in str(caught.value)


def test_read_onnx_document__agrees_with_onnx(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    path = tmp_path / "model.onnx"
    # Longer than one byte of length: a varint of three bytes.
    text = '{"padding": "' + "x" * 20_000 + '"}'
    model = onnx.ModelProto(ir_version=9, producer_name="p", model_version=-1)
    onnx.helper.set_model_props(model, {"author": "x", "fcos_edge.json": text})
    path.write_bytes(model.SerializeToString())
    assert read_onnx_document(path) == text


XML = '<?xml version="1.0"?><net><layers/><rt_info>{}</rt_info></net>'
INNER = '<fcos_edge.json value="{&quot;name&quot;:&#10;1}" />'


def test_read_openvino_document__is_the_models_own(tmp_path: Path) -> None:
    path = tmp_path / "model.xml"
    path.write_text(XML.format('<framework><fcos_edge.json value="onnx" /></framework>' + INNER))
    assert read_openvino_document(path) == '{"name":\n1}'


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "damaged or cut short"),
        (XML.format(INNER)[:-1], "damaged or cut short"),
        (XML.format(""), "no fcos_edge.json"),
        # What is left of the ONNX file that somebody converted is not this file's document.
        (XML.format(f"<framework>{INNER}</framework>"), "no fcos_edge.json"),
        ('<?xml version="1.0" encoding="none-such"?><net/>', "damaged or cut short"),
    ],
)
def test_read_openvino_document__other_file_is_one_line(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "model.xml"
    path.write_text(content)
    with pytest.raises(ArtifactError, match=message) as caught:
        read_openvino_document(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("read", [read_onnx_document, read_openvino_document])
def test_read_document__missing_file(tmp_path: Path, read: object) -> None:
    assert callable(read)
    with pytest.raises(ArtifactError, match="No such file"):
        read(tmp_path / "missing")
