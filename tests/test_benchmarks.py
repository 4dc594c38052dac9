"""Every benchmark, run for real on a tiny bundle: its figures mean nothing here, but it must not rot."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, cast

import cv2
import numpy as np
import pytest
import torch

from fcos_edge.artifact import Format, Precision
from fcos_edge.bundle import Manifest, ManifestArtifact, describe_file, write_manifest
from fcos_edge.quantize.calibrate import calibrate
from fcos_edge.quantize.deploy import deploy
from fcos_edge.quantize.formats import load_writer
from fcos_edge.quantize.record import Record
from fcos_edge.spec import ModelSpec
from fcos_edge.train.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from fcos_edge.train.config import NetworkConfig
from fcos_edge.train.model import Fcos
from tests.coco_sets import CLASSES, draw_shapes, make_coco_set

FORMATS = ("onnx", "openvino", "tflite")
PRECISIONS: tuple[Precision, ...] = ("fp32", "int8")
RUNTIMES = ("onnxruntime", "openvino", "tflite")
SIDE = 96


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_coco_set(tmp_path_factory.mktemp("shapes"), "val", 3)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained detector, calibrated on four pictures."""
    torch.manual_seed(0)
    config = NetworkConfig(len(CLASSES), fpn_channels=16, tower_depth=1)
    network = Fcos(config).eval()
    # An untrained network is sure of nothing: let it find something everywhere.
    assert network.head.logits.bias is not None
    torch.nn.init.zeros_(network.head.logits.bias)
    spec = ModelSpec("tiny", CLASSES, (SIDE, SIDE), config.mean, config.std)
    generator = np.random.default_rng(1)
    pictures = [draw_shapes(generator)[0] for _ in range(4)]
    record = calibrate(deploy(network, spec.input_hw), pictures, spec)
    path = tmp_path_factory.mktemp("checkpoint") / "tiny.safetensors"
    thresholds = (0.5,) * len(CLASSES)
    save_checkpoint(path, Checkpoint(network, config, spec, thresholds, record=record.to_dict()))
    return path


@pytest.fixture(scope="module")
def bundle(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the benchmarks read of a bundle, straight from the writers: nothing is verified."""
    loaded = load_checkpoint(checkpoint)
    record = Record.from_dict(loaded.record)
    graph = deploy(loaded.network, loaded.spec.input_hw)
    folder = tmp_path_factory.mktemp("bundle")
    artifacts = []
    for name in FORMATS:
        writer = load_writer(name)
        for precision in PRECISIONS:
            files = writer.write(folder, graph, record, loaded.spec, precision, loaded.operating_thresholds)
            entries = tuple(map(describe_file, files))
            artifacts.append(ManifestArtifact(entries, cast(Format, name), precision))
    write_manifest(folder, Manifest(loaded.spec, tuple(artifacts)))
    (folder / "calibration.json").write_text(json.dumps(record.to_dict()))
    (folder / "golden").mkdir()
    cv2.imwrite(str(folder / "golden" / "shapes.png"), draw_shapes(np.random.default_rng(2))[0])
    return folder


def _run(repo_root: Path, json_path: Path, script: str, *arguments: object) -> tuple[str, dict[str, Any]]:
    """What the benchmark prints, and its JSON."""
    command = [sys.executable, str(repo_root / "benchmarks" / f"{script}.py"), *map(str, arguments)]
    result = subprocess.run(
        [*command, "--json", str(json_path)],
        env={**os.environ, "PYTHONPATH": str(repo_root)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    document = json.loads(json_path.read_text())
    assert document["benchmark"] == script
    assert {"date", "commit", "cpu", "vnni", "threads", "versions"} <= set(document["conditions"])
    for target in document["targets"]:
        assert target["what"] in result.stdout
    return result.stdout, document


def test_int8_agreement__counts_values_and_names_its_floor(
    repo_root: Path, bundle: Path, checkpoint: Path, shapes: Path, tmp_path: Path
) -> None:
    _, document = _run(
        repo_root, tmp_path / "x.json", "int8_agreement", bundle, "--checkpoint", checkpoint,
        "--data", shapes, "--pictures", 2,
    )  # fmt: skip
    figures = document["figures"]
    locations = 12 * 12 + 6 * 6 + 3 * 3 + 2 * 2 + 1
    assert figures["values"] == 2 * locations * (len(CLASSES) + 4 + 1)
    assert set(figures["unequal_values"]) == set(RUNTIMES)
    assert len(figures["one_bit_of_each_picture"]) == 2
    if document["conditions"]["vnni"]:
        assert figures["unequal_values"]["onnxruntime"] == figures["unequal_values"]["tflite"] == 0
        assert figures["mean_logit_difference"]["onnxruntime to tflite"] == 0
    noisy = figures["partners"]["onnxruntime fp32 and onnxruntime fp32, noise of +-1"]
    assert 0 < noisy["matched"] <= noisy["asked"]


def test_int8_accuracy__fp32_files_score_what_pytorch_does(
    repo_root: Path, bundle: Path, checkpoint: Path, shapes: Path, tmp_path: Path
) -> None:
    _, document = _run(
        repo_root, tmp_path / "x.json", "int8_accuracy", bundle, "--checkpoint", checkpoint,
        "--data", shapes, "--class-name", CLASSES[1],
    )  # fmt: skip
    of_set = document["figures"][shapes.name]
    assert set(of_set) == {"PyTorch fp32", *(f"{r} {p}" for r in RUNTIMES for p in PRECISIONS)}
    for runtime in RUNTIMES:
        assert of_set[f"{runtime} fp32"] == of_set["PyTorch fp32"]
    assert of_set["onnxruntime int8"]["pictures"] == 3
    assert [target["limit"] for target in document["targets"]] == [1.0] * 3


def test_int8_speed__has_a_ratio_for_each_runtime_and_round(
    repo_root: Path, bundle: Path, tmp_path: Path
) -> None:
    _, document = _run(
        repo_root, tmp_path / "x.json", "int8_speed", bundle, "--rounds", 2, "--calls", 3
    )  # fmt: skip
    assert set(document["figures"]) == set(RUNTIMES)
    assert all(len(figures["ratios"]) == 2 for figures in document["figures"].values())
    assert [target["limit"] for target in document["targets"]] == [1.8] * 3


@pytest.mark.slow
def test_export_cost__measures_time_and_memory(repo_root: Path, tmp_path: Path) -> None:
    # The embedded detector: an export that fails, as that of an untrained one would, is no measurement.
    _, document = _run(repo_root, tmp_path / "x.json", "export_cost", "--runs", 1)
    (cost,) = document["figures"]["runs"]
    assert cost["wall_s"] > 0
    assert cost["peak_bytes"] > 100e6  # torch alone
    assert cost["artifacts"] >= len(FORMATS) * len(PRECISIONS)


def test_benchmark__user_mistake_is_one_line(repo_root: Path, tmp_path: Path) -> None:
    script = repo_root / "benchmarks" / "int8_speed.py"
    result = subprocess.run(
        [sys.executable, str(script), str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(repo_root)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 2
    assert result.stderr.count("\n") == 1
    assert "no bundle" in result.stderr
