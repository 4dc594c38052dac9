"""The ZIP trailer of a TFLite file: a JSON document behind the flatbuffer.

TFLite's own metadata needs a flatbuffer schema, which tflite-runtime does not have. A ZIP archive is
found from its end and a flatbuffer from its start, so the archive can simply follow the model: every
runtime ignores it, and the standard library reads it. `unzip -p model.tflite fcos_edge.json` shows it.

The archive's comment is the flatbuffer's CRC-32, because tflite-runtime does not check what it reads: one
flipped bit can end the process.
"""

from __future__ import annotations

import io
import os
import struct
import zlib
from pathlib import Path

from fcos_edge.artifact import DOCUMENT_KEY
from fcos_edge.errors import ArtifactError

# A ZIP cannot hold an earlier date. A fixed one makes the same model the same bytes.
_DATE = (1980, 1, 1, 0, 0, 0)
# A document is a few kilobytes; a damaged or hostile archive may claim any size.
_MAX_DOCUMENT_BYTES = 1 << 24
# Ours has a few kilobytes.
_TAIL_BYTES = 1 << 16
# What we look at of the archive's end (signature, bytes of the entries, of the comment) and of its entry
# (signature, method, CRC-32, stored bytes, bytes, bytes of the name, of extra fields).
_END = struct.Struct("<4s8xL4xH")
_ENTRY = struct.Struct("<4s6xH4xLLLHH14x")


def append_trailer(model: bytes, document: str) -> bytes:
    """The model with `document` behind it, in place of a trailer that it may already have.

    model:    a TFLite flatbuffer
    document: what `artifact.dump_document` returns
    returns:  the same bytes for the same arguments, on every machine
    """
    import zipfile

    entry = zipfile.ZipInfo(DOCUMENT_KEY, _DATE)
    # zipfile fills these from the platform; and deflate's output depends on the zlib version.
    entry.create_system = 3
    entry.external_attr = 0o644 << 16
    entry.compress_type = zipfile.ZIP_STORED
    stream = io.BytesIO()
    model = strip_trailer(model)
    stream.write(model)
    # Not "a": it would merge an archive that another program appended, and with it change the model.
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr(entry, document.encode())
        archive.comment = _checksum(model)
    return stream.getvalue()


def strip_trailer(model: bytes) -> bytes:
    """The flatbuffer alone; a model without our trailer is returned as it is."""
    import zipfile

    try:
        with zipfile.ZipFile(io.BytesIO(model)) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, ValueError, EOFError):
        return model
    if [entry.filename for entry in entries] != [DOCUMENT_KEY]:
        return model
    return model[: entries[0].header_offset]


def read_trailer(path: Path) -> str:
    """The document behind the flatbuffer at `path`; the flatbuffer itself is not looked at.

    Raises ArtifactError where there is none: the file is cut short, damaged, or another program's.
    """
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - _TAIL_BYTES))
            document = _read_own(file.read())
        return _read_any(path) if document is None else document
    except OSError as error:
        raise ArtifactError(f"{path}: cannot read {DOCUMENT_KEY}: {error}") from None


def check_model(path: Path) -> None:
    """Raise ArtifactError where the flatbuffer at `path` is not the one that its trailer was made for."""
    content = path.read_bytes()
    if not content.endswith(_checksum(strip_trailer(content))):
        raise ArtifactError(f"{path}: the model is damaged; copy or export it again")


def _read_own(tail: bytes) -> str | None:
    """The document, where the end of the file is just as `append_trailer` writes it, else None.

    Every start of a program reads one, and zipfile takes 4 ms to import.
    """
    name, comment_bytes = DOCUMENT_KEY.encode(), len(_checksum(b""))
    end = len(tail) - _END.size - comment_bytes
    entry = end - _ENTRY.size - len(name)
    if entry < 0:
        return None
    if _END.unpack_from(tail, end) != (b"PK\5\6", end - entry, comment_bytes):
        return None
    signature, method, crc, stored, size, name_bytes, extra_bytes = _ENTRY.unpack_from(tail, entry)
    document = tail[max(0, entry - size) : entry]
    is_ours = (signature, method, stored, name_bytes, extra_bytes) == (b"PK\1\2", 0, size, len(name), 0)
    return document.decode() if is_ours and zlib.crc32(document) == crc else None


def _read_any(path: Path) -> str:
    """The document in an archive that is not quite as ours are: nearly always one that is damaged."""
    import zipfile

    try:
        with path.open("rb") as file, zipfile.ZipFile(file) as archive:
            entry = archive.getinfo(DOCUMENT_KEY)
            if entry.file_size > _MAX_DOCUMENT_BYTES:
                raise ArtifactError(f"{path}: {DOCUMENT_KEY} claims to be huge; the file is damaged")
            document = archive.read(entry).decode()
            file.seek(0)
            if _checksum(file.read(entry.header_offset)) != archive.comment:
                raise ArtifactError(f"{path}: the model is damaged; copy or export it again")
            return document
    except (zipfile.BadZipFile, KeyError):
        raise ArtifactError(
            f"{path}: no {DOCUMENT_KEY} at its end; it is cut short, damaged, or not exported by fcos-edge"
        ) from None
    except (OSError, ValueError, EOFError, NotImplementedError, RuntimeError) as error:
        raise ArtifactError(f"{path}: cannot read {DOCUMENT_KEY}: {error}") from None


def _checksum(model: bytes) -> bytes:
    return b"crc32 %08x" % zlib.crc32(model)
