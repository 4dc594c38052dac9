"""Pictures as bytes: sizes from headers, and damage that is seen before a decoder sees it."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fcos_edge.encoded import declared_hw, is_damaged

IMAGE = np.random.default_rng(0).integers(0, 256, (12, 20, 3)).astype(np.uint8)


def encode(suffix: str, image: Any = IMAGE, *parameters: int) -> bytes:
    is_written, encoded = cv2.imencode(suffix, image, parameters)
    assert is_written
    return encoded.tobytes()


PNG, JPEG = encode(".png"), encode(".jpg")
# With what phones leave behind the end, and with a thumbnail in front.
TRAILED = JPEG + b"\0\0Samsung"
THUMBNAIL = b"\xff\xe1" + (len(JPEG) + 2).to_bytes(2, "big") + JPEG
FRAMED = JPEG[:2] + THUMBNAIL + JPEG[2:]


@pytest.mark.parametrize("content", [
    PNG,
    JPEG,
    TRAILED,
    FRAMED,
    encode(".jpg", IMAGE, cv2.IMWRITE_JPEG_PROGRESSIVE, 1),
    encode(".jpg", IMAGE, cv2.IMWRITE_JPEG_RST_INTERVAL, 1),
    encode(".bmp"),
])  # fmt: skip
def test_whole_pictures(content: bytes) -> None:
    assert declared_hw(content) == (12, 20)
    assert not is_damaged(content)


def test_formats_that_are_left_to_their_decoder() -> None:
    for content in (encode(".webp"), encode(".tiff"), b"", b"BM", b"GIF8", b"no picture"):
        assert declared_hw(content) is None
        assert not is_damaged(content)


@pytest.mark.parametrize("content", [PNG, JPEG, FRAMED], ids=["PNG", "JPEG", "JPEG with thumbnail"])
def test_is_damaged__every_cut_is_noticed(content: bytes) -> None:
    # Shorter ones have no signature, and no decoder takes them.
    for length in range(8, len(content)):
        assert is_damaged(content[:length]), length


def test_is_damaged__every_byte_of_a_png_counts() -> None:
    for at in range(8, len(PNG)):
        content = bytearray(PNG)
        content[at] ^= 1
        assert is_damaged(bytes(content)), at


def test_is_damaged__not_by_a_comment() -> None:
    # tEXt with a wrong checksum: decoders warn, and go on.
    comment = (3).to_bytes(4, "big") + b"tEXt" + b"a\0b" + bytes(4)
    assert not is_damaged(PNG[:33] + comment + PNG[33:])


STARTS = (b"", PNG[:8], PNG[:33], JPEG[:3], JPEG[:200], b"BM", b"GIF8")


@given(start=st.sampled_from(STARTS), rest=st.binary())
def test_any_bytes__are_looked_at(start: bytes, rest: bytes) -> None:
    declared_hw(start + rest)
    is_damaged(start + rest)
