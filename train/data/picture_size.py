"""How large a picture will be once it is read, without decoding it where its header says so.

`read_image_bgr` turns a picture by its EXIF orientation; labels are of the turned picture.
"""

from __future__ import annotations

import struct
from pathlib import Path

from fcos_edge.encoded import declared_hw
from fcos_edge.errors import ImageError
from fcos_edge.image import read_image_bgr
from fcos_edge.train.data.labels import UNKNOWN_HW

_HEAD_BYTES = 1 << 16
_JPEG_SIGNATURE = b"\xff\xd8\xff"
_PNG_SIGNATURE = b"\x89PNG"
_ORIENTATION_TAG = 0x0112
_LYING = range(5, 9)  # orientations that swap width and height


def picture_hw(path: Path) -> tuple[int, int]:
    """(height, width) that `read_image_bgr` would give; UNKNOWN_HW where it is missing or cannot be read."""
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
            size_hw = header_hw(head)
            if size_hw is None and head.startswith(_JPEG_SIGNATURE):
                # A camera's thumbnails may stand before the size.
                size_hw = header_hw(head + file.read())
        if size_hw is not None:
            return size_hw
        height, width = read_image_bgr(path).shape[:2]
    except (OSError, ValueError, ImageError):  # ValueError: a path with a null character
        return UNKNOWN_HW
    return height, width


def header_hw(encoded: bytes) -> tuple[int, int] | None:
    """(height, width) after orientation; None where only decoding tells: other formats, a turned PNG."""
    size_hw = declared_hw(encoded)
    if size_hw is None or 0 in size_hw:
        return None
    if encoded.startswith(_PNG_SIGNATURE) and b"eXIf" in encoded:
        return None
    if encoded.startswith(_JPEG_SIGNATURE) and _jpeg_orientation(encoded) in _LYING:
        return size_hw[1], size_hw[0]
    return size_hw


def _jpeg_orientation(jpeg: bytes) -> int:
    """The EXIF orientation, 1 where there is none (CIPA DC-008, 4.5.4 and 4.6.4: APP1 holds a TIFF)."""
    at = 2
    while at + 4 <= len(jpeg) and jpeg[at] == 0xFF and jpeg[at + 1] != 0xDA:
        if jpeg[at + 1] == 0xFF:  # fill
            at += 1
            continue
        length = int.from_bytes(jpeg[at + 2 : at + 4], "big")
        if jpeg[at + 1] == 0xE1 and jpeg[at + 4 : at + 10] == b"Exif\0\0":
            return _tiff_orientation(jpeg[at + 10 : at + 2 + length])
        at += 2 + length
    return 1


def _tiff_orientation(tiff: bytes) -> int:
    order = {b"II": "<", b"MM": ">"}.get(tiff[:2])
    if order is None:
        return 1
    try:
        (first,) = struct.unpack_from(f"{order}I", tiff, 4)
        (count,) = struct.unpack_from(f"{order}H", tiff, first)
        for index in range(count):
            tag, _, _, value = struct.unpack_from(f"{order}HHIH", tiff, first + 2 + 12 * index)
            if tag == _ORIENTATION_TAG:
                return int(value)
    except struct.error:  # cut short
        pass
    return 1
