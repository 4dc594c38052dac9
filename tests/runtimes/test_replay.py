"""Recorded outputs in place of a network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fcos_edge.errors import ArtifactError
from fcos_edge.loading import open_artifact
from fcos_edge.runtime import Branch, RawOutputs
from fcos_edge.runtimes.replay import ReplayRuntime, save_recording
from tests.runtimes.models import SPEC, float_info, pictures

COUNT = SPEC.num_locations


def recording(seed: int, batch: int = 1, locations: int = COUNT) -> RawOutputs:
    rng = np.random.default_rng(seed)
    logits, ltrb = (rng.normal(size=(batch, locations, 4)).astype(np.float32) for _ in range(2))
    # One integer branch among float ones: each keeps its own kind.
    centerness = rng.integers(-128, 128, (batch, locations)).astype(np.int8)
    return RawOutputs(Branch(logits), Branch(ltrb), Branch(centerness, ((0.1, 3), (1 / 3, -128))))


def assert_same(one: RawOutputs, other: RawOutputs) -> None:
    for branch, expected in zip(one, other, strict=True):
        np.testing.assert_array_equal(branch.values, expected.values)
        assert branch.values.dtype == expected.values.dtype
        assert tuple(branch.quantization) == tuple(expected.quantization)


def test_run__plays_in_turn_and_starts_over() -> None:
    first, second = recording(1), recording(2)
    runtime = ReplayRuntime([first, second])
    assert [runtime.run(pictures(1)) for _ in range(3)] == [first, second, first]
    assert runtime.num_runs == 3


def test_run__keeps_a_copy_of_the_pictures() -> None:
    runtime, images = ReplayRuntime([recording(1)]), pictures(1)
    runtime.run(images)
    images[:] = 0
    np.testing.assert_array_equal(runtime.last_images, pictures(1))


def test_submit_and_wait__take_turns() -> None:
    first, second = recording(1), recording(2)
    runtime = ReplayRuntime([first, second])
    with pytest.raises(RuntimeError, match="nothing was submitted"):
        runtime.wait()
    runtime.submit(pictures(1))
    with pytest.raises(RuntimeError, match="not waited for"):
        runtime.submit(pictures(1))
    assert runtime.wait() is first
    runtime.submit(pictures(1))
    assert runtime.wait() is second


def test_close__is_noted() -> None:
    runtime = ReplayRuntime([recording(1)])
    runtime.close()
    assert runtime.is_closed


def test_no_recording__is_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        ReplayRuntime([])


def test_save_recording__loads_like_a_model(tmp_path: Path) -> None:
    path = tmp_path / "street.npz"
    recordings = [recording(seed, batch=seed) for seed in range(1, 12)]  # ten and more sort wrong as text
    save_recording(path, SPEC, float_info("onnx"), recordings)
    loaded = open_artifact(path)
    assert (loaded.spec, loaded.info, loaded.runtime_name) == (SPEC, float_info("onnx"), "replay")
    for expected in recordings:
        assert_same(loaded.runtime.run(pictures(1)), expected)
    loaded.close()


def test_load__recording_of_another_spec_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "street.npz"
    save_recording(path, SPEC, float_info("onnx"), [recording(1, locations=COUNT - 1)])
    with pytest.raises(ArtifactError, match="do not fit the spec"):
        open_artifact(path)


def test_load__without_recordings(tmp_path: Path) -> None:
    path = tmp_path / "street.npz"
    save_recording(path, SPEC, float_info("onnx"), [])
    with pytest.raises(ArtifactError, match="holds no recording"):
        open_artifact(path)


def test_load__damaged_file_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "street.npz"
    save_recording(path, SPEC, float_info("onnx"), [recording(1)])
    content = path.read_bytes()
    for damaged in (b"", content[:100], content[:-30], b"PK\x03\x04" + bytes(40), b"\x93NUMPY"):
        path.write_bytes(damaged)
        with pytest.raises(ArtifactError, match=r"street\.npz") as caught:
            open_artifact(path)
        assert "\n" not in str(caught.value)
