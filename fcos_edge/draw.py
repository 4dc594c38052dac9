"""Draw detections on a picture: a coloured box and a readable label for each.

A class has one colour, by its number alone. Large boxes are drawn first and small ones on top; lines and
letters grow with the picture, and are finer on small boxes. Where labels go, and which are left out:
`label_places`.
"""

from __future__ import annotations

import colorsys
import math
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
import numpy.typing as npt

from fcos_edge.detections import Detections
from fcos_edge.image import as_image_bgr
from fcos_edge.label_places import Placed, Rect, Wanted, place_labels
from fcos_edge.runtime import UInt8Array

Color = tuple[int, int, int]

_FONT = cv2.FONT_HERSHEY_SIMPLEX
_FONT_HEIGHT_PX = 22.0  # of capitals at scale 1
# Below 9 pixels letters run together; 1/45 of the picture's size reads well on a full screen, 1/65 too.
_MIN_LETTER_PX = 9.0
_LETTERS_PER_PICTURE = 45.0
_SMALL_LETTERS_PER_PICTURE = 65.0
_LETTERS_PER_BOX = 10.0
_LETTERS_PER_LINE_PX = 4.0
# A line takes at most this part of its box's shorter side.
_LINES_PER_BOX = 12.0
# A box of fewer letters squared than this is small: a label would hide a fifth of it, or all.
_SMALL_BOX_LETTERS = 6.0
# Steps of the golden ratio around the colour wheel: neighbouring labels differ, and none repeats.
_HUE_STEP = 0.618033988749895
_QUIET_PART = 0.6  # of the class's colour in a line that is not emphasized
# Latin letters that Unicode does not take apart, and the signs that keyboards put into names.
_LATIN = str.maketrans({
    "ß": "ss", "æ": "ae", "Æ": "AE", "œ": "oe", "Œ": "OE", "ø": "o", "Ø": "O", "ł": "l", "Ł": "L", "đ": "d",
    "Đ": "D", "ð": "d", "Ð": "D", "þ": "th", "Þ": "Th", "ı": "i", "–": "-", "—": "-", "’": "'",
})  # fmt: skip


def draw_detections(
    image_bgr: npt.NDArray[np.uint8],
    detections: Detections,
    classes: Sequence[str],
    *,
    emphasized: npt.NDArray[np.bool_] | None = None,
) -> UInt8Array:
    """Return a copy of the picture with the detections on it, small ones on top.

    image_bgr:  (H, W, 3) uint8, BGR; not changed
    classes:    class names, `spec.classes`; `ascii_name` says how they are written
    emphasized: (N,) bool, those that matter: all others get a thin, faint line and no label. None: all
                are drawn alike
    returns:    (H, W, 3) uint8, BGR
    """
    drawn: UInt8Array = as_image_bgr(image_bgr).copy()
    height, width = size_hw = (drawn.shape[0], drawn.shape[1])
    is_loud = [True] * len(detections) if emphasized is None else emphasized.tolist()
    extra_px = 0 if emphasized is None else 1
    boxes = [
        _prepare(*values, size_hw, extra_px)
        for values in zip(
            detections.boxes_xyxy.tolist(), detections.labels.tolist(), detections.scores.tolist(), is_loud,
            strict=True,
        )
    ]  # fmt: skip
    # Backwards: of boxes of one size the best is the last, and so on top.
    boxes.reverse()
    boxes.sort(key=lambda box: -box.area)
    for box in boxes:
        _draw_box(drawn, box)

    # Small boxes choose first: the large ones have more places.
    loud = [box for box in reversed(boxes) if box.is_loud]
    texts = [_texts(ascii_name(classes, box.label), box, width) for box in loud]
    wanted = [
        Wanted(box.rect, tuple(text.size_wh for text in options), box.is_small)
        for box, options in zip(loud, texts, strict=True)
    ]
    keep_free = [box.rect for box in boxes if box.is_small and not box.is_loud]
    places = place_labels(wanted, (width, height), keep_free)
    labels = [
        (box, options[place.size], place)
        for box, options, place in zip(loud, texts, places, strict=True)
        if place is not None
    ]
    for box, _, place in labels:
        _draw_leader(drawn, box, place)
    for box, text, place in labels:
        _draw_text(drawn, box, text, place)
    return drawn


def color_bgr(label: int) -> Color:
    """The colour of a class, 0..255 each; the same in every picture."""
    hue = label * _HUE_STEP % 1.0
    # Two levels of brightness double the number of colours that the eye tells apart.
    red, green, blue = colorsys.hsv_to_rgb(hue, 0.85, 1.0 if label % 2 == 0 else 0.75)
    return round(blue * 255), round(green * 255), round(red * 255)


def ink_bgr(fill_bgr: Color) -> Color:
    """Black or white, whichever stands out more. No colour is near to both: that is 4.5:1 at least."""
    black, white = (0, 0, 0), (255, 255, 255)
    return black if contrast(fill_bgr, black) > contrast(fill_bgr, white) else white


def contrast(one_bgr: Color, other_bgr: Color) -> float:
    """1 to 21, as WCAG 2 defines it."""
    dark, light = sorted((_luminance(one_bgr), _luminance(other_bgr)))
    return (light + 0.05) / (dark + 0.05)


def ascii_name(classes: Sequence[str], label: int) -> str:
    """The class's name in the letters that OpenCV's font has: `café` becomes `cafe`, `Straße` `Strasse`.

    A name in any other script becomes its number, `class 3`; never question marks.
    """
    name = classes[label]
    if name.isascii() and name.isprintable() and name:
        return name
    parts = unicodedata.normalize("NFKD", name.translate(_LATIN))
    plain = "".join(part for part in parts if not unicodedata.combining(part)).strip()
    return plain if plain.isascii() and plain.isprintable() and plain else f"class {label}"


@dataclass(frozen=True)
class _Box:
    """A box to draw.

    sides    left, top, right, bottom: the pixels that the sides lie in
    rect     with the whole of its line
    """

    sides: tuple[int, int, int, int]
    rect: Rect
    label: int
    score: float
    line_px: int
    letter_px: float
    is_small: bool
    is_loud: bool

    @property
    def area(self) -> int:
        left, top, right, bottom = self.sides
        return (right - left + 1) * (bottom - top + 1)


@dataclass(frozen=True)
class _Text:
    """A text on its bar.

    size_wh      of the bar
    origin_xy    where OpenCV puts the text, in the bar
    """

    text: str
    size_wh: tuple[int, int]
    origin_xy: tuple[int, int]
    scale: float
    thickness: int


def _prepare(
    box_xyxy: Sequence[float],
    label: int,
    score: float,
    is_loud: bool,
    size_hw: tuple[int, int],
    extra_px: int,
) -> _Box:
    left, top, right, bottom = sides = _pixels(box_xyxy, size_hw)
    picture_px = math.sqrt(size_hw[0] * size_hw[1])
    box_px = math.sqrt((right - left + 1) * (bottom - top + 1))
    most = max(_MIN_LETTER_PX, picture_px / _LETTERS_PER_PICTURE)
    least = max(_MIN_LETTER_PX, picture_px / _SMALL_LETTERS_PER_PICTURE)
    shorter_px = min(right - left, bottom - top) + 1
    line_px = max(1, round(min(most / _LETTERS_PER_LINE_PX, shorter_px / _LINES_PER_BOX)))
    line_px = line_px + extra_px if is_loud else 1
    outward = line_px // 2
    return _Box(
        sides=sides,
        rect=(left - outward, top - outward, right + outward + 1, bottom + outward + 1),
        label=label,
        score=score,
        line_px=line_px,
        letter_px=_rounded(min(most, max(least, box_px / _LETTERS_PER_BOX))),
        is_small=box_px < _SMALL_BOX_LETTERS * most,
        is_loud=is_loud,
    )


def _rounded(letter_px: float) -> float:
    """To half a pixel, so that a label does not breathe with its box, and few sizes are measured."""
    return round(2 * letter_px) / 2


def _pixels(box_xyxy: Sequence[float], size_hw: tuple[int, int]) -> tuple[int, int, int, int]:
    """The pixels that the box's sides lie in; the right end 640 of a picture 640 wide is pixel 639."""
    left, top, right, bottom = (int(side) for side in box_xyxy)
    last_x, last_y = size_hw[1] - 1, size_hw[0] - 1
    return min(left, last_x), min(top, last_y), min(right, last_x), min(bottom, last_y)


def _draw_box(drawn: UInt8Array, box: _Box) -> None:
    """The four sides, exactly as wide as they should be: OpenCV's lines of 2 pixels have 3."""
    left, top, right, bottom = box.rect
    line, color = box.line_px, np.array(color_bgr(box.label), np.uint8)
    rows, columns = slice(max(0, top), max(0, bottom)), slice(max(0, left), max(0, right))
    for side in (
        (slice(max(0, top), max(0, top + line)), columns), (slice(max(0, bottom - line), bottom), columns),
        (rows, slice(max(0, left), max(0, left + line))), (rows, slice(max(0, right - line), right)),
    ):  # fmt: skip
        if box.is_loud:
            drawn[side] = color
        else:
            drawn[side] = drawn[side] * (1 - _QUIET_PART) + color * _QUIET_PART


def _texts(name: str, box: _Box, picture_width: int) -> tuple[_Text, ...]:
    """What the label may say, the best first: name (cut to the picture's width) and score; the score."""
    score = f"{box.score:.2f}"
    text = _measure(f"{name} {score}", box.letter_px)
    while text.size_wh[0] > picture_width and name:
        name = name[:-1]
        text = _measure(f"{name}.. {score}", box.letter_px)
    return text, _measure(score, box.letter_px)


@lru_cache(4096)  # some hundred names and scores in some sizes; a camera runs for weeks
def _measure(text: str, letter_px: float) -> _Text:
    scale = letter_px / _FONT_HEIGHT_PX
    thickness = max(1, round(letter_px / 12))
    margin = max(2, round(letter_px / 4))
    (width, height), below_baseline = cv2.getTextSize(text, _FONT, scale, thickness)
    size_wh = (width + 2 * margin, height + below_baseline + margin)
    return _Text(text, size_wh, (margin, size_wh[1] - below_baseline), scale, thickness)


def _draw_leader(drawn: UInt8Array, box: _Box, place: Placed) -> None:
    """A thin line from a label that is not beside its box."""
    start, end = [], []
    for axis in (0, 1):
        low, high = place.rect[axis], place.rect[axis + 2] - 1
        box_low, box_high = box.sides[axis], box.sides[axis + 2]
        meet = (max(low, box_low) + min(high, box_high)) // 2 if low <= box_high and box_low <= high else None
        start.append(meet if meet is not None else high if high < box_low else low)
        end.append(meet if meet is not None else box_low if high < box_low else box_high)
    if max(abs(start[0] - end[0]), abs(start[1] - end[1])) > box.line_px + 1:
        cv2.line(drawn, tuple(start), tuple(end), color_bgr(box.label), 1, cv2.LINE_AA)


def _draw_text(drawn: UInt8Array, box: _Box, text: _Text, place: Placed) -> None:
    left, top, right, bottom = place.rect
    fill = color_bgr(box.label)
    bar = drawn[top:bottom, left:right]  # a view: OpenCV cannot draw beyond it
    bar[:] = fill
    cv2.putText(bar, text.text, text.origin_xy, _FONT, text.scale, ink_bgr(fill), text.thickness, cv2.LINE_AA)


def _luminance(color: Color) -> float:
    """Relative luminance of sRGB, 0 to 1."""
    blue, green, red = (
        value / 255 / 12.92 if value <= 10 else ((value / 255 + 0.055) / 1.055) ** 2.4 for value in color
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
