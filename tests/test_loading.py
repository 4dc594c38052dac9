"""From a path to a running detector: which file, which runtime."""

from __future__ import annotations

import importlib
import logging
import platform
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fcos_edge
from fcos_edge import loading, runtimes
from fcos_edge.artifact import Format, Precision, dump_document
from fcos_edge.bundle import (
    FileEntry,
    Manifest,
    ManifestArtifact,
    describe_file,
    read_manifest,
    write_manifest,
)
from fcos_edge.errors import ArtifactError, FcosEdgeError, RuntimeUnavailableError, SpecError, UsageError
from fcos_edge.loading import open_artifact, read_document
from fcos_edge.runtime import (
    Branch,
    RawOutputs,
    find_runtime,
    importing,
    installed_package,
    runtime_names,
)
from fcos_edge.runtimes.replay import save_recording
from tests.runtimes.models import (
    SPEC,
    edit_document,
    float_info,
    onnx_model,
    pictures,
    write_onnx,
    write_openvino,
    write_tflite,
)

SUFFIXES = {"onnx": ".onnx", "openvino": ".xml", "tflite": ".tflite"}


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Call it with the packages that are to count as installed."""

    def set_installed(*packages: str) -> None:
        def found(runtime: Any) -> str | None:
            return next((name for name in runtime.PACKAGES if name in packages), None)

        monkeypatch.setattr(loading, "installed_package", found)

    return set_installed


def artifact(format: Format, precision: Precision) -> ManifestArtifact:
    entry = FileEntry(f"model.{precision}{SUFFIXES[format]}", 1, "0" * 64)
    return ManifestArtifact((entry,), format, precision)


def choose(
    folder: Path, artifacts: Sequence[ManifestArtifact], names: Sequence[str], precision: str | None
) -> tuple[str, str]:
    """File and runtime that a bundle with `artifacts` would give; the files themselves are empty."""
    entries = []
    for item in artifacts:
        (folder / item.name).write_bytes(item.name.encode())
        entries.append(ManifestArtifact((describe_file(folder / item.name),), item.format, item.precision))
    write_manifest(folder, Manifest(SPEC, tuple(entries)))
    path, name, _ = loading.choose_from_bundle(folder, {n: find_runtime(n) for n in names}, precision)
    return path.name, name


ALL = ("onnxruntime", "openvino", "tflite")
PACKAGES = ("onnxruntime", "openvino", "ai_edge_litert")
FULL = tuple(
    artifact(format, precision)
    for format in ("onnx", "openvino", "tflite")
    for precision in ("fp32", "fp16", "int8")
    if (format, precision) != ("onnx", "fp16")
)
NO_XML = tuple(a for a in FULL if a.format != "openvino")
NO_INT8 = tuple(a for a in FULL if a.precision != "int8")
FP32_ONNX, FP16_XML, INT8_TFLITE = (
    artifact("onnx", "fp32"),
    artifact("openvino", "fp16"),
    artifact("tflite", "int8"),
)


@pytest.mark.parametrize(
    ("machine", "packages", "artifacts", "names", "precision", "expected"),
    [
        # int8, in what is fastest on the kind of computer
        ("x86_64", PACKAGES, FULL, ALL, None, ("model.int8.xml", "openvino")),
        ("AMD64", PACKAGES, FULL, ALL, None, ("model.int8.xml", "openvino")),
        ("aarch64", PACKAGES, FULL, ALL, None, ("model.int8.tflite", "tflite")),
        ("armv7l", PACKAGES, FULL, ALL, None, ("model.int8.tflite", "tflite")),
        ("riscv64", PACKAGES, FULL, ALL, None, ("model.int8.onnx", "onnxruntime")),
        # else in what is installed
        ("x86_64", PACKAGES[::2], FULL, ALL, None, ("model.int8.onnx", "onnxruntime")),
        ("x86_64", ("tflite_runtime",), FULL, ALL, None, ("model.int8.tflite", "tflite")),
        ("aarch64", PACKAGES[:2], FULL, ALL, None, ("model.int8.onnx", "onnxruntime")),
        ("aarch64", ("openvino",), FULL, ALL, None, ("model.int8.xml", "openvino")),
        # a runtime's own format before another's, but another's before none
        ("x86_64", PACKAGES, NO_XML, ALL, None, ("model.int8.onnx", "onnxruntime")),
        ("x86_64", ("openvino",), NO_XML, ALL, None, ("model.int8.onnx", "openvino")),
        # without int8 the exact floats, not the small ones
        ("x86_64", PACKAGES, NO_INT8, ALL, None, ("model.fp32.xml", "openvino")),
        ("x86_64", PACKAGES, (FP16_XML,), ALL, None, ("model.fp16.xml", "openvino")),
        # int8 in another runtime before floats in the best
        ("x86_64", PACKAGES, (FP16_XML, INT8_TFLITE), ALL, None, ("model.int8.tflite", "tflite")),
        # what the caller says
        ("x86_64", PACKAGES, FULL, ALL, "fp32", ("model.fp32.xml", "openvino")),
        ("x86_64", PACKAGES, FULL, ALL, "fp16", ("model.fp16.xml", "openvino")),
        ("x86_64", PACKAGES, FULL, ("tflite",), None, ("model.int8.tflite", "tflite")),
        ("aarch64", PACKAGES, FULL, ("openvino",), "fp32", ("model.fp32.xml", "openvino")),
    ],
)
def test_choose_from_bundle(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    installed: Any,
    machine: str,
    packages: tuple[str, ...],
    artifacts: tuple[ManifestArtifact, ...],
    names: tuple[str, ...],
    precision: str | None,
    expected: tuple[str, str],
) -> None:
    monkeypatch.setattr(platform, "machine", lambda: machine)
    installed(*packages)
    assert choose(tmp_path, artifacts, names, precision) == expected


@pytest.mark.parametrize(
    ("packages", "artifacts", "names", "precision", "error", "message"),
    [
        (PACKAGES, NO_XML, ALL, "fp16", None, ""),
        (PACKAGES, (FP32_ONNX,), ALL, "int8", UsageError, r"no int8 .*lists model\.fp32\.onnx"),
        (PACKAGES, (FP32_ONNX,), ("tflite",), None, UsageError, r"no model for tflite; .*model\.fp32\.onnx"),
        (PACKAGES, (), ALL, None, UsageError, "lists no model"),
        ((), FULL, ALL, None, RuntimeUnavailableError, r"pip install 'fcos-edge\[onnx\]' or .*\[tflite\]"),
        (("onnxruntime",), FULL, ("tflite",), None, RuntimeUnavailableError, r"'fcos-edge\[tflite\]'$"),
    ],
)
def test_choose_from_bundle__nothing_fits_is_one_line(
    tmp_path: Path,
    installed: Any,
    packages: tuple[str, ...],
    artifacts: tuple[ManifestArtifact, ...],
    names: tuple[str, ...],
    precision: str | None,
    error: type[FcosEdgeError] | None,
    message: str,
) -> None:
    installed(*packages)
    if error is None:
        choose(tmp_path, artifacts, names, precision)
        return
    with pytest.raises(error, match=message) as caught:
        choose(tmp_path, artifacts, names, precision)
    assert "\n" not in str(caught.value)


# --- lone files


@pytest.mark.parametrize(
    ("suffix", "machine", "expected"),
    [
        (".onnx", "x86_64", "onnxruntime"),  # its own runtime, though OpenVINO reads it too
        (".onnx", "aarch64", "onnxruntime"),
        (".xml", "aarch64", "openvino"),
        (".tflite", "x86_64", "tflite"),
        (".npz", "x86_64", "replay"),
    ],
)
def test_choose_runtime__own_format_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, machine: str, expected: str
) -> None:
    monkeypatch.setattr(platform, "machine", lambda: machine)
    monkeypatch.setattr(loading, "installed_package", lambda runtime: "")
    path = tmp_path / f"model{suffix}"
    path.touch()
    assert loading._choose_runtime(path, {name: find_runtime(name) for name in runtime_names()}) == expected


def test_choose_runtime__onnx_file_where_only_openvino_is_installed(tmp_path: Path, installed: Any) -> None:
    installed("openvino")
    path = tmp_path / "model.onnx"
    path.touch()
    assert loading._choose_runtime(path, {name: find_runtime(name) for name in ALL}) == "openvino"


@pytest.mark.parametrize(
    ("name", "arguments", "error", "message"),
    [
        ("missing.onnx", {}, ArtifactError, "no such file or folder"),
        ("model.pt", {}, ArtifactError, r"expected .*\.onnx.* or a bundle's folder"),
        ("model.bin", {}, ArtifactError, r"expected .*\.xml"),
        ("model", {}, ArtifactError, "expected"),
        ("model.onnx", {"runtime": "tflite"}, ArtifactError, r"not for tflite; expected \.tflite"),
        ("model.onnx", {"runtime": "torch"}, RuntimeUnavailableError, "'torch' is none of onnxruntime, "),
        ("model.onnx", {"precision": "int4"}, UsageError, "'int4' is none of fp32, fp16, int8, w8, fast"),
        ("model.onnx", {"precision": "int8"}, UsageError, "is fp32, not int8"),
        ("model.onnx", {"device": ""}, UsageError, "device is empty"),
        ("model.onnx", {"threads": 0}, UsageError, "threads is 0, expected 1 to "),
        ("model.onnx", {"threads": 100_000}, UsageError, "threads is 100000, expected 1 to "),
        ("empty", {}, ArtifactError, "no bundle"),
    ],
)
def test_open_artifact__mistakes_are_one_line(
    tmp_path: Path, name: str, arguments: dict[str, Any], error: type[FcosEdgeError], message: str
) -> None:
    pytest.importorskip("onnx")
    (tmp_path / "empty").mkdir()
    for existing in ("model.pt", "model.bin", "model"):
        (tmp_path / existing).touch()
    write_onnx(tmp_path / "model.onnx")
    with pytest.raises(error, match=message) as caught:
        open_artifact(tmp_path / name, **arguments)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"version": "2.0"}, "version 2.0"),
        ({"outputs": []}, "do not fit"),
        ({"operating_thresholds": [0.5]}, "1 operating thresholds for 4 classes"),
    ],
)
def test_read_document__names_the_file(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    onnx = pytest.importorskip("onnx")
    path = tmp_path / "model.onnx"
    model = onnx.ModelProto()
    document = edit_document(dump_document(SPEC, float_info("onnx")), **changes)
    onnx.helper.set_model_props(model, {"fcos_edge.json": document})
    path.write_bytes(model.SerializeToString())
    with pytest.raises(SpecError, match=rf"model\.onnx: .*{message}"):
        read_document(path)


def test_read_document__needs_no_runtime(tmp_path: Path, installed: Any) -> None:
    pytest.importorskip("onnx")
    installed()
    assert read_document(write_onnx(tmp_path / "model.onnx")) == (SPEC, float_info("onnx"))


def test_read_document__missing_file(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="no such file"):
        read_document(tmp_path / "missing.onnx")


# --- the whole way


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A bundle with one float model in every format that can be built here."""
    pytest.importorskip("onnx")
    folder = tmp_path / "tiny"
    folder.mkdir()
    onnx = write_onnx(folder / "model.fp32.onnx")
    artifacts = [ManifestArtifact((describe_file(onnx),), "onnx", "fp32")]
    if installed_package(find_runtime("openvino")) is not None:
        xml = write_openvino(folder / "model.fp32.xml")
        files = (describe_file(xml), describe_file(xml.with_suffix(".bin")))
        artifacts.append(ManifestArtifact(files, "openvino", "fp32"))
    if installed_package(find_runtime("tflite")) == "ai_edge_litert":
        tflite = write_tflite(folder / "model.int8.tflite", "int8")
        artifacts.append(ManifestArtifact((describe_file(tflite),), "tflite", "int8"))
    write_manifest(folder, Manifest(SPEC, tuple(artifacts)))
    return folder


@pytest.mark.parametrize(
    ("arguments", "description"),
    [
        ({}, "model.int8.tflite (int8) in tflite on CPU"),
        ({"precision": "fp32"}, "model.fp32.xml (fp32) in openvino on CPU"),
        ({"runtime": "openvino"}, "model.fp32.xml (fp32) in openvino on CPU"),
        ({"runtime": "onnxruntime", "threads": 1}, "model.fp32.onnx (fp32) in onnxruntime on CPU, 1 thread"),
        ({"runtime": "openvino", "precision": "fast", "threads": 2}, "on CPU, 2 threads, fast floats"),
    ],
)
def test_load__bundle_says_what_it_took(
    bundle: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    arguments: dict[str, Any],
    description: str,
) -> None:
    if {find_runtime(name).PACKAGES[0] for name in ALL} != {installed_package(find_runtime(n)) for n in ALL}:
        pytest.skip("needs all three runtimes")
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    with caplog.at_level(logging.INFO, logger="fcos_edge"), fcos_edge.load(bundle, **arguments) as detector:
        assert description in detector.description
        assert caplog.messages == [detector.description]
        assert detector(np.zeros((48, 64, 3), np.uint8)).boxes_xyxy.shape[1] == 4


def test_load__changed_file_of_a_bundle(bundle: Path) -> None:
    content = bytearray((bundle / "model.fp32.onnx").read_bytes())
    content[-1] ^= 1
    (bundle / "model.fp32.onnx").write_bytes(content)
    with pytest.raises(ArtifactError, match=r"model\.fp32\.onnx: sha256 differs"):
        fcos_edge.load(bundle, runtime="onnxruntime")


def test_load__bundle_with_an_edited_spec(bundle: Path) -> None:
    # Who edits the manifest shall not believe that it changed the model.
    manifest = read_manifest(bundle)
    write_manifest(bundle, replace(manifest, spec=replace(SPEC, nms_iou=0.5)))
    with pytest.raises(ArtifactError, match=r"model\..*: its spec differs from manifest\.json's"):
        fcos_edge.load(bundle)


def test_load__lone_file_keeps_classes_and_thresholds(tmp_path: Path) -> None:
    path = tmp_path / "recorded.npz"
    count = SPEC.num_locations
    branches = [np.ones(shape, np.float32) for shape in ((1, count, 4), (1, count, 4), (1, count))]
    save_recording(path, SPEC, float_info("onnx"), [RawOutputs(*map(Branch, branches))])
    with fcos_edge.load(str(path)) as detector:
        assert detector.spec.classes == SPEC.classes
        assert detector.operating_thresholds == float_info("onnx").operating_thresholds


def test_open_artifact__every_runtime_reads_the_same_model_alike(bundle: Path) -> None:
    images = pictures(1)
    values = []
    for name in ("onnxruntime", "openvino"):
        if installed_package(find_runtime(name)) is None:
            pytest.skip(f"{name} is not installed")
        loaded = open_artifact(bundle, name, precision="fp32", threads=1)
        values.append([branch.values.copy() for branch in loaded.runtime.run(images)])
        loaded.close()
    for one, other in zip(*values, strict=True):
        np.testing.assert_array_equal(one, other)


# --- finding runtimes


def test_a_runtime_is_added_by_adding_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnx")
    folder = tmp_path / "runtimes"
    folder.mkdir()
    (folder / "added_here.py").write_text(
        "from fcos_edge.document import read_onnx_document\n"
        "from fcos_edge.runtimes.replay import ReplayRuntime\n"
        "READERS, PACKAGES, REQUIREMENT, FIRST_ON = {'.mine': read_onnx_document}, (), '', ()\n"
        "def load(path, spec, info, options):\n"
        "    return ReplayRuntime(['played'])\n"
    )
    monkeypatch.setattr(runtimes, "__path__", [*runtimes.__path__, str(folder)])
    path = tmp_path / "model.mine"
    path.write_bytes(onnx_model())
    loaded = open_artifact(path)
    assert loaded.runtime_name == "added_here"
    assert str(loaded.runtime.run(pictures(1))) == "played"
    sys.modules.pop("fcos_edge.runtimes.added_here")


def test_runtimes__missing_package_says_what_to_install() -> None:
    mends = re.escape("pip install 'fcos-edge[x]'")
    with pytest.raises(RuntimeUnavailableError, match=mends), importing("no_such_package", "fcos-edge[x]"):
        importlib.import_module("no_such_package")


def test_runtimes__broken_package_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken_package.py").write_text("raise ImportError('libnative.so:\\n no such file')")
    monkeypatch.syspath_prepend(str(tmp_path))
    broken = r"broken_package is broken: libnative\.so: no such"
    with pytest.raises(RuntimeUnavailableError, match=broken), importing("broken_package", "fcos-edge[x]"):
        importlib.import_module("broken_package")


SLOW_TO_IMPORT = ("cv2", "onnxruntime", "openvino", "ai_edge_litert", "tflite_runtime", "torch", "onnx")


@pytest.mark.parametrize(
    ("statement", "allowed"),
    [
        ("import fcos_edge", {"numpy": False}),
        ("from fcos_edge import ModelSpec", {"numpy": False}),
        ("from fcos_edge.runtime import runtime_names; runtime_names()", {}),
        ("from fcos_edge.loading import open_artifact; import fcos_edge.runtimes.openvino", {}),
    ],
)
def test_import__does_not_wait_for_what_it_does_not_need(
    repo_root: Path, statement: str, allowed: dict[str, bool]
) -> None:
    unwanted = [*SLOW_TO_IMPORT, *allowed]
    code = f"import sys; {statement}; print([name for name in {unwanted} if name in sys.modules])"
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=repo_root, capture_output=True, text=True, check=True, timeout=120
    )
    assert result.stdout.strip() == "[]"


def test_package__offers_its_names_and_no_others() -> None:
    assert set(fcos_edge.__all__) <= set(dir(fcos_edge))
    assert all(getattr(fcos_edge, name) is not None for name in fcos_edge.__all__)
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = fcos_edge.no_such_name
