"""Put a finished bundle in place, whole or not at all."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from fcos_edge.bundle import (
    MANIFEST_NAME,
    RECORD_NAME,
    SENSITIVITY_NAME,
    SENSITIVITY_PLOT_NAME,
    read_manifest,
)
from fcos_edge.errors import FcosEdgeError, UsageError
from fcos_edge.golden import FOLDER as GOLDEN_FOLDER
from fcos_edge.writing import naming

# What a bundle holds besides the files in its manifest.
_OURS = {
    MANIFEST_NAME, GOLDEN_FOLDER, RECORD_NAME, SENSITIVITY_NAME, SENSITIVITY_PLOT_NAME, "README.md",
}  # fmt: skip


def check_replaceable(out: Path) -> None:
    """Raise UsageError where writing a bundle to `out` could cost the user something.

    Nothing, an empty folder and a bundle with nothing else in it may be replaced.
    """
    target = _resolved(out)
    # A mounted folder cannot be renamed, and from a shell's own folder the ground must not be taken.
    if os.path.ismount(target) or Path.cwd().is_relative_to(target):
        raise UsageError(f"{out}: cannot be replaced by a bundle; name a new folder, inside it, with --out")
    for parent in target.parents:
        if parent.exists() and not parent.is_dir():
            raise UsageError(f"{parent}: is a file, not a folder; name another folder with --out")
    if not out.exists():
        return
    if not out.is_dir():
        raise UsageError(f"{out}: is a file; name a new folder with --out")
    if not any(out.iterdir()):
        return
    try:
        manifest = read_manifest(out)
    except FcosEdgeError:
        raise UsageError(f"{out}: is no bundle and not empty; name a new folder with --out") from None
    ours = _OURS | {file.name for artifact in manifest.artifacts for file in artifact.files}
    if strangers := sorted(entry.name for entry in out.iterdir() if entry.name not in ours):
        raise UsageError(f"{out}: holds {strangers[0]}, which no bundle does; move it or name another --out")


@contextmanager
def placed_when_done(out: Path) -> Iterator[Path]:
    """A new folder beside `out` to write to; it takes the place of `out` when the block ends well.

    When it does not, also by Ctrl-C, `out` is as it was and nothing is left beside it.
    """
    given, out = out, _resolved(out)  # a link stays, and what it names is replaced
    missing = [parent for parent in out.parents if not parent.exists()]
    temporary = None
    is_placed = False
    try:
        temporary = _make_temporary(out)
        # Inside, because mkdtemp's own folder is closed to others.
        folder = temporary / "new"
        folder.mkdir()
        with naming(given, "name another --out"):
            yield folder
        check_replaceable(out)
        try:
            _swap(folder, out, temporary / "old")
        except OSError as error:
            raise UsageError(f"{out}: cannot be replaced ({error.strerror}); name another --out") from None
        is_placed = True
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)
        if not is_placed:
            for parent in missing:
                with suppress(OSError):  # somebody else has put something there
                    parent.rmdir()


def _resolved(out: Path) -> Path:
    try:
        return out.resolve()
    except (OSError, RuntimeError):  # RuntimeError: before Python 3.13, a link that leads to itself
        raise UsageError(f"{out}: is a link that leads nowhere; name a new folder with --out") from None


def _make_temporary(out: Path) -> Path:
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        return Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    except OSError as error:
        raise UsageError(f"{out.parent}: cannot write there ({error.strerror}); name another --out") from None


def _swap(new: Path, out: Path, old: Path) -> None:
    """Two renames, the first undone where the second fails."""
    if not out.exists():
        new.rename(out)
        return
    out.rename(old)
    try:
        new.rename(out)
    except BaseException:
        old.rename(out)
        raise
