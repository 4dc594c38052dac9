"""A full disk: one line that names the place, what was there is still there, and nothing is half-written.

A disk is full in two ways: a file system of its own that is too small (where this machine lets us mount one),
and a limit on the size of a file, which every Unix has.
"""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from fcos_edge.cli import main
from fcos_edge.errors import UsageError
from fcos_edge.train.checkpoint import save_checkpoint
from fcos_edge.video import VideoReader, VideoWriter
from fcos_edge.writing import append_line
from tests.bad_input.verbs import Ended, in_mounts, needs_mounts, run, verb
from tests.quantize.test_placing import tree, write_bundle
from tests.recordings import picture_bgr, write_recording
from tests.small_checkpoint import small_checkpoint
from tests.small_detector import save_small_detector
from tests.test_video import write_video


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """No file of this process may become larger; Python ignores the signal, and `write` fails."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_small_detector(tmp_path_factory.mktemp("checkpoint") / "small.safetensors")


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def noise(name: str, seed: int = 0, side: int = 200) -> None:
    """A picture that takes more than 100 kB, and 3 kB where it is of one colour."""
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 3)).astype(np.uint8)
    assert cv2.imwrite(name, pixels)


# --- a limit on the size of a file


@pytest.mark.parametrize(("formats", "limit"), [
    ("onnx", 1 << 20),
    ("tflite", 1 << 20),
    ("openvino", 1 << 20),  # the weights
    ("openvino", 1 << 10),
])  # fmt: skip
def test_export__says_where_and_keeps_the_old_bundle(
    formats: str, limit: int, checkpoint: Path, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_bundle(Path("out"), "of yesterday")
    was = tree(place)
    with largest_file(limit):
        assert main(["export", str(checkpoint), "--formats", formats, "--out", "out"]) == 2
    assert capsys.readouterr().err.splitlines()[-1] == (
        "fcos-edge: out: cannot be written (File too large); make room there, or name another --out"
    )
    assert tree(place) == was


@pytest.mark.parametrize(("verb_and_model", "limit", "figure"), [
    (["eval", "{bundle}"], 20_000, "AP50"),
    (["analyze"], 20_000, "best possible recall"),
    # Its workers write raw outputs, too; the page has pictures.
    (["parity", "{bundle}", "--draws", "20", "--max-latency-ratio", "1000"], 200_000, "passed: 2 artifacts"),
])  # fmt: skip
def test_page__what_was_measured_is_told_all_the_same(
    verb_and_model: list[str],
    limit: int,
    figure: str,
    small_bundle: Path,
    few_pictures: Path,
    place: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    argv = [word.format(bundle=small_bundle) for word in verb_and_model]
    with largest_file(limit):
        assert main([*argv, "--data", str(few_pictures), "--html", "page.html"]) == 2
    told = capsys.readouterr()
    assert figure in told.out
    assert told.err.splitlines()[-1] == (
        "fcos-edge: page.html: cannot be written (File too large); make room there, or name another file"
    )
    assert not list(place.iterdir())


@pytest.mark.parametrize("before", ["results", "no results", "nothing, nor a parent"])
def test_detect__picture(before: str, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_recording(Path("model.npz"))
    out = Path("a/b/out") if before == "nothing, nor a parent" else Path("out")
    if before != "nothing, nor a parent":
        out.mkdir()
    if before == "results":
        assert cv2.imwrite("street.png", picture_bgr())
        assert main(["detect", "street.png", "--model", "model.npz", "--out", "out"]) == 0
    noise("street.png")
    was = tree(place)
    capsys.readouterr()
    with largest_file(20_000):
        assert main(["detect", "street.png", "--model", "model.npz", "--out", str(out)]) == 2
    assert capsys.readouterr().err.splitlines()[1:] == [
        f"fcos-edge: {out}/street.png: cannot be written (File too large); make room there, or choose another"
        " folder with --out"
    ]
    assert tree(place) == was


def test_detect__pictures_that_fitted_stay(place: Path) -> None:
    write_recording(Path("model.npz"))
    Path("in").mkdir()
    assert cv2.imwrite("in/a.png", picture_bgr())
    noise("in/b.png")
    with largest_file(20_000):
        assert main(["detect", "in", "--model", "model.npz", "--out", "out"]) == 2
    assert sorted(path.name for path in Path("out").iterdir()) == ["a.png", "detections.jsonl"]
    assert Path("out/detections.jsonl").read_text().count("\n") == 1


def test_detect__lines_that_do_not_fit_leave_the_old_ones(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_recording(Path("model.npz"))
    Path("out").mkdir()
    Path("out/detections.jsonl").write_text("of yesterday\n")
    write_video(Path("clip.avi"), [picture_bgr()] * 100)  # 20 kB of lines, less of video
    with largest_file(8_000):
        assert main(["detect", "clip.avi", "--model", "model.npz", "--out", "out"]) == 2
    assert "out/detections.jsonl: cannot be written (File too large)" in capsys.readouterr().err
    assert tree(Path("out")) == {"detections.jsonl": "of yesterday\n"}


@pytest.mark.parametrize("name", ["clip.mp4", "clip.avi", "clip.mkv"])
def test_video__that_does_not_fit_is_not_left(
    name: str, place: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """FFmpeg's own voice is silent, and what OpenCV calls finished is looked at."""
    Path(name).write_text("of yesterday")
    random = np.random.default_rng(0)
    writer = VideoWriter(Path(name), 25)
    with largest_file(300_000):
        for _ in range(40):
            writer.write(random.integers(0, 256, (240, 320, 3)).astype(np.uint8))
        with pytest.raises(
            UsageError, match=rf"{name}: cannot be written \(File too large\); make room there"
        ):
            writer.finish()
        writer.discard()
    assert capfd.readouterr() == ("", "")
    assert tree(place) == {name: "of yesterday"}


@pytest.mark.parametrize("name", ["clip.mp4", "clip.avi", "clip.mkv", "clip.mov", "clip.m4v"])
@pytest.mark.parametrize("frames", [1, 2, 100])
def test_video__that_fits_is_believed(name: str, frames: int, place: Path) -> None:
    writer = VideoWriter(Path(name), 29.97)
    for seed in range(frames):
        writer.write(picture_bgr(seed))
    writer.finish()
    reader = VideoReader(Path(name))
    assert len(list(reader)) == frames
    reader.close()


def test_save_checkpoint__keeps_the_old_one(place: Path) -> None:
    checkpoint = small_checkpoint()
    save_checkpoint(Path("x.safetensors"), checkpoint)
    was = Path("x.safetensors").read_bytes()
    with (
        largest_file(100_000),
        pytest.raises(UsageError, match=r"^x\.safetensors: cannot be written \(File too large\); make room"),
    ):
        save_checkpoint(Path("x.safetensors"), replace(checkpoint, metrics={"AP": 0.2}))
    assert Path("x.safetensors").read_bytes() == was
    assert [path.name for path in place.iterdir()] == ["x.safetensors"]


def test_append_line__whole_or_not_at_all(place: Path) -> None:
    path = Path("metrics.jsonl")
    append_line(path, "first")
    with largest_file(100), pytest.raises(OSError, match="File too large"):
        append_line(path, "x" * 200)
    append_line(path, "second")
    assert path.read_text() == "first\nsecond\n"


# --- a disk that is too small


def on_small_disk(size: str, place: Path, *argv: str) -> Ended:
    """One verb in `disk`, a copy of `start` on a file system of its own; what is there then is in `after`."""
    for name in ("disk", "after"):
        (place / name).mkdir()
    mount = f"mount -t tmpfs -o size={size} none disk"
    needs_mounts(mount, place)
    command = in_mounts(f"{mount} && cp -r start/. disk && cd disk", verb(*argv), after="cp -r . ../after")
    return run(command, place)


@pytest.mark.slow
@pytest.mark.parametrize(("formats", "size"), [
    ("onnx", "17900k"),  # the golden pictures
    ("openvino", "22m"),  # int8
])  # fmt: skip
def test_small_disk__export(formats: str, size: str, checkpoint: Path, place: Path) -> None:
    write_bundle(Path("start/out"), "of yesterday")
    ended = on_small_disk(
        size, place, "export", str(checkpoint), "--int8", "--formats", formats, "--out", "out"
    )
    (line,) = ended.complaints
    assert ended.code == 2
    assert line == (
        "fcos-edge: out: cannot be written (No space left on device); make room there, or name another --out"
    )
    assert tree(Path("after")) == tree(Path("start"))


def test_small_disk__detect(place: Path) -> None:
    write_recording(Path("model.npz"))
    Path("start/out").mkdir(parents=True)
    Path("start/out/detections.jsonl").write_text("of yesterday\n")
    noise("street.png")
    ended = on_small_disk("64k", place, "detect", "../street.png", "--model", "../model.npz", "--out", "out")
    (line,) = ended.complaints
    assert ended.code == 2
    assert line.startswith(
        "fcos-edge: out/street.png: cannot be written (No space left on device); make room"
    )
    assert tree(Path("after")) == tree(Path("start"))


def test_stdout__is_full(place: Path) -> None:
    write_recording(Path("model.npz"))
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full, of Linux")
    command = ["sh", "-c", '"$@" > /dev/full', "sh", *verb("inspect", "model.npz")]
    ended = run(command, place)
    assert (ended.code, len(ended.complaints)) == (2, 1)
    assert ended.complaints[0].startswith("fcos-edge: No space left on device; make room there")
