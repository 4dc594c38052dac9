"""Read the JSON document inside a model file without any runtime.

So `inspect` works on a machine that has no runtime installed, loading learns what a file is before it
pays for building a network, and every runtime that reads a format finds the same document in it.
TFLite's reader is in `trailer.py`, beside its writer.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from fcos_edge.artifact import DOCUMENT_KEY
from fcos_edge.errors import ArtifactError

# Field numbers of onnx.ModelProto and onnx.StringStringEntryProto, which will not change.
_MODEL_METADATA_PROPS = 14
_ENTRY_KEY, _ENTRY_VALUE = 1, 2
# Protobuf's wire types: how a field's length is found.
_VARINT, _FIXED64, _DELIMITED, _FIXED32 = 0, 1, 2, 5


def read_onnx_document(path: Path) -> str:
    """The document in an ONNX file's metadata. Raises ArtifactError where there is none.

    Only the top level of the protobuf is walked: the graph, nearly all of the file, is one seek.
    """
    try:
        with path.open("rb") as file:
            size = path.stat().st_size
            for number, start, length in _delimited_fields(file, 0, size):
                if number != _MODEL_METADATA_PROPS:
                    continue
                entry = {}
                for part, part_start, part_length in _delimited_fields(file, start, start + length):
                    file.seek(part_start)
                    entry[part] = file.read(part_length)
                if entry.get(_ENTRY_KEY) == DOCUMENT_KEY.encode():
                    return entry.get(_ENTRY_VALUE, b"").decode()
    except OSError as error:
        raise ArtifactError(f"{path}: cannot read: {error.strerror}") from None
    except ValueError:
        raise ArtifactError(f"{path}: no ONNX model; the file is damaged or cut short") from None
    raise ArtifactError(f"{path}: no {DOCUMENT_KEY} in its metadata; it was not exported by fcos-edge")


def read_openvino_document(path: Path) -> str:
    """The document in an OpenVINO .xml file's rt_info. Raises ArtifactError where there is none."""
    # Here, because only this function needs it and every start would pay for it.
    from xml.etree import ElementTree

    try:
        text = path.read_bytes()
        # The model's rt_info follows its edges. The layers before them take 80 ms to parse, and OpenVINO
        # does that anyway.
        _, edges, rest = text.rpartition(b"</edges>")
        root = ElementTree.fromstring(b"<net>" + rest if edges else text)
    except OSError as error:
        raise ArtifactError(f"{path}: cannot read: {error.strerror}") from None
    except (ElementTree.ParseError, ValueError, LookupError):
        raise ArtifactError(f"{path}: no OpenVINO model; the file is damaged or cut short") from None
    # Only the model's own rt_info: below it, `framework` may hold the document of the ONNX file that
    # it was converted from.
    for entry in root.iterfind("rt_info/*"):
        if entry.tag == DOCUMENT_KEY and entry.get("value"):
            return str(entry.get("value"))
    raise ArtifactError(f"{path}: no {DOCUMENT_KEY} in its rt_info; it was not exported by fcos-edge")


def _delimited_fields(file: BinaryIO, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """(field number, first byte, byte count) of every length-delimited field of one message.

    Raises ValueError where the bytes from `start` to `end` are no message.
    """
    position = start
    while position < end:
        file.seek(position)
        tag = _read_varint(file)
        number, wire_type = tag >> 3, tag & 7
        if number == 0:
            raise ValueError("no field has the number 0")
        if wire_type == _VARINT:
            _read_varint(file)
            position = file.tell()
        elif wire_type in (_FIXED32, _FIXED64):
            position = file.tell() + (4 if wire_type == _FIXED32 else 8)
        elif wire_type == _DELIMITED:
            length = _read_varint(file)
            first = file.tell()
            position = first + length
            if position <= end:
                yield number, first, length
        else:
            raise ValueError(f"wire type {wire_type}")
    if position != end:
        raise ValueError("the last field is cut short")


def _read_varint(file: BinaryIO) -> int:
    value = 0
    for shift in range(0, 70, 7):
        byte = file.read(1)
        if not byte:
            raise ValueError("the file ends inside a number")
        value |= (byte[0] & 0x7F) << shift
        if byte[0] < 0x80:
            return value
    raise ValueError("a number is too long")
