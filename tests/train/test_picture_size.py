"""The size in a header is the size that is read, whatever the orientation; damaged files are found."""

from __future__ import annotations

import struct
from pathlib import Path

import cv2
import numpy as np
import pytest

from fcos_edge.image import read_image_bgr
from fcos_edge.train.data.picture_files import look_at_files
from fcos_edge.train.data.picture_size import header_hw, picture_hw

IMAGE = np.random.default_rng(0).integers(0, 255, (20, 30, 3), np.uint8)


def _exif(order: str, orientation: int, *, filler: int = 0) -> bytes:
    """An APP1 segment with one or two entries; `filler` bytes stand between them and their header."""
    mark = b"II" if order == "<" else b"MM"
    tiff = mark + struct.pack(f"{order}HI", 42, 8 + filler) + bytes(filler)
    tiff += struct.pack(f"{order}H", 2)
    tiff += struct.pack(f"{order}HHIHH", 0x0100, 3, 1, 30, 0)  # another tag first
    tiff += struct.pack(f"{order}HHIHH", 0x0112, 3, 1, orientation, 0) + struct.pack(f"{order}I", 0)
    content = b"Exif\0\0" + tiff
    return b"\xff\xe1" + struct.pack(">H", len(content) + 2) + content


def _jpeg(*segments: bytes) -> bytes:
    jpeg: bytes = cv2.imencode(".jpg", IMAGE)[1].tobytes()
    return jpeg[:2] + b"".join(segments) + jpeg[2:]


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".gif", ".webp", ".tif"])
def test_picture_hw__formats(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    cv2.imwrite(str(path), IMAGE)
    assert picture_hw(path) == (20, 30)
    is_in_header = header_hw(path.read_bytes()) == (20, 30)
    assert is_in_header == (suffix not in (".webp", ".tif"))


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("orientation", range(10))
def test_picture_hw__orientation_as_it_is_read(tmp_path: Path, order: str, orientation: int) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(_jpeg(_exif(order, orientation)))
    assert picture_hw(path) == read_image_bgr(path).shape[:2]
    assert picture_hw(path) == ((30, 20) if 5 <= orientation <= 8 else (20, 30))


SEGMENTS = [
    [b"\xff\xe0\x00\x04ab", _exif("<", 6)],  # JFIF's segment first
    [b"\xff" + _exif("<", 6)],  # a fill byte
    [_exif("<", 6, filler=50)],
    [b"\xff\xe2\xff\xff" + bytes(0xFFFD), _exif(">", 6)],  # a color profile larger than what is read first
    [_exif("<", 1)],
    [b"\xff\xe1\x00\x08Exif\0\0"],  # no TIFF
    [b"\xff\xe1\x00\x0eExif\0\0XX\x2a\0\x08\0"],  # of no byte order
    [b"\xff\xe1\x00\x10Exif\0\0II\x2a\0\xff\xff\0\0"],  # its entries are elsewhere
]


@pytest.mark.parametrize("segments", SEGMENTS, ids=range(len(SEGMENTS)))
def test_picture_hw__segments_as_they_are_read(tmp_path: Path, segments: list[bytes]) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(_jpeg(*segments))
    assert picture_hw(path) == read_image_bgr(path).shape[:2]


@pytest.mark.parametrize("content", [None, b"", b"no picture", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"BM"])
def test_picture_hw__no_picture(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "a.jpg"
    if content is not None:
        path.write_bytes(content)
    assert picture_hw(path) == (0, 0)
    assert picture_hw(tmp_path) == (0, 0)
    assert picture_hw(Path("a\0b.jpg")) == (0, 0)


def test_look_at_files__table(tmp_path: Path) -> None:
    whole = _jpeg()
    png: bytes = cv2.imencode(".png", IMAGE)[1].tobytes()
    bmp: bytes = cv2.imencode(".bmp", IMAGE)[1].tobytes()
    # content, fault by headers alone, fault when decoded
    table: dict[str, tuple[bytes | None, str, str]] = {
        "whole.jpg": (whole, "", ""),
        "cut.jpg": (whole[:-200], "unreadable", "unreadable"),
        "flipped.png": (png[:60] + bytes([png[60] ^ 1]) + png[61:], "unreadable", "unreadable"),
        "empty.png": (b"", "unreadable", "unreadable"),
        "text.png": (b"no picture", "unreadable", "unreadable"),
        "cut.bmp": (bmp[:100], "", "unreadable"),  # its header is whole, and nothing is at its end
        "huge.bmp": (bmp[:18] + struct.pack("<ii", 1 << 16, 1 << 16) + bmp[26:], "unreadable", "unreadable"),
        "gone.png": (None, "missing", "missing"),
        "folder.png": (None, "missing", "missing"),
    }
    for name, (content, _, _) in table.items():
        if content is not None:
            (tmp_path / name).write_bytes(content)
    (tmp_path / "folder.png").mkdir()
    paths = [tmp_path / name for name in table]
    for place, decode in ((1, False), (2, True)):
        looks = look_at_files([*paths, *paths], decode=decode)
        assert {path.name: file.fault for path, file in looks.items()} == {
            name: row[place] for name, row in table.items()
        }
        for path, file in looks.items():
            assert (file.size_hw == (0, 0)) == bool(file.fault)
            assert bool(file.sha256) == path.is_file()
            assert "\n" not in file.detail
            assert bool(file.detail) == bool(file.fault)
