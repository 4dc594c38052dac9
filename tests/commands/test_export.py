"""`fcos-edge export` as a user types it: what it prints, refuses and leaves alone."""

from __future__ import annotations

import copy
import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest

import fcos_edge
from fcos_edge import embedded
from fcos_edge.bundle import RECORD_NAME, SENSITIVITY_NAME, SENSITIVITY_PLOT_NAME
from fcos_edge.cli import main
from fcos_edge.golden import REFERENCE, read_golden
from fcos_edge.loading import read_document
from fcos_edge.quantize.record import Record
from fcos_edge.sensitivity_table import read_table
from fcos_edge.train.checkpoint import save_checkpoint
from tests.coco_sets import make_coco_set
from tests.quantize.test_placing import tree, write_bundle
from tests.small_detector import save_small_detector, small_detector


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_small_detector(tmp_path_factory.mktemp("checkpoint") / "small.safetensors")


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_json__is_one_document(checkpoint: Path, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", str(checkpoint), "--int8", "--formats", "onnx", "--out", "a/b", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["bundle"], document["passed"], document["skipped"]) == ("a/b", True, [])
    assert [(row["file"], row["precision"]) for row in document["artifacts"]] == [
        ("model.fp32.onnx", "fp32"), ("model.int8.onnx", "int8"),
    ]  # fmt: skip
    assert all(row["passed"] and row["checks"] for row in document["artifacts"])
    assert Path("a/b/manifest.json").is_file()


def test_table__sizes_count_every_file_of_an_artifact(
    checkpoint: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from fcos_edge.quantize.formats import openvino

    monkeypatch.setattr(openvino, "PRECISIONS", ("fp32",))
    assert main(["export", str(checkpoint), "--formats", "openvino"]) == 0
    out, err = capsys.readouterr()
    size = sum(Path("small", name).stat().st_size for name in ("model.fp32.xml", "model.fp32.bin"))
    assert out.splitlines()[-1].split() == ["model.fp32.xml", f"{size:,}", "openvino", "passed"]
    assert err.splitlines()[-1] == "wrote small"  # the model's name, where --out names none


def test_data__coco_set_calibrates(checkpoint: Path, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = make_coco_set(place / "data", "train", 3)
    make_coco_set(data, "val", 2, seed=1)
    (data / "train" / "notes.txt").write_text("no picture")
    (data / ".thumbnails").mkdir()
    (data / ".thumbnails" / "train0.png").write_bytes(b"hidden, and no picture")
    argv = ["export", str(checkpoint), "--int8", "--formats", "onnx", "--data", str(data)]
    assert main([*argv, "--recipe", "w8c_a8t_mse", "--out", "all"]) == 0
    said = capsys.readouterr().err
    assert "calibrating on 3 of 3 pictures\n" in said
    assert "instances_val.json: no class" in said
    assert "warning: 3 pictures are few, 100 or more are better; the scales of its two halves" in said
    record = json.loads(Path("all/calibration.json").read_text())
    assert len(record["picture_sha256"]) == 3


@pytest.mark.parametrize(("argv", "said"), [
    (["--formats", "caffe"], "--formats: 'caffe' is unknown; name some of onnx,openvino,tflite"),
    (["--formats", "onnx,,tflite"], "--formats: '' is unknown; name some of onnx,openvino,tflite"),
    (["--formats", ""], "--formats: '' is unknown; name some of onnx,openvino,tflite"),
    (["--formats", "onnx, onnx"], "--formats: onnx is named twice"),
    (["--int8", "--data", "nothing"], "--data nothing: no such folder"),
    (["--int8", "--data", "file.txt"], "--data file.txt: is a file"),
    (["--int8", "--data", "empty"], "empty: no pictures in this folder or below it; expected .bmp, .jpeg"),
    (["--int8", "--data", "pictures"], "pictures/b.jpg: not a picture that OpenCV can decode"),
    (["--data", "pictures"], "--data: is for int8 only; add --int8"),
    (["--max-drop", "0"], "--max-drop: is for int8 only; add --int8"),
    (["--int8", "--max-drop", "0.3"], "--max-drop: needs pictures with labels to measure on"),
    (["--int8", "--max-drop", "0.3", "--data", "pictures"], "--max-drop: needs a data set with labels"),
    (["--precisions", "fp64"], "--precisions: 'fp64' is unknown; name some of fp32,fp16,int8"),
    (["--precisions", "fp32,"], "argument --precisions: 'fp32,' is no list"),
    (["--int8", "--precisions", "fp32"], "--precisions fp32: leaves out the int8 that --int8 asks for"),
    (["--batch", "0"], "argument --batch: '0' is no"),
    (["--int8", "--metric", "person"], "--metric: says what --max-drop is about"),
    (["--int8", "--recipe", "w8c_a8t"], "recipe 'w8c_a8t': '' is none of minmax"),
    (["--int8", "--recipe", "w8c_a8t_mse", "--per-tensor"], "--recipe w8c_a8t_mse: contradicts --per-tensor"),
    (["--int8", "--symmetric"], "recipe w8c_a8s_"),
    (["nothing.safetensors"], "nothing.safetensors: no such file; give a .safetensors checkpoint"),
    (["pictures"], "pictures: no such file; give a .safetensors checkpoint"),
    (["file.txt"], "file.txt: no safetensors file"),
    (["--out", "file.txt"], "file.txt: is a file; name a new folder with --out"),
    (["--out", "file.txt/a/b"], "file.txt: is a file, not a folder"),
    (["--out", "pictures"], "pictures: is no bundle and not empty; name a new folder with --out"),
    (["--out", "bundle"], "bundle: holds notes.txt, which no bundle does"),
    (["--out", "."], ".: cannot be replaced by a bundle; name a new folder"),
    (["--fp16"], "unrecognized arguments: --fp16"),
])  # fmt: skip
def test_mistake__is_one_line_and_nothing_is_touched(
    argv: list[str], said: str, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("file.txt").write_text("mine")
    Path("empty").mkdir()
    Path("pictures").mkdir()
    Path("pictures/b.jpg").write_text("no picture")
    write_bundle(Path("bundle"), "of yesterday")
    Path("bundle/notes.txt").write_text("mine")
    was = tree(place)
    assert main(["export", *argv]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    (line,) = (line for line in err.splitlines() if line.startswith("fcos-edge: "))
    assert line == err.splitlines()[-1]
    assert said in line
    assert "Traceback" not in err
    assert tree(place) == was


def test_mistake__broken_picture_among_good_ones_is_named(
    checkpoint: Path, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = make_coco_set(place / "data", "train", 3)
    (data / "train" / "train1.png").write_bytes((data / "train" / "train1.png").read_bytes()[:60])
    assert main(["export", str(checkpoint), "--int8", "--data", str(data), "--out", "out"]) == 2
    assert "train1.png: not a picture that OpenCV can decode" in capsys.readouterr().err.splitlines()[-1]
    assert sorted(path.name for path in place.iterdir()) == ["data"]


def test_mistake__checkpoint_without_record(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_checkpoint(place / "bare.safetensors", replace(small_detector(), record=None))
    assert main(["export", "bare.safetensors", "--int8", "--out", "out"]) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert "holds no calibration record; give pictures with --data" in last
    assert not Path("out").exists()


def test_gate__failed_check_is_exit_code_1(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    detector = small_detector()
    assert detector.record is not None
    record = copy.deepcopy(dict(detector.record))
    # A sixteenth of the range that was seen: nearly all logits of P3 are cut off.
    record["points"]["head.logits.logits_p3"][0] /= 16
    save_checkpoint(place / "cut.safetensors", replace(detector, record=record))
    assert main(["export", "cut.safetensors", "--int8", "--formats", "onnx", "--out", "out"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines()[-1].startswith("fcos-edge: model.int8.onnx in onnxruntime: logits: ")
    assert "PyTorch" in err.splitlines()[-1]
    assert not Path("out").exists()


# Under a shell's `&` SIGINT is ignored, and a test run may have been started so.
_MAIN = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from fcos_edge.cli import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.parametrize(("number", "code", "said"), [
    (signal.SIGINT, 130, "fcos-edge: interrupted"),  # Ctrl-C
    (signal.SIGTERM, 143, "fcos-edge: terminated"),  # kill, a supervisor, a container that stops
])  # fmt: skip
def test_signal__leaves_what_was_there(
    number: signal.Signals, code: int, said: str, checkpoint: Path, place: Path, repo_root: Path
) -> None:
    write_bundle(place / "out", "of yesterday")
    was = tree(place)
    process = subprocess.Popen(
        [sys.executable, "-c", _MAIN, "export", str(checkpoint), "--int8", "--out", "out"],
        env={**os.environ, "PYTHONPATH": str(repo_root)},
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stderr is not None
        while process.stderr.readline() != "writing openvino fp32\n":
            assert process.poll() is None
        assert tree(place) != was  # it is on its way
        process.send_signal(number)
        last = process.stderr.read().splitlines()[-1]
    assert (process.returncode, last) == (code, said)
    assert tree(place) == was


def test_default__is_the_embedded_detector(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "CHECKPOINT", checkpoint)
    assert main(["export", "--formats", "onnx"]) == 0
    assert Path("small/model.fp32.onnx").is_file()


def test_options__reach_the_files(checkpoint: Path, place: Path) -> None:
    argv = ["export", str(checkpoint), "--formats", "onnx,tflite", "--precisions", "int8", "--weights-7bit"]
    assert main([*argv, "--tflite-io", "uint8", "--out", "u8"]) == 0
    assert sorted(path.name for path in Path("u8").glob("model.*")) == [
        "model.int8.onnx",
        "model.int8.tflite",
    ]
    spec, info = read_document(Path("u8/model.int8.tflite"))
    assert {output.zero_point is not None and output.zero_point >= 0 for output in info.outputs} == {True}
    assert (info.recipe[:3], info.has_7bit_weights) == ("w7c", True)
    assert "int8 is meant for every CPU" in Path("u8/README.md").read_text()
    batches = ["--formats", "onnx,openvino", "--precisions", "fp32,int8", "--batch", "dynamic"]
    assert main([*argv[:2], *batches]) == 0
    # Every precision that is written on request verifies, too.
    assert main([*argv[:2], "--precisions", "fp16,w8", "--out", "more"]) == 0
    assert {path.name for path in Path("more").glob("model.*")} >= {
        "model.fp16.onnx", "model.w8.onnx", "model.w8.xml", "model.w8.tflite"
    }  # fmt: skip
    pictures = np.zeros((3, *spec.input_hw, 3), np.uint8)
    for runtime, precision in product(("onnxruntime", "openvino"), ("fp32", "int8")):
        with fcos_edge.load(spec.name, runtime=runtime, precision=precision) as detector:
            assert len(detector.runtime.run(pictures).logits.values) == 3


def test_data__with_labels__is_measured_on_and_never_calibrated_on(
    checkpoint: Path, few_pictures: Path, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["export", str(checkpoint), "--int8", "--formats", "onnx", "--data", str(few_pictures)]
    # The set has no train pictures: all of them would be both.
    assert main([*argv, "--out", "refused"]) == 2
    assert "8 of 8 pictures to measure on were calibrated on" in capsys.readouterr().err
    assert not Path("refused").exists()

    options = ["--recipe", "w8c_a8t_minmax", "--allow-overlap", "--max-drop", "100", "--metric", "person"]
    assert main([*argv, *options, "--out", "forced"]) == 0
    said = capsys.readouterr().err
    assert "0 layers stay in float: " in said
    bundle = Path("forced")
    assert len(read_table(bundle / SENSITIVITY_NAME).rows) == 147
    assert (bundle / SENSITIVITY_PLOT_NAME).read_bytes().startswith(b"\x89PNG")
    record = Record.from_dict(json.loads((bundle / RECORD_NAME).read_text()))
    golden = read_golden(bundle)
    own = golden.thresholds_of("model.int8.onnx")
    assert own == record.operating_thresholds["onnx"]
    assert golden.thresholds_of("model.fp32.onnx") == golden.operating_thresholds[REFERENCE]
    assert main(["verify", str(bundle)]) == 0
