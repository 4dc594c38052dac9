"""Fit a picture into the network's input, and bring boxes back.

    source picture --resize--> resized picture --pad, BGR to RGB--> input
    box in the source <--/ scale, clip-- box in the resized picture <-- - pad -- box in the input

Coordinates are continuous: a picture of width w spans 0..w, pixel i spans i..i+1. OpenCV's resize uses
the same convention, so x_source = (x_input - pad) / scale holds exactly.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import cv2
import numpy as np

from fcos_edge.errors import ImageError
from fcos_edge.image import as_image_bgr
from fcos_edge.runtime import FloatArray, UInt8Array
from fcos_edge.spec import Interpolation, ModelSpec

if TYPE_CHECKING:
    import numpy.typing as npt

_CV2_INTERPOLATION: dict[Interpolation, int] = {
    "linear": cv2.INTER_LINEAR,
    "area": cv2.INTER_AREA,
    "cubic": cv2.INTER_CUBIC,
    "nearest": cv2.INTER_NEAREST,
}


@dataclass(frozen=True)
class Letterbox:
    """How pictures of one size are fitted into the network's input; made once, used for a whole video.

    scale_xy       resized side / source side, per axis; the two differ a little in a letterbox, because
                   the resized sides are whole pixels, and a lot in a stretch
    pad_xy         left and top padding, input pixels
    source_hw      height and width of the source picture
    input_hw       height and width of the network's input
    pad_color_rgb  colour of the padding, 0..255
    interpolation  OpenCV's interpolation of the resize
    """

    scale_xy: tuple[float, float]
    pad_xy: tuple[int, int]
    source_hw: tuple[int, int]
    input_hw: tuple[int, int]
    pad_color_rgb: tuple[int, int, int] = (114, 114, 114)
    interpolation: Interpolation = "linear"

    @classmethod
    def from_spec(cls, spec: ModelSpec, source_hw: tuple[int, int]) -> Letterbox:
        """The letterbox of pictures of `source_hw` under the spec's conventions.

        "letterbox": the side that is tighter fills the input, the other one is rounded to the nearest
        pixel, halves up, at least 1. Whole-number arithmetic, so every machine rounds alike. "centre"
        puts an odd pixel of padding to the right and bottom. "stretch": both sides fill the input.
        """
        height, width = source_hw
        if height < 1 or width < 1:
            raise ImageError(
                f"picture: found {width}x{height} pixels, wanted at least 1x1; check how it was cropped"
            )
        input_h, input_w = spec.input_hw
        resized_h, resized_w = input_h, input_w
        if spec.resize == "letterbox" and input_w * height <= input_h * width:
            resized_h = max(1, _round_half_up(height * input_w, width))
        elif spec.resize == "letterbox":
            resized_w = max(1, _round_half_up(width * input_h, height))
        is_centred = spec.pad_position == "centre"
        return cls(
            scale_xy=(resized_w / width, resized_h / height),
            pad_xy=((input_w - resized_w) // 2, (input_h - resized_h) // 2) if is_centred else (0, 0),
            source_hw=(height, width),
            input_hw=(input_h, input_w),
            pad_color_rgb=spec.pad_color_rgb,
            interpolation=spec.interpolation,
        )

    @cached_property
    def resized_hw(self) -> tuple[int, int]:
        """Height and width of the resized picture inside the input."""
        # The scales are ratios of whole sides, so this is far from a half and gives them back.
        return round(self.source_hw[0] * self.scale_xy[1]), round(self.source_hw[1] * self.scale_xy[0])

    def apply(self, image_bgr: npt.NDArray[np.uint8], out: UInt8Array | None = None) -> UInt8Array:
        """Resize, pad and swap the colours of one picture.

        image_bgr: (h, w, 3) uint8, BGR, of size `source_hw`
        out:       (H, W, 3) uint8 buffer of size `input_hw` that is overwritten and returned; None
                   allocates one
        returns:   (H, W, 3) uint8, RGB
        """
        image_bgr = as_image_bgr(image_bgr)
        if image_bgr.shape[:2] != self.source_hw:
            raise ImageError(
                f"picture: found {image_bgr.shape[1]}x{image_bgr.shape[0]} pixels, wanted"
                f" {self.source_hw[1]}x{self.source_hw[0]}; make a letterbox for this size"
            )
        shape = (*self.input_hw, 3)
        if out is None:
            out = np.empty(shape, np.uint8)
        elif out.shape != shape or out.dtype != np.uint8 or not out.flags.c_contiguous:
            raise ValueError(f"out: found {out.shape} {out.dtype}, wanted contiguous {shape} uint8")
        (height, width), (left, top) = self.resized_hw, self.pad_xy
        # Straight into a view of the buffer: the picture is written once and never copied.
        picture = out[top : top + height, left : left + width]
        interpolation = _CV2_INTERPOLATION[self.interpolation]
        cv2.resize(image_bgr, (width, height), dst=picture, interpolation=interpolation)
        cv2.cvtColor(picture, cv2.COLOR_BGR2RGB, dst=picture)
        self._pad(out)
        return out

    def undo(self, boxes_xyxy: FloatArray) -> FloatArray:
        """Bring boxes from the input to the source picture, clipped to it.

        boxes_xyxy: (N, 4) float32, input pixels; infinite sides are clipped, NaN stays NaN
        returns:    (N, 4) float32, source pixels, 0..width and 0..height; a box that lies in the
                    padding alone has no area left
        """
        pad_xyxy, scale_xyxy, limit_xyxy = self._undo_terms
        boxes = (boxes_xyxy - pad_xyxy) / scale_xyxy
        np.maximum(boxes, np.float32(0), out=boxes)
        np.minimum(boxes, limit_xyxy, out=boxes)
        return boxes

    @cached_property
    def _undo_terms(self) -> tuple[FloatArray, FloatArray, FloatArray]:
        height, width = self.source_hw
        return (
            np.array(self.pad_xy * 2, np.float32),
            np.array(self.scale_xy * 2, np.float32),
            np.array((width, height) * 2, np.float32),
        )

    def _pad(self, out: UInt8Array) -> None:
        (height, width), (left, top) = self.resized_hw, self.pad_xy
        color = self.pad_color_rgb
        # A scalar fills several times as fast as three channels do.
        fill = color[0] if color[0] == color[1] == color[2] else color
        middle = slice(top, top + height)
        for border in (out[:top], out[top + height :], out[middle, :left], out[middle, left + width :]):
            border[...] = fill


def _round_half_up(numerator: int, denominator: int) -> int:
    return (2 * numerator + denominator) // (2 * denominator)
