"""The contract that every runtime keeps, checked with a real model of a few kilobytes.

A new runtime joins by one row in `CASES`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from fcos_edge.errors import ArtifactError, ImageError, RuntimeUnavailableError
from fcos_edge.loading import LoadedArtifact, open_artifact
from fcos_edge.runtime import Branch, RawOutputs, find_runtime, installed_package, runtime_names
from fcos_edge.spec import BRANCHES
from tests.runtimes.models import (
    FILE_ORDER,
    SPEC,
    expected_outputs,
    pictures,
    write_onnx,
    write_openvino,
    write_tflite,
)

# Real = (pixel - 127) / 128, and no bias: what an integer model's outputs are in pixels.
PIXEL_SCALE, PIXEL_ZERO = 128, 127


@dataclass(frozen=True)
class Case:
    """One runtime reading one kind of file."""

    runtime: str
    suffix: str
    write: Callable[..., Path]
    arguments: tuple[Any, ...] = ()
    is_int8: bool = False
    takes_any_batch: bool = True
    needs: str = "onnx"  # the package that builds the file

    @property
    def name(self) -> str:
        return "-".join((self.runtime, self.suffix[1:], *map(str, self.arguments)))

    def open(self, folder: Path, **arguments: Any) -> LoadedArtifact:
        path = self.write(folder / f"model{self.suffix}", *self.arguments, **arguments)
        return open_artifact(path, self.runtime, threads=1)


CASES = (
    Case("onnxruntime", ".onnx", write_onnx),
    Case("openvino", ".onnx", write_onnx),
    Case("openvino", ".xml", write_openvino),
    *(
        Case("tflite", ".tflite", write_tflite, (io,), io in ("int8", "quant"), False, "ai_edge_litert")
        for io in ("float32", "uint8", "int8", "quant")
    ),
)


@pytest.fixture(params=CASES, ids=lambda case: case.name)
def case(request: pytest.FixtureRequest) -> Case:
    case: Case = request.param
    if installed_package(find_runtime(case.runtime)) is None:
        pytest.skip(f"{case.runtime} is not installed")
    pytest.importorskip(case.needs, reason=f"{case.needs} builds the model")
    return case


@pytest.fixture
def loaded(case: Case, tmp_path: Path) -> Iterator[LoadedArtifact]:
    loaded = case.open(tmp_path)
    yield loaded
    loaded.close()


def real_values(branch: Branch) -> npt.NDArray[np.float32]:
    """(N, L, C) float32, dequantized with the scale and zero point of each level."""
    values = branch.values.reshape(*branch.values.shape[:2], -1)
    if not branch.quantization:
        return values.astype(np.float32)
    real, start = np.zeros(values.shape, np.float32), 0
    for (scale, zero_point), (height, width) in zip(branch.quantization, SPEC.level_hw, strict=True):
        stop = start + height * width
        real[:, start:stop] = (values[:, start:stop].astype(np.float32) - zero_point) * scale
        start = stop
    return real


def assert_right(raw: RawOutputs, images: npt.NDArray[np.uint8], is_int8: bool) -> None:
    """Compare with the slow, obvious network."""
    expected = expected_outputs(images)
    if is_int8:
        zero = expected_outputs(np.full_like(images, PIXEL_ZERO))
        for name in BRANCHES:
            expected[name] = (expected[name] - zero[name]) / np.float32(PIXEL_SCALE)
    for name, branch in zip(BRANCHES, raw, strict=True):
        if is_int8:
            # Averages round to half of 1/128, three times at a weight up to 1; outputs to half of 0.035.
            tolerance = 3 * 0.5 / 128 + 0.5 * 0.035 + 1e-6
        else:
            # Sums of a few hundred integers and 1/64 steps are exact in float32 in any order.
            tolerance = 0.0
        np.testing.assert_allclose(real_values(branch), expected[name], rtol=0, atol=tolerance, err_msg=name)


def test_run__values_of_every_output(case: Case, loaded: LoadedArtifact) -> None:
    images = pictures(1)
    assert_right(loaded.runtime.run(images), images, case.is_int8)


def test_run__shapes_and_dtypes(case: Case, loaded: LoadedArtifact) -> None:
    raw = loaded.runtime.run(pictures(1))
    count = SPEC.num_locations
    assert [branch.values.shape for branch in raw] == [(1, count, 4), (1, count, 4), (1, count)]
    assert {branch.values.dtype for branch in raw} == {np.dtype(np.int8 if case.is_int8 else np.float32)}
    assert {len(branch.quantization) for branch in raw} == {len(SPEC.strides) if case.is_int8 else 0}


def test_run__next_picture_overwrites_the_same_buffers(case: Case, loaded: LoadedArtifact) -> None:
    first, second = pictures(1, seed=1), pictures(1, seed=2)
    before = loaded.runtime.run(first)
    kept = [branch.values.copy() for branch in before]
    after = loaded.runtime.run(second)
    assert_right(after, second, case.is_int8)
    for old, values, new in zip(before, kept, after, strict=True):
        assert np.shares_memory(old.values, new.values)
        assert not np.array_equal(values, new.values)


def test_run__leaves_the_pictures_alone(loaded: LoadedArtifact) -> None:
    images = pictures(1)
    loaded.runtime.run(images)
    np.testing.assert_array_equal(images, pictures(1))


def test_run__takes_views_and_read_only_pictures(case: Case, loaded: LoadedArtifact) -> None:
    images = pictures(1)
    flipped = images[:, ::-1, ::-1]
    assert_right(loaded.runtime.run(flipped), np.ascontiguousarray(flipped), case.is_int8)
    images.flags.writeable = False
    assert_right(loaded.runtime.run(images), images, case.is_int8)


def test_run__extreme_pixels(case: Case, loaded: LoadedArtifact) -> None:
    # 0 and 255 are where a signed input wraps if the shift is wrong.
    images = np.zeros((1, *SPEC.input_hw, 3), np.uint8)
    images[:, :, ::2] = 255
    assert_right(loaded.runtime.run(images), images, case.is_int8)


def test_run__fixed_batch_of_three(case: Case, tmp_path: Path) -> None:
    loaded, images = case.open(tmp_path, batch=3), pictures(3)
    assert_right(loaded.runtime.run(images), images, case.is_int8)
    for count in (1, 2):  # black pictures fill up, and are not returned
        assert_right(loaded.runtime.run(images[:count]), images[:count], case.is_int8)
    with pytest.raises(ImageError, match=r"takes uint8 \[3, 64, 96, 3\]"):
        loaded.runtime.run(pictures(4))
    loaded.close()


def test_run__any_batch(case: Case, tmp_path: Path) -> None:
    if not case.takes_any_batch:
        pytest.skip(f"a {case.suffix} file has one batch size")
    loaded = case.open(tmp_path, batch="N")
    for batch in (1, 3, 2, 1):
        images = pictures(batch, seed=batch)
        assert_right(loaded.runtime.run(images), images, case.is_int8)
    loaded.close()


@pytest.mark.parametrize(
    ("images", "found"),
    [
        (np.zeros((64, 96, 3), np.uint8), r"uint8 \[64, 96, 3\]"),  # no batch
        (np.zeros((1, 96, 64, 3), np.uint8), r"\[1, 96, 64, 3\]"),  # width first
        (np.zeros((1, 3, 64, 96), np.uint8), r"\[1, 3, 64, 96\]"),  # channels first
        (np.zeros((1, 64, 96, 4), np.uint8), r"\[1, 64, 96, 4\]"),  # with alpha
        (np.zeros((0, 64, 96, 3), np.uint8), r"\[0, 64, 96, 3\]"),
        (np.zeros((1, 64, 96, 3), np.float32), "float32"),  # normalized already
    ],
)
def test_run__other_arrays_are_one_line(loaded: LoadedArtifact, images: Any, found: str) -> None:
    with pytest.raises(ImageError, match=found) as caught:
        loaded.runtime.run(images)
    assert "\n" not in str(caught.value)


def test_threads__same_values(case: Case, tmp_path: Path) -> None:
    path = case.write(tmp_path / f"model{case.suffix}", *case.arguments)
    loaded, images = open_artifact(path, case.runtime, threads=2), pictures(1)
    assert_right(loaded.runtime.run(images), images, case.is_int8)
    assert loaded.options.threads == 2
    assert loaded.description.endswith("on CPU, 2 threads")
    loaded.close()


def test_two_at_once__do_not_share_buffers(case: Case, tmp_path: Path) -> None:
    path = case.write(tmp_path / f"model{case.suffix}", *case.arguments)
    one, other = (open_artifact(path, case.runtime, threads=1) for _ in range(2))
    first, second = pictures(1, seed=1), pictures(1, seed=2)
    raw = one.runtime.run(first)
    other.runtime.run(second)
    assert_right(raw, first, case.is_int8)
    one.close()
    other.close()


def test_load__precision_fast_and_cpu_by_name(case: Case, tmp_path: Path) -> None:
    path = case.write(tmp_path / f"model{case.suffix}", *case.arguments)
    loaded = open_artifact(path, case.runtime, precision="fast", device="cpu", threads=1)
    assert loaded.options.is_fast
    # bf16 has eight bits: 0.4 % of sums up to 3 * 255; int8 is computed as ever.
    raw, expected = loaded.runtime.run(pictures(1)), expected_outputs(pictures(1))
    if not case.is_int8:
        np.testing.assert_allclose(real_values(raw.logits), expected["logits"], rtol=0, atol=8)
    loaded.close()


def test_load__unknown_device_says_what_there_is(case: Case, tmp_path: Path) -> None:
    path = case.write(tmp_path / f"model{case.suffix}", *case.arguments)
    with pytest.raises(RuntimeUnavailableError, match=r"warp-drive.*CPU") as caught:
        open_artifact(path, case.runtime, device="warp-drive")
    assert "\n" not in str(caught.value)


def test_load__document_matches(case: Case, loaded: LoadedArtifact) -> None:
    assert loaded.spec == SPEC
    assert tuple(output.name for output in loaded.info.outputs) == FILE_ORDER
    assert loaded.runtime_name == case.runtime


def test_load__damaged_files_are_one_line(
    case: Case, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = case.write(tmp_path / f"model{case.suffix}", *case.arguments)
    content = path.read_bytes()
    # An .xml file ends in a newline that nobody misses: two bytes less.
    for size in (0, 1, 100, len(content) // 2, len(content) - 2):
        path.write_bytes(content[:size])
        with pytest.raises(ArtifactError, match=path.name) as caught:
            open_artifact(path, case.runtime)
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 600
    assert capfd.readouterr().out == ""


def test_every_runtime_with_a_package_has_a_case() -> None:
    with_package = {name for name in runtime_names() if find_runtime(name).PACKAGES}
    assert with_package == {case.runtime for case in CASES}
