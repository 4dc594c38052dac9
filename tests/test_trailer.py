"""The ZIP trailer of a TFLite file."""

from __future__ import annotations

import io
import zipfile
import zlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fcos_edge.artifact import DOCUMENT_KEY
from fcos_edge.errors import ArtifactError
from fcos_edge.trailer import append_trailer, check_model, read_trailer, strip_trailer

# A flatbuffer to the trailer: any bytes. "PK" inside must not be taken for an archive.
MODEL = b"\x1c\0\0\0TFL3" + bytes(range(256)) + b"PK\x05\x06 PK\x01\x02"
DOCUMENT = '{"spec": {"classes": ["Hund", "Köter"]}}'


def write(folder: Path, content: bytes) -> Path:
    path = folder / "model.tflite"
    path.write_bytes(content)
    return path


def test_read_trailer__returns_what_was_appended(tmp_path: Path) -> None:
    assert read_trailer(write(tmp_path, append_trailer(MODEL, DOCUMENT))) == DOCUMENT


def test_append_trailer__leaves_the_model_in_front() -> None:
    assert append_trailer(MODEL, DOCUMENT).startswith(MODEL)


def test_append_trailer__gives_the_same_bytes_at_any_time() -> None:
    # The whole of it, so that a change of Python or zlib cannot change a released file unnoticed.
    name = b"fcos_edge.json".hex()
    crc_and_sizes = "43bfa6a3" + "02000000" * 2
    local_header = "504b0304" + "1400" + "0000" * 2 + "00002100" + crc_and_sizes + "0e000000"
    directory = "504b0102" + "14031400" + "0000" * 2 + "00002100" + crc_and_sizes + "0e00" + "0000" * 4
    end = "504b0506" + "0000" * 2 + "0100" * 2 + "3c000000" + "2e000000" + "0e00" + b"crc32 00000000".hex()
    assert append_trailer(b"", "{}").hex() == (
        local_header + name + b"{}".hex() + directory + "0000a401" + "00000000" + name + end
    )


def test_append_trailer__replaces_an_earlier_one(tmp_path: Path) -> None:
    twice = append_trailer(append_trailer(MODEL, "old"), DOCUMENT)
    assert twice == append_trailer(MODEL, DOCUMENT)


def test_append_trailer__keeps_an_archive_of_another_program(tmp_path: Path) -> None:
    # TFLite's own metadata appends label files in the same way.
    path = write(tmp_path, MODEL)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("labels.txt", "dog")
    labelled = path.read_bytes()
    assert append_trailer(labelled, DOCUMENT).startswith(labelled)
    assert read_trailer(write(tmp_path, append_trailer(labelled, DOCUMENT))) == DOCUMENT


@given(model=st.binary(max_size=200), document=st.text(max_size=50))
def test_strip_trailer__gives_the_model_back(model: bytes, document: str) -> None:
    assert strip_trailer(append_trailer(model, document)) == model


COMPLETE = append_trailer(MODEL, DOCUMENT)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "cut short"),
        (MODEL, "no fcos_edge.json"),  # a model of another program
        (COMPLETE[:-1], "the model is damaged"),  # one digit of the checksum is missing
        (COMPLETE[: len(COMPLETE) // 2], "cut short"),
        (COMPLETE.replace(b"Hund", b"Katz"), "damaged"),  # the document's own checksum
    ],
)
def test_read_trailer__damaged_file_is_one_line(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(ArtifactError, match=message) as caught:
        read_trailer(write(tmp_path, content))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("at", [0, 9, len(MODEL) - 1])
def test_check_model__damage_is_noticed(tmp_path: Path, at: int) -> None:
    check_model(write(tmp_path, COMPLETE))
    damaged = write(tmp_path, COMPLETE[:at] + bytes([COMPLETE[at] ^ 1]) + COMPLETE[at + 1 :])
    assert read_trailer(damaged) == DOCUMENT
    with pytest.raises(ArtifactError, match="the model is damaged; copy or export it again"):
        check_model(damaged)


def test_read_trailer__archive_that_is_not_quite_ours_is_read_too(tmp_path: Path) -> None:
    stream = io.BytesIO()
    stream.write(MODEL)
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(DOCUMENT_KEY, DOCUMENT)
        archive.comment = b"crc32 %08x" % zlib.crc32(MODEL)
    assert read_trailer(write(tmp_path, stream.getvalue())) == DOCUMENT


def test_read_trailer__every_cut_is_noticed(tmp_path: Path) -> None:
    for length in range(len(COMPLETE)):
        with pytest.raises(ArtifactError):
            read_trailer(write(tmp_path, COMPLETE[:length]))


def test_read_trailer__missing_file(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="No such file"):
        read_trailer(tmp_path / "model.tflite")


def test_trailer__is_a_plain_zip(tmp_path: Path) -> None:
    with zipfile.ZipFile(write(tmp_path, COMPLETE)) as archive:
        assert archive.namelist() == [DOCUMENT_KEY]
        assert archive.testzip() is None
