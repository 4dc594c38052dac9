"""Labelled pictures of one person and one cat, composed of the free pictures that come with the package.

    source --crop around the head, scale, mirror, wear--> pasted into a cell of a drawn background
    outline of the source --the same, by formula--> box

The outlines of the person and the cat were measured in the sources by hand. Labels are the same on every
machine; pixels are where OpenCV is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

import cv2
import numpy as np

from fcos_edge.image import read_image_bgr
from fcos_edge.runtime import UInt8Array

SOURCES = Path(__file__).with_name("golden_pictures")
# Of the first ten seeds the one in the middle: int8 loses as much against float32 as it mostly does.
_SEED = 8

Box = tuple[float, float, float, float]  # x1 y1 x2 y2
PixelBox = tuple[int, int, int, int]
Point = tuple[float, float]

_PERSON_OUTLINE: tuple[Point, ...] = (
    (27, 400), (18, 365), (18, 293), (23, 256), (32, 234), (46, 205), (70, 183), (88, 161), (89, 147),
    (101, 132), (121, 119), (143, 115), (141, 103), (132, 88), (121, 68), (120, 53), (130, 37), (148, 26),
    (161, 16), (183, 12), (205, 16), (222, 27), (231, 46), (235, 68), (229, 88), (216, 103), (209, 110),
    (200, 137), (216, 150), (233, 168), (238, 183), (256, 192), (269, 209), (278, 234), (284, 264),
    (284, 273), (256, 284), (236, 304), (222, 341), (217, 370), (220, 400),
)  # fmt: skip
_CAT_OUTLINE: tuple[Point, ...] = (
    (0, 300), (0, 125), (20, 114), (28, 80), (33, 40), (40, 0), (398, 0), (385, 30), (373, 57), (360, 70),
    (361, 100), (363, 124), (360, 154), (348, 177), (331, 201), (345, 215), (365, 235), (385, 262),
    (390, 300),
)  # fmt: skip


@dataclass(frozen=True)
class _Source:
    """A picture with one thing in it; all in its pixels.

    outline  of what is seen of the thing
    head     what every crop shows whole
    """

    file_name: str
    class_name: str
    outline: tuple[Point, ...]
    head: PixelBox


_ASTRONAUT = _Source("astronaut.png", "person", _PERSON_OUTLINE, (86, 8, 242, 210))
_PORTRAIT = _Source(  # of the same photograph, 1.28 times as large, from its pixel 100 on
    "astronaut-portrait.png",
    "person",
    tuple((1.28 * x - 100, 1.28 * y) for x, y in _PERSON_OUTLINE),
    (10, 10, 210, 269),
)
_CAT = _Source("cat.png", "cat", _CAT_OUTLINE, (30, 0, 398, 285))
# Parts of the sources with neither person nor cat in them.
_CLUTTER: tuple[tuple[str, PixelBox], ...] = (
    ("astronaut.png", (242, 0, 400, 180)),
    ("astronaut.png", (0, 0, 84, 150)),
    ("cat.png", (400, 60, 451, 300)),
)


@dataclass(frozen=True)
class _Plan:
    """One picture: its size, its grid of cells (columns and rows), and how many of them stay empty."""

    size_wh: tuple[int, int]
    grid: tuple[int, int]
    empty: int = 0


# Things from a fifth of the picture to all of it, so that every level of a pyramid has its share. Tall and
# wide pictures, which a stretch spoils.
_PLANS = (
    *(
        _Plan(size, (1, 1))
        for size in ((400, 400), (640, 480), (245, 420), (451, 300), (333, 500), (800, 600))
    ),
    *(_Plan(size, (2, 1)) for size in ((800, 300), (500, 333), (320, 240), (900, 400), (427, 400))),
    *(_Plan(size, (1, 2)) for size in ((375, 500), (300, 640))),
    *(_Plan(size, (2, 2)) for size in ((640, 480), (480, 640), (500, 500), (320, 320), (640, 427))),
    *(_Plan(size, (3, 1)) for size in ((900, 300), (640, 300))),
    *(_Plan(size, (1, 3)) for size in ((300, 800), (250, 640))),
    *(_Plan(size, (3, 2)) for size in ((640, 480), (720, 480), (600, 400), (800, 600))),
    *(_Plan(size, (2, 3)) for size in ((480, 640), (427, 640), (500, 640))),
    *(_Plan(size, (4, 2), empty=2) for size in ((640, 427), (800, 450))),
    *(_Plan(size, (3, 3), empty=1) for size in ((640, 480), (600, 600))),
    *(_Plan(size, (4, 3), empty=2) for size in ((800, 600), (640, 480))),
    _Plan((500, 375), (2, 1), empty=2),  # nothing to find
)


@dataclass(frozen=True, eq=False)
class FreePicture:
    """image_bgr: (H, W, 3) uint8; boxes_xyxy, in its pixels, and class_names belong together."""

    image_bgr: UInt8Array
    boxes_xyxy: tuple[Box, ...]
    class_names: tuple[str, ...]


def make_free_pictures() -> list[FreePicture]:
    """At most 40 pictures, the same at each call."""
    names = (_ASTRONAUT.file_name, _PORTRAIT.file_name, _CAT.file_name)
    sources = {name: read_image_bgr(SOURCES / name) for name in names}
    dice = _Dice(_SEED)
    return [_compose(plan, sources, dice) for plan in _PLANS]


class _Dice:
    """Numbers that are the same in every Python and NumPy: of `Random`, these two methods promise that."""

    def __init__(self, seed: int) -> None:
        self._random = Random(seed)

    def between(self, low: float, high: float) -> float:
        return low + (high - low) * self._random.random()

    def below(self, count: int) -> int:
        return int(self._random.random() * count)

    def happens(self, chance: float) -> bool:
        return self._random.random() < chance

    def noise(self, size_wh: tuple[int, int]) -> UInt8Array:
        """(H, W, 3) uint8, each value as likely as any other."""
        width, height = size_wh
        noise = np.frombuffer(self._random.randbytes(3 * width * height), np.uint8)
        return noise.reshape(height, width, 3)


def _compose(plan: _Plan, sources: Mapping[str, UInt8Array], dice: _Dice) -> FreePicture:
    (width, height), (columns, rows) = plan.size_wh, plan.grid
    image = _background(plan.size_wh, sources, dice)
    cells = [(column, row) for row in range(rows) for column in range(columns)]
    for _ in range(plan.empty):
        del cells[dice.below(len(cells))]
    # As many persons as cats, wherever they are.
    first = dice.below(2)
    are_cats = [(first + number) % 2 == 1 for number in range(len(cells))]
    boxes: list[Box] = []
    names: list[str] = []
    for column, row in cells:
        is_cat = are_cats.pop(dice.below(len(are_cats)))
        source = _CAT if is_cat else (_PORTRAIT if dice.happens(0.3) else _ASTRONAUT)
        cell = (
            width * column // columns, height * row // rows,
            width * (column + 1) // columns, height * (row + 1) // rows,
        )  # fmt: skip
        boxes.append(_paste(image, cell, source, sources[source.file_name], dice))
        names.append(source.class_name)
    return FreePicture(image, tuple(boxes), tuple(names))


def _paste(
    image_bgr: UInt8Array, cell: PixelBox, source: _Source, source_bgr: UInt8Array, dice: _Dice
) -> Box:
    """Paste a crop of the source somewhere into the cell of `image_bgr`. Returns the box of what it shows."""
    crop = _choose_crop(source, source_bgr, dice)
    crop_wh = (crop[2] - crop[0], crop[3] - crop[1])
    room_wh = (cell[2] - cell[0], cell[3] - cell[1])
    # Wider or narrower than it was by up to a tenth; as large as fits, down to two thirds of that.
    stretch = dice.between(0.9, 1.1)
    scale = min(room_wh[0] / (crop_wh[0] * stretch), room_wh[1] / crop_wh[1]) * dice.between(0.5, 1) ** 0.6
    width = min(room_wh[0], round(crop_wh[0] * stretch * scale))
    height = min(room_wh[1], round(crop_wh[1] * scale))
    left = cell[0] + dice.below(room_wh[0] - width + 1)
    top = cell[1] + dice.below(room_wh[1] - height + 1)

    shown = _resized(source_bgr[crop[1] : crop[3], crop[0] : crop[2]], (width, height))
    xs, ys = zip(*clip_polygon(source.outline, crop), strict=True)
    x1, x2 = ((x - crop[0]) * width / crop_wh[0] for x in (min(xs), max(xs)))
    y1, y2 = ((y - crop[1]) * height / crop_wh[1] for y in (min(ys), max(ys)))
    if dice.happens(0.5):
        shown, x1, x2 = shown[:, ::-1], width - x2, width - x1
    image_bgr[top : top + height, left : left + width] = _wear(shown, dice)
    return (left + x1, top + y1, left + x2, top + y2)


def _choose_crop(source: _Source, source_bgr: UInt8Array, dice: _Dice) -> PixelBox:
    """The head, and as much around it as it happens; every third is the whole picture."""
    height, width = source_bgr.shape[:2]
    if dice.happens(1 / 3):
        return (0, 0, width, height)
    x1, y1, x2, y2 = source.head
    return (
        round(dice.between(0, x1)), round(dice.between(0, y1)),
        round(dice.between(x2, width)), round(dice.between(y2, height)),
    )  # fmt: skip


def clip_polygon(outline: Sequence[Point], box_xyxy: PixelBox) -> list[Point]:
    """The corners of a polygon's part inside a box, found side by side (Sutherland and Hodgman, 1974)."""
    points = list(outline)
    for axis, limit, sign in (
        (0, box_xyxy[0], 1),
        (1, box_xyxy[1], 1),
        (0, box_xyxy[2], -1),
        (1, box_xyxy[3], -1),
    ):
        kept: list[Point] = []
        for start, end in zip(points, points[1:] + points[:1], strict=True):
            start_inside, end_inside = sign * (start[axis] - limit), sign * (end[axis] - limit)
            if start_inside >= 0:
                kept.append(start)
            if start_inside * end_inside < 0:
                part = start_inside / (start_inside - end_inside)
                kept.append((start[0] + part * (end[0] - start[0]), start[1] + part * (end[1] - start[1])))
        points = kept
    return points


def _wear(image_bgr: UInt8Array, dice: _Dice) -> UInt8Array:
    """The picture as a worse camera gives it: other light, less contrast, out of focus, noise."""
    height, width = image_bgr.shape[:2]
    contrast, brightness = dice.between(0.6, 1.2), dice.between(-40, 40)
    # Below zero: in focus, without noise.
    sigma_px, noise_deviation = dice.between(-1, 1.6), dice.between(-12, 16)
    values = (image_bgr.astype(np.float32) - 128) * contrast + 128 + brightness
    if sigma_px > 0.2:
        values = np.asarray(cv2.GaussianBlur(values, (0, 0), sigma_px), np.float32)
    if noise_deviation > 0:
        # 74: the standard deviation of evenly spread bytes.
        values += (dice.noise((width, height)).astype(np.float32) - 127.5) * (noise_deviation / 74)
    worn: UInt8Array = np.clip(np.rint(values), 0, 255).astype(np.uint8)
    return worn


def _background(size_wh: tuple[int, int], sources: Mapping[str, UInt8Array], dice: _Dice) -> UInt8Array:
    """(H, W, 3) uint8: a gradient, blocks, spots, or clutter from the sources."""
    kind = dice.below(4)
    if kind == 0:
        return _resized(dice.noise((2, 2)), size_wh)
    if kind == 1:
        return _resized(dice.noise((9, 7)), size_wh, cv2.INTER_NEAREST)
    if kind == 2:
        return _resized(dice.noise((32, 24)), size_wh)
    name, (x1, y1, x2, y2) = _CLUTTER[dice.below(len(_CLUTTER))]
    return _resized(sources[name][y1:y2, x1:x2], size_wh)


def _resized(image_bgr: UInt8Array, size_wh: tuple[int, int], interpolation: int | None = None) -> UInt8Array:
    if interpolation is None:
        is_smaller = size_wh[0] * size_wh[1] < image_bgr.shape[0] * image_bgr.shape[1]
        interpolation = cv2.INTER_AREA if is_smaller else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(image_bgr, size_wh, interpolation=interpolation), np.uint8)
