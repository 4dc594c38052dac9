"""`fcos-edge detect` with a recording for a model: what it writes, prints, refuses and leaves alone."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from fcos_edge import sources
from fcos_edge.cli import main
from fcos_edge.image import read_image_bgr
from fcos_edge.runtime import UInt8Array
from fcos_edge.video import VideoReader
from tests.recordings import BOX_XYXY, LABEL, SCORE, WEAK_SCORE, picture_bgr, write_recording
from tests.small_specs import SMALL_SPEC
from tests.test_video import write_video

BICYCLE = {"label": LABEL, "class_name": SMALL_SPEC.classes[LABEL], "box_xyxy": BOX_XYXY}


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a model and a picture in it."""
    monkeypatch.chdir(tmp_path)
    write_recording(Path("model.npz"))
    _write_picture("street.png")
    return tmp_path


def _write_picture(name: str, seed: int = 0) -> None:
    Path(name).parent.mkdir(exist_ok=True)
    assert cv2.imwrite(name, picture_bgr(seed))


def _detect(*argv: str) -> int:
    return main(["detect", *argv, "--model", "model.npz"])


def _lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def _check_bicycle(record: dict[str, Any]) -> None:
    (detection,) = record["detections"]
    assert detection.pop("score") == pytest.approx(SCORE, abs=1e-4)  # SCORE has five digits
    assert detection == BICYCLE


def _visible(folder: str) -> list[str]:
    return sorted(path.name for path in Path(folder).iterdir())


def test_picture__is_drawn_and_described(capsys: pytest.CaptureFixture[str]) -> None:
    assert _detect("street.png") == 0
    out, err = capsys.readouterr()
    assert out == "street.png: 1 bicycle -> detections/street.png\n"
    assert err.startswith("model: model.npz (fp32) in replay on CPU, ")
    assert _visible("detections") == ["detections.jsonl", "street.png"]
    (record,) = _lines(Path("detections/detections.jsonl").read_text())
    assert (record["source"], record["size_hw"]) == ("street.png", [32, 64])
    _check_bicycle(record)
    changed = np.any(read_image_bgr("detections/street.png") != read_image_bgr("street.png"), axis=2)
    left, top, right, _ = (int(side) for side in BOX_XYXY)
    assert changed[top, left:right].all()


@pytest.mark.parametrize(("threshold", "labels"), [
    (None, [LABEL]),
    (str(WEAK_SCORE - 0.01), [LABEL, 0]),
    ("0.995", []),
])  # fmt: skip
def test_threshold__replaces_the_models_own(
    threshold: str | None, labels: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert _detect("street.png", "--json", *([] if threshold is None else ["--threshold", threshold])) == 0
    (record,) = _lines(capsys.readouterr().out)
    assert [detection["label"] for detection in record["detections"]] == labels


def test_json__prints_lines_and_writes_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert _detect("street.png", "--json") == 0
    (record,) = _lines(capsys.readouterr().out)
    _check_bicycle(record)
    assert _visible(".") == ["model.npz", "street.png"]


def test_json__with_out_does_both(capsys: pytest.CaptureFixture[str]) -> None:
    assert _detect("street.png", "--json", "--out", "a/b") == 0
    assert capsys.readouterr().out == Path("a/b/detections.jsonl").read_text()
    assert _visible("a/b") == ["detections.jsonl", "street.png"]


def test_folder__broken_picture_costs_only_itself(capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("pictures/a.jpg", "pictures/c.PNG"):
        _write_picture(name)
    Path("pictures/b.jpg").write_bytes(b"no picture")
    Path("pictures/notes.txt").write_text("not meant")
    Path("pictures/._a.jpg").write_text("not meant")
    assert _detect("pictures") == 2
    out, err = capsys.readouterr()
    assert out.splitlines() == [
        "pictures/a.jpg: 1 bicycle -> detections/a.jpg",
        "pictures/c.PNG: 1 bicycle -> detections/c.PNG",
    ]
    assert err.splitlines()[1:] == [
        "fcos-edge: pictures/b.jpg: not a picture that OpenCV can decode; convert it to JPEG or PNG",
        "fcos-edge: 1 of 3 pictures cannot be read; the others are done",
    ]
    assert _visible("detections") == ["a.jpg", "c.PNG", "detections.jsonl"]
    assert len(_lines(Path("detections/detections.jsonl").read_text())) == 2


def test_folder__interrupted_keeps_what_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("pictures/a.jpg", "pictures/b.jpg"):
        _write_picture(name)
    real = read_image_bgr

    def read(path: Path) -> UInt8Array:
        if path.name == "b.jpg":
            raise KeyboardInterrupt
        return real(path)

    monkeypatch.setattr("fcos_edge.image.read_image_bgr", read)
    assert _detect("pictures") == 130
    assert _visible("detections") == ["a.jpg", "detections.jsonl"]
    assert len(_lines(Path("detections/detections.jsonl").read_text())) == 1


def test_out__of_an_earlier_run_is_replaced() -> None:
    assert _detect("street.png") == 0
    first = Path("detections/street.png").read_bytes()
    _write_picture("street.png", seed=1)
    assert _detect("street.png") == 0
    assert Path("detections/street.png").read_bytes() != first


@pytest.mark.parametrize(("name", "written"), [
    ("photo.jfif", "photo.jfif.png"),  # read by content, but no name that says what to write
    ("photo", "photo.png"),
    ("photo.JPG", "photo.JPG"),
])  # fmt: skip
def test_picture__of_an_odd_name(name: str, written: str) -> None:
    Path("in").mkdir()
    encoded = cv2.imencode(".jpg", picture_bgr())[1]
    Path("in", name).write_bytes(encoded.tobytes())
    assert _detect(f"in/{name}") == 0
    assert _visible("detections") == ["detections.jsonl", written]


@pytest.mark.parametrize(("argv", "said"), [
    (["nothing.jpg"], "nothing.jpg: no such file or folder"),
    ([""], "source '' is no path"),
    (["model.npz"], "model.npz: not a picture that OpenCV can decode"),
    (["empty"], "empty: no pictures in this folder"),
    (["97"], "camera 97: cannot be opened"),
    (["noise.mp4"], "noise.mp4: not a video that OpenCV can decode"),
    (["street.png", "--frames", "3"], "--frames is for videos and cameras"),
    (["street.png", "--runtime", "tensorrt"], "runtime 'tensorrt' is none of"),
    (["street.png", "--runtime", "onnxruntime"], "model.npz: not for onnxruntime"),
    (["street.png", "--precision", "int4"], "precision 'int4' is none of"),
    (["street.png", "--out", "model.npz"], "--out model.npz: model.npz is a file"),
    (["street.png", "--out", "model.npz/deeper"], "--out model.npz/deeper: model.npz is a file"),
    (["street.png", "--out", "drawn.jpg"], "--out drawn.jpg: names a folder, not a file"),
    (["street.png", "--coco", "model.npz"], "--coco model.npz: is there already"),
    (["street.png", "--coco", "nowhere/x.json"], "--coco nowhere/x.json: there is no folder nowhere"),
    # It holds the source and other things that a result could replace.
    (["street.png", "--out", "."], "--out .: holds files that are not from `detect`"),
])  # fmt: skip
def test_mistake__is_one_line_and_leaves_nothing(
    argv: list[str], said: str, capfd: pytest.CaptureFixture[str]
) -> None:
    Path("empty").mkdir()
    Path("noise.mp4").write_bytes(b"no video")
    before = sorted(Path().rglob("*"))
    assert _detect(*argv) == 2
    out, err = capfd.readouterr()
    errors = [line for line in err.splitlines() if not line.startswith("model: ")]
    assert (out, len(errors)) == ("", 1)
    assert errors[0].startswith(f"fcos-edge: {said}")
    assert sorted(Path().rglob("*")) == before


@pytest.mark.parametrize(("model", "said"), [
    ("nothing.onnx", "nothing.onnx: no such file or folder"),
    ("street.png", "street.png: not for"),
    ("empty", "empty: no bundle, cannot read manifest.json"),
    ("nothing.safetensors", "nothing.safetensors: no such file"),
])  # fmt: skip
def test_model__that_is_none_is_one_line(model: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("empty").mkdir()
    assert main(["detect", "street.png", "--model", model]) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.splitlines()[-1].startswith("fcos-edge: ")
    assert not Path("detections").exists()


@pytest.mark.parametrize("model", [["--model", "model.npz"], []], ids=["a file", "PyTorch"])
def test_threads__too_many_are_one_line(model: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["detect", "street.png", "--threads", "100000", *model]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith("fcos-edge: threads is 100000, expected 1 to ")


def test_results_folder__as_source_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert _detect("street.png") == 0
    drawn = Path("detections/street.png").read_bytes()
    assert _detect("detections") == 2
    assert "detections/street.png: would be overwritten" in capsys.readouterr().err
    assert Path("detections/street.png").read_bytes() == drawn


@pytest.mark.parametrize(("names", "ids", "said"), [
    (["000000000042.png", "7.jpg"], [42, 7], "image_id is the file's name"),
    (["a.png", "b.jpg"], [1, 2], "image_id is the place among the pictures or frames, from 1"),
])  # fmt: skip
def test_coco__has_all_detections(
    names: list[str], ids: list[int], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in names:
        _write_picture(f"in/{name}")
    Path("in/z.jpg" if names[0] == "a.png" else "in/9.jpg").write_bytes(b"no picture")
    # The broken picture costs only itself, and its number.
    assert _detect("in", "--coco", "found.json") == 2
    assert said in capsys.readouterr().err
    entries = json.loads(Path("found.json").read_bytes())
    left, top, right, bottom = BOX_XYXY
    assert [entry["image_id"] for entry in entries] == ids
    assert {entry["category_id"] for entry in entries} == {LABEL + 1}
    # BOX_XYXY has three digits.
    np.testing.assert_allclose(entries[0]["bbox"], [left, top, right - left, bottom - top], atol=1e-3)
    assert entries[0]["score"] == pytest.approx(SCORE, abs=1e-4)
    # The lines say which picture has which number.
    lines = _lines(Path("detections/detections.jsonl").read_text())
    assert [(Path(line["source"]).name, line["image_id"]) for line in lines] == list(
        zip(names, ids, strict=True)
    )


def test_coco__of_a_video_counts_frames() -> None:
    write_video(Path("7.avi"), [picture_bgr()] * 3)
    assert _detect("7.avi", "--coco", "found.json", "--json") == 0
    assert [entry["image_id"] for entry in json.loads(Path("found.json").read_bytes())] == [1, 2, 3]


@pytest.mark.parametrize("name", ["clip.mp4", "clip.avi"])
def test_video__is_drawn_frame_by_frame(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    write_video(Path(name), [picture_bgr(seed) for seed in range(10)], fps=12.5)
    assert _detect(name) == 0
    assert capsys.readouterr().out == f"{name}: 10 frames, 10 detections -> detections/{name}\n"
    assert _visible("detections") == [name, "detections.jsonl"]
    records = _lines(Path("detections/detections.jsonl").read_text())
    assert [record["frame"] for record in records] == list(range(10))
    for record in records:
        _check_bicycle(record)
    reader = VideoReader(Path("detections", name))
    frames = list(reader)
    reader.close()
    assert len(frames) == 10
    assert reader.fps == pytest.approx(12.5)
    left, top, right, _ = (int(side) for side in BOX_XYXY)
    # The box has a saturated colour, the picture is grey; codecs blur both.
    assert np.ptp(frames[5][top, left:right].mean(axis=0)) > 30


def test_video__ends_after_the_asked_frames(capsys: pytest.CaptureFixture[str]) -> None:
    write_video(Path("clip.avi"), [picture_bgr()] * 10)
    assert _detect("clip.avi", "--frames", "3", "--json") == 0
    assert len(_lines(capsys.readouterr().out)) == 3
    assert not Path("detections").exists()


def test_video__cut_short_is_said_and_what_there_is_is_done(capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    frames = [rng.integers(0, 256, (240, 320, 3)).astype(np.uint8) for _ in range(20)]
    content = write_video(Path("clip.avi"), frames).read_bytes()
    Path("cut.avi").write_bytes(content[: len(content) // 2])
    assert _detect("cut.avi") == 2
    assert " of 20 frames; the file is damaged or cut short" in capsys.readouterr().err
    assert _visible("detections") == ["cut.avi", "detections.jsonl"]


class _FakeCapture:
    """A camera whose user presses Ctrl-C after five frames."""

    def __init__(self, source: int) -> None:
        self.frames: Iterator[UInt8Array] = iter([picture_bgr(seed) for seed in range(5)])

    def isOpened(self) -> bool:
        return True

    def read(self) -> tuple[bool, UInt8Array]:
        for frame in self.frames:
            return True, frame
        raise KeyboardInterrupt

    def get(self, prop: int) -> float:
        return 0.0

    def release(self) -> None:
        pass


def test_camera__ctrl_c_ends_it_and_keeps_the_video(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real = cv2.VideoCapture  # reads back what was written
    monkeypatch.setattr(cv2, "VideoCapture", lambda name: _FakeCapture(0) if name == 0 else real(name))
    assert _detect("0") == 0
    monkeypatch.undo()
    assert "camera0.mp4: 5 frames, 5 detections -> detections/camera0.mp4" in capsys.readouterr().out


def test_video_file__interrupted_leaves_no_half_video(monkeypatch: pytest.MonkeyPatch) -> None:
    write_video(Path("clip.avi"), [picture_bgr()] * 3)
    monkeypatch.setattr(cv2, "VideoCapture", _FakeCapture)
    assert _detect("clip.avi") == 130
    assert not Path("detections").exists()


def test_source__file_named_like_a_number_is_no_camera() -> None:
    Path("0").write_bytes(Path("street.png").read_bytes())
    assert isinstance(sources.find_source("0"), sources.Pictures)


def test_default_model__without_torch_says_how_to_get_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in [name for name in sys.modules if name.startswith("fcos_edge.train.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "torch", None)
    assert main(["detect", "street.png"]) == 2
    assert capsys.readouterr().err == (
        "fcos-edge: there is no bundle street8-lite0-320 in this folder, and torch is not installed;"
        " give a bundle, or make one on a workstation:"
        " pip install 'fcos-edge[export]' && fcos-edge export --int8\n"
    )
