"""`fcos-edge doctor` as a user types it, here and in environments that lack something."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fcos_edge.cli import main
from fcos_edge.commands import doctor
from tests.doctor.environments import BASE, add_module, make_environment, run_doctor


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures are not judged here."""
    monkeypatch.setattr(doctor, "_TIMING_S", 0.01)


def test_json__is_complete(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["schema"] == "fcos-edge.doctor/1"
    assert set(document) == {
        "schema", "passed", "conditions", "features", "heat", "extras", "base_failure", "runtimes", "choice",
        "best", "advice", "verdict",
    }  # fmt: skip
    assert document["passed"] is True
    assert [r["package"] for r in document["runtimes"]] == ["onnxruntime", "openvino", "ai-edge-litert"]
    for runtime in document["runtimes"]:
        assert (runtime["works"], runtime["failures"], runtime["is_used"]) == (True, [], True)
        assert {"fp32_ms", "int8_ms", "ratio", "ratio_quartiles", "rounds", "calls"} <= set(runtime["speed"])
        assert type(runtime["saturates"]) is bool
    assert document["choice"] == document["best"] is not None
    assert {extra["extra"] for extra in document["extras"]} >= {"base", "onnx", "parity", "train", "export"}
    assert len(document["verdict"]) in (1, 2)


def test_text__says_what_works_and_what_to_take(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    rows = [line.split() for line in out.splitlines()]
    begin = next(i for i, row in enumerate(rows) if row[:1] == ["runtime"])
    assert [row[0] for row in rows[begin + 1 : begin + 4]] == ["onnxruntime", "openvino", "ai-edge-litert"]
    assert [row[2] for row in rows[begin + 1 : begin + 4]] == ["yes"] * 3
    assert out.splitlines()[-1].startswith("`load` takes ")


def test_broken_runtime__is_exit_1_and_the_rest_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "openvino").mkdir()
    (tmp_path / "openvino" / "__init__.py").write_text(
        "import os, signal; os.kill(os.getpid(), signal.SIGILL)"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert main(["doctor"]) == 1
    out, err = capsys.readouterr()
    assert err == ""
    assert "openvino: fp32: crashed with SIGILL" in out
    assert "int8 is right in it" in out or "--precision fp32" in out  # of one of the others


@pytest.mark.parametrize("timeout", ["0", "-1", "nan", "soon", "1e9"])
def test_mistake__is_one_line(timeout: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--timeout", timeout]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)


# Other environments ------------------------------------------------------------------------------------


def test_environment__without_a_runtime(tmp_path: Path) -> None:
    done = run_doctor(make_environment(tmp_path / "env", *BASE))
    assert (done.returncode, done.stderr) == (1, "")
    assert "no runtime is installed; run: pip install 'fcos-edge[" in done.stdout.splitlines()[-1]
    assert "pip install 'fcos-edge[onnx]'" in done.stdout
    assert "pip install 'fcos-edge[parity]'" in done.stdout


def test_environment__where_numpy_cannot_be_imported(tmp_path: Path) -> None:
    python = make_environment(tmp_path / "env", "tqdm", "onnxruntime")
    add_module(python, "numpy", "raise ImportError('libopenblas.so.0: no such file')")
    done = run_doctor(python, "--json")
    assert (done.returncode, done.stderr) == (1, "")
    document = json.loads(done.stdout)
    assert document["base_failure"] == "ImportError: libopenblas.so.0: no such file"
    assert document["runtimes"] == []
    assert "libopenblas" in document["verdict"][0]


def test_environment__with_an_old_tflite_runtime_under_numpy_2(tmp_path: Path) -> None:
    """As tflite-runtime 2.14 is: it can be imported."""
    python = make_environment(tmp_path / "env", *BASE)
    add_module(python, "tflite_runtime", "__version__ = '2.14.0'")
    (site_packages,) = python.parent.parent.glob("lib/python*/site-packages")
    (site_packages / "tflite_runtime" / "interpreter.py").write_text("Interpreter = load_delegate = None")
    done = run_doctor(python, "--json")
    assert (done.returncode, done.stderr) == (1, "")
    (runtime,) = json.loads(done.stdout)["runtimes"]
    assert (runtime["package"], runtime["version"], runtime["works"]) == ("tflite-runtime", "", False)
    assert runtime["failures"][0].startswith("fp32, int8: tflite-runtime 2.14.0 cannot work with NumPy 2")
