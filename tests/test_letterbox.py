"""Letterbox: geometry against the oracle, pixels against the plain way, boxes there and back."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fcos_edge.errors import ImageError
from fcos_edge.letterbox import Letterbox
from fcos_edge.spec import ModelSpec
from tests import oracles
from tests.small_specs import SMALL_SPEC

SQUARE_SPEC = replace(SMALL_SPEC, input_hw=(320, 320))


def specs() -> st.SearchStrategy[ModelSpec]:
    return st.builds(
        replace,
        st.just(SMALL_SPEC),
        input_hw=st.sampled_from([(32, 32), (32, 64), (192, 320), (320, 192)]),
        resize=st.sampled_from(["letterbox", "stretch"]),
        pad_position=st.sampled_from(["bottom-right", "centre"]),
        pad_color_rgb=st.sampled_from([(114, 114, 114), (1, 2, 3)]),
        interpolation=st.sampled_from(["linear", "area", "cubic", "nearest"]),
    )


def sides() -> st.SearchStrategy[tuple[int, int]]:
    return st.tuples(st.integers(1, 300), st.integers(1, 300))


@pytest.mark.parametrize(
    ("source_hw", "change", "resized_hw", "pad_xy"),
    [
        ((720, 1280), {}, (180, 320), (0, 0)),
        ((720, 1280), {"pad_position": "centre"}, (180, 320), (0, 70)),
        ((1280, 720), {"pad_position": "centre"}, (320, 180), (70, 0)),
        ((720, 1280), {"resize": "stretch"}, (320, 320), (0, 0)),
        ((720, 1280), {"resize": "stretch", "pad_position": "centre"}, (320, 320), (0, 0)),
        ((100, 100), {}, (320, 320), (0, 0)),  # enlarged
        ((5, 128), {}, (13, 320), (0, 0)),  # 12.5 rounds up
        ((5, 128), {"pad_position": "centre"}, (13, 320), (0, 153)),  # the odd pixel of padding is below
        ((1, 4000), {}, (1, 320), (0, 0)),  # 0.08 would be no pixel
        ((4000, 1), {}, (320, 1), (0, 0)),
    ],
)
def test_from_spec__table(
    source_hw: tuple[int, int], change: Any, resized_hw: tuple[int, int], pad_xy: tuple[int, int]
) -> None:
    letterbox = Letterbox.from_spec(replace(SQUARE_SPEC, **change), source_hw)
    assert (letterbox.resized_hw, letterbox.pad_xy) == (resized_hw, pad_xy)


@settings(deadline=None)  # machines are shared
@given(spec=specs(), source_hw=st.tuples(st.integers(1, 20000), st.integers(1, 20000)))
def test_from_spec__equals_oracle(spec: ModelSpec, source_hw: tuple[int, int]) -> None:
    letterbox = Letterbox.from_spec(spec, source_hw)
    left, top, width, height = oracles.letterbox_geometry(spec, source_hw)
    assert letterbox.pad_xy == (left, top)
    assert letterbox.resized_hw == (height, width)
    assert letterbox.scale_xy == pytest.approx((width / source_hw[1], height / source_hw[0]), rel=1e-12)


@settings(deadline=None)  # machines are shared
@given(spec=specs(), source_hw=sides(), seed=st.integers(0, 9))
def test_apply__equals_the_plain_way(spec: ModelSpec, source_hw: tuple[int, int], seed: int) -> None:
    image_bgr = np.random.default_rng(seed).integers(0, 256, (*source_hw, 3), np.uint8)
    before = image_bgr.copy()
    left, top, width, height = oracles.letterbox_geometry(spec, source_hw)
    interpolation = {"linear": 1, "area": 3, "cubic": 2, "nearest": 0}[spec.interpolation]  # OpenCV's numbers
    wanted = np.empty((*spec.input_hw, 3), np.uint8)
    wanted[:] = spec.pad_color_rgb
    resized = cv2.resize(image_bgr, (width, height), interpolation=interpolation)
    wanted[top : top + height, left : left + width] = resized[:, :, ::-1]

    letterbox = Letterbox.from_spec(spec, source_hw)
    found = letterbox.apply(image_bgr)
    np.testing.assert_array_equal(found, wanted)
    np.testing.assert_array_equal(image_bgr, before)
    # A reused buffer, full of another picture, gives the same.
    out = np.full((*spec.input_hw, 3), 77, np.uint8)
    assert letterbox.apply(image_bgr, out=out) is out
    np.testing.assert_array_equal(out, wanted)


@pytest.mark.parametrize("source_hw", [(32, 64), (16, 32)])  # nothing to resize, nothing to pad
def test_apply__gives_rgb_and_leaves_the_picture_alone(source_hw: tuple[int, int]) -> None:
    image_bgr = np.full((*source_hw, 3), (10, 20, 30), np.uint8)
    image_bgr.setflags(write=False)
    found = Letterbox.from_spec(SMALL_SPEC, source_hw).apply(image_bgr)
    assert found.shape == (32, 64, 3)
    assert (found == (30, 20, 10)).all()


def test_apply__takes_views_that_are_not_contiguous() -> None:
    image_bgr = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
    letterbox = Letterbox.from_spec(SMALL_SPEC, (40, 50))
    for view in (image_bgr[:, ::-1], image_bgr[::-1], image_bgr[:, :, ::-1]):
        np.testing.assert_array_equal(letterbox.apply(view), letterbox.apply(view.copy()))


@pytest.mark.parametrize(
    "out",
    [
        np.empty((32, 64), np.uint8),
        np.empty((64, 32, 3), np.uint8),
        np.empty((32, 64, 3), np.float32),
        np.empty((32, 128, 3), np.uint8)[:, ::2],  # not contiguous
    ],
)
def test_apply__refuses_a_buffer_that_does_not_fit(out: Any) -> None:
    with pytest.raises(ValueError, match="out: found"):
        Letterbox.from_spec(SMALL_SPEC, (10, 10)).apply(np.zeros((10, 10, 3), np.uint8), out=out)


def test_apply__refuses_a_picture_of_another_size() -> None:
    with pytest.raises(ImageError, match=r"found 11x10 pixels, wanted 10x10; make a letterbox"):
        Letterbox.from_spec(SMALL_SPEC, (10, 10)).apply(np.zeros((10, 11, 3), np.uint8))


def test_from_spec__refuses_an_empty_picture() -> None:
    with pytest.raises(ImageError, match="wanted at least 1x1"):
        Letterbox.from_spec(SMALL_SPEC, (0, 5))


@settings(deadline=None)  # machines are shared
@given(spec=specs(), source_hw=sides(), seed=st.integers(0, 2**32 - 1))
def test_undo__equals_oracle(spec: ModelSpec, source_hw: tuple[int, int], seed: int) -> None:
    boxes = np.random.default_rng(seed).uniform(-100, 400, (20, 4)).astype(np.float32)
    found = Letterbox.from_spec(spec, source_hw).undo(boxes)
    wanted = [oracles.to_source(spec, source_hw, (a, b, c, d)) for a, b, c, d in boxes.tolist()]
    assert found.dtype == np.float32
    # float32: half a unit in the last place of 400 input pixels, times the scale.
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-4 * max(source_hw))


@settings(deadline=None)  # machines are shared
@given(spec=specs(), source_hw=sides())
def test_undo__corners_of_the_resized_picture_are_corners_of_the_source(
    spec: ModelSpec, source_hw: tuple[int, int]
) -> None:
    left, top, width, height = oracles.letterbox_geometry(spec, source_hw)
    box = np.array([[left, top, left + width, top + height]], np.float32)
    found = Letterbox.from_spec(spec, source_hw).undo(box)
    np.testing.assert_allclose(found, [[0, 0, source_hw[1], source_hw[0]]], rtol=1e-6)


@pytest.mark.parametrize(
    ("box_xyxy", "wanted"),
    [
        ((-np.inf, -np.inf, np.inf, np.inf), (0, 0, 128, 64)),  # the whole picture
        ((-8, -8, 8, 8), (0, 0, 16, 16)),  # over the corner
        ((70, 4, 90, 8), (128, 8, 128, 16)),  # right of the picture: no width left
        ((np.nan, 1, 2, 3), (np.nan, 2, 4, 6)),  # NaN stays, the others are right
    ],
)
def test_undo__clips(box_xyxy: tuple[float, ...], wanted: tuple[float, ...]) -> None:
    boxes = np.array([box_xyxy], np.float32)
    before = boxes.copy()
    found = Letterbox.from_spec(SMALL_SPEC, (64, 128)).undo(boxes)
    np.testing.assert_array_equal(found, [wanted])
    np.testing.assert_array_equal(boxes, before)


def test_undo__no_boxes() -> None:
    found = Letterbox.from_spec(SMALL_SPEC, (64, 128)).undo(np.empty((0, 4), np.float32))
    assert found.shape == (0, 4)


def test_apply_and_undo__a_painted_box_is_found_where_it_was() -> None:
    image_bgr = np.zeros((480, 640, 3), np.uint8)
    image_bgr[120:360, 160:480] = 255
    letterbox = Letterbox.from_spec(
        replace(SQUARE_SPEC, pad_position="centre", pad_color_rgb=(0, 0, 0)), (480, 640)
    )
    rows, columns = np.nonzero(letterbox.apply(image_bgr)[:, :, 0] > 127)
    box = np.array([[columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]], np.float32)
    np.testing.assert_allclose(letterbox.undo(box), [[160, 120, 480, 360]], atol=1)  # half an input pixel
