"""Which pictures a bundle was calibrated on: int8 looks better on them than it is."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from fcos_edge.bundle import RECORD_NAME
from fcos_edge.image import read_image_bgr
from fcos_edge.runtime import UInt8Array


def picture_sha256(image_bgr: UInt8Array) -> str:
    """Digest of a decoded picture: its shape as three little-endian int64, then its bytes."""
    shape = np.array(image_bgr.shape, "<i8")
    return hashlib.sha256(shape.tobytes() + np.ascontiguousarray(image_bgr).tobytes()).hexdigest()


def count_calibrated_on(bundle: Path, pictures: Iterable[Path]) -> int:
    """How many of the picture files the bundle's record names; 0 where it has no readable record."""
    try:
        known = set(json.loads((bundle / RECORD_NAME).read_bytes())["picture_sha256"])
    except (OSError, ValueError, KeyError, TypeError):
        # A damaged record is not this function's to judge: no runtime reads it.
        return 0
    return sum(picture_sha256(read_image_bgr(path)) in known for path in pictures) if known else 0
