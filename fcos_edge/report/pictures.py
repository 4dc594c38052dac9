"""Pictures in a page: those of the data set that was measured on, made small, and the frame of one."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
from markupsafe import Markup

from fcos_edge.errors import DataError
from fcos_edge.image import read_image_bgr
from fcos_edge.runtime import UInt8Array

MOST_PICTURES = 8
# Two beside each other fill a page; twice that would be four times the bytes for sharper grass.
_WIDTH_PX = 560
_JPEG_QUALITY = 80


@dataclass(frozen=True)
class MeasuredPictures:
    """The pictures of a split, which a report names by index and file."""

    data: Path
    paths: Sequence[Path]

    @classmethod
    def of(cls, data: Path, split: str, classes: Sequence[str], pictures: int) -> MeasuredPictures:
        """Raises DataError where the data set is not the one that was measured on."""
        from fcos_edge.train.data.formats import read_pictures

        paths = [picture.path for picture in read_pictures(data, split, classes)]
        if len(paths) != pictures:
            raise DataError(
                f"{data}: {len(paths)} pictures in {split}, but the report is of {pictures};"
                " give the data set that it was measured on"
            )
        return cls(data, paths)

    def read(self, picture: int, file: str) -> UInt8Array:
        """(H, W, 3) uint8, BGR. Raises DataError where another picture is in that place."""
        path = self.paths[picture]
        if path.name != file:
            raise DataError(
                f"{self.data}: picture {picture} is {path.name}, but in the report {file}; give the data set"
                " that it was measured on"
            )
        return read_image_bgr(path)


def shrink(image_bgr: UInt8Array) -> tuple[UInt8Array, float]:
    """The picture as small as a page shows it, and by how much."""
    height, width = image_bgr.shape[:2]
    scale = min(1.0, _WIDTH_PX / width)
    if scale == 1:
        return image_bgr, scale
    size_wh = (round(width * scale), max(1, round(height * scale)))  # a panorama keeps a row
    return cv2.resize(image_bgr, size_wh, interpolation=cv2.INTER_AREA).astype("uint8"), scale


def jpeg_uri(image_bgr: UInt8Array) -> str:
    """The picture inside the page."""
    _, encoded = cv2.imencode(".jpg", image_bgr, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
    return "data:image/jpeg;base64," + base64.b64encode(encoded.tobytes()).decode()


def frame_size_wh(size_hw: Sequence[int] | None, records: Sequence[Mapping[str, Any]]) -> tuple[float, float]:
    """The size of a picture, or of all its boxes together where it is not known."""
    if size_hw and all(size_hw):
        return size_hw[1], size_hw[0]
    boxes = [record["box_xyxy"] for record in records]
    return max((box[2] for box in boxes), default=1), max((box[3] for box in boxes), default=1)


def frame(size_wh: tuple[float, float], letter: float, alt: str, parts: Sequence[Markup]) -> Markup:
    """An SVG as large as the picture, in its pixels. letter: font size"""
    return Markup(
        '<svg class="frame" viewBox="0 0 {:.0f} {:.0f}" font-size="{:.1f}" role="img" aria-label="{}">'
        "{}</svg>"
    ).format(*size_wh, letter, alt, Markup("").join(parts))


def rect(box_xyxy: Sequence[float]) -> Markup:
    left, top, right, bottom = box_xyxy
    return Markup('<rect x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}"/>').format(
        left, top, right - left, bottom - top
    )
