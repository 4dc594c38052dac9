"""What the bytes of a picture file say before anything decodes them: how large it is, whether all is there.

Decoders take memory for what a header declares, decode half of a file in some versions of OpenCV, and write
about damage to stderr, past its log. All other formats are left to them.
"""

from __future__ import annotations

import struct
import zlib

_BMP_SIGNATURE = b"BM"
_GIF_SIGNATURE = b"GIF8"
_JPEG_SIGNATURE = b"\xff\xd8\xff"
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
# SOF0..SOF15 without DHT (C4), JPG (C8) and DAC (CC): the segments that hold the size.
_JPEG_FRAME_MARKERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_JPEG_SCAN_START = 0xDA
_JPEG_FILL_BYTE = 0xFF
_JPEG_END = b"\xff\xd9"  # never inside a scan, where a zero follows each FF


def declared_hw(encoded: bytes) -> tuple[int, int] | None:
    """(height, width) from the header, before orientation; None where it is no PNG, JPEG, BMP or GIF."""
    if encoded.startswith(_PNG_SIGNATURE) and len(encoded) >= 24:
        width, height = struct.unpack_from(">II", encoded, 16)
        return height, width
    if encoded.startswith(_BMP_SIGNATURE) and len(encoded) >= 26:
        width, height = struct.unpack_from("<ii", encoded, 18)
        return abs(height), abs(width)  # a negative height: rows from the top
    if encoded.startswith(_GIF_SIGNATURE) and len(encoded) >= 10:
        width, height = struct.unpack_from("<HH", encoded, 6)
        return height, width
    return _walk_jpeg(encoded)[0] if encoded.startswith(_JPEG_SIGNATURE) else None


def is_damaged(encoded: bytes) -> bool:
    """Whether a PNG or JPEG is cut short, or a part of a PNG does not have its checksum."""
    if encoded.startswith(_PNG_SIGNATURE):
        return not _has_whole_chunks(encoded)
    if encoded.startswith(_JPEG_SIGNATURE):
        return encoded.find(_JPEG_END, _walk_jpeg(encoded)[1]) < 0
    return False


def _has_whole_chunks(png: bytes) -> bool:
    at = len(_PNG_SIGNATURE)
    while at + 12 <= len(png):
        length, name = struct.unpack_from(">I4s", png, at)
        end = at + 12 + length
        if end > len(png):
            return False
        # A capital letter: a picture cannot be decoded without. Others may be wrong.
        if name[:1].isupper() and zlib.crc32(memoryview(png)[at + 4 : end - 4]) != int.from_bytes(
            png[end - 4 : end], "big"
        ):
            return False
        if name == b"IEND":
            return True
        at = end
    return False


def _walk_jpeg(jpeg: bytes) -> tuple[tuple[int, int] | None, int]:
    """(height, width) of the frame, None without one; where the first scan begins, or the segments end."""
    size_hw = None
    at = 2
    while at + 4 <= len(jpeg) and jpeg[at] == 0xFF:
        marker = jpeg[at + 1]
        if marker == _JPEG_FILL_BYTE:
            at += 1
            continue
        if marker == _JPEG_SCAN_START:
            break
        if marker in _JPEG_FRAME_MARKERS and at + 9 <= len(jpeg):
            height, width = struct.unpack_from(">HH", jpeg, at + 5)
            size_hw = (height, width)
        at += 2 + int.from_bytes(jpeg[at + 2 : at + 4], "big")
    return size_hw, at
