"""Runtimes that work, tried for real, and some that do not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fcos_edge.cpu import detect_cpu
from fcos_edge.doctor import trial
from fcos_edge.doctor.trial import RuntimeReport, try_package

MODULES = {"onnxruntime": "onnxruntime", "openvino": "openvino", "tflite": "ai_edge_litert"}
# Figures are not judged here: as short as they can be.
TIMING_S = 0.01


def put_in_front(folder: Path, monkeypatch: pytest.MonkeyPatch, module: str, source: str) -> None:
    """A package that children import in place of the installed one."""
    (folder / module).mkdir()
    (folder / module / "__init__.py").write_text(source)
    monkeypatch.setenv("PYTHONPATH", str(folder))


@pytest.fixture(scope="module", params=list(MODULES))
def report(request: pytest.FixtureRequest) -> RuntimeReport:
    """Of each runtime as it is installed."""
    return try_package(request.param, MODULES[request.param], timeout_s=60, timing_s=TIMING_S)


def test_runtime__works_and_is_timed(report: RuntimeReport) -> None:
    assert report.failures == ()
    assert report.is_used
    assert "CPU" in report.devices
    assert report.version
    assert report.fp32_difference is not None
    assert report.fp32_difference < trial.MOST_FP32_DIFFERENCE
    assert report.speed is not None
    assert report.speed.rounds >= 3
    assert report.speed.calls == report.speed.rounds * report.speed.calls_per_round
    assert json.loads(json.dumps(report.to_dict(), allow_nan=False))["works"] is True


def test_int8__is_exact_where_the_runtime_rounds_as_the_simulator(report: RuntimeReport) -> None:
    assert report.int8_steps is not None
    # Steps are computed in float32: 1e-7 of 255.
    assert report.int8_steps < (1e-4 if report.name != "openvino" else trial.MOST_INT8_STEPS)


def test_saturation__is_what_the_cpu_says(report: RuntimeReport) -> None:
    # XNNPACK widens before it adds, on every CPU.
    assert report.saturates is (detect_cpu().saturates_int8 and report.name != "tflite")


def test_saturation__shows_where_products_are_added_in_16_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    if detect_cpu().machine not in ("x86_64", "AMD64"):
        pytest.skip("only x86 adds so")
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    report = try_package("openvino", "openvino", timeout_s=60, timing_s=TIMING_S)
    assert report.saturates is True
    # 2 * 247.5 * 127 is 62865 on average, of which 32767 are left: 47.9 % are lost.
    assert report.saturation_loss == pytest.approx(0.479, abs=0.005)
    assert report.failures == ()  # neither the network's 7 bits nor sums that fit are harmed


@pytest.mark.parametrize(("source", "said"), [
    ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "fp32: crashed with SIGSEGV"),
    ("import os; os._exit(3)", "fp32: ended by itself with exit code 3"),
    ("raise SystemExit('no licence')", "fp32: ended by itself with exit code 1: no licence"),
    ("raise ImportError('libfoo.so.1: no such file')", "fp32, int8: onnxruntime is broken: libfoo.so.1"),
    ("raise RuntimeError('bad build')", "fp32, int8: RuntimeError: bad build"),
    ("", "fp32, int8: AttributeError: module 'onnxruntime' has no attribute 'get_available_providers'"),
    ("print('x' * 5000); raise ImportError('a\\nb')", "fp32, int8: onnxruntime is broken: a b"),
])  # fmt: skip
def test_broken_package__is_said_in_words(
    source: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_in_front(tmp_path, monkeypatch, "onnxruntime", source)
    report = try_package("onnxruntime", "onnxruntime", timeout_s=60, timing_s=TIMING_S)
    (failure,) = report.failures
    assert failure.startswith(said)
    assert "\n" not in failure
    assert not report.works
    assert report.speed is None


def test_hanging_package__is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put_in_front(tmp_path, monkeypatch, "onnxruntime", "import time; time.sleep(600)")
    report = try_package("onnxruntime", "onnxruntime", timeout_s=2, timing_s=TIMING_S)
    (failure,) = report.failures
    assert "did not answer for 2 s and was ended" in failure


NOISE = """
import os, sys
print("hello from the library"); sys.stdout.flush(); os.write(1, b'{"ok": "nonsense"}\\n')
sys.path.remove(os.environ["PYTHONPATH"].partition(os.pathsep)[0]); del sys.modules["onnxruntime"]
import onnxruntime
sys.modules["onnxruntime"] = onnxruntime
"""


def test_noise_on_stdout__does_not_matter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put_in_front(tmp_path, monkeypatch, "onnxruntime", NOISE)
    assert try_package("onnxruntime", "onnxruntime", timeout_s=60, timing_s=TIMING_S).failures == ()


WRONG_INIT = """
import sys
from importlib.machinery import PathFinder
here = __path__[0]
real = PathFinder.find_spec("ai_edge_litert", [p for p in sys.path if not here.startswith(p)])
__path__.extend(real.submodule_search_locations)
"""
WRONG_INTERPRETER = """
import importlib.util, os
import numpy as np
import ai_edge_litert

(path,) = (p for p in ai_edge_litert.__path__[1:])
spec = importlib.util.spec_from_file_location("ai_edge_litert.real", os.path.join(path, "interpreter.py"))
real = importlib.util.module_from_spec(spec)
spec.loader.exec_module(real)
load_delegate = real.load_delegate

class Interpreter(real.Interpreter):
    def invoke(self):
        super().invoke()
        for detail in self.get_output_details():
            values = self.tensor(detail["index"])()
            values[...] = harm(values)

def harm(values):
    return HARM
"""


@pytest.mark.parametrize(("harm", "said"), [
    ("values", []),  # the stand-in itself does no harm
    ("0 * values", [
        "fp32: wrong outputs, off by 1 of the largest value", "int8: wrong outputs", "int8: wrong sums",
    ]),
    ("values[:, ::-1]", ["fp32: wrong outputs", "int8: wrong outputs", "int8: wrong sums"]),
    ("values + 0.001 * (values.dtype == np.float32)", ["fp32: wrong outputs"]),
    ("values // 2 if values.dtype == np.int8 else values", ["int8: wrong outputs", "int8: wrong sums"]),
    ("np.nan if values.dtype == np.float32 else values", ["fp32: ArithmeticError: logits holds values"]),
])  # fmt: skip
def test_wrong_outputs__are_a_failure(
    harm: str, said: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_in_front(tmp_path, monkeypatch, "ai_edge_litert", WRONG_INIT)
    interpreter = tmp_path / "ai_edge_litert" / "interpreter.py"
    interpreter.write_text(WRONG_INTERPRETER.replace("HARM", harm))
    failures = try_package("tflite", "ai_edge_litert", timeout_s=60, timing_s=TIMING_S).failures
    assert len(failures) == len(said)
    assert all(failure.startswith(begin) for failure, begin in zip(failures, said, strict=True))
