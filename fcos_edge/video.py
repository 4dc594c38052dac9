"""Videos in and out: files and cameras, frame by frame, through OpenCV."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import cv2

from fcos_edge.errors import DataError, UsageError
from fcos_edge.runtime import UInt8Array
from fcos_edge.writing import naming, raise_what_stopped_writing

# FFmpeg has its own voice on stderr, which OpenCV's log level does not reach; it reads this when it starts.
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")

VIDEO_SUFFIXES = frozenset({
    ".avi", ".m4v", ".mjpeg", ".mjpg", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".ts", ".webm", ".wmv",
})  # fmt: skip
# Both codecs are part of every OpenCV wheel.
_CODEC_OF = {".avi": "MJPG", ".m4v": "mp4v", ".mkv": "mp4v", ".mov": "mp4v", ".mp4": "mp4v"}
_USUAL_FPS = 30.0  # where a camera or file does not say
_cv2_logging: Any = getattr(cv2.utils, "logging", cv2)  # OpenCV 5 moved it


class VideoReader:
    """The frames of a video file or camera, (H, W, 3) uint8 BGR, one after the other.

    fps         frames per second
    num_frames  as the file declares; None for a camera, or where it does not say
    num_read    so far
    """

    def __init__(self, source: Path | int) -> None:
        """source: a file, or a camera's number. Raises DataError where there is no frame to read."""
        self.source = source
        with _quiet():
            self._capture = cv2.VideoCapture(source if isinstance(source, int) else str(source))
        self._next = self._read() if self._capture.isOpened() else None
        if self._next is None:
            self._capture.release()
            if isinstance(source, int):
                raise DataError(f"camera {source}: cannot be opened; see which /dev/video* there are")
            raise DataError(f"{source}: not a video that OpenCV can decode; convert it to MP4 or AVI")
        fps = self._capture.get(cv2.CAP_PROP_FPS)
        self.fps = fps if math.isfinite(fps) and 0 < fps <= 1000 else _USUAL_FPS
        declared = self._capture.get(cv2.CAP_PROP_FRAME_COUNT)
        is_known = not self.is_camera and math.isfinite(declared) and 0 < declared < 1 << 31
        self.num_frames = int(declared) if is_known else None
        self.num_read = 0

    @property
    def is_camera(self) -> bool:
        return isinstance(self.source, int)

    @property
    def is_cut_short(self) -> bool:
        """Whether a file that was read to its end had clearly fewer frames than it declares."""
        # Declared counts are estimates in some containers, and a little too high in many.
        return self.num_frames is not None and self.num_read < 0.9 * self.num_frames - 2

    def __iter__(self) -> Iterator[UInt8Array]:
        while self._next is not None:
            self.num_read += 1
            yield self._next
            self._next = self._read()

    def close(self) -> None:
        self._capture.release()

    def _read(self) -> UInt8Array | None:
        """The next frame, None after the last."""
        with _quiet():
            is_read, frame = self._capture.read()
        return cast(UInt8Array, frame) if is_read else None


class VideoWriter:
    """A video that appears under its name only when `finish` is called; else nothing is left."""

    def __init__(self, path: Path, fps: float) -> None:
        """path: its suffix is one that `video_name` gives."""
        self.path = path
        self.fps = fps
        self._part = path.with_name(f".{path.stem}.part{path.suffix}")
        self._writer: cv2.VideoWriter | None = None
        self._num_written = 0
        self._size_wh = (0, 0)

    def write(self, image_bgr: UInt8Array) -> None:
        """Append one frame, (H, W, 3) uint8 BGR. The first one decides the size."""
        if self._writer is None:
            self._size_wh = (image_bgr.shape[1], image_bgr.shape[0])
            codec = cv2.VideoWriter.fourcc(*_CODEC_OF[self.path.suffix.lower()])
            with _quiet():
                self._writer = cv2.VideoWriter(str(self._part), codec, self.fps, self._size_wh)
            if not self._writer.isOpened():
                raise UsageError(f"{self.path}: OpenCV cannot write this video; choose another --out")
        if image_bgr.shape[1::-1] != self._size_wh:
            # OpenCV drops frames of another size without a word.
            image_bgr = cv2.resize(image_bgr, self._size_wh)  # type: ignore[assignment]
        with _quiet():
            self._writer.write(image_bgr)
        self._num_written += 1

    def finish(self) -> None:
        """Close the file and give it its name. Raises UsageError where it was not written in full."""
        if self._writer is None:
            return
        with _quiet():
            self._writer.release()
        self._writer = None
        with naming(self.path, "choose another --out"):
            # OpenCV says nothing of a full disk; a file without its end declares another number of frames.
            if not _has_frames(self._part, self._num_written):
                raise_what_stopped_writing(self._part)
                raise UsageError(f"{self.path}: OpenCV cannot write this video; choose another --out")
            os.replace(self._part, self.path)

    def discard(self) -> None:
        """Leave nothing; after `finish` it does nothing."""
        if self._writer is not None:
            self._writer.release()
            self._writer = None
        self._part.unlink(missing_ok=True)


def video_name(name: str) -> str:
    """The name of the drawn copy of the video `name`: the same where its container can be written."""
    return name if Path(name).suffix.lower() in _CODEC_OF else f"{name}.mp4"


def _has_frames(path: Path, count: int) -> bool:
    """Whether the video at `path` declares `count` frames, nearly: some containers count by time."""
    with _quiet():
        capture = cv2.VideoCapture(str(path))
        declared = capture.get(cv2.CAP_PROP_FRAME_COUNT) if capture.isOpened() else -1.0
        capture.release()
    return declared >= max(1, 0.9 * count - 2)


@contextmanager
def _quiet() -> Iterator[None]:
    """OpenCV prints warnings of its own where a video cannot be opened; our error is the one line."""
    level = _cv2_logging.getLogLevel()
    _cv2_logging.setLogLevel(0)
    try:
        yield
    finally:
        _cv2_logging.setLogLevel(level)
