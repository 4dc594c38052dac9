"""`fcos-edge bench` as a user types it; what it measures is tested in tests/bench/."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from fcos_edge.bench.report import SCHEMA
from fcos_edge.cli import main
from small_bundle import noise, small_checkpoint, write_bundle


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("small") / "street8-lite0-320"
    folder.mkdir()
    write_bundle(folder, small_checkpoint(), noise(9))
    return folder


def test_table__names_its_conditions_and_n(
    bundle: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(bundle.parent)  # the default is the embedded detector's bundle in this folder
    assert main(["bench", "--runtime", "onnxruntime", "--threads", "1", "--seconds", "2"]) == 0
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert "load" in lines[0]
    assert "onnxruntime" in lines[1]
    assert "1 picture over and over, " in lines[2]
    assert "left out as warm-up: 10 calls" in lines[2]
    header = next(line.split() for line in lines if line.startswith("artifact"))
    rows = [line.split() for line in lines if line.startswith(("model.fp32.onnx", "model.int8.onnx"))]
    assert len(rows) == 6  # latency, what a process costs, throughput
    assert header[:8] == ["artifact", "package", "threads", "letterbox", "inference", "post", "whole", "n"]
    assert all(cell.count("/") == 2 for cell in rows[0][3:7])
    assert rows[1][-1].endswith("x")  # int8 to fp32
    assert "pictures/s" in out
    # Nothing of what --runtime did not ask for.
    assert "not measured" not in err


def test_json__is_one_document(bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for index in range(10):
        (tmp_path / f"{index}.png").write_bytes(next((bundle / "golden").glob("*.png")).read_bytes())
    argv = ["bench", str(bundle), "--runtime", "tflite", "--precisions", "int8", "--threads", "2,1"]
    assert main([*argv, "--seconds", "2", "--data", str(tmp_path), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["schema"], document["bundle"]) == (SCHEMA, bundle.name)
    assert [(case["file"], case["threads"]) for case in document["cases"]] == [
        ("model.int8.tflite", 1), ("model.int8.tflite", 2),
    ]  # fmt: skip
    assert document["pictures"] == [f"{index}.png" for index in (0, 1, 2, 3, 5, 6, 7, 8)]
    assert {"cpu", "machine", "cores", "system", "versions"} <= set(document["conditions"])


def test_failure__is_exit_code_1_and_said(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # It says that it has tflite-runtime, and then has not.
    script = tmp_path / "start.py"
    script.write_text(
        "from fcos_edge.workers import child\n"
        "class Broken(child.Child):\n"
        "    def do_hello(self):\n"
        "        return {**super().do_hello(), 'packages': {'tflite': 'tflite-runtime'}}\n"
        "    def do_load(self, **arguments):\n"
        "        raise child.FcosEdgeError('tflite-runtime cannot work with NumPy 2')\n"
        "child.Child = Broken\n"
        "child.main()\n"
    )
    python = tmp_path / "python"
    root = Path(__file__).resolve().parent.parent.parent
    python.write_text(f'#!/bin/sh\nPYTHONPATH="{root}" exec "{sys.executable}" "{script}"\n')
    python.chmod(0o755)
    argv = ["bench", str(bundle), "--runtime", "tflite", "--precisions", "int8", "--threads", "1"]
    assert main([*argv, "--seconds", "1", "--python", f"tflite-runtime={python}"]) == 1
    out, err = capsys.readouterr()
    assert "model.int8.tflite  ai-edge-litert" in out
    assert err.splitlines()[-1] == (
        "failed: model.int8.tflite in tflite-runtime, 1 thread: tflite-runtime cannot work with NumPy 2"
    )


@pytest.mark.parametrize(("argv", "said"), [
    ([], "there is no bundle street8-lite0-320 in this folder; give a bundle, or make this one: fcos-edge"
     " export --int8"),
    (["nothing"], "nothing: no bundle, cannot read manifest.json: No such file"),
    (["{bundle}", "--runtime", "caffe"], "runtime 'caffe' is none of"),
    (["{bundle}", "--precisions", "int4"], "--precisions int4: what runs here is fp32, int8"),
    (["{bundle}", "--precisions", "int8,int8"], "no list of different names"),
    (["{bundle}", "--threads", "0"], "'0' is no whole number from 1"),
    (["{bundle}", "--threads", "1,x"], "'x' is no whole number from 1"),
    (["{bundle}", "--threads", "99999"], "threads is 99999, expected 1 to"),
    (["{bundle}", "--seconds", "0"], "'0' is no whole number from 1"),
    (["{bundle}", "--split", "val"], "--split is of a data set; name it with --data"),
    (["{bundle}", "--data", "nothing"], "nothing: no such file or folder"),
    (["{bundle}", "--data", "empty"], "empty: no data set"),
    (["{bundle}", "--data", "broken"], "broken/a.png: "),
    (["{bundle}", "--python", "nonsense"], "'nonsense' is no package and Python"),
    (["{bundle}", "--python", "tflite-runtime=nothing"], "--python tflite-runtime=nothing: No such file"),
])  # fmt: skip
def test_mistake__is_one_line(
    argv: list[str], said: str, bundle: Path,
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    Path("broken").mkdir()
    Path("broken/a.png").write_bytes(b"no picture")
    assert main(["bench", *(part.format(bundle=bundle) for part in argv)]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert said in err


def test_mistake__bundle_without_golden_pictures(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "manifest.json").write_bytes((bundle / "manifest.json").read_bytes())
    assert main(["bench", str(tmp_path)]) == 2
    assert "no golden pictures; copy the bundle again, or name others with --data" in capsys.readouterr().err
