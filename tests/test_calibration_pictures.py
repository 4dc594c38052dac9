"""Pictures that a bundle was calibrated on are found among those it is measured on."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from fcos_edge.bundle import RECORD_NAME
from fcos_edge.calibration_pictures import count_calibrated_on, picture_sha256


@pytest.mark.parametrize(
    ("record", "count"),
    [
        ('{"picture_sha256": [%s]}', 2),
        ('{"picture_sha256": []}', 0),
        ('{"picture_sha256": 3}', 0),
        ('{"other": [%s]}', 0),
        ("[%s", 0),
        (None, 0),
    ],
)
def test_count__of_pictures_in_the_record(tmp_path: Path, record: str | None, count: int) -> None:
    random = np.random.default_rng(0)
    paths = [tmp_path / f"{index}.png" for index in range(3)]
    pictures = [random.integers(0, 256, (4, 5, 3), np.uint8) for _ in paths]
    for path, picture in zip(paths, pictures, strict=True):
        cv2.imwrite(str(path), picture)
    if record is not None:
        digests = ", ".join(json.dumps(picture_sha256(picture)) for picture in pictures[:2])
        (tmp_path / RECORD_NAME).write_text(record.replace("%s", digests))
    assert count_calibrated_on(tmp_path, paths) == count
