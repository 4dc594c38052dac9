"""Draw detections on a picture: a coloured box and a readable label for each."""

from __future__ import annotations

import colorsys
import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from fcos_edge.detections import Detections
from fcos_edge.image import as_image_bgr
from fcos_edge.runtime import UInt8Array

Color = tuple[int, int, int]
PixelBox = tuple[int, int, int, int]  # left, top, right, bottom

_FONT = cv2.FONT_HERSHEY_SIMPLEX
_FONT_HEIGHT_PX = 22.0  # of capitals at scale 1
# Below 9 pixels letters run together; 1/45 of the picture's size reads well on a full screen.
_MIN_LETTER_PX = 9.0
_LETTERS_PER_PICTURE = 45.0
# Steps of the golden ratio around the colour wheel: neighbouring labels differ, and none repeats.
_HUE_STEP = 0.618033988749895


def draw_detections(
    image_bgr: npt.NDArray[np.uint8], detections: Detections, classes: Sequence[str]
) -> UInt8Array:
    """Return a copy of the picture with the detections on it, the best on top.

    image_bgr: (H, W, 3) uint8, BGR; not changed
    classes:   class names, `spec.classes`; OpenCV's font draws what is not ASCII as "?"
    returns:   (H, W, 3) uint8, BGR
    """
    drawn: UInt8Array = as_image_bgr(image_bgr).copy()
    size_hw = (drawn.shape[0], drawn.shape[1])
    letter_px = max(_MIN_LETTER_PX, math.sqrt(size_hw[0] * size_hw[1]) / _LETTERS_PER_PICTURE)
    line_px = max(1, round(letter_px / 6))
    boxes = [_pixels(box_xyxy, size_hw) for box_xyxy in detections.boxes_xyxy]
    labels = [int(label) for label in detections.labels]
    texts = [
        f"{classes[label]} {float(score):.2f}" for label, score in zip(labels, detections.scores, strict=True)
    ]
    bars: list[_Bar] = []
    for box, text in zip(boxes, texts, strict=True):
        bars.append(_place_bar(text, box, letter_px, size_hw, bars))

    # Backwards, so that the best lie on top; labels after all boxes, so that no line crosses a text.
    for box, label in reversed(list(zip(boxes, labels, strict=True))):
        cv2.rectangle(drawn, box[:2], box[2:], color_bgr(label), line_px, cv2.LINE_8)
    for bar, label in reversed(list(zip(bars, labels, strict=True))):
        fill = color_bgr(label)
        cv2.rectangle(drawn, bar.box[:2], bar.box[2:], fill, cv2.FILLED)
        cv2.putText(
            drawn, bar.text, bar.baseline_xy, _FONT, bar.scale, _ink(fill), bar.thickness, cv2.LINE_AA
        )
    return drawn


def color_bgr(label: int) -> Color:
    """The colour of a class, 0..255 each; the same in every picture."""
    hue = label * _HUE_STEP % 1.0
    # Two levels of brightness double the number of colours that the eye tells apart.
    red, green, blue = colorsys.hsv_to_rgb(hue, 0.85, 1.0 if label % 2 == 0 else 0.75)
    return round(blue * 255), round(green * 255), round(red * 255)


@dataclass(frozen=True)
class _Bar:
    """A label: text on a filled bar."""

    text: str
    box: PixelBox
    baseline_xy: tuple[int, int]
    scale: float
    thickness: int


def _place_bar(
    text: str, box: PixelBox, letter_px: float, size_hw: tuple[int, int], taken: Sequence[_Bar]
) -> _Bar:
    """A bar above the box; where that is off the picture or taken, inside it, under it or at its foot."""
    scale = letter_px / _FONT_HEIGHT_PX
    thickness = max(1, round(letter_px / 12))
    margin = max(2, round(letter_px / 4))
    (text_w, text_h), below_baseline = cv2.getTextSize(text, _FONT, scale, thickness)
    bar_w, bar_h = text_w + 2 * margin, text_h + below_baseline + margin
    left = max(0, min(box[0], size_hw[1] - bar_w))
    tops = (box[1] - bar_h, box[1], box[1] + bar_h, box[3] - bar_h, box[3])
    places = [(left, top, left + bar_w, top + bar_h) for top in tops if 0 <= top <= size_hw[0] - bar_h]
    free = [place for place in places if not any(_overlap(place, bar.box) for bar in taken)]
    place = (free or places or [(left, 0, left + bar_w, bar_h)])[0]
    return _Bar(text, place, (left + margin, place[3] - below_baseline), scale, thickness)


def _overlap(a: PixelBox, b: PixelBox) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _ink(fill: Color) -> Color:
    """Black or white, whichever stands out (ITU-R BT.601 luma)."""
    blue, green, red = fill
    return (0, 0, 0) if 0.114 * blue + 0.587 * green + 0.299 * red > 140 else (255, 255, 255)


def _pixels(box_xyxy: npt.NDArray[np.float32], size_hw: tuple[int, int]) -> PixelBox:
    """The pixels that the box's sides lie in; the right end 640 of a picture 640 wide is pixel 639."""
    left, top, right, bottom = (int(side) for side in box_xyxy)
    last_x, last_y = size_hw[1] - 1, size_hw[0] - 1
    return min(left, last_x), min(top, last_y), min(right, last_x), min(bottom, last_y)
