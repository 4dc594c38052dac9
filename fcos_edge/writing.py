"""Writing results: what the disk or its owner refuses becomes one line that names the place.

The OSError of a `write` does not say which file it was. C++ libraries say even less: that something failed.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

from fcos_edge.errors import UsageError

DISK_FULL = frozenset({errno.EDQUOT, errno.EFBIG, errno.ENOSPC})  # EFBIG: `ulimit -f`, or a FAT disk
# The user's to mend; any other OSError is a mistake of ours.
REFUSALS = DISK_FULL | {errno.EACCES, errno.ENAMETOOLONG, errno.EPERM, errno.EROFS}
# More than the rest of a file's last block.
_MORE_BYTES = 1 << 20


@contextmanager
def naming(path: Path, remedy: str) -> Iterator[None]:
    """Around what writes to `path`. Raises UsageError with the path where the disk or its owner refuses.

    remedy  what else can be done, as "choose another --out"
    """
    try:
        yield
    except OSError as error:
        if error.errno not in REFUSALS:
            raise
        room = "make room there, or " if error.errno in DISK_FULL else ""
        raise UsageError(f"{path}: cannot be written ({error.strerror}); {room}{remedy}") from None


def check_new_file(path: Path, option: str) -> None:
    """Raise UsageError where a new file cannot be made at `path`: before the work, not after it.

    option  what named it, as "--results"
    """
    with naming(path, f"choose another {option}"):
        if path.exists() or path.is_symlink():
            raise UsageError(f"{option} {path}: is there already; name another file, or move this one")
    check_can_write(path, option)


def check_can_write(path: Path, option: str) -> None:
    """The same for a file that may be replaced."""
    with naming(path, f"choose another {option}"):
        if not path.parent.is_dir():
            raise UsageError(f"{option} {path}: there is no folder {path.parent}; make it first")
        part = _part(path)
        part.touch()
        part.unlink()


@contextmanager
def whole_file(path: Path, remedy: str) -> Iterator[TextIO]:
    """A text file to write into, which takes its name when all is written: never half a file.

    remedy  as `naming`'s. Raises UsageError where the disk or its owner refuses.
    """
    part = _part(path)
    try:
        with naming(path, remedy):
            with part.open("w", encoding="utf-8") as file:
                yield file
            os.replace(part, path)
    finally:
        with suppress(OSError):  # what stopped the writing is said already
            part.unlink(missing_ok=True)


def _part(path: Path) -> Path:
    return path.parent / f".{path.name}.part"  # "." has no name


def append_line(path: Path, line: str) -> None:
    """Add one line to a text file, whole or not at all."""
    size = path.stat().st_size if path.exists() else 0
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")
    except OSError:
        if path.exists():
            os.truncate(path, size)
        raise


def raise_what_stopped_writing(path: Path) -> None:
    """Raise the OSError that a library met while it wrote the file at `path`, and kept for itself.

    Writes on to the file, which is to be thrown away. Where that succeeds, something else was wrong.
    """
    with path.open("ab") as file:
        file.write(bytes(_MORE_BYTES))
