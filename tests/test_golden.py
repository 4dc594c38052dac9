"""Golden pictures on disk: written, read back, damaged."""

from __future__ import annotations

import io
import json
import pickle
import shutil
import tracemalloc
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fcos_edge import golden as golden_module
from fcos_edge.detections import Detections
from fcos_edge.errors import ArtifactError
from fcos_edge.golden import Golden, read_golden, write_golden
from tests.runtimes.models import SPEC
from tests.small_golden import SOURCE_NAMES, small_golden, write_sources

LICENSE = "CC0, of Grüße\n"


def write(bundle: Path, golden: Golden) -> Path:
    """A new bundle with nothing but golden pictures."""
    bundle.mkdir()
    sources = bundle.with_name(f"{bundle.name} sources")
    sources.mkdir()
    write_golden(bundle, golden, write_sources(sources), LICENSE)
    return bundle


@pytest.fixture(scope="session")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Read-only: a test that changes it takes a copy."""
    return write(tmp_path_factory.mktemp("golden") / "bundle", small_golden())


@pytest.fixture
def bundle(written: Path, tmp_path: Path) -> Path:
    return shutil.copytree(written, tmp_path / "bundle")


def assert_same_arrays(found: Any, expected: Any) -> None:
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("is_quantized", [True, False])
def test_golden__round_trip(tmp_path: Path, is_quantized: bool) -> None:
    golden = small_golden(is_quantized=is_quantized)
    found = read_golden(write(tmp_path / "bundle", golden))
    for name in ("spec", "operating_thresholds", "outputs", "record_sha256", "one_bit_floors", "is_integer"):
        assert getattr(found, name) == getattr(golden, name)
    assert len(found.pictures) == len(golden.pictures) == 2
    for read, picture in zip(found.pictures, golden.pictures, strict=True):
        assert read.source_name == picture.source_name
        assert_same_arrays(read.images, picture.images)
        for maps, expected in ((read.fp32, picture.fp32), (read.int8, picture.int8)):
            assert list(maps) == [name for name in SPEC.output_names if expected]
            for name in maps:
                assert_same_arrays(maps[name], expected[name])
        for kind in ("candidates", "operating"):
            for part in ("boxes_xyxy", "scores", "labels"):
                assert_same_arrays(getattr(getattr(read, kind), part), getattr(getattr(picture, kind), part))


def test_golden__no_detections_round_trip(tmp_path: Path) -> None:
    golden = small_golden()
    pictures = tuple(replace(picture, operating=Detections.empty()) for picture in golden.pictures)
    found = read_golden(write(tmp_path / "bundle", replace(golden, pictures=pictures)))
    assert found.pictures[0].operating.boxes_xyxy.shape == (0, 4)


def test_golden__numpy_reads_the_arrays_too(written: Path) -> None:
    with np.load(written / "golden" / "first.npz", allow_pickle=False) as archive:
        assert_same_arrays(archive["images"], small_golden().pictures[0].images)


def test_golden__licence_and_sources_are_beside_it(written: Path) -> None:
    folder = written / "golden"
    assert (folder / "LICENSE").read_text(encoding="utf-8") == LICENSE
    names = {path.name for path in folder.iterdir()}
    assert names == {"golden.json", "LICENSE", "first.npz", "second.npz", *SOURCE_NAMES}


def test_golden__same_bytes_when_written_twice(written: Path, tmp_path: Path) -> None:
    again = write(tmp_path / "again", small_golden())
    for path in (written / "golden").iterdir():
        assert (again / "golden" / path.name).read_bytes() == path.read_bytes(), path.name


def refused(bundle: Path) -> str:
    """The message of the ArtifactError; one line that names a path."""
    with pytest.raises(ArtifactError) as caught:
        read_golden(bundle)
    message = str(caught.value)
    assert message.startswith(str(bundle))
    assert message.isprintable()
    return message


def index_with(path: str, value: Any) -> Callable[[str], str]:
    """One value of golden.json changed; "outputs.0.scale" says which."""

    def change(text: str) -> str:
        document = json.loads(text)
        *parents, last = path.split(".")
        target = document
        for key in parents:
            target = target[int(key) if key.isdigit() else key]
        target[int(last) if last.isdigit() else last] = value
        return json.dumps(document)

    return change


def without(key: str) -> Callable[[str], str]:
    return lambda text: json.dumps({k: v for k, v in json.loads(text).items() if k != key})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: "", "not a JSON document"),
        (lambda text: text[: len(text) // 2], "not a JSON document"),
        (lambda text: "[" * 100_000, "not a JSON document"),
        (lambda text: "9" * 10_000, "not a JSON document"),  # more digits than Python converts
        (lambda text: "\udcff", "not a JSON document"),  # no UTF-8
        (lambda text: "[]", "not what `export` wrote"),
        (lambda text: "null", "not what `export` wrote"),
        (index_with("version", "3.0"), "version 3.0"),
        (index_with("version", "1.0"), "version 1.0 does not hold the conventions; export the bundle again"),
        (index_with("version", None), "version"),
        (index_with("colour", "red"), "unknown key 'colour'"),
        (index_with("two\nlines", 1), "unknown key"),
        *((without(key), f"key '{key}' is missing")
          for key in ("pictures", "spec", "operating_thresholds", "outputs", "record_sha256",
                      "one_bit_floors", "is_integer")),
        (without("version"), "version"),
        # pictures: plain names, at least one
        (index_with("pictures", []), "not what"),
        (index_with("pictures", "first.png"), "not what"),
        (index_with("pictures", {"first.png": 1}), "not what"),
        (index_with("pictures.0", 7), "not what"),
        (index_with("pictures.0", ""), "not what"),
        (index_with("pictures.0", ".."), "not what"),
        (index_with("pictures.0", "../first.png"), "not what"),
        (index_with("pictures.0", "/etc/passwd"), "not what"),
        (index_with("pictures.0", "..\\first.png"), "not what"),
        (index_with("pictures.0", "c:first.png"), "not what"),
        (index_with("pictures.0", "first\0.png"), "not what"),
        (index_with("pictures.0", "first\n.png"), "not what"),  # would break the line of the message
        (index_with("pictures.0", "\ud800.png"), "not what"),  # half a character: no file system takes it
        (index_with("pictures.0", "third.png"), "cannot read"),
        (index_with("pictures.0", "x" * 5000), "cannot read"),
        # the conventions as exported
        (index_with("spec", 1), "expected a JSON object"),
        (index_with("spec.nms_iou", 7), "nms_iou is 7"),
        (index_with("spec.version", "9.0"), "version 9.0"),
        (index_with("operating_thresholds", []), "not what"),
        (index_with("operating_thresholds", {}), "not what"),
        (index_with("operating_thresholds.reference", [0.3] * 3), "not what"),  # of four classes
        (index_with("operating_thresholds.reference.1", 1.5), "not what"),
        (index_with("operating_thresholds.reference.1", "0.3"), "not what"),
        (index_with("operating_thresholds.reference.1", 10**400), "not what"),
        # the int8 outputs: all of them, in the spec's order, or none without a record
        (index_with("outputs", {}), "not what"),
        (index_with("outputs", []), "not what"),  # but a record
        (index_with("record_sha256", ""), "not what"),  # but outputs
        (index_with("record_sha256", None), "not what"),
        (index_with("outputs.0", 1), "not what"),
        (index_with("outputs.0.name", "logits_p4"), "not what"),
        (index_with("outputs.0.name", ["logits_p3"]), "not what"),
        (index_with("outputs.0.colour", 1), "not what"),
        (index_with("outputs.0.scale", 0), "not what"),
        (index_with("outputs.0.scale", -0.5), "not what"),
        (index_with("outputs.0.scale", float("nan")), "not what"),
        (index_with("outputs.0.scale", float("inf")), "not what"),
        (index_with("outputs.0.scale", 10**400), "not what"),  # an integer that no float holds
        (index_with("outputs.0.scale", "1"), "not what"),
        (index_with("outputs.0.scale", True), "not what"),
        (index_with("outputs.0.zero_point", 256), "not what"),
        (index_with("outputs.0.zero_point", -1), "not what"),
        (index_with("outputs.0.zero_point", 1.0), "not what"),
        (index_with("outputs.0.zero_point", True), "not what"),
        (index_with("one_bit_floors", 0.1), "not what"),
        (index_with("one_bit_floors", {}), "not what"),
        (index_with("one_bit_floors.other", 0.1), "not what"),
        *((index_with("one_bit_floors.ltrb_p3", value), "not what")
          for value in (float("nan"), float("inf"), -1e-9, 10**400, True, "0", None)),
        (index_with("is_integer", 1), "not what"),
        (index_with("is_integer", None), "not what"),
    ],
)  # fmt: skip
def test_read_golden__damaged_index_is_one_line(
    bundle: Path, change: Callable[[str], str], message: str
) -> None:
    index = bundle / "golden" / "golden.json"
    index.write_bytes(change(index.read_text(encoding="utf-8")).encode("utf-8", "surrogateescape"))
    assert message in refused(bundle)


def remove(path: Path) -> None:
    path.unlink()


def make_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def no_zip(path: Path) -> None:
    path.write_bytes(b"PK but no archive")


def cut(keep: float) -> Callable[[Path], None]:
    """The file ends early; `keep`: the part that is left."""

    def damage(path: Path) -> None:
        content = path.read_bytes()
        path.write_bytes(content[: int(len(content) * keep)])

    return damage


def bare_array(path: Path) -> None:
    # np.load takes it for what it is, and returns no archive.
    with path.open("wb") as file:
        np.save(file, np.zeros(3, np.float32))


def bare_pickle(path: Path) -> None:
    path.write_bytes(pickle.dumps({"images": 1}))


def members_of(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def write_members(path: Path, members: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> None:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)


def npy(array: Any, allow_pickle: bool = False) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, np.asarray(array), allow_pickle=allow_pickle)
    return buffer.getvalue()


def header(shape: str, dtype: str = "<f4", order: str = "False") -> bytes:
    """What stands in front of an array, with nothing behind it."""
    text = f"{{'descr': '{dtype}', 'fortran_order': {order}, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


def member(name: str, content: bytes | None) -> Callable[[Path], None]:
    """One array of the file replaced; None takes it out."""

    def damage(path: Path) -> None:
        members = members_of(path)
        del members[f"{name}.npy"]
        if content is not None:
            members[f"{name}.npy"] = content
        write_members(path, members)

    return damage


def stored(path: Path) -> None:
    write_members(path, members_of(path), zipfile.ZIP_STORED)


def lzma_packed(path: Path) -> None:
    write_members(path, members_of(path), zipfile.ZIP_LZMA)


def marked_encrypted(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[content.rindex(b"PK\x01\x02") + 8] |= 1  # the flags of the last entry in the directory
    path.write_bytes(content)


class MustNotRun:
    """Unpickling it runs code."""

    def __reduce__(self) -> Any:
        return exec, ("raise SystemExit('a pickle of a golden file was run')",)


LOGITS_HW = (*SPEC.level_hw[0], 4)
ONE_SCORE = npy(np.array([0.5], np.float32))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (remove, "No such file"),
        (make_folder, "cannot read"),
        (cut(0), "not what"),
        (cut(0.5), "not what"),
        (cut(0.99), "not what"),  # inside the directory at the end
        (no_zip, "not a zip file"),
        (bare_array, "not a zip file"),
        (bare_pickle, "not a zip file"),
        (stored, "packed in another way"),
        (lzma_packed, "packed in another way"),
        (marked_encrypted, "encrypted"),
        *((member(name, None), f"'{name}'") for name in (
            "images", "fp32/logits_p3", "int8/centerness_p4", "candidates/scores", "operating/labels")),
        (member("images", b""), "something else than arrays"),
        (member("images", npy(np.zeros((1, *SPEC.input_hw, 3), np.float32))), "float32 (1, 64, 96, 3), exp"),
        (member("images", npy(np.zeros((*SPEC.input_hw, 3), np.uint8))), "uint8 (64, 96, 3), expected"),
        (member("fp32/logits_p3", npy(np.zeros(LOGITS_HW))), "something else than arrays"),  # float64
        (member("fp32/logits_p3", npy(np.zeros((8, 12, 3), np.float32))), "expected float32 (8, 12, 4)"),
        (member("int8/logits_p3", npy(np.zeros(LOGITS_HW, np.int8))), "something else than arrays"),
        (member("fp32/logits_p3", npy(np.zeros(LOGITS_HW, np.dtype(">f4")))), "something else than arrays"),
        (member("fp32/logits_p3", npy(np.array([MustNotRun()], object), True)), "something else than arrays"),
        (member("fp32/logits_p3", pickle.dumps(MustNotRun())), "something else than arrays"),
        # Headers that promise more than there is: NumPy would allocate it first.
        (member("fp32/logits_p3", header("(8, 12, 4)")), "0 bytes are no float32"),
        (member("fp32/logits_p3", header(f"({1 << 50},)")), "0 bytes are no float32"),
        (member("fp32/logits_p3", header(f"(0, {10**30})")), "not what"),
        (member("fp32/logits_p3", header(f"({'9' * 5000},)")), "not what"),
        (member("fp32/logits_p3", header(f"({'1, ' * 100})") + bytes(4)), "not what"),  # 100 dimensions
        (member("fp32/logits_p3", header("(8 8,)")), "not what"),
        (member("fp32/logits_p3", header("(8, 12, 4)", order="True") + bytes(1536)), "something else"),
        (member("fp32/logits_p3", header("-" * 9000 + "1")), "something else"),  # NumPy: a MemoryError
        # Detections that cannot be
        (member("candidates/scores", ONE_SCORE), "detections"),  # more boxes than scores
        (member("candidates/scores", npy(np.full(4, np.nan, np.float32))), "scores must"),
        (member("candidates/boxes_xyxy", npy(np.full((4, 4), np.inf, np.float32))), "finite"),
        (member("candidates/labels", npy(np.full(4, -1))), "negative"),
    ],
)  # fmt: skip
def test_read_golden__damaged_arrays_are_one_line(
    bundle: Path, damage: Callable[[Path], None], message: str
) -> None:
    damage(bundle / "golden" / "second.npz")
    found = refused(bundle)
    assert "second.npz" in found
    assert message in found


def test_read_golden__label_beyond_the_classes_is_one_line(bundle: Path) -> None:
    # It would be an IndexError where the operating thresholds are looked up.
    member("candidates/labels", npy(np.full(4, 4)))(bundle / "golden" / "first.npz")
    assert "label" in refused(bundle)


def test_read_golden__folder_without_one(tmp_path: Path) -> None:
    assert "no golden pictures (No such file or directory)" in refused(tmp_path)


@pytest.mark.parametrize(
    ("limit", "message"),
    [
        (1 << 10, "not what `export` wrote; "),  # bytes of the file
        (1 << 20, "unpacks to more than 1048576 bytes"),
    ],
)
def test_read_golden__too_large(
    bundle: Path, monkeypatch: pytest.MonkeyPatch, limit: int, message: str
) -> None:
    # A real file of 256 MiB would take seconds.
    monkeypatch.setattr(golden_module, "_MAX_BYTES", limit)
    member("images", bytes(1 << 20))(bundle / "golden" / "first.npz")
    assert message in refused(bundle)


def test_read_golden__bomb_with_a_false_size_is_not_unpacked(bundle: Path) -> None:
    """256 MiB of zeros that the directory calls 128 bytes."""
    path = bundle / "golden" / "first.npz"
    member("images", bytes(1 << 28))(path)
    content = bytearray(path.read_bytes())
    entry = content.rindex(b"PK\x01\x02")
    content[entry + 24 : entry + 28] = (128).to_bytes(4, "little")
    path.write_bytes(content)
    tracemalloc.start()
    try:
        refused(bundle)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 16 << 20  # the arrays of a whole file are 100 KiB


# Each run changes the file of one bundle and puts it back, which spares a copy per run.
FUZZ = settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
flips_at = st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(1, 255)), min_size=1, max_size=4)


def message_after_flips(bundle: Path, name: str, start: int, flips: list[tuple[float, int]]) -> str:
    """What reading says when bytes behind `start` are flipped; "" where it reads."""
    path = bundle / "golden" / name
    original = path.read_bytes()
    content = bytearray(original)
    for place, mask in flips:
        content[start + int(place * (len(content) - start))] ^= mask
    path.write_bytes(content)
    try:
        read_golden(bundle)  # a flip may fall into a name, a number or a date, and do no harm
    except ArtifactError as error:
        return str(error)
    finally:
        path.write_bytes(original)
    return ""


@pytest.mark.parametrize("name", ["golden.json", "first.npz"])
@FUZZ
@given(flips=flips_at)
def test_read_golden__flipped_bytes_are_read_or_refused(
    bundle: Path, name: str, flips: list[tuple[float, int]]
) -> None:
    assert message_after_flips(bundle, name, 0, flips).isprintable()


@FUZZ
@given(flips=flips_at)
def test_read_golden__flipped_bytes_of_the_directory(bundle: Path, flips: list[tuple[float, int]]) -> None:
    # The directory at the end is a tenth of the archive: most flips of the test above miss it.
    start = (bundle / "golden" / "first.npz").read_bytes().index(b"PK\x01\x02")
    assert message_after_flips(bundle, "first.npz", start, flips).isprintable()


@pytest.mark.parametrize("place", [0.0, 0.3, 0.6])  # within packed arrays or their names
def test_read_golden__one_flipped_bit_of_an_array_is_refused(bundle: Path, place: float) -> None:
    assert "not what `export` wrote" in message_after_flips(bundle, "first.npz", 0, [(place, 1)])
