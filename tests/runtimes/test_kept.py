"""What runtimes keep for the next start gives the same values, and is used, and is never in the way."""

from __future__ import annotations

import hashlib
import importlib
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fcos_edge import cache
from fcos_edge.errors import ArtifactError
from fcos_edge.loading import open_artifact
from fcos_edge.runtime import RawOutputs, UInt8Array
from tests.runtimes.models import pictures, write_onnx, write_openvino

# Runtime, suffix, writer, and the function that makes what is kept.
CASES = (
    ("onnxruntime", ".onnx", write_onnx, "_optimize"),
    ("openvino", ".onnx", write_onnx, "_read_model"),
    ("openvino", ".xml", write_openvino, "_read_model"),
)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    pytest.importorskip("onnx")
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path / "kept"))
    return tmp_path / "kept"


def values(path: Path, runtime: str, images: UInt8Array) -> RawOutputs:
    pytest.importorskip(runtime)
    loaded = open_artifact(path, runtime, threads=1)
    raw = loaded.runtime.run(images)
    copied = RawOutputs(*(type(branch)(branch.values.copy()) for branch in raw))
    loaded.close()
    return copied


def assert_same(found: RawOutputs, wanted: RawOutputs) -> None:
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(one.values, other.values)


@pytest.mark.parametrize(("runtime", "suffix", "write", "make"), CASES)
def test_start__second_is_like_the_first_and_makes_nothing(
    runtime: str, suffix: str, write: Callable[..., Path], make: str, folder: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    path, images = write(tmp_path / f"model{suffix}"), pictures(1)
    monkeypatch.setenv(cache.VARIABLE, "")
    wanted = values(path, runtime, images)
    monkeypatch.setenv(cache.VARIABLE, str(folder))
    assert_same(values(path, runtime, images), wanted)
    (kept,) = folder.iterdir()
    written = kept.stat().st_mtime_ns

    def fail(*arguments: object) -> None:
        raise AssertionError("made again")

    monkeypatch.setattr(importlib.import_module(f"fcos_edge.runtimes.{runtime}"), make, fail)
    assert_same(values(path, runtime, images), wanted)
    assert kept.stat().st_mtime_ns == written


@pytest.mark.parametrize(("runtime", "suffix", "write", "make"), CASES)
@pytest.mark.parametrize("is_whole", [False, True])  # a damaged entry; one that the runtime refuses
def test_start__entry_that_is_no_good_is_no_error(
    runtime: str, suffix: str, write: Callable[..., Path], make: str, is_whole: bool, folder: Path,
    tmp_path: Path,
) -> None:  # fmt: skip
    path, images = write(tmp_path / f"model{suffix}"), pictures(1)
    wanted = values(path, runtime, images)
    (kept,) = folder.iterdir()
    content = b"no model" * 100
    kept.write_bytes((hashlib.sha256(content).digest() if is_whole else bytes(32)) + content)
    for _ in range(2):
        assert_same(values(path, runtime, images), wanted)
    assert content not in kept.read_bytes()


@pytest.mark.parametrize(("runtime", "suffix", "write", "make"), CASES)
def test_start__changed_model_is_another(
    runtime: str, suffix: str, write: Callable[..., Path], make: str, folder: Path, tmp_path: Path
) -> None:
    path, images = write(tmp_path / f"model{suffix}"), pictures(1)
    values(path, runtime, images)
    if suffix == ".xml":  # its weights are in a file of their own
        weights = path.with_suffix(".bin")
        content = bytearray(weights.read_bytes())
        content[-1] ^= 1
        weights.write_bytes(content)
        values(path, runtime, images)
    else:
        write(path, batch="N")
        values(path, runtime, np.repeat(images, 2, axis=0))
    assert len(list(folder.iterdir())) == 2


@pytest.mark.parametrize(("runtime", "suffix", "write", "make"), CASES)
def test_start__model_that_does_not_fit_is_one_line(
    runtime: str, suffix: str, write: Callable[..., Path], make: str, folder: Path, tmp_path: Path
) -> None:
    pytest.importorskip(runtime)
    path = (
        write(tmp_path / f"model{suffix}", rename={"ltrb_p3": "distances_p3"}) if suffix == ".onnx" else None
    )
    if path is None:
        path = write(tmp_path / f"model{suffix}")
        path.with_suffix(".bin").write_bytes(b"")
    with pytest.raises(ArtifactError) as caught:
        open_artifact(path, runtime)
    assert "\n" not in str(caught.value)


def test_start__without_a_temporary_folder_is_no_error(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, images = write_onnx(tmp_path / "model.onnx"), pictures(1)
    wanted = values(path, "onnxruntime", images)
    for kept in folder.iterdir():
        kept.unlink()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "absent"))
    assert_same(values(path, "onnxruntime", images), wanted)
