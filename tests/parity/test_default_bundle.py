"""The test suite that users run, on the embedded detector: `pytest --fcos-bundle B --fcos-data D`."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.faults import FAULTS
from tests.parity.suite_runs import FAILED, PASSED, Result, run_suite

# One: the processes that take turns shall not wait for each other's threads.
THREADS = "--fcos-threads=1"


@pytest.mark.slow
def test_default_bundle__passes_every_gate(embedded_bundle: Path, free_data: Path, tmp_path: Path) -> None:
    run = run_suite(tmp_path, f"--fcos-bundle={embedded_bundle}", f"--fcos-data={free_data}", THREADS,
                    "--fcos-draws=100")  # fmt: skip
    assert run.code == PASSED, run.output
    assert "reference: the checkpoint in PyTorch" in run.output
    # The 142 boxes of two classes are judged together; 200 of one are what it is judged alone from.
    assert run.names("skipped") == {"class_drop", "miss_increase"}
    names = {name.removeprefix("fcos-edge.") for name, _ in run.results}
    assert names == {
        "model.fp32.onnx.onnxruntime", "model.int8.onnx.onnxruntime",
        "model.fp32.xml.openvino", "model.fp16.xml.openvino", "model.int8.xml.openvino",
        "model.fp32.tflite.ai-edge-litert", "model.fp16.tflite.ai-edge-litert",
        "model.int8.tflite.ai-edge-litert",
    }  # fmt: skip
    for name in names:
        is_int8 = ".int8." in name
        # int8 beside the other int8 artifacts, and beside fp32 of its runtime.
        assert {"runtimes_agree", "latency_ratio"} <= set(run.of(name)) if is_int8 else {"drift", "count"}


# Fault -> gates that fail in int8. In fp32 the same where the fault is in the conventions, else none.
@pytest.mark.parametrize(("fault", "failed"), [
    # The file runs, says the right things about itself, and finds other boxes.
    ("weight scale doubled", {"golden", "raw_outputs"}),
    # The network is right; what stands around it is not.
    ("stretch for letterbox", {"golden", "conventions", "raw_outputs", "matched"}),
])  # fmt: skip
def test_default_bundle__harmed(
    fault: str, failed: set[str], embedded_bundle: Path, few_pictures: Path, tmp_path: Path
) -> None:
    copied = Path(shutil.copytree(embedded_bundle, tmp_path / "harmed"))
    FAULTS[fault].plant(copied)
    run = run_suite(
        tmp_path / "run", f"--fcos-bundle={copied}", f"--fcos-data={few_pictures}", THREADS,
        "--fcos-runtime=onnxruntime", "--fcos-draws=10",
    )  # fmt: skip
    assert run.code == FAILED
    assert failed <= _failed(run.of("model.int8.onnx.onnxruntime"))
    fp32 = _failed(run.of("model.fp32.onnx.onnxruntime"))
    assert failed <= fp32 if "fp32" in FAULTS[fault].precisions else not fp32


def _failed(results: dict[str, Result]) -> set[str]:
    return {gate for gate, result in results.items() if result.outcome == "failed"}
