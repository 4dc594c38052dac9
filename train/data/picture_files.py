"""What the files of a data set's pictures are: there, readable, how large, with what content."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import cv2

from fcos_edge.console import track
from fcos_edge.encoded import is_damaged
from fcos_edge.errors import ImageError
from fcos_edge.image import MAX_FILE_BYTES, MAX_PIXELS, read_image_bgr
from fcos_edge.threads import default_threads
from fcos_edge.train.data.labels import UNKNOWN_HW
from fcos_edge.train.data.picture_size import header_hw

# OpenCV 5 moved getLogLevel and setLogLevel there.
_cv2_logging: Any = getattr(cv2.utils, "logging", cv2)


@dataclass(frozen=True)
class PictureFile:
    """One file.

    size_hw  as `read_image_bgr` gives it; UNKNOWN_HW where it has a fault
    sha256   of the content; empty where it cannot be had
    fault    "missing", "unreadable" or none, and `detail` why
    """

    size_hw: tuple[int, int] = UNKNOWN_HW
    sha256: str = ""
    fault: Literal["missing", "unreadable", ""] = ""
    detail: str = ""


def look_at_files(paths: Iterable[Path], *, decode: bool) -> Mapping[Path, PictureFile]:
    """Every file once, on all cores.

    decode  whole; otherwise headers, the end of a JPEG, the checksums of a PNG, and only what has no header
            that is understood
    """
    different = list(dict.fromkeys(paths))
    # `read_image_bgr` silences OpenCV and puts back what was: threads would put back each other's silence.
    log_level = _cv2_logging.getLogLevel()
    _cv2_logging.setLogLevel(0)
    try:
        with ThreadPoolExecutor(default_threads()) as pool:
            looks = pool.map(partial(look_at_file, decode=decode), different)
            found = list(track(looks, "checking pictures", len(different)))
    finally:
        _cv2_logging.setLogLevel(log_level)
    return dict(zip(different, found, strict=True))


def look_at_file(path: Path, *, decode: bool) -> PictureFile:
    try:
        if not path.is_file():
            return PictureFile(fault="missing", detail="no such picture")
        if path.stat().st_size > MAX_FILE_BYTES:
            return PictureFile(fault="unreadable", detail=f"more than {MAX_FILE_BYTES} bytes")
        content = path.read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a path with a null character
        return PictureFile(fault="unreadable", detail=getattr(error, "strerror", None) or str(error))
    sha256 = hashlib.sha256(content).hexdigest()
    size_hw = header_hw(content)
    if decode or size_hw is None:
        try:
            height, width = read_image_bgr(path).shape[:2]
        except ImageError as error:
            return PictureFile(UNKNOWN_HW, sha256, "unreadable", str(error).removeprefix(f"{path}: "))
        return PictureFile((height, width), sha256)
    if is_damaged(content):
        return PictureFile(UNKNOWN_HW, sha256, "unreadable", "damaged or cut short")
    if size_hw[0] * size_hw[1] > MAX_PIXELS:
        return PictureFile(UNKNOWN_HW, sha256, "unreadable", f"{size_hw[1]}x{size_hw[0]} pixels")
    return PictureFile(size_hw, sha256)
