"""The tiny models are what their script makes, and what they must put out is right."""

from __future__ import annotations

import zlib
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest

import doctor_models
from fcos_edge.bundle import check_files, read_manifest
from fcos_edge.doctor.samples import FOLDER, NETWORK, SATURATION, load_expected, model_path, picture
from fcos_edge.loading import read_document
from fcos_edge.spec import BRANCHES

MODELS = (NETWORK, SATURATION)
MAX_BYTES = 360_000


@pytest.fixture(scope="module")
def remade(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    doctor_models.run(Namespace(folder=folder))
    return folder


@pytest.mark.parametrize("model", MODELS)
def test_models__are_whole(model: str) -> None:
    manifest = read_manifest(FOLDER / model)
    for artifact in manifest.artifacts:
        spec, info = read_document(check_files(FOLDER / model, artifact))
        assert (spec, info.precision) == (manifest.spec, artifact.precision)


@pytest.mark.parametrize("model", MODELS)
def test_models__are_what_the_script_makes(model: str, remade: Path) -> None:
    assert {path.name for path in (remade / model).iterdir()} == {p.name for p in (FOLDER / model).iterdir()}
    # Not by their bytes: a file names the versions of what wrote it, and PyTorch, which finds the ranges,
    # adds in another order on another CPU.
    ours, again = load_expected(FOLDER / model), load_expected(remade / model)
    for branch in BRANCHES:
        largest = abs(ours.fp32[branch]).max()
        assert np.allclose(ours.fp32[branch], again.fp32[branch], atol=1e-5 * largest, rtol=0)
        assert np.allclose(ours.points[branch], again.points[branch], rtol=1e-5)
        # A scale that differs in its last bit moves few integers, and those by one.
        assert abs(ours.int8[branch].astype(int) - again.int8[branch]).mean() < 0.1


def test_saturation__expected_integers_are_plain_sums() -> None:
    images = picture((32, 32), is_bright=True)[0].reshape(-1, 3).astype(np.int64)
    # 42 / 126 is a third of each color.
    features = np.rint(images.sum(axis=1) * 42 * np.float32(1 / 126)).astype(np.int64)
    expected = load_expected(FOLDER / SATURATION)
    for branch, weight in (("logits", 127), ("centerness", 60)):
        sums = features * weight * 32
        outputs = np.rint(sums / (255 * weight * 32 / 230))
        assert np.array_equal(
            expected.int8[branch], np.broadcast_to(outputs[:, None], expected.int8[branch].shape)
        )
    assert 2 * int(features.min()) * 127 > 32767 > 2 * int(features.max()) * 60


@pytest.mark.parametrize(("size_hw", "is_bright", "crc"), [
    ((320, 320), False, 681663900), ((32, 32), True, 683585161),
])  # fmt: skip
def test_picture__is_the_same_everywhere(size_hw: tuple[int, int], is_bright: bool, crc: int) -> None:
    assert zlib.crc32(picture(size_hw, is_bright=is_bright).tobytes()) == crc


@pytest.mark.parametrize(("model", "runtime", "name"), [
    (NETWORK, "openvino", "model.int8.onnx"),  # has no file of its own
    (SATURATION, "openvino", "model.int8.xml"),
    (SATURATION, "onnxruntime", "model.int8.onnx"),
    (NETWORK, "tflite", "model.int8.tflite"),
])  # fmt: skip
def test_model_path__is_what_the_runtime_likes_best(model: str, runtime: str, name: str) -> None:
    assert model_path(model, "int8", runtime) == FOLDER / model / name


def test_models__are_small() -> None:
    assert sum(path.stat().st_size for path in FOLDER.rglob("*") if path.is_file()) <= MAX_BYTES
