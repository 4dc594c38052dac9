"""Decoded pictures in memory: which, and that nobody can tell."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from fcos_edge.errors import ImageError
from fcos_edge.image import read_image_bgr
from fcos_edge.train.data.picture_cache import PictureCache

SIDES = (10, 20, 30, 10, 10)  # of square pictures: 300, 1200, 2700, 300, 300 bytes


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    generator = np.random.default_rng(0)
    found = [tmp_path / f"{i}.png" for i in range(len(SIDES))]
    for path, side in zip(found, SIDES, strict=True):
        cv2.imwrite(str(path), generator.integers(0, 256, (side, side, 3), np.uint8))
    return found


@pytest.mark.parametrize(
    ("most_bytes", "kept", "num_bytes"),
    [
        (0, 0, 0),
        (299, 0, 0),
        (300, 1, 300),
        (1499, 1, 300),  # the first that does not fit ends it
        (4200, 3, 4200),
        (4499, 3, 4200),
        (1 << 20, 5, 4800),
    ],
)
def test_picture_cache__keeps_the_first_that_fit(
    paths: list[Path], most_bytes: int, kept: int, num_bytes: int
) -> None:
    cache = PictureCache(paths, most_bytes)
    assert (len(cache), cache.num_bytes) == (kept, num_bytes)
    for path in paths[:kept]:
        path_without = path.with_suffix(".moved")
        path.rename(path_without)
    for index, path in enumerate(paths):
        place = path.with_suffix(".moved") if index < kept else path
        assert np.array_equal(cache.read(index), read_image_bgr(place))


def test_picture_cache__pictures_cannot_be_written_to(paths: list[Path]) -> None:
    with pytest.raises(ValueError, match="read-only"):
        PictureCache(paths, 1 << 20).read(0)[...] = 0


def test_picture_cache__is_empty_when_pickled(paths: list[Path]) -> None:
    cache = PictureCache(paths, 1 << 20)
    copy = pickle.loads(pickle.dumps(cache))
    assert (len(copy), copy.num_bytes) == (0, 0)
    assert np.array_equal(copy.read(2), cache.read(2))


def test_picture_cache__broken_picture_is_one_line(paths: list[Path]) -> None:
    logging: Any = getattr(cv2.utils, "logging", cv2)
    level = logging.getLogLevel()
    paths[3].write_bytes(paths[3].read_bytes()[:60])
    with pytest.raises(ImageError, match=r"^[^\n]*3\.png: not a picture[^\n]*$"):
        PictureCache(paths, 1 << 20)
    assert logging.getLogLevel() == level
