"""`fcos-edge verify` as a user types it; what it finds is tested in tests/test_verify.py."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fcos_edge.cli import main


def test_json__every_figure_stands_beside_its_limit(
    embedded_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["verify", str(embedded_bundle), "--runtime", "onnxruntime", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["bundle"], document["passed"]) == (str(embedded_bundle), True)
    assert [row["file"] for row in document["artifacts"]] == ["model.fp32.onnx", "model.int8.onnx"]
    assert [row["precision"] for row in document["artifacts"]] == ["fp32", "int8"]
    for row in document["artifacts"]:
        assert row["runtime"] == "onnxruntime"
        assert all({"what", "figure", "value", "limit", "kind", "passed"} == set(c) for c in row["checks"])
    assert "model.int8.tflite" in document["skipped"]
    assert document["cpu"]


def test_table__names_what_it_did_not_verify(
    embedded_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["verify", str(embedded_bundle), "--runtime", "tflite"]) == 0
    out, err = capsys.readouterr()
    rows = [line.split() for line in out.splitlines()]
    assert rows[0] == ["artifact", "runtime", "result", "note"]
    assert [row[:3] for row in rows[1:]] == [
        [f"model.{precision}.tflite", "tflite", "passed"] for precision in ("fp32", "fp16", "int8")
    ]
    assert err.splitlines()[-1].startswith("not verified, not --runtime's: model.fp32.onnx, model.int8.onnx,")


@pytest.mark.parametrize(("argv", "said"), [
    ([], "the following arguments are required: BUNDLE"),
    (["nothing"], "nothing: no bundle, cannot read manifest.json: No such file"),
    (["empty"], "empty: no bundle, cannot read manifest.json: No such file"),
    (["file.onnx"], "file.onnx: no bundle, cannot read manifest.json: Not a directory"),
    (["broken"], "broken/manifest.json: manifest: not a JSON document; copy the bundle again"),
    (["broken", "--runtime"], "argument --runtime: expected one argument"),
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
