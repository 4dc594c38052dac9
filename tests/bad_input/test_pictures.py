"""Picture files of every kind through `fcos-edge detect`: used as they are meant, or refused on one line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from fcos_edge.cli import main
from fcos_edge.image import MAX_PIXELS
from tests.quantize.test_placing import tree
from tests.recordings import LABEL, write_recording
from tests.test_image import bmp_header, gif_header, jpeg_header, png_header, tiff_header

GREY = np.random.default_rng(0).integers(100, 156, (32, 64)).astype(np.uint8)
COLOUR = np.repeat(GREY[:, :, None], 3, axis=2)


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_recording(Path("model.npz"))
    return tmp_path


def encoded(image: Any, suffix: str = ".png") -> bytes:
    is_written, content = cv2.imencode(suffix, image)
    assert is_written
    return content.tobytes()


def wide(height: int, width: int) -> Any:
    return np.full((height, width, 3), 128, np.uint8)


@pytest.mark.parametrize(("name", "image"), [
    ("grey.png", GREY),
    ("grey.jpg", GREY),
    ("16bit.png", COLOUR.astype(np.uint16) * 257),
    ("16bit-grey.png", GREY.astype(np.uint16) * 257),
    ("16bit.tiff", COLOUR.astype(np.uint16) * 257),
    ("alpha.png", np.dstack([COLOUR, GREY])),
    ("16bit-alpha.png", np.dstack([COLOUR, GREY]).astype(np.uint16) * 257),
    ("1x1.png", wide(1, 1)),
    ("1x1.jpg", wide(1, 1)),
    ("a column.png", wide(500, 1)),
    ("20000 wide.png", wide(30, 20_000)),
    ("20000 high.jpg", wide(20_000, 30)),
])  # fmt: skip
def test_detect__takes_it(name: str, image: Any, capsys: pytest.CaptureFixture[str]) -> None:
    Path(name).write_bytes(encoded(image, Path(name).suffix))
    assert main(["detect", name, "--model", "model.npz", "--threshold", "0.9", "--out", "out", "--json"]) == 0
    out, err = capsys.readouterr()
    record = json.loads(out)
    height, width = image.shape[:2]
    assert record["size_hw"] == [height, width]
    # The recording finds its bicycle in all pictures; of a large one, only within its borders.
    for detection in record["detections"]:
        assert detection["label"] == LABEL
        x1, y1, x2, y2 = detection["box_xyxy"]
        assert 0 <= x1 < x2 <= width
        assert 0 <= y1 < y2 <= height
    assert err.count("\n") == 1  # the model
    drawn: Any = cv2.imread(f"out/{name}", cv2.IMREAD_UNCHANGED)
    assert (drawn.shape, drawn.dtype) == ((height, width, 3), np.uint8)


@pytest.mark.parametrize(("stored", "wanted"), [
    (GREY, COLOUR),
    (COLOUR.astype(np.uint16) * 257, COLOUR),
    (np.dstack([COLOUR, GREY]), COLOUR),
], ids=["grey", "16 bit", "alpha"])  # fmt: skip
def test_detect__draws_on_what_it_saw(stored: Any, wanted: Any) -> None:
    Path("a.png").write_bytes(encoded(stored))
    assert main(["detect", "a.png", "--model", "model.npz", "--threshold", "1"]) == 0
    np.testing.assert_array_equal(cv2.imread("detections/a.png"), wanted)


def damaged(content: bytes, at: int) -> bytes:
    return content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]


PNG, JPEG = encoded(COLOUR), encoded(COLOUR, ".jpg")
NO_PICTURE = "not a picture that OpenCV can decode"
LIMIT = f"wanted at most {MAX_PIXELS}; shrink the picture"


@pytest.mark.parametrize(("content", "said"), [
    (b"", "the file is empty; copy the picture again"),
    (b"no picture", f"{NO_PICTURE}; convert it to JPEG or PNG"),
    (b"<html><body>404 Not Found</body></html>", f"{NO_PICTURE}; convert"),  # a download that failed
    (bytes(100_000), f"{NO_PICTURE}; convert"),  # a disk that was not unmounted
    (PNG[: len(PNG) // 2], f"{NO_PICTURE}, damaged or cut short; copy it again"),
    (PNG[:-1], f"{NO_PICTURE}, damaged or cut short; copy it again"),
    (damaged(PNG, len(PNG) // 2), f"{NO_PICTURE}, damaged or cut short; copy it again"),
    (JPEG[: len(JPEG) // 2], f"{NO_PICTURE}, damaged or cut short; copy it again"),
    (JPEG[:-2], f"{NO_PICTURE}, damaged or cut short; copy it again"),
    (encoded(COLOUR, ".webp")[:500], f"{NO_PICTURE}; convert"),
    (encoded(COLOUR, ".bmp")[:500], f"{NO_PICTURE}; convert"),
    (png_header(50_000, 50_000), f"50000x50000 pixels, {LIMIT}"),
    (jpeg_header(50_000, 50_000), f"50000x50000 pixels, {LIMIT}"),
    (bmp_header(50_000, 50_000), f"50000x50000 pixels, {LIMIT}"),
    (gif_header(50_000, 50_000), f"50000x50000 pixels, {LIMIT}"),
    (tiff_header(50_000, 50_000), f"more pixels than OpenCV decodes, {LIMIT}"),
])  # fmt: skip
def test_detect__refuses_it_on_one_line(
    content: bytes, said: str, place: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    Path("a.png").write_bytes(content)
    was = tree(place)
    assert main(["detect", "a.png", "--model", "model.npz"]) == 2
    out, err = capfd.readouterr()  # of the process, so that a decoder's own voice is heard
    model, *lines = err.splitlines()
    assert (out, model.partition(" ")[0], len(lines)) == ("", "model:", 1)
    assert lines[0].startswith(f"fcos-edge: a.png: {said}")
    assert tree(place) == was


def make_missing(path: Path) -> None:
    pass


def make_loop(path: Path) -> None:
    path.symlink_to(path.name)


def make_dangling(path: Path) -> None:
    path.symlink_to("gone.png")


@pytest.mark.parametrize("make", [make_missing, make_loop, make_dangling])
@pytest.mark.parametrize("verb", [["detect"], ["detect", "--json"]])
def test_detect__path_that_leads_nowhere(
    make: Callable[[Path], None], verb: list[str], place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make(Path("a.png"))
    assert main([*verb, "a.png", "--model", "model.npz"]) == 2
    out, err = capsys.readouterr()
    assert (out, err) == ("", "fcos-edge: a.png: no such file or folder; check the path\n")
