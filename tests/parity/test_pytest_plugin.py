"""The pytest plugin on a detector of few pixels: which tests there are, and how their outcomes read."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from fcos_edge.bundle import FileEntry, ManifestArtifact, read_manifest, write_manifest
from fcos_edge.workers import process
from fcos_edge.workers.variants import Interpreter
from tests.faults import FAULTS
from tests.parity.suite_runs import (
    FAILED,
    NOTHING_COLLECTED,
    PASSED,
    PLUGIN,
    USAGE_ERROR,
    Result,
    SuiteRun,
    run_suite,
)

pytest_plugins = "pytester"

FP32, INT8 = "model.fp32.onnx.onnxruntime", "model.int8.onnx.onnxruntime"
GATES = {
    "runs", "golden", "conventions", "raw_outputs", "matched", "count", "drift", "ap_drop", "class_drop",
    "miss_increase",
}  # fmt: skip
# Ten boxes are too few for them.
NOT_JUDGED = {"count", "drift", "class_drop", "miss_increase"}
# Times mean nothing in a test run: int8 is twice as fast where it has the cores to itself.
ANY_LATENCY = ("--fcos-limit", "max_latency_ratio=1000")


@pytest.fixture(autouse=True)
def no_other_plugins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")


@pytest.fixture
def copied(small_bundle: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(small_bundle, tmp_path / "harmed"))


@pytest.fixture(scope="module")
def first(small_bundle: Path, few_pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> SuiteRun:
    """The unharmed bundle, judged once, beside a test of the user's own; the report lies in report.json."""
    folder = tmp_path_factory.mktemp("first")
    (folder / "test_mine.py").write_text("def test_mine(): pass\n")
    return run_suite(
        folder, f"--fcos-bundle={small_bundle}", f"--fcos-data={few_pictures}", "--fcos-threads=1",
        f"--fcos-json={folder / 'report.json'}", *ANY_LATENCY,
    )  # fmt: skip


# What there is ----------------------------------------------------------------------------------------


def test_import__waits_with_all_of_weight() -> None:
    program = "import sys, fcos_edge.pytest_plugin; print({'numpy', 'cv2', 'torch'} & {*sys.modules})"
    program += "; print([name for name in sys.modules if name.startswith('fcos_edge.')])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["set()", "['fcos_edge.arguments', 'fcos_edge.pytest_plugin']"]


def test_suite__a_test_for_each_artifact_runtime_and_gate(first: SuiteRun) -> None:
    assert first.code == PASSED, first.output
    assert set(first.of(FP32)) == GATES
    # What compares int8 with fp32 of the same runtime is for int8; there is no other int8 to agree with.
    assert set(first.of(INT8)) == GATES | {"latency_ratio"}
    assert first.results["test_mine", "test_mine"] == Result("passed")
    assert len(first.results) == 1 + len(GATES) + len(GATES) + 1


def test_suite__what_is_not_judged_is_skipped_with_its_reason(first: SuiteRun) -> None:
    assert first.names("skipped") == NOT_JUDGED
    assert first.of(INT8)["class_drop"].message == "reported and not judged: no class has 200 boxes"
    assert "SKIPPED [4] " in first.output  # two gates of two artifacts are one line


def test_suite__prints_and_writes_the_report(first: SuiteRun) -> None:
    assert "8 pictures, 10 boxes" in first.output
    report = json.loads((first.folder / "report.json").read_text())
    assert (report["schema"], report["passed"]) == ("fcos-edge.parity/1.1", True)
    assert "PASSED fcos-edge::model.int8.onnx::onnxruntime::ap_drop" in first.output


def test_suite__without_data_verifies(small_bundle: Path, tmp_path: Path) -> None:
    run = run_suite(tmp_path, f"--fcos-bundle={small_bundle}", "--fcos-threads=1")
    assert run.code == PASSED, run.output
    assert run.of(FP32) == run.of(INT8) == {"runs": Result("passed"), "golden": Result("passed")}


# What fails -------------------------------------------------------------------------------------------


def test_suite__limits_and_an_earlier_report(
    first: SuiteRun, small_bundle: Path, few_pictures: Path, tmp_path: Path
) -> None:
    """No computer needs a nanosecond for a picture."""
    earlier = first.folder / "report.json"
    run = run_suite(
        tmp_path, f"--fcos-bundle={small_bundle}", f"--fcos-data={few_pictures}", "--fcos-threads=1",
        "--fcos-precisions=int8", "--fcos-limit=max-latency-ms=1e-6", f"--fcos-baseline={earlier}",
    )  # fmt: skip
    assert run.code == FAILED
    assert set(run.of(INT8)) == GATES | {
        "latency_ms", "baseline_ap_drop", "baseline_class_drop", "baseline_miss_increase",
    }  # fmt: skip
    assert run.names("failed") == {"latency_ms"}
    assert run.names("error") == set()
    message = run.of(INT8)["latency_ms"].message
    assert "median time of a picture in ms" in message
    assert f"in model.int8.onnx in onnxruntime; small on {few_pictures.name}/val" in message
    assert f"again: fcos-edge parity {small_bundle} --data {few_pictures} --threads 1" in message
    assert "--max-latency-ms 1e-06 --runtime onnxruntime --precisions int8" in message
    assert "Traceback" not in run.output
    assert "suite.py" not in run.output


def test_suite__a_file_that_cannot_run_fails_once(copied: Path, few_pictures: Path, tmp_path: Path) -> None:
    file = copied / "model.int8.onnx"
    file.write_bytes(file.read_bytes()[:-100])
    run = run_suite(
        tmp_path / "run", f"--fcos-bundle={copied}", f"--fcos-data={few_pictures}", "--fcos-threads=1"
    )
    assert run.code == FAILED
    assert {name for name, result in run.of(FP32).items() if result.outcome == "failed"} == set()
    results = run.of(INT8)
    assert results.pop("runs").outcome == "failed"
    assert set(results.values()) == {
        Result("skipped", "model.int8.onnx in onnxruntime: not measured, runs says why")
    }


@pytest.mark.parametrize(("with_data", "failed"), [
    (False, {"golden"}),
    (True, {"golden", "conventions", "ap_drop"}),  # of ten boxes, the others may keep their limits
])  # fmt: skip
def test_suite__a_fault(
    with_data: bool, failed: set[str], copied: Path, small_bundle: Path, few_pictures: Path, tmp_path: Path
) -> None:
    FAULTS["location offset"].plant(copied)
    checkpoint = small_bundle.parent / "small.safetensors"
    data = (f"--fcos-data={few_pictures}", f"--fcos-checkpoint={checkpoint}") if with_data else ()
    run = run_suite(tmp_path / "run", f"--fcos-bundle={copied}", "--fcos-threads=1", *data)
    assert run.code == FAILED
    assert run.names("failed") >= failed
    assert run.names("error") == set()


def test_suite__without_a_reference_every_gate_is_an_error_of_one_line(
    small_bundle: Path, few_pictures: Path, tmp_path: Path
) -> None:
    """Nothing answers in a millisecond, also not the reference."""
    run = run_suite(tmp_path, f"--fcos-bundle={small_bundle}", f"--fcos-data={few_pictures}",
                    "--fcos-timeout=0.001")  # fmt: skip
    assert run.code == FAILED
    assert {result.outcome for result in run.results.values()} == {"error"}
    (message,) = {result.message for result in run.results.values()}
    assert "fcos-edge: the reference, model.fp32.onnx in onnxruntime: did not answer for 0.001 s" in message
    assert "Traceback" not in run.output


# In pytest's own words: what is collected, chosen and refused ------------------------------------------


@pytest.mark.parametrize(("arguments", "count"), [
    ([], 4),
    (["-k", "int8 and golden"], 1),
    (["-k", "model.fp32.onnx"], 2),
    (["-m", "fcos_edge"], 4),
    (["-m", "not fcos_edge"], 0),
    (["--deselect", "fcos-edge::model.fp32.onnx"], 2),
    (["fcos-edge"], 4),
    (["fcos-edge::model.int8.onnx"], 2),
    (["../fcos-edge::model.int8.onnx::onnxruntime::golden"], 1),  # as pytest prints it in a folder below
    (["--fcos-precisions", "int8"], 2),
    (["--strict-markers", "--strict-config"], 4),
])  # fmt: skip
def test_collection__chooses(
    arguments: Sequence[str], count: int, small_bundle: Path, pytester: pytest.Pytester
) -> None:
    arguments = ("--collect-only", "-q", f"--fcos-bundle={small_bundle}", *arguments)
    result = pytester.runpytest_inprocess(*PLUGIN, *arguments)
    found = [line for line in result.outlines if line.startswith("fcos-edge::model.")]
    assert len(found) == count
    assert result.ret == (PASSED if found else NOTHING_COLLECTED)


@pytest.mark.parametrize(("arguments", "message"), [
    (["--fcos-data=few"], "--fcos-data: there is nothing to judge on it; give --fcos-bundle, too"),
    (["--fcos-bundle=nowhere"], "fcos-edge: {folder}/nowhere: "),
    (["--fcos-bundle={bundle}", "--fcos-baseline=old.json"], "--fcos-baseline: is for labelled pictures"),
    (["--fcos-bundle={bundle}", "--fcos-split=train"], "--fcos-split: is for labelled pictures"),
    (["--fcos-bundle={bundle}", "--fcos-data=nowhere"], "fcos-edge: {folder}/nowhere: "),
    (["--fcos-bundle={bundle}", "--fcos-data={data}", "--fcos-split=test"], "fcos-edge: {data}: "),
    (["--fcos-bundle={bundle}", "--fcos-data={data}", "--fcos-classes=tree"], "'tree'"),
    (["--fcos-bundle={bundle}", "--fcos-data={data}", "--fcos-baseline=old.json"], "old.json: cannot"),
    (["--fcos-bundle={bundle}", "--fcos-data={data}", "--fcos-json=no/report.json"], "not the path"),
    (["--fcos-bundle={bundle}", "--fcos-runtime=tensorrt"], "tensorrt"),
    (["--fcos-bundle={bundle}", "--fcos-precisions=int4"], "int4"),
    (["--fcos-bundle={bundle}", "--fcos-python=openvino=nowhere"], "--python openvino="),
    (["--fcos-bundle={bundle}", "--fcos-limit=spare=3"], "'spare=3' is no limit and its value"),
    (["--fcos-bundle={bundle}", "--fcos-limit=max-ap-drop=-1"], "'-1' is no number from 0"),
    (["--fcos-bundle={bundle}", "fcos-edge::model.int4.onnx"], "fcos-edge::model.int4.onnx: no such test"),
    (["--fcos-bundle={bundle}", "--dist=load"], "--dist load gives the tests of a bundle to several workers"),
])  # fmt: skip
def test_collection__refuses(
    arguments: Sequence[str], message: str, small_bundle: Path, few_pictures: Path,
    pytester: pytest.Pytester,
) -> None:  # fmt: skip
    # pytest-xdist's option, which is all that we ask it for.
    pytester.makeconftest("def pytest_addoption(parser): parser.addoption('--dist', default='no')")
    places = {"bundle": small_bundle, "data": few_pictures, "folder": pytester.path}
    result = pytester.runpytest_inprocess(*PLUGIN, *(argument.format(**places) for argument in arguments))
    assert result.ret == USAGE_ERROR
    assert message.format(**places) in result.stderr.str()
    assert "Traceback" not in result.stderr.str()


def test_collection__a_file_that_nothing_runs_is_a_skipped_test(
    copied: Path, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = read_manifest(copied)
    absent = ManifestArtifact((FileEntry("model.int8.tflite", 9, "0" * 64),), "tflite", "int8")
    write_manifest(copied, replace(manifest, artifacts=(*manifest.artifacts, absent)))
    here = Interpreter(sys.executable, {"onnxruntime": "onnxruntime"})
    monkeypatch.setattr(process, "this_interpreter", lambda: here)
    result = pytester.runpytest_inprocess(*PLUGIN, f"--fcos-bundle={copied}", "-rs", "-k", "tflite")
    result.assert_outcomes(skipped=1, deselected=4)
    result.stdout.fnmatch_lines(
        "SKIPPED*model.int8.tflite: no runtime for it is installed; run: pip install*"
    )


@pytest.mark.parametrize("text", ["max-ap-drop=0", "max_miss_increase=0.0", "max-class-drop=0e0"])
def test_limit__nothing_may_be_lost(text: str) -> None:
    """As the verb takes it."""
    from fcos_edge.pytest_plugin import _limit

    assert _limit(text)[1] == 0
