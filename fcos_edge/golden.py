"""Golden pictures: what PyTorch and the integer simulator make of a few pictures, stored in a bundle.

    golden/
      golden.json       pictures, conventions as exported, one-bit floors, scales of the int8 outputs
      astronaut.png     a source picture, before the letterbox
      astronaut.npz     what `GoldenPicture` holds, compressed, without pickle
      LICENSE           of the source pictures

So any machine can repeat the verification, without torch and without a data set.
"""

from __future__ import annotations

import io
import json
import math
import re
import struct
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fcos_edge.artifact import OutputInfo
from fcos_edge.detections import Detections
from fcos_edge.errors import ArtifactError, SpecError
from fcos_edge.runtime import FloatArray, UInt8Array, reason_of
from fcos_edge.spec import ModelSpec, check_keys, check_version, is_number

FOLDER = "golden"
INDEX_NAME = "golden.json"
LICENSE_NAME = "LICENSE"
GOLDEN_VERSION = (2, 1)
# Whose operating thresholds those of every file are that has none of its own.
REFERENCE = "reference"
_DETECTIONS = ("candidates", "operating")
_KEYS = {
    "pictures", "spec", "operating_thresholds", "outputs", "record_sha256", "one_bit_floors", "is_integer",
}  # fmt: skip
_MAX_INDEX_BYTES = 1 << 20
_MAX_BYTES = 1 << 28  # of one .npz file, and of what it unpacks to
# What `_write_arrays` puts in front of an array, and nothing else: NumPy's own reader evaluates the header,
# and allocates what it promises.
_HEADER = re.compile(
    rb"\x93NUMPY\x01\x00.."
    rb"\{'descr': '(<f4|\|u1|<i8)', 'fortran_order': False, 'shape': \(([\d, ]*)\), \} *\n",
    re.DOTALL,
)

Array = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class GoldenPicture:
    """One picture and what is known about it.

    source_name  file name of the source picture, beside this one
    images       (1, H, W, 3) uint8 RGB, its letterboxed input
    fp32         output name -> (h, w, C) float32, from PyTorch
    int8         output name -> (h, w, C) from the integer simulator, uint8, or float32 where the record keeps
                 the output in float; empty without a record
    candidates   PyTorch's detections above the candidate threshold
    operating    those that reach the operating threshold of their class
    """

    source_name: str
    images: UInt8Array
    fp32: Mapping[str, FloatArray]
    int8: Mapping[str, UInt8Array | FloatArray]
    candidates: Detections
    operating: Detections


@dataclass(frozen=True, eq=False)
class Golden:
    """All golden pictures of a bundle.

    spec                  the conventions as exported, without provenance
    operating_thresholds  REFERENCE -> per class; and file name -> per class, where a file has its own
    outputs               scale and zero point (0..255) of each int8 output; a zero point of None: it stays
                          float, and the scale is the step it would have; empty without a record
    record_sha256         of the calibration record that the simulator ran; "" without one
    one_bit_floors        output name -> mean change of its values in the simulator when the lowest bit of
                          one input value flips; empty without a record
    is_integer            no layer is kept in float, so that an exact runtime is equal to the simulator
    """

    pictures: tuple[GoldenPicture, ...]
    spec: ModelSpec
    operating_thresholds: Mapping[str, tuple[float, ...]]
    outputs: tuple[OutputInfo, ...] = ()
    record_sha256: str = ""
    one_bit_floors: Mapping[str, float] = field(default_factory=dict)
    is_integer: bool = True

    def thresholds_of(self, file_name: str) -> tuple[float, ...]:
        """The operating thresholds that the file was exported with."""
        return self.operating_thresholds.get(file_name, self.operating_thresholds[REFERENCE])


def write_golden(bundle: Path, golden: Golden, sources: Sequence[Path], license_text: str) -> None:
    """Write `bundle`/golden; `sources` are the pictures' source files, in order."""
    folder = bundle / FOLDER
    folder.mkdir()
    for picture, source in zip(golden.pictures, sources, strict=True):
        (folder / picture.source_name).write_bytes(source.read_bytes())
        _write_arrays(folder / f"{Path(picture.source_name).stem}.npz", _to_arrays(picture))
    index = {
        "version": "{}.{}".format(*GOLDEN_VERSION),
        "pictures": [picture.source_name for picture in golden.pictures],
        "spec": replace(golden.spec, provenance={}).to_dict(),
        "operating_thresholds": golden.operating_thresholds,
        "outputs": [vars(output) for output in golden.outputs],
        "record_sha256": golden.record_sha256,
        "one_bit_floors": golden.one_bit_floors,
        "is_integer": golden.is_integer,
    }
    (folder / INDEX_NAME).write_text(json.dumps(index, indent=1) + "\n", encoding="utf-8")
    (folder / LICENSE_NAME).write_text(license_text, encoding="utf-8")


def read_golden(bundle: Path) -> Golden:
    """Read what `write_golden` wrote. Raises ArtifactError for anything else."""
    path = bundle / FOLDER / INDEX_NAME
    index = _read_index(bundle, path)
    try:
        spec = ModelSpec.from_dict(index["spec"])
    except SpecError as error:
        raise ArtifactError(f"{path}: {error}") from None
    names, thresholds = index["pictures"], index["operating_thresholds"]
    outputs, floors = index["outputs"], index["one_bit_floors"]
    _require(path, isinstance(names, list) and bool(names) and all(map(_is_plain_name, names)))
    _require(path, isinstance(thresholds, dict) and REFERENCE in thresholds)
    _require(path, all(_is_thresholds(values, len(spec.classes)) for values in thresholds.values()))
    _require(path, isinstance(outputs, list) and all(map(_is_output, outputs)))
    _require(path, not outputs or [o["name"] for o in outputs] == list(spec.output_names))
    _require(path, isinstance(floors, dict) and set(floors) == {o["name"] for o in outputs})
    _require(path, all(is_number(floor) and 0 <= floor < 1e6 for floor in floors.values()))
    _require(path, type(index["is_integer"]) is bool)
    _require(path, isinstance(index["record_sha256"], str) and bool(index["record_sha256"]) == bool(outputs))
    floats = {o["name"] for o in outputs if o["zero_point"] is None}
    return Golden(
        tuple(_read_picture(bundle / FOLDER, name, spec, bool(outputs), floats) for name in names),
        spec,
        {name: tuple(map(float, values)) for name, values in thresholds.items()},
        tuple(OutputInfo(o["name"], float(o["scale"]), o["zero_point"]) for o in outputs),
        index["record_sha256"],
        {name: float(floor) for name, floor in floors.items()},
        index["is_integer"],
    )


def _read_index(bundle: Path, path: Path) -> dict[str, Any]:
    """golden.json, with the right version and keys."""
    try:
        with path.open("rb") as file:
            index = json.loads(file.read(_MAX_INDEX_BYTES))
    except OSError as error:
        raise ArtifactError(
            f"{bundle}: no golden pictures ({error.strerror}); copy the bundle again"
        ) from None
    except (ValueError, RecursionError):
        raise ArtifactError(f"{path}: not a JSON document; copy the bundle again") from None
    _require(path, isinstance(index, dict))
    assert isinstance(index, dict)
    version = index.pop("version", None)
    if version == "1.0":
        raise ArtifactError(f"{path}: version 1.0 does not hold the conventions; export the bundle again")
    try:
        check_version(str(path), version, GOLDEN_VERSION)
        check_keys(str(path), index, _KEYS)
    except SpecError as error:
        raise ArtifactError(str(error)) from None
    return index


def _to_arrays(picture: GoldenPicture) -> dict[str, Array]:
    arrays: dict[str, Array] = {"images": picture.images}
    arrays |= {f"fp32/{name}": value for name, value in picture.fp32.items()}
    arrays |= {f"int8/{name}": value for name, value in picture.int8.items()}
    for kind in _DETECTIONS:
        detections: Detections = getattr(picture, kind)
        arrays[f"{kind}/boxes_xyxy"] = detections.boxes_xyxy
        arrays[f"{kind}/scores"] = detections.scores
        arrays[f"{kind}/labels"] = detections.labels
    return arrays


def _write_arrays(path: Path, arrays: Mapping[str, Array]) -> None:
    """A .npz file; unlike `numpy.savez`, the same arrays give the same bytes in every NumPy."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, array in arrays.items():
            buffer = io.BytesIO()
            np.lib.format.write_array(buffer, np.ascontiguousarray(array), version=(1, 0), allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), buffer.getvalue(), zipfile.ZIP_DEFLATED)


def _read_picture(
    folder: Path, source_name: str, spec: ModelSpec, is_quantized: bool, floats: set[str]
) -> GoldenPicture:
    """floats: outputs that the int8 network keeps in float."""
    path = folder / f"{Path(source_name).stem}.npz"
    shapes = _output_shapes(spec)
    try:
        _require(path, path.stat().st_size <= _MAX_BYTES)
        found = _read_arrays(path)
        images = _checked(found["images"], np.uint8, (1, *spec.input_hw, 3))
        fp32 = {name: _checked(found[f"fp32/{name}"], np.float32, shape) for name, shape in shapes.items()}
        int8 = {}
        if is_quantized:
            int8 = {
                name: _checked(found[f"int8/{name}"], np.float32 if name in floats else np.uint8, shape)
                for name, shape in shapes.items()
            }
        detections = [
            Detections(*(found[f"{kind}/{part}"] for part in ("boxes_xyxy", "scores", "labels")))
            for kind in _DETECTIONS
        ]
        if any((one.labels >= len(spec.classes)).any() for one in detections):
            raise ValueError(f"a label is not one of {len(spec.classes)} classes")
    except OSError as error:
        raise ArtifactError(
            f"{path}: cannot read: {error.strerror or error}; copy the bundle again"
        ) from None
    # RuntimeError: zipfile's word for a member that says it is encrypted.
    except (
        KeyError,
        ValueError,
        EOFError,
        RuntimeError,
        struct.error,
        zlib.error,
        zipfile.BadZipFile,
    ) as error:
        raise ArtifactError(
            f"{path}: not what `export` wrote ({reason_of(error)}); copy the bundle again"
        ) from None
    return GoldenPicture(source_name, images, fp32, int8, *detections)


def _read_arrays(path: Path) -> dict[str, Array]:
    """What `_write_arrays` wrote. Unpacks no more than _MAX_BYTES, whatever the file says."""
    with path.open("rb") as file, zipfile.ZipFile(file) as archive:
        members = archive.infolist()
        if sum(member.file_size for member in members) > _MAX_BYTES:
            raise ValueError(f"it unpacks to more than {_MAX_BYTES} bytes")
        if any(member.compress_type != zipfile.ZIP_DEFLATED for member in members):
            raise ValueError("it is packed in another way")
        arrays = {}
        for member in members:
            with archive.open(member) as packed:
                # With a size: without one, zipfile unpacks everything before it looks at the size.
                arrays[member.filename.removesuffix(".npy")] = _parse_array(packed.read(member.file_size))
        return arrays


def _parse_array(content: bytes) -> Array:
    header = _HEADER.match(content)
    if header is None:
        raise ValueError("it holds something else than arrays of float32, uint8 and int64")
    dtype = np.dtype(header[1].decode())
    shape = tuple(int(side) for side in header[2].split(b",") if side.strip())
    values = content[header.end() :]
    if math.prod(shape) * dtype.itemsize != len(values):
        raise ValueError(f"{len(values)} bytes are no {dtype} {shape}")
    # A copy can be written to, as a runtime may ask; the bytes cannot.
    array: Array = np.ndarray(shape, dtype, values).copy()
    return array


def _output_shapes(spec: ModelSpec) -> dict[str, tuple[int, ...]]:
    channels = {"logits": len(spec.classes), "ltrb": 4, "centerness": 1}
    return {
        f"{branch}_{level}": (*hw, count)
        for level, hw in zip(spec.level_names, spec.level_hw, strict=True)
        for branch, count in channels.items()
    }


def _checked(array: Array, dtype: type, shape: tuple[int, ...]) -> Array:
    if array.dtype != dtype or array.shape != shape:
        raise ValueError(f"an array is {array.dtype} {array.shape}, expected {np.dtype(dtype)} {shape}")
    return array


def _is_plain_name(value: object) -> bool:
    if not isinstance(value, str) or not value or not value.isprintable():
        return False
    return not set(value) & set("/\\:") and value[0] != "."


def _is_thresholds(value: object, classes: int) -> bool:
    if not isinstance(value, list) or len(value) != classes:
        return False
    return all(is_number(threshold) and 0 <= threshold <= 1 for threshold in value)


def _is_output(value: object) -> bool:
    if not isinstance(value, dict) or set(value) != {"name", "scale", "zero_point"}:
        return False
    scale, zero_point = value["scale"], value["zero_point"]
    is_scale = isinstance(scale, int | float) and not isinstance(scale, bool) and 0 < scale < 1e30
    return is_scale and (zero_point is None or (type(zero_point) is int and 0 <= zero_point <= 255))


def _require(path: Path, condition: bool) -> None:
    if not condition:
        raise ArtifactError(f"{path}: not what `export` wrote; copy the bundle again")
