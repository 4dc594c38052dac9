"""Videos written and read back; OpenCV stays silent where it fails."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fcos_edge.errors import DataError
from fcos_edge.runtime import UInt8Array
from fcos_edge.video import VideoReader, VideoWriter, video_name


def _frames(count: int, height: int = 48, width: int = 64) -> list[UInt8Array]:
    """Grey frames, each 10 lighter than the one before."""
    return [np.full((height, width, 3), 10 * index, np.uint8) for index in range(count)]


def write_video(path: Path, frames: list[UInt8Array], fps: float = 25.0) -> Path:
    writer = VideoWriter(path, fps)
    for frame in frames:
        writer.write(frame)
    writer.finish()
    return path


@pytest.mark.parametrize("suffix", [".mp4", ".avi", ".mkv", ".mov", ".m4v", ".MP4"])
def test_video__is_read_back_frame_by_frame(suffix: str, tmp_path: Path) -> None:
    path = write_video(tmp_path / f"clip{suffix}", _frames(12))
    reader = VideoReader(path)
    frames = list(reader)
    reader.close()
    assert reader.fps == pytest.approx(25.0)
    assert (reader.num_frames, reader.num_read, reader.is_cut_short) == (12, 12, False)
    assert [frame.shape for frame in frames] == [(48, 64, 3)] * 12
    # Lossy codecs: a plain grey comes back within a few steps, and the next frame is 10 away.
    assert [float(frame.mean()) for frame in frames] == pytest.approx(
        [10.0 * index for index in range(12)], abs=4
    )
    assert [path.name for path in tmp_path.iterdir()] == [f"clip{suffix}"]


def test_writer__discarded_leaves_nothing(tmp_path: Path) -> None:
    writer = VideoWriter(tmp_path / "clip.mp4", 25.0)
    writer.write(_frames(1)[0])
    writer.discard()
    assert not list(tmp_path.iterdir())


def test_writer__frame_of_another_size_is_not_lost(tmp_path: Path) -> None:
    path = write_video(tmp_path / "clip.avi", [*_frames(2), *_frames(2, 96, 128)])
    reader = VideoReader(path)
    assert [frame.shape for frame in reader] == [(48, 64, 3)] * 4
    reader.close()


@pytest.mark.parametrize(("name", "content"), [
    ("noise.mp4", b"no video" * 100),
    ("empty.mp4", b""),
    ("noise.avi", b"RIFF" + b"\0" * 100),
])  # fmt: skip
def test_reader__no_video_is_one_clear_error(
    name: str, content: bytes, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DataError, match=f"{name}: not a video that OpenCV can decode"):
        VideoReader(path)
    assert capfd.readouterr().err == ""


def test_reader__missing_camera_is_one_clear_error(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(DataError, match="camera 97: cannot be opened"):
        VideoReader(97)
    assert capfd.readouterr().err == ""


def test_reader__video_that_was_cut_says_so(tmp_path: Path) -> None:
    # AVI keeps the frame count at its start: the copy that stopped half-way still declares all frames.
    whole = write_video(tmp_path / "whole.avi", _frames(24, 240, 320)).read_bytes()
    path = tmp_path / "cut.avi"
    path.write_bytes(whole[: len(whole) // 2])
    reader = VideoReader(path)
    assert len(list(reader)) < 20
    assert reader.is_cut_short
    reader.close()


@pytest.mark.parametrize(("name", "expected"), [
    ("clip.mp4", "clip.mp4"),
    ("Clip.AVI", "Clip.AVI"),
    ("clip.webm", "clip.webm.mp4"),  # its codecs are not in OpenCV's wheels
    ("clip", "clip.mp4"),
])  # fmt: skip
def test_video_name__keeps_what_can_be_written(name: str, expected: str) -> None:
    assert video_name(name) == expected
