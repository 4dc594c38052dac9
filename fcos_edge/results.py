"""The folder that `detect` writes: drawn pictures or a video, and `detections.jsonl`.

    detections/
      street.jpg          the picture with its boxes, under its own name
      detections.jsonl    one JSON object per picture or frame

The file `detections.jsonl` also marks the folder as one of ours: only there do new results replace old ones.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import cv2

from fcos_edge.errors import UsageError
from fcos_edge.runtime import UInt8Array
from fcos_edge.sources import PICTURE_SUFFIXES
from fcos_edge.video import VIDEO_SUFFIXES
from fcos_edge.writing import naming

LINES_NAME = "detections.jsonl"
_PART_NAME = f".{LINES_NAME}.part"
_REMEDY = "choose another folder with --out"


class ResultFolder:
    """Results on their way to a folder. Every file appears under its name only when it is complete.

    The folder is made with the first result; `finish` ends it, and `discard` drops the lines.
    """

    def __init__(self, folder: Path, sources: Sequence[Path]) -> None:
        """Raises UsageError where the folder is in use for something else, or holds a source."""
        self.folder = folder
        self._lines: IO[str] | None = None
        self._has_lines = False
        self._made: list[Path] = []
        _check_folder(folder)
        for source in sources:
            target = self.picture_path(source.name)
            if source.parent.resolve() == folder.resolve() or (target.exists() and target.samefile(source)):
                raise UsageError(f"{source}: would be overwritten; choose a folder of its own with --out")

    def picture_path(self, name: str) -> Path:
        """Where the drawn copy of the picture `name` goes; .png is added to a suffix that is not usual."""
        is_usual = Path(name).suffix.lower() in PICTURE_SUFFIXES
        return self.folder / (name if is_usual else f"{name}.png")

    def write_picture(self, name: str, image_bgr: UInt8Array) -> Path:
        """Write (H, W, 3) uint8 BGR under the source's name. Returns the path."""
        self._begin()
        path = self.picture_path(name)
        is_encoded, encoded = cv2.imencode(path.suffix.lower(), image_bgr)
        if not is_encoded:
            raise UsageError(f"{path}: OpenCV cannot write this picture; convert the source to PNG")
        part = path.with_name(f".{path.name}.part")
        try:
            with naming(path, _REMEDY):
                part.write_bytes(encoded.tobytes())
                os.replace(part, path)
        finally:
            part.unlink(missing_ok=True)
        return path

    def write_line(self, record: Mapping[str, Any]) -> None:
        """Append one object to `detections.jsonl`."""
        lines = self._begin()
        with naming(self.folder / LINES_NAME, _REMEDY):
            lines.write(json.dumps(record, allow_nan=False) + "\n")
        self._has_lines = True

    def make(self) -> Path:
        """Make the folder now, for a file that somebody else writes into it. Returns it."""
        self._begin()
        return self.folder

    def finish(self) -> None:
        """Give `detections.jsonl` its name, if there is anything in it."""
        if self._lines is not None and self._has_lines:
            with naming(self.folder / LINES_NAME, _REMEDY):
                self._lines.close()
                os.replace(self.folder / _PART_NAME, self.folder / LINES_NAME)
            self._lines = None

    def discard(self) -> None:
        """Leave an earlier `detections.jsonl` as it was, or none; after `finish` it does nothing."""
        if self._lines is not None:
            with suppress(OSError):  # the disk is full, which was said
                self._lines.close()
            self._lines = None
            (self.folder / _PART_NAME).unlink(missing_ok=True)
            self._remove_made()

    def _begin(self) -> IO[str]:
        if self._lines is None:
            self._made = [folder for folder in (self.folder, *self.folder.parents) if not folder.exists()]
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
                self._lines = (self.folder / _PART_NAME).open("w", encoding="utf-8")
            except OSError as error:
                self._remove_made()
                raise UsageError(
                    f"--out {self.folder}: cannot write there ({error.strerror}); {_REMEDY}"
                ) from None
        return self._lines

    def _remove_made(self) -> None:
        """Remove the folders that were made for results, where there are none in them."""
        for folder in self._made:
            with suppress(OSError):  # it is not empty
                folder.rmdir()


def _check_folder(folder: Path) -> None:
    if folder.suffix.lower() in PICTURE_SUFFIXES | VIDEO_SUFFIXES:
        raise UsageError(f"--out {folder}: names a folder, not a file; what is in it keeps the source's name")
    if not folder.is_dir():
        # A file may stand in the way at any height.
        above = next((parent for parent in (folder, *folder.parents) if parent.exists()), folder)
        if above.exists() and not above.is_dir():
            raise UsageError(f"--out {folder}: {above} is a file; choose another folder")
        return
    names = {path.name for path in folder.iterdir()}
    if not names & {LINES_NAME, _PART_NAME} and any(not name.startswith(".") for name in names):
        raise UsageError(f"--out {folder}: holds files that are not from `detect`; choose another folder")
