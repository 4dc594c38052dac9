"""`fcos-edge verify` as a user types it; what it finds is tested in tests/test_verify.py."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from fcos_edge.cli import main


def test_json__every_figure_stands_beside_its_limit(
    embedded_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["verify", str(embedded_bundle), "--runtime", "onnxruntime", "--threads", "1", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["schema"] == "fcos-edge.verify/1"
    assert (document["bundle"], document["passed"]) == (str(embedded_bundle), True)
    assert [row["file"] for row in document["artifacts"]] == ["model.fp32.onnx", "model.int8.onnx"]
    assert [row["precision"] for row in document["artifacts"]] == ["fp32", "int8"]
    keys = {"what", "figure", "value", "limit", "kind", "passed", "words", "description"}
    for row in document["artifacts"]:
        assert (row["runtime"], row["threads"], row["failure"]) == ("onnxruntime", 1, "")
        assert all(keys == set(check) for check in row["checks"])
        assert 0 < row["detections"]["matched"] <= row["detections"]["asked"]
        assert (row["latency"]["runs"], row["latency"]["median_ms"] > 0) == (12, True)
    assert "model.int8.tflite" in document["skipped"]
    assert document["cpu"]


def test_table__a_line_for_each_artifact(embedded_bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(embedded_bundle), "--runtime", "tflite"]) == 0
    out, err = capsys.readouterr()
    header, *rows = (re.split(" {2,}", line) for line in out.splitlines())
    assert header == ["artifact", "runtime", "result", "raw outputs", "detections", "latency", "note"]
    assert [row[:3] for row in rows] == [
        [f"model.{precision}.tflite", "tflite", "passed"] for precision in ("fp32", "fp16", "int8")
    ]
    assert [row[3].split(" of ")[-1] for row in rows[:2]] == ["0.001 to PyTorch", "0.04 to PyTorch"]
    # XNNPACK is exact on the CPUs that have VNNI; elsewhere nobody promises it.
    assert rows[2][3] == "equal to the simulator" or rows[2][3].endswith(" of 2 floors")
    for row in rows:
        assert re.fullmatch(r"(\d+) of \1 have a partner", row[4])
        assert re.fullmatch(r"[\d.]+ ms \(n=12\)", row[5])
    assert err.splitlines()[-1].startswith("not verified, not --runtime's: model.fp32.onnx, model.int8.onnx,")


@pytest.mark.parametrize(("argv", "said"), [
    ([], "the following arguments are required: BUNDLE"),
    (["nothing"], "nothing: no bundle, cannot read manifest.json: No such file"),
    (["empty"], "empty: no bundle, cannot read manifest.json: No such file"),
    (["file.onnx"], "file.onnx: no bundle, cannot read manifest.json: Not a directory"),
    (["broken"], "broken/manifest.json: manifest: not a JSON document; copy the bundle again"),
    (["broken", "--runtime"], "argument --runtime: expected one argument"),
    (["broken", "--threads", "0"], "argument --threads: '0' is no whole number from 1"),
])  # fmt: skip
def test_mistake__is_one_line(
    argv: list[str], said: str,
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    Path("broken").mkdir()
    Path("broken/manifest.json").write_text("{")
    Path("file.onnx").write_text("no model")
    assert main(["verify", *argv]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert said in err


def test_mistake__unknown_runtime_names_those_there_are(
    embedded_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["verify", str(embedded_bundle), "--runtime", "caffe"]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert all(name in err for name in ("'caffe'", "onnxruntime", "openvino", "tflite"))
