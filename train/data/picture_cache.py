"""Decoded pictures kept in memory, for data sets that fit."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2

from fcos_edge.image import read_image_bgr
from fcos_edge.runtime import UInt8Array
from fcos_edge.threads import default_threads

_cv2_logging: Any = getattr(cv2.utils, "logging", cv2)  # OpenCV 5 moved it


class PictureCache:
    """The first pictures of a list, as many as fit; the others are read each time.

    Filled when it is made, before loader workers fork, so that they share its memory. Pickled, for
    workers that start in another way, it is empty: they read, and give the same.
    """

    def __init__(self, paths: Sequence[Path], most_bytes: int) -> None:
        """Raises ImageError for a picture that cannot be read."""
        self.paths = paths
        self.num_bytes = 0
        self._images: list[UInt8Array] = []
        if most_bytes:
            self._fill(most_bytes)

    def __len__(self) -> int:
        """Pictures that are in memory."""
        return len(self._images)

    def __getstate__(self) -> dict[str, Any]:
        return {"paths": self.paths, "num_bytes": 0, "_images": []}

    def read(self, index: int) -> UInt8Array:
        """Picture (H, W, 3) uint8 BGR; not to be written to."""
        if index < len(self._images):
            return self._images[index]
        return read_image_bgr(self.paths[index])

    def _fill(self, most_bytes: int) -> None:
        threads = default_threads()
        level = _cv2_logging.getLogLevel()
        # Each reading sets the level and puts it back; threads would put back each other's.
        _cv2_logging.setLogLevel(0)
        try:
            with ThreadPoolExecutor(threads) as pool:
                # A few at a time: what is decoded beyond the limit was decoded in vain.
                for first in range(0, len(self.paths), 2 * threads):
                    for image in pool.map(read_image_bgr, self.paths[first : first + 2 * threads]):
                        if self.num_bytes + image.nbytes > most_bytes:
                            return
                        image.flags.writeable = False
                        self._images.append(image)
                        self.num_bytes += image.nbytes
        finally:
            _cv2_logging.setLogLevel(level)
