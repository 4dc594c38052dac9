"""`examples/count_line.py` on a video in which one person walks over the line; skipped without its packages.

trackers is not in the `dev` extra: it asks for opencv-python, which would overwrite the headless one.
"""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np
import pytest

from fcos_edge.free_pictures import SOURCES
from fcos_edge.image import read_image_bgr
from tests.test_video import write_video

# A mark: it spares the export of the bundle, too.
pytestmark = pytest.mark.skipif(
    find_spec("supervision") is None or find_spec("trackers") is None,
    reason="needs supervision and trackers",
)
# The astronaut's outline; the street that she walks along is grey.
_PERSON = (slice(0, 400), slice(18, 300))
_STREET_HW = (320, 640)


def _walk(path: Path, lefts: list[int]) -> Path:
    person = read_image_bgr(SOURCES / "astronaut.png")[_PERSON]
    person = np.asarray(cv2.resize(person, (200, 284), interpolation=cv2.INTER_AREA), np.uint8)
    frames = []
    for left in lefts:
        frame = np.full((*_STREET_HW, 3), 120, np.uint8)
        frame[-284:, left : left + 200] = person
        frames.append(frame)
    return write_video(path, frames)


@pytest.mark.parametrize(("lefts", "said"), [
    (list(range(20, 421, 20)), "in 1, out 0\n"),
    (list(range(420, 19, -20)), "in 0, out 1\n"),
    ([*range(20, 141, 20), *range(140, 19, -20)], "in 0, out 0\n"),  # up to the line, and back
], ids=["in", "out", "neither"])  # fmt: skip
def test_count_line__one_person(
    lefts: list[int], said: str, embedded_bundle: Path, repo_root: Path, tmp_path: Path
) -> None:
    video = _walk(tmp_path / "walk.avi", lefts)
    result = subprocess.run(
        [sys.executable, str(repo_root / "examples" / "count_line.py"), str(embedded_bundle), str(video)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(repo_root), os.environ.get("PYTHONPATH", "")])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout == said
