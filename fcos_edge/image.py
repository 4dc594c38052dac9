"""Pictures on their way in: read a file, check an array.

A picture is a (H, W, 3) uint8 array in BGR order, as OpenCV gives it. Nothing is converted by guess:
grey, float and alpha arrays are refused with advice, because a wrong guess costs accuracy silently.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from fcos_edge.encoded import declared_hw, is_damaged
from fcos_edge.errors import ImageError
from fcos_edge.runtime import UInt8Array

MAX_PIXELS = 1 << 28  # 16384 x 16384, 768 MiB once decoded
MAX_FILE_BYTES = 1 << 28

# In the error of a picture that OpenCV itself finds too large; its limit is 2^30 pixels.
_OPENCV_LIMIT = "CV_IO_MAX_IMAGE_PIXELS"

# OpenCV 5 moved getLogLevel and setLogLevel there.
_cv2_logging: Any = getattr(cv2.utils, "logging", cv2)


def as_image_bgr(image: Any) -> UInt8Array:
    """Return `image` where it is a picture, made contiguous if it is not.

    Raises ImageError for anything but a (H, W, 3) uint8 array with 1 to MAX_PIXELS pixels.
    """
    is_array = isinstance(image, np.ndarray) and image.dtype == np.uint8 and image.ndim == 3
    if is_array and image.shape[2] == 3 and 0 < image.size <= 3 * MAX_PIXELS:
        return np.ascontiguousarray(image)
    raise _not_an_image(image)


def _not_an_image(image: Any) -> ImageError:
    """What is wrong with it and what to do."""
    wanted = "wanted a (H, W, 3) uint8 array in BGR order"
    if image is None:
        return ImageError(
            f"picture: found None, {wanted}; cv2.imread returns None for a file that it cannot read,"
            " check the path"
        )
    if not isinstance(image, np.ndarray):
        return ImageError(f"picture: found {type(image).__name__}, {wanted}; read the file with cv2.imread")
    found = f"picture: found shape {image.shape} of {image.dtype}, {wanted}"
    if image.size == 0:
        return ImageError(f"{found}; the picture is empty, check how it was cropped")
    if image.ndim == 2 or (image.ndim == 3 and image.shape[2] == 1):
        return ImageError(f"{found}; convert grey with cv2.cvtColor(image, cv2.COLOR_GRAY2BGR)")
    if image.ndim == 3 and image.shape[2] == 4:
        return ImageError(f"{found}; drop the alpha channel with cv2.cvtColor(image, cv2.COLOR_BGRA2BGR)")
    if image.ndim == 4:
        return ImageError(f"{found}; pass the pictures of a batch one by one")
    if image.ndim != 3 or image.shape[2] != 3:
        return ImageError(f"{found}; channels come last, transpose with image.transpose(1, 2, 0)")
    if image.size > 3 * MAX_PIXELS:
        return ImageError(f"{found} with at most {MAX_PIXELS} pixels; shrink the picture")
    return ImageError(f"{found}; scale the values to 0..255 and convert with image.astype(numpy.uint8)")


def read_image_bgr(path: str | os.PathLike[str]) -> UInt8Array:
    """Read a picture file as OpenCV does: EXIF orientation applied, grey and 16 bit made 8-bit BGR, no alpha.

    returns: (H, W, 3) uint8, BGR

    Raises ImageError where the file cannot be read, is no picture, is larger than MAX_FILE_BYTES, or
    decodes to more than MAX_PIXELS; PNG, JPEG, BMP and GIF are refused by their header, before memory is
    taken, and all others above OpenCV's own limit.
    """
    path = Path(path)
    encoded = _read_bytes(path)
    _check_pixels(path, declared_hw(encoded))
    if is_damaged(encoded):
        raise ImageError(f"{path}: not a picture that OpenCV can decode, damaged or cut short; copy it again")
    # Decoding from memory keeps OpenCV's "can't open/read file" off stderr, and reads any path on Windows.
    log_level = _cv2_logging.getLogLevel()
    _cv2_logging.setLogLevel(0)
    try:
        image = cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error as error:
        image = None
        if _OPENCV_LIMIT in str(error):
            raise ImageError(
                f"{path}: more pixels than OpenCV decodes, wanted at most {MAX_PIXELS}; shrink the picture"
            ) from None
    finally:
        _cv2_logging.setLogLevel(log_level)
    if image is None:
        raise ImageError(f"{path}: not a picture that OpenCV can decode; convert it to JPEG or PNG")
    _check_pixels(path, (image.shape[0], image.shape[1]))
    return as_image_bgr(image)


def _read_bytes(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            size = status.st_size
            if size <= MAX_FILE_BYTES:
                # A pipe or a device has no size, and may have no end.
                encoded = file.read() if stat.S_ISREG(status.st_mode) else file.read(MAX_FILE_BYTES + 1)
                size = len(encoded)
    except (OSError, ValueError) as error:  # ValueError: a path with a null character
        reason = getattr(error, "strerror", None) or str(error)
        raise ImageError(f"{path}: cannot read the picture ({reason}); check the path") from None
    if size > MAX_FILE_BYTES:
        raise ImageError(
            f"{path}: {size} bytes, wanted at most {MAX_FILE_BYTES}; shrink the picture or check the file"
        )
    if not encoded:
        raise ImageError(f"{path}: the file is empty; copy the picture again")
    return encoded


def _check_pixels(path: Path, size_hw: tuple[int, int] | None) -> None:
    if size_hw is not None and size_hw[0] * size_hw[1] > MAX_PIXELS:
        raise ImageError(
            f"{path}: {size_hw[1]}x{size_hw[0]} pixels, wanted at most {MAX_PIXELS}; shrink the picture"
        )
