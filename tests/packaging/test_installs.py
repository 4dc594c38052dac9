"""The script that installs as boards do: what it concludes. CI runs it whole, with a network."""

from __future__ import annotations

import importlib.util
import json
import sys
import zipfile
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.conftest import REPO_ROOT


@pytest.fixture(scope="module")
def installs() -> ModuleType:
    spec = importlib.util.spec_from_file_location("ci_installs", REPO_ROOT / ".ci" / "installs.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(("wheel_name", "minor"), [
    ("openvino-2026.4.1-22982-cp311-cp311-manylinux_2_35_aarch64.whl", 35),  # with a build number
    ("numpy-2.4.6-cp311-cp311-manylinux_2_27_aarch64.manylinux_2_28_aarch64.whl", 27),  # either tag will do
    ("protobuf-7.36.2-cp310-abi3-manylinux2014_aarch64.whl", 17),
    ("numpy-1.26.4-cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64.whl", 17),
    ("tqdm-4.70.1-py3-none-any.whl", 0),
    ("cv-4.6-cp36-abi3-linux_armv7l.whl", 0),  # says nothing
])  # fmt: skip
def test_glibc_minor__of_file_names(installs: ModuleType, wheel_name: str, minor: int) -> None:
    assert installs.glibc_minor(wheel_name) == minor


@pytest.mark.parametrize(("python", "is_possible"), [((3, 10), True), ((3, 11, 7), True), ((3, 12), False)])
def test_tflite_runtime__up_to_python_3_11(
    installs: ModuleType, python: tuple[int, ...], is_possible: bool
) -> None:
    extra = next(extra for extra in installs.EXTRAS if extra.name == "tflite-runtime")
    assert (extra.reason_against(python) is None) is is_possible


def test_version_of__the_runtime(installs: ModuleType) -> None:
    extra = installs.Extra("tflite", "ai_edge_litert", "tflite")
    names = ["tqdm-4.70.1-py3-none-any.whl", "ai_edge_litert-2.3.0-cp311-cp311-manylinux_2_27_aarch64.whl"]
    assert installs.version_of(extra, names) == "ai-edge-litert 2.3.0"


def test_version_of__an_extra_that_is_empty(installs: ModuleType) -> None:
    extra = installs.Extra("tflite", "ai_edge_litert", "tflite")
    with pytest.raises(installs.StepError, match="ai_edge_litert is not among tqdm"):
        installs.version_of(extra, ["tqdm-4.70.1-py3-none-any.whl"])


@pytest.mark.parametrize(("runtimes", "message"), [
    (["onnxruntime", "onnxruntime"], None),
    ([], "verify ran nothing, expected onnxruntime"),
    (["onnxruntime", "tflite"], "expected onnxruntime"),  # another runtime got in
])  # fmt: skip
def test_check_verified__by_the_extras_runtime_alone(
    installs: ModuleType, runtimes: list[str], message: str | None
) -> None:
    report: dict[str, Any] = {"artifacts": [{"runtime": runtime} for runtime in runtimes]}
    if message is None:
        installs.check_verified(report, installs.EXTRAS[0])
    else:
        with pytest.raises(installs.StepError, match=message):
            installs.check_verified(report, installs.EXTRAS[0])


def test_check_detected__needs_a_detection(installs: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "detections.jsonl"
    path.write_text(json.dumps({"detections": []}) + "\n" + json.dumps({"detections": [{"label": 0}]}) + "\n")
    installs.check_detected(path)
    path.write_text(json.dumps({"detections": []}) + "\n")
    with pytest.raises(installs.StepError, match="has no detection"):
        installs.check_detected(path)


def test_unpacked_bytes__of_a_wheel(installs: ModuleType, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.whl", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/zeros", bytes(5000))
        archive.writestr("a/ones", b"1" * 1000)
    assert installs.unpacked_bytes(tmp_path / "a.whl") == 6000


def test_run__a_failure_shows_command_and_output(installs: ModuleType) -> None:
    with pytest.raises(installs.StepError, match=r"(?s)ended with 3\nwhat went wrong"):
        installs.run(sys.executable, "-c", "print('what went wrong'); raise SystemExit(3)")


def test_run__leaves_this_python_behind(installs: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "/somewhere")
    monkeypatch.setenv("PIP_INDEX_URL", "kept")
    code = "import os; print(os.environ.get('PYTHONPATH'), os.environ['PIP_INDEX_URL'])"
    assert installs.run(sys.executable, "-c", code)[0].split() == ["None", "kept"]
