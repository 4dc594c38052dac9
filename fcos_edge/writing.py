"""Writing results: what the disk or its owner refuses becomes one line that names the place.

The OSError of a `write` does not say which file it was. C++ libraries say even less: that something failed.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

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
