"""What a runtime made of a model file, kept for the next start.

OpenVINO compiles the default network for most of a second at each start, ONNX Runtime optimizes it for 50 ms.
What comes out is written to

    $FCOS_EDGE_CACHE, else $XDG_CACHE_HOME/fcos-edge, else ~/.cache/fcos-edge

and read from there next time; FCOS_EDGE_CACHE set to nothing keeps nothing. An entry is for one content of
the model file, one version of the runtime, one CPU and one set of options. It begins with the sha256 of the
rest, so that a damaged one is as good as none. A folder that cannot be written, or is somebody else's, is no
error: then every start is a first one.
"""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from pathlib import Path

from fcos_edge.bundle import sha256_of
from fcos_edge.cpu import cpu_identity

VARIABLE = "FCOS_EDGE_CACHE"
# A model in three runtimes and two precisions, twice: a board must not fill up.
_MOST_ENTRIES = 12
_DIGEST_BYTES = 32


class CacheEntry:
    """The place of one compiled model; `read` and `write` never raise."""

    @classmethod
    def of_file(cls, path: Path, content: str, runtime: str, version: str, options: str) -> CacheEntry | None:
        """What belongs to the model file at `path`, None where nothing is kept.

        content: sha256 of its files; "" where that is not known yet
        """
        if _folder() is None:
            return None
        weights = path.with_suffix(".bin")  # of OpenVINO's two files
        try:
            names = [path, weights] if path.suffix == ".xml" and weights.is_file() else [path]
            return cls(content or "+".join(map(sha256_of, names)), runtime, version, options)
        except OSError:
            return None

    def __init__(self, content: str, runtime: str, version: str, options: str) -> None:
        """content: sha256 of the model's files; version and options: the runtime's."""
        text = "\n".join((content, runtime, version, options, cpu_identity()))
        self._name = f"{runtime}-{hashlib.sha256(text.encode()).hexdigest()}"

    def read(self) -> bytes | None:
        """What was kept, None where there is nothing, or nothing whole."""
        folder = _folder()
        if folder is None:
            return None
        try:
            with (folder / self._name).open("rb") as file:
                digest, content = file.read(_DIGEST_BYTES), file.read()
        except OSError:
            return None
        return content if hashlib.sha256(content).digest() == digest else None

    def write(self, content: bytes) -> None:
        """Keep `content`, whole or not at all, and no more entries than a board has room for."""
        import tempfile  # only a first start writes

        folder = _folder()
        if folder is None:
            return
        part = ""
        try:
            handle, part = tempfile.mkstemp(prefix=".", dir=folder)
            with os.fdopen(handle, "wb") as file:
                file.write(hashlib.sha256(content).digest())
                file.write(content)
            os.replace(part, folder / self._name)
            part = ""
            _prune(folder)
        except OSError:
            pass  # a full disk, a read-only one: the next start is slow, that is all
        finally:
            if part:
                with suppress(OSError):
                    os.unlink(part)

    def forget(self) -> None:
        """Remove what the runtime refused."""
        if (folder := _folder()) is not None:
            with suppress(OSError):
                (folder / self._name).unlink()


def _folder() -> Path | None:
    """The folder, made if need be; None where there is none for this user."""
    named = os.environ.get(VARIABLE)
    if named == "":
        return None
    try:
        base = os.environ.get("XDG_CACHE_HOME")
        folder = Path(named) if named else (Path(base) if base else Path.home() / ".cache") / "fcos-edge"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Whoever may write here decides what runs: as root with another's home folder, that is the other.
        if hasattr(os, "getuid") and folder.stat().st_uid != os.getuid():
            return None
    except (OSError, RuntimeError, ValueError):  # RuntimeError: a user without a home
        return None
    return folder


def _prune(folder: Path) -> None:
    """Keep the newest entries; also removes what a killed process left half-written."""
    entries = sorted(folder.iterdir(), key=lambda path: path.stat().st_mtime, reverse=True)
    for path in entries[_MOST_ENTRIES:]:
        with suppress(OSError):
            path.unlink()
