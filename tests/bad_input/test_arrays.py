"""Arrays given to a detector: any picture in memory, in whatever layout, and nothing that only looks like it.

What is refused, and the advice, is in tests/test_image.py; here a real network runs, or must not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fcos_edge
from fcos_edge.detections import Detections
from fcos_edge.detector import Detector
from fcos_edge.errors import FcosEdgeError, ImageError
from tests.runtimes.models import pictures, write_onnx

IMAGE = np.ascontiguousarray(pictures(1, seed=3)[0])
ALPHA = np.dstack([IMAGE, IMAGE[:, :, 0]])


@pytest.fixture(scope="module")
def detector(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Detector]:
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    path = write_onnx(tmp_path_factory.mktemp("model") / "model.onnx")
    with fcos_edge.load(path, runtime="onnxruntime", threads=1) as detector:
        yield detector


def read_only() -> Any:
    image = IMAGE.copy()
    image.flags.writeable = False
    return image


def mapped() -> Any:
    """As of a camera's buffer: memory that is not NumPy's, and may not be written."""
    return np.frombuffer(IMAGE.tobytes(), np.uint8).reshape(IMAGE.shape)


def every_second() -> Any:
    large = np.zeros((IMAGE.shape[0] * 2, IMAGE.shape[1] * 2, 3), np.uint8)
    large[::2, ::2] = IMAGE
    return large[::2, ::2]


def unaligned() -> Any:
    return np.frombuffer(b"x" + IMAGE.tobytes(), np.uint8, offset=1).reshape(IMAGE.shape)


LAYOUTS: list[Callable[[], Any]] = [
    lambda: IMAGE,
    read_only,
    mapped,
    unaligned,
    every_second,
    lambda: np.asfortranarray(IMAGE),
    lambda: IMAGE.transpose(2, 0, 1).copy().transpose(1, 2, 0),  # planes of a decoder
    lambda: np.ascontiguousarray(IMAGE[:, :, ::-1])[:, :, ::-1],  # from RGB
    lambda: np.ascontiguousarray(IMAGE[::-1])[::-1],  # negative strides
    lambda: ALPHA[:, :, :3],  # a view of four channels
    lambda: np.pad(IMAGE, ((3, 3), (5, 5), (0, 0)))[3:-3, 5:-5],  # a crop
    lambda: IMAGE.view(np.recarray),  # a subclass
]


def same(a: Detections, b: Detections) -> bool:
    parts = ("boxes_xyxy", "scores", "labels")
    return all(np.array_equal(getattr(a, part), getattr(b, part)) for part in parts)


@pytest.mark.parametrize("make", LAYOUTS)
def test_layout__changes_nothing(make: Callable[[], Any], detector: Detector) -> None:
    wanted = detector.candidates(IMAGE)
    assert len(wanted) > 10
    image = make()
    before, flags = image.copy(), (image.flags.writeable, image.strides)
    assert same(detector.candidates(image), wanted)
    # Detections are their own memory: the next picture does not change them.
    found = detector.candidates(image)
    detector.candidates(255 - IMAGE)
    assert same(found, wanted)
    np.testing.assert_array_equal(image, before)
    assert (image.flags.writeable, image.strides) == flags


# (H, W) of pictures without end, or nearly without extent: boxes lie within them.
@pytest.mark.parametrize("size_hw", [(1, 1), (1, 20_000), (20_000, 1), (30, 20_000), (2, 3)])
def test_size__any(size_hw: tuple[int, int], detector: Detector) -> None:
    found = detector.candidates(np.broadcast_to(np.uint8(200), (*size_hw, 3)))
    height, width = size_hw
    assert np.isfinite(found.boxes_xyxy).all()
    assert (found.boxes_xyxy >= 0).all()
    assert (found.boxes_xyxy <= [width, height, width, height]).all()


@pytest.mark.parametrize("image", [
    # no arrays
    None, "street.jpg", Path("street.jpg"), 5, [[[0, 0, 0]]], IMAGE.tolist(), b"\xff\xd8\xff", object(),
    np.uint8(5),
    # of another dtype
    IMAGE.astype(np.float32) / 255, IMAGE.astype(np.float64), IMAGE.astype(np.int8), IMAGE.astype(np.int64),
    IMAGE.astype(np.uint16) * 257, IMAGE.astype(">u2"), IMAGE.astype(bool), IMAGE.astype(complex),
    IMAGE.astype(object), IMAGE.astype("S1"), IMAGE.astype("M8[s]"), np.full((4, 4, 3), np.nan),
    np.zeros((4, 4), [("r", "u1"), ("g", "u1"), ("b", "u1")]),
    # of another shape or order
    IMAGE[:, :, 0], IMAGE[:, :, :1], IMAGE[:, :, :2], ALPHA, np.ma.masked_array(ALPHA), IMAGE[None],
    IMAGE[None, None], IMAGE.transpose(2, 0, 1), IMAGE.ravel(), np.array(5, np.uint8),
    # of a size that no picture has; broadcast, they take no memory
    IMAGE[:0], IMAGE[:, :0], IMAGE[:, :, :0], np.broadcast_to(np.uint8(0), (50_000, 50_000, 3)),
    np.broadcast_to(np.uint8(0), (1, 1 << 40, 3)),
], ids=lambda image: type(image).__name__)  # fmt: skip
def test_no_picture__is_one_line(image: Any, detector: Detector) -> None:
    wanted = detector.candidates(IMAGE)
    for call in (detector, detector.candidates):
        with pytest.raises(ImageError) as caught:
            call(image)
        assert isinstance(caught.value, FcosEdgeError)
        assert len(str(caught.value).splitlines()) == 1
        assert len(str(caught.value)) < 300
    # The detector is as good as before.
    assert same(detector.candidates(IMAGE), wanted)
