"""What `detect` and calibration are given: a picture, a folder of pictures, a video, a camera."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from fcos_edge.errors import DataError, ImageError, UsageError
from fcos_edge.video import VIDEO_SUFFIXES

# What OpenCV both reads and writes in colour, in every build.
PICTURE_SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})

Item = TypeVar("Item")


@dataclass(frozen=True)
class Pictures:
    """Picture files, not read yet.

    folder  that the user named; None where it was one file
    """

    paths: tuple[Path, ...]
    folder: Path | None = None


@dataclass(frozen=True)
class Video:
    """A video file, or the number of a camera."""

    source: Path | int

    @property
    def name(self) -> str:
        return f"camera{self.source}.mp4" if isinstance(self.source, int) else self.source.name


def find_source(text: str) -> Pictures | Video:
    """What `text` names: a folder or file, or where there is none and it is a number, a camera.

    Raises ImageError where there is no such file, DataError for a folder without pictures.
    """
    if not text or "\0" in text:
        raise UsageError(
            f"source {text!r} is no path; name a picture, a folder, a video or a camera's number"
        )
    path = Path(text)
    if path.is_dir():
        return Pictures(list_pictures(path), path)
    if not path.exists() and text.isascii() and text.isdigit() and len(text) < 4:
        return Video(int(text))
    if not path.exists():
        raise ImageError(f"{path}: no such file or folder; check the path")
    return Video(path) if path.suffix.lower() in VIDEO_SUFFIXES else Pictures((path,))


def list_pictures(folder: Path, *, is_recursive: bool = False) -> tuple[Path, ...]:
    """The picture files in `folder`, by name; other files do not count.

    is_recursive  folders below it count too, but for hidden ones

    Raises DataError where there is none.
    """
    entries = folder.rglob("*") if is_recursive else folder.iterdir()
    paths = sorted(path for path in entries if is_picture(path) and not _is_hidden(path.parent, folder))
    if not paths:
        suffixes = ", ".join(sorted(PICTURE_SUFFIXES))
        below = " or below it" if is_recursive else ""
        raise DataError(f"{folder}: no pictures in this folder{below}; expected {suffixes}")
    return tuple(paths)


def spread(items: Sequence[Item], count: int) -> list[Item]:
    """At most `count` of the items, evenly spread, in their order."""
    count = min(count, len(items))
    return [items[index * len(items) // count] for index in range(count)]


def is_picture(path: Path) -> bool:
    """Whether the name is a picture's; hidden files are none (macOS leaves `._name.jpg` everywhere)."""
    return path.suffix.lower() in PICTURE_SUFFIXES and not path.name.startswith(".") and path.is_file()


def _is_hidden(folder: Path, root: Path) -> bool:
    return any(part.startswith(".") for part in folder.relative_to(root).parts)
