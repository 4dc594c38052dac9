"""Pictures on their way in: files of every kind, arrays that are no pictures."""

from __future__ import annotations

import os
import struct
import threading
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from fcos_edge import image as image_module
from fcos_edge.errors import ImageError
from fcos_edge.image import MAX_PIXELS, as_image_bgr, read_image_bgr

# Smooth, so that JPEG keeps it within a few levels; 20 wide, 12 high.
COLUMNS, ROWS = np.meshgrid(np.arange(20), np.arange(12))
IMAGE = np.stack([COLUMNS * 12, ROWS * 20, ROWS * 0 + 99], axis=2).astype(np.uint8)
ZEROS = np.zeros((4, 5, 3), np.uint8)


def write(path: Path, image: Any, *, suffix: str | None = None) -> Path:
    is_written, encoded = cv2.imencode(suffix or path.suffix, image)
    assert is_written
    path.write_bytes(encoded.tobytes())
    return path


# --- files -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "stored", "wanted"),
    [
        ("a.png", IMAGE, IMAGE),
        ("a.bmp", IMAGE, IMAGE),
        ("grey.png", IMAGE[:, :, 0], IMAGE[:, :, [0, 0, 0]]),
        ("alpha.png", np.concatenate([IMAGE, IMAGE[:, :, :1]], axis=2), IMAGE),  # dropped, not blended
        ("16bit.png", IMAGE.astype(np.uint16) * 257, IMAGE),
        ("16bit-grey.png", IMAGE[:, :, 0].astype(np.uint16) * 257, IMAGE[:, :, [0, 0, 0]]),
        ("Straße 東京.png", IMAGE, IMAGE),
    ],
)
def test_read__gives_8_bit_bgr(tmp_path: Path, name: str, stored: Any, wanted: Any) -> None:
    found = read_image_bgr(write(tmp_path / name, stored))
    np.testing.assert_array_equal(found, wanted)
    assert found.dtype == np.uint8


def test_read__jpeg(tmp_path: Path) -> None:
    found = read_image_bgr(str(write(tmp_path / "a.jpg", IMAGE)))
    assert np.abs(found.astype(int) - IMAGE).mean() < 4  # JPEG at quality 95 with halved colours


@pytest.mark.parametrize(
    ("orientation", "wanted"),
    [
        (1, IMAGE),
        (3, IMAGE[::-1, ::-1]),  # upside down
        (6, np.rot90(IMAGE, -1)),  # a phone held upright
        (8, np.rot90(IMAGE, 1)),
    ],
)
def test_read__exif_orientation_is_applied(tmp_path: Path, orientation: int, wanted: Any) -> None:
    path = write(tmp_path / "a.jpg", IMAGE)
    jpeg = path.read_bytes()
    # One entry: tag 0x112, type SHORT, one value.
    tiff = b"MM\0*" + struct.pack(">IHHHIHHI", 8, 1, 0x112, 3, 1, orientation, 0, 0)
    exif = b"Exif\0\0" + tiff
    path.write_bytes(jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + jpeg[2:])
    found = read_image_bgr(path)
    assert found.shape == wanted.shape
    assert np.abs(found.astype(int) - wanted).mean() < 4


def test_read__missing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ImageError, match=r"none\.jpg: cannot read the picture \(No such file"):
        read_image_bgr(tmp_path / "none.jpg")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file is empty"),
        (b"hello", "not a picture"),
        (b"\xff\xd8\xff", "not a picture"),  # JPEG's first bytes alone
        (b"\xff\xd8\xff\xe0\x00\x00" * 5, "not a picture"),
        (b"\x89PNG\r\n\x1a\n", "not a picture"),
        (b"BM" + bytes(100), "not a picture"),
        (bytes(1000), "not a picture"),
    ],
)
def test_read__no_picture(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], content: bytes, message: str
) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(content)
    with pytest.raises(ImageError, match=message) as caught:
        read_image_bgr(path)
    assert "\n" not in str(caught.value)
    if int(cv2.__version__.split(".")[0]) >= 5:  # decoders of OpenCV 4 write to stderr past its log
        assert capfd.readouterr() == ("", "")


def test_read__a_folder_or_a_null_character(tmp_path: Path) -> None:
    for path in (tmp_path, "a\0b"):
        with pytest.raises(ImageError, match="cannot read the picture"):
            read_image_bgr(path)


def png_header(width: int, height: int) -> bytes:
    chunk = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))


def jpeg_header(width: int, height: int) -> bytes:
    comment = b"\xff\xfe" + struct.pack(">H", 6) + b"\xff\xc0ab"  # what looks like a frame, and is none
    frame = b"\xff\xff\xc2" + struct.pack(">HBHHB", 17, 8, height, width, 3) + bytes(9)
    return b"\xff\xd8" + comment + frame


def bmp_header(width: int, height: int) -> bytes:
    return b"BM" + struct.pack("<IIIIiiHHI", 1000, 0, 54, 40, width, height, 1, 24, 0) + bytes(1000)


def gif_header(width: int, height: int) -> bytes:
    return b"GIF89a" + struct.pack("<HHBBBBHHHHB", width, height, 0, 0, 0, 0x2C, 0, 0, width, height, 0)


def tiff_header(width: int, height: int) -> bytes:
    tags = [(256, 4, width), (257, 4, height), (258, 3, 8), (262, 3, 1), (273, 4, 8), (277, 3, 1)]
    entries = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in tags)
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(1000)


@pytest.mark.parametrize(
    "content",
    [
        png_header(1 << 20, 1 << 20),
        png_header(16385, 16384),
        png_header(50_000, 50_000),
        jpeg_header(65500, 65500),
        bmp_header(50_000, 50_000),
        bmp_header(20_000, -20_000),
        gif_header(20_000, 20_000),  # 40 bytes that would take 3 GB
        tiff_header(50_000, 50_000),  # by OpenCV
    ],
)
def test_read__too_many_pixels_are_refused_by_the_header(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "bomb"
    path.write_bytes(content)
    with pytest.raises(ImageError, match=f"pixels.*, wanted at most {MAX_PIXELS}; shrink"):
        read_image_bgr(path)


def test_read__too_many_pixels_are_refused_after_decoding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "a.bmp", IMAGE)
    monkeypatch.setattr(image_module, "MAX_PIXELS", 20 * 12)
    read_image_bgr(path)
    monkeypatch.setattr(image_module, "MAX_PIXELS", 20 * 12 - 1)
    with pytest.raises(ImageError, match="20x12 pixels, wanted at most 239"):
        read_image_bgr(path)


def test_read__too_many_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "a.png", IMAGE)
    monkeypatch.setattr(image_module, "MAX_FILE_BYTES", 10)
    with pytest.raises(ImageError, match="bytes, wanted at most 10; shrink"):
        read_image_bgr(path)


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="needs /dev/zero, of Unix")
def test_read__device_without_end() -> None:
    with pytest.raises(ImageError, match="/dev/zero: 268435457 bytes, wanted at most 268435456"):
        read_image_bgr("/dev/zero")


def test_read__pipe(tmp_path: Path) -> None:
    # `fcos-edge detect <(curl ...)`
    source, pipe = write(tmp_path / "a.png", IMAGE), tmp_path / "pipe"
    os.mkfifo(pipe)
    threading.Thread(target=lambda: pipe.write_bytes(source.read_bytes())).start()
    np.testing.assert_array_equal(read_image_bgr(pipe), IMAGE)


# --- arrays ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("image", "advice"),
    [
        (None, "cv2.imread returns None"),
        ("street.jpg", "read the file with cv2.imread"),
        ([[0, 0, 0]], "found list"),
        (ZEROS[:, :, 0], "COLOR_GRAY2BGR"),
        (ZEROS[:, :, :1], "COLOR_GRAY2BGR"),
        (np.zeros((4, 5, 4), np.uint8), "COLOR_BGRA2BGR"),
        (ZEROS[None], "one by one"),
        (np.zeros((3, 4, 5), np.uint8), "channels come last"),
        (np.zeros((4, 5, 2), np.uint8), "channels come last"),
        (np.zeros(5, np.uint8), "channels come last"),
        (ZEROS.astype(np.float32), "0..255"),
        (ZEROS.astype(np.int8), "0..255"),
        (ZEROS.astype(bool), "0..255"),
        (ZEROS[:0], "is empty"),
        (ZEROS[:, :0], "is empty"),
        (np.array(5, np.uint8), "channels come last"),
        # 50,000 x 50,000 that takes no memory; refused before it is copied.
        (np.broadcast_to(ZEROS[:1, :1], (50_000, 50_000, 3)), "at most 268435456 pixels; shrink"),
    ],
)
def test_as_image_bgr__refuses_with_advice(image: Any, advice: str) -> None:
    with pytest.raises(ImageError, match=advice) as caught:
        as_image_bgr(image)
    assert "wanted a (H, W, 3) uint8 array in BGR order" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_as_image_bgr__takes_pictures_as_they_are() -> None:
    assert as_image_bgr(IMAGE) is IMAGE
    flipped = as_image_bgr(IMAGE[:, ::-1])
    assert flipped.flags.c_contiguous
    np.testing.assert_array_equal(flipped, IMAGE[:, ::-1])
