"""`fcos-edge parity` as a user types it; what it finds is tested in tests/parity."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

import fcos_edge
from fcos_edge.cli import main
from tests.bad_input.verbs import verb
from tests.parity.faulty_workers import children_of

FP32, INT8 = "model.fp32.onnx in onnxruntime", "model.int8.onnx in onnxruntime"
QUICKLY = ["--runtime", "onnxruntime", "--threads", "1", "--draws", "20"]
PATIENCE_S = 60.0


@pytest.fixture(scope="module")
def argv(small_bundle: Path, few_pictures: Path) -> list[str]:
    # So small a network takes a millisecond: a neighbour's moment is a large part of it.
    limit = ("--max-latency-ratio", "1000")
    return ["parity", str(small_bundle), "--data", str(few_pictures), *QUICKLY, *limit]


def document_of(out: str) -> dict[str, Any]:
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    document = json.loads(out, parse_constant=refuse)
    assert isinstance(document, dict)
    return document


def test_json__then_as_a_baseline_and_a_failure(
    argv: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page, comment = tmp_path / "page.html", tmp_path / "comment.md"
    assert main([*argv, "--json", "--html", str(page), "--markdown", str(comment)]) == 0
    out, err = capsys.readouterr()
    for path, verdict in ((page, ">SHIP<"), (comment, "## SHIP: ")):
        assert verdict in path.read_text()
        assert f"wrote {path}\n" in err
    assert err.startswith("reference: model.fp32.onnx in onnxruntime, since no --checkpoint was given\n")
    document = document_of(out)
    assert (document["passed"], document["failed"], document["baseline"]) == (True, [], None)
    assert [one["name"] for one in document["artifacts"]] == [FP32, INT8]

    # The same report, were int8 once better and quicker by far.
    document["artifacts"][1]["latency_ratio"]["median"] /= 4
    for row in document["artifacts"][1]["accuracy"]["classes"].values():
        row["AP"] += 0.5
    (tmp_path / "old.json").write_text(json.dumps(document))
    assert main([*argv, "--json", "--baseline", str(tmp_path / "old.json")]) == 1
    out, err = capsys.readouterr()
    later = document_of(out)
    assert later["passed"] is False
    assert [line.split(": ")[:2] for line in later["failed"]] == [
        [INT8, "baseline_ap_drop"], [INT8, "baseline_latency_ratio"],
    ]  # fmt: skip
    assert [line for line in err.splitlines() if line.startswith("FAILED")] == [
        f"FAILED {line}" for line in later["failed"]
    ]
    assert [one["passed"] for one in later["artifacts"]] == [True, False]
    assert later["baseline"]["compared"] == [FP32, INT8]
    assert later.keys() == document.keys()


def test_table__fits_a_terminal_and_ends_with_the_verdict(
    argv: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(argv) == 0
    lines = capsys.readouterr().out.splitlines()
    assert all(len(line) <= 140 for line in lines)
    assert lines[0] == (
        "8 pictures, 10 boxes of few/val; reference: model.fp32.onnx in onnxruntime, since no --checkpoint"
        " was given"
    )
    header, *rows = (re.split(" {2,}", line) for line in lines[2:5])
    assert header == [
        "artifact", "AP", "change", "95 % interval", "partners", "ms", "int8/fp32", "peak MiB", "result",
    ]  # fmt: skip
    assert [(row[0], row[-1]) for row in rows] == [(FP32, "passed"), (INT8, "passed")]
    assert rows[0][2:5] == ["+0.0000", "+0.000 .. +0.000", "100.0 %"]
    assert "no boxes: bicycle, car, motorcycle, bus, dog, horse" in lines
    (line,) = (line for line in lines if line.startswith("not judged: "))
    assert "class_drop, miss_increase: no class has 200 boxes" in line
    assert lines[-1] == "passed: 2 artifacts"


def test_gates__are_what_is_asked_for(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--agreement-factor", "0.01", "--max-latency-ms", "0.001", "--max-latency-ratio", "0.001"]
    assert main([*argv, *options]) == 1
    out = capsys.readouterr().out
    failed = [line.split(": ")[:2] for line in out.splitlines() if line.startswith("FAILED ")]
    assert failed == [
        [f"FAILED {FP32}", "latency_ms"],
        *([f"FAILED {INT8}", gate] for gate in ("raw_outputs", "latency_ratio", "latency_ms")),
    ]
    (row,) = (line for line in out.splitlines() if line.startswith(INT8))
    assert row.endswith("FAILED: raw_outputs and 2 more")
    assert len(row) <= 140


def test_collect__then_from(argv: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out_file = tmp_path / "board.jsonl"
    assert main([*argv, "--precisions", "int8", "--collect", str(out_file), "--json"]) == 0
    assert document_of(capsys.readouterr().out) == {"file": str(out_file), "pictures": 8, "failed": []}
    assert main([*argv, "--collect", str(out_file)]) == 2
    assert "board.jsonl: is there already; name another file, or move this one" in capsys.readouterr().err
    without_runtime = [*argv[:4], "--draws", "20"]
    assert main([*without_runtime, "--from", str(out_file), "--json"]) == 0
    (one,) = document_of(capsys.readouterr().out)["artifacts"]
    assert one["name"] == f"{INT8}, board.jsonl"
    # What was run there cannot be chosen here.
    assert main([*argv, "--from", str(out_file)]) == 2
    assert "--from reports on all that was collected: leave out --runtime," in capsys.readouterr().err


# As on a board, where base and a runtime is all there is.
_ON_A_BOARD = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("yaml", "faster_coco_eval", "torch", "onnx", "safetensors"):
            raise ModuleNotFoundError(f"{name} is not on the board", name=name)

sys.meta_path.insert(0, Blocked())
from fcos_edge.cli import main
sys.exit(main(sys.argv[1:]))
"""


def test_collect__with_base_and_a_runtime_alone(argv: list[str], tmp_path: Path) -> None:
    out_file = tmp_path / "board.jsonl"
    command = [sys.executable, "-c", _ON_A_BOARD, *argv, "--precisions", "int8", "--collect", str(out_file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert out_file.is_file()


def test_damaged__the_rest_goes_on(
    argv: list[str], small_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = shutil.copytree(small_bundle, tmp_path / "bundle")
    with (bundle / "model.int8.onnx").open("r+b") as file:
        file.truncate(1000)
    collected = str(tmp_path / "out.jsonl")
    assert main(["parity", str(bundle), *argv[2:], "--collect", collected]) == 1
    out, err = capsys.readouterr()
    (line,) = out.splitlines()
    assert line.startswith(f"FAILED {INT8}: {bundle}/model.int8.onnx: 1000 bytes, expected ")
    assert err.splitlines()[-1] == f"wrote {collected}: 2 artifacts, 8 pictures"
    assert main(["parity", str(bundle), *argv[2:4], "--from", collected, "--draws", "20"]) == 1
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("model.")]
    assert rows[0].endswith("passed")
    assert rows[1].endswith("FAILED: runs")
    with (bundle / "model.fp32.onnx").open("r+b") as file:
        file.truncate(1000)
    assert main(["parity", str(bundle), *argv[2:]]) == 2  # nothing can be judged
    assert "model.fp32.onnx: 1000 bytes, expected" in capsys.readouterr().err


@pytest.mark.parametrize(("options", "said"), [
    (["--max-ap-drop", "abc"], "argument --max-ap-drop: 'abc' is no number from 0"),
    (["--max-ap-drop", "-1"], "argument --max-ap-drop: '-1' is no number from 0"),
    (["--max-miss-increase", "nan"], "argument --max-miss-increase: 'nan' is no number from 0"),
    (["--max-latency-ratio", "0"], "argument --max-latency-ratio: '0' is no number above 0"),
    (["--least-boxes", "0"], "argument --least-boxes: '0' is no whole number from 1"),
    (["--threads", "0"], "argument --threads: '0' is no whole number from 1"),
    (["--threads", "100000"], "threads is 100000, expected 1 to"),
    (["--timeout", "0"], "argument --timeout: '0' is no number above 0"),
    (["--draws", "0"], "argument --draws: '0' is no whole number from 1"),
    (["--python", "nonsense"], "'nonsense' is no package and Python, as in tflite-runtime="),
    (["--python", "tflite-runtime=none"], "--python tflite-runtime=none: No such file or directory"),
    (["--python", "tflite-runtime=bare"], "No module named 'fcos_edge'); run: bare -m pip install"),
    (["--python", "caffe=bare"], "--python caffe=bare: no runtime has the package caffe, they"),
    (["--python", "openvino=a", "--python", "openvino=b"], "=b: openvino has a Python already; name"),
    (["--python", "openvino=openvino", "--runtime", "onnxruntime"], "which --runtime onnxruntime leaves out"),
    (["--runtime", "caffe"], "runtime 'caffe' is none of"),
    (["--runtime", "replay"], "the bundle has no file for replay; it has model.fp32.onnx, model.int8.onnx"),
    (["--runtime", "tflite"], "the bundle has no file for tflite; it has model.fp32.onnx, model.int8.onnx"),
    (["--precisions", "int4"], "--precisions int4: what runs here is fp32, int8"),
    (["--classes", "cat,cat"], "'cat,cat' is no list of different names"),
    (["--classes", "unicorn"], "--classes: 'unicorn' is none of the model's: person, bicycle"),
    (["--classes", "bus"], "no box of bus in val; nothing to measure"),
    (["--split", "train"], "no split 'train', it has val"),
    (["--data", "nothing"], "nothing: no such file or folder"),
    (["--checkpoint", "nothing"], "nothing: no such file; give the checkpoint that was exported"),
    (["--checkpoint", "text"], "text: is not the checkpoint that"),
    (["--baseline", "nothing"], "--baseline nothing: cannot be read (No such file or directory)"),
    (["--baseline", "text"], "--baseline text: not what `parity --json` printed"),
    (["--collect", "text"], "--collect text: is there already"),
    (["--collect", "none/out.jsonl"], "--collect none/out.jsonl: there is no folder none; make it first"),
    (["--collect", "new", "--from", "text"], "--collect only runs: leave out --from,"),
    (["--collect", "new", "--baseline", "text"], "--collect only runs: leave out --from,"),
    (["--collect", "new", "--checkpoint", "text"], "--collect only runs: leave out --from,"),
    (["--collect", "new", "--classes", "unicorn"], "'unicorn' is none of the model's"),
])  # fmt: skip
def test_mistake__is_one_line(
    options: Sequence[str], said: str, argv: list[str],
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    Path("text").write_text("nothing of use")
    # A Python that has nothing.
    Path("bare").write_text(f'#!/bin/sh\nunset PYTHONPATH\nexec "{sys.executable}" -S -E "$@"\n')
    Path("bare").chmod(0o755)
    # One that has OpenVINO.
    root = Path(fcos_edge.__file__).parent.parent
    Path("openvino").write_text(f'#!/bin/sh\nPYTHONPATH="{root}" exec "{sys.executable}" "$@"\n')
    Path("openvino").chmod(0o755)
    assert main([*argv[:4], *options]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert said in err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bare", "openvino", "text"]


@pytest.mark.parametrize(("options", "said"), [
    (["none.jsonl"], "--from none.jsonl: cannot be read"),
    (["text"], "--from text: not what `parity --collect` wrote"),
    (["text", "--runtime", "onnxruntime"], "--from reports on all that was collected: leave out --runtime"),
    (["text", "--precisions", "int8"], "--from reports on all that was collected: leave out --runtime"),
])  # fmt: skip
def test_mistake__in_what_was_collected(
    options: Sequence[str], said: str, argv: list[str],
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    Path("text").write_text("nothing of use")
    assert main([*argv[:4], "--from", *options]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert said in err


@pytest.mark.parametrize(("bundle", "said"), [
    ("nothing", "nothing: no bundle, cannot read manifest.json: No such file or directory"),
    ("empty", "empty: no bundle, cannot read manifest.json: No such file or directory"),
    ("file", "file: no bundle, cannot read manifest.json: Not a directory; give the folder that"),
    ("broken", "broken/manifest.json: manifest: not a JSON document; copy the bundle again"),
])  # fmt: skip
def test_mistake__no_bundle(
    bundle: str, said: str, argv: list[str],
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    Path("broken").mkdir()
    Path("broken/manifest.json").write_text("{")
    Path("file").write_text("as a checkpoint would be")
    for more in ([], ["--collect", "out.jsonl"]):
        assert main(["parity", bundle, *argv[2:], *more]) == 2
        out, err = capsys.readouterr()
        assert (out, err.count("\n")) == ("", 1)
        assert said in err
    assert not Path("out.jsonl").exists()


def start(argv: Sequence[str], scratch: Path, *more: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        verb(*argv, *more),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, "TMPDIR": str(scratch)},
    )  # fmt: skip


def left_behind(scratch: Path) -> list[str]:
    """ONNX Runtime writes `.ses` when it is imported, which is its own affair."""
    return [path.name for path in scratch.iterdir() if path.name != ".ses"]


def wait_for_children(process: subprocess.Popen[str], count: int) -> list[int]:
    """Its workers, the oldest first, once there are so many."""
    end = time.monotonic() + PATIENCE_S
    while len(found := children_of(process.pid)) < count:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.01)
    return sorted(found)


def wait_until_gone(processes: Sequence[int]) -> None:
    end = time.monotonic() + PATIENCE_S
    while any(Path(f"/proc/{number}").exists() for number in processes):
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="children are found as Linux tells them")
@pytest.mark.parametrize(("number", "workers", "code", "said"), [
    (signal.SIGINT, 1, 130, "fcos-edge: interrupted"),  # while the reference loads
    (signal.SIGTERM, 3, 143, "fcos-edge: terminated"),  # while the last artifact loads, or all run
])  # fmt: skip
def test_signal__leaves_no_process_and_no_file(
    number: int, workers: int, code: int, said: str, argv: list[str], tmp_path: Path
) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    with start(argv, scratch) as process:
        children = wait_for_children(process, workers)
        process.send_signal(number)
        out, err = process.communicate(timeout=PATIENCE_S)
    assert (process.returncode, out, err.splitlines()[-1]) == (code, "", said)
    assert "Traceback" not in err
    # One that was just being started ends with its stdin, as soon as it looks there.
    wait_until_gone(children)
    assert not left_behind(scratch)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="children are found as Linux tells them")
def test_killed__a_worker_is_its_artifacts_failure(argv: list[str], tmp_path: Path) -> None:
    with start(argv, tmp_path, "--json") as process:
        *_, last = wait_for_children(process, 3)
        os.kill(last, signal.SIGKILL)  # as the kernel does where memory is short
        out, _ = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 1
    document = document_of(out)
    assert document["failed"] == [f"{INT8}: runs: artifact: crashed with SIGKILL"]
    fp32, int8 = document["artifacts"]
    assert (fp32["passed"], int8["passed"], int8["failure"]) == (True, False, "crashed with SIGKILL")
    assert fp32.keys() == int8.keys()
    assert int8["accuracy"] is None
    assert not left_behind(tmp_path)
