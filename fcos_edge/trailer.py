"""The ZIP trailer of a TFLite file: a JSON document behind the flatbuffer.

TFLite's own metadata needs a flatbuffer schema, which tflite-runtime does not have. A ZIP archive is
found from its end and a flatbuffer from its start, so the archive can simply follow the model: every
runtime ignores it, and the standard library reads it. `unzip -p model.tflite fcos_edge.json` shows it.

The archive's comment is the flatbuffer's CRC-32, because tflite-runtime does not check what it reads: one
flipped bit can end the process.
"""

from __future__ import annotations

import io
import zipfile
import zlib
from pathlib import Path

from fcos_edge.artifact import DOCUMENT_KEY
from fcos_edge.errors import ArtifactError

# A ZIP cannot hold an earlier date. A fixed one makes the same model the same bytes.
_DATE = (1980, 1, 1, 0, 0, 0)
# A document is a few kilobytes; a damaged or hostile archive may claim any size.
_MAX_DOCUMENT_BYTES = 1 << 24


def append_trailer(model: bytes, document: str) -> bytes:
    """The model with `document` behind it, in place of a trailer that it may already have.

    model:    a TFLite flatbuffer
    document: what `artifact.dump_document` returns
    returns:  the same bytes for the same arguments, on every machine
    """
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
    try:
        with zipfile.ZipFile(io.BytesIO(model)) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, ValueError, EOFError):
        return model
    if [entry.filename for entry in entries] != [DOCUMENT_KEY]:
        return model
    return model[: entries[0].header_offset]


def read_trailer(path: Path) -> str:
    """The document behind the flatbuffer at `path`.

    Raises ArtifactError where there is none: the file is cut short, damaged, or another program's.
    """
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
