"""`fcos-edge eval` on a tiny data set of coloured shapes, of a checkpoint and of a file in a runtime."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from fcos_edge.cli import main
from fcos_edge.spec import ModelSpec
from fcos_edge.train.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from fcos_edge.train.config import NetworkConfig
from fcos_edge.train.evaluate import FIGURES, evaluate
from fcos_edge.train.model import Fcos
from fcos_edge.train.torch_runtime import open_checkpoint
from tests.coco_sets import CLASSES, make_coco_set


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_coco_set(tmp_path_factory.mktemp("shapes"), "val", 2)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _write_checkpoint(tmp_path_factory.mktemp("models") / "x.safetensors", CLASSES)


def _write_checkpoint(path: Path, classes: tuple[str, ...]) -> Path:
    torch.manual_seed(0)
    config = NetworkConfig(len(classes), fpn_channels=16, tower_depth=1)
    network = Fcos(config)
    # An untrained network is sure of nothing: let it find something everywhere.
    assert network.head.logits.bias is not None
    torch.nn.init.zeros_(network.head.logits.bias)
    spec = ModelSpec("x", classes, (96, 96), config.mean, config.std)
    save_checkpoint(path, Checkpoint(network, config, spec, (0.5,) * len(classes)))
    return path


def test_eval__json_is_what_evaluate_says(
    checkpoint: Path, shapes: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["eval", str(checkpoint), "--data", str(shapes), "--threads", "1", "--json"]) == 0
    captured = capsys.readouterr()
    document = json.loads(captured.out)
    assert document == {
        "data": shapes.name, "split": "val", **evaluate(open_checkpoint(checkpoint, 1), shapes).to_dict(),
    }  # fmt: skip
    assert document["pictures"] == 2
    assert sum(row["boxes"] for row in document["classes"].values()) == 4
    assert "x.safetensors (fp32) in PyTorch" in captured.err


def test_eval__table_has_a_line_for_each_class(
    checkpoint: Path, shapes: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["eval", str(checkpoint), "--data", str(shapes), "--threads", "1"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == ["2", "pictures"]
    assert lines[1] == list(FIGURES)
    assert lines[4] == ["class", "boxes", "AP", "AP50"]
    assert [line[0] for line in lines[5:]] == list(CLASSES)


def test_eval__file_in_a_runtime_agrees_with_the_checkpoint(
    checkpoint: Path, shapes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("onnxruntime")
    from fcos_edge.quantize.deploy import deploy
    from fcos_edge.quantize.formats.onnx import write

    loaded = load_checkpoint(checkpoint)
    graph = deploy(loaded.network, loaded.spec.input_hw)
    (path,) = write(tmp_path, graph, None, loaded.spec, "fp32", loaded.operating_thresholds)
    figures = []
    for model in (checkpoint, path):
        assert main(["eval", str(model), "--data", str(shapes), "--threads", "1", "--json"]) == 0
        figures.append(json.loads(capsys.readouterr().out))
    # fp32 differs by rounding alone: a tenth of a point of 100.
    assert figures[0]["AP"] == pytest.approx(figures[1]["AP"], abs=1e-3)
    assert figures[0]["AR100"] == pytest.approx(figures[1]["AR100"], abs=1e-3)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--split", "train"], "no annotations/instances_train.json"),
        (["--data", "nowhere"], "nowhere: no annotations/instances_val.json"),
        (["--runtime", "onnxruntime"], "--runtime: x.safetensors is a checkpoint, which runs in PyTorch"),
        (["--precision", "int8"], "--precision: x.safetensors is a checkpoint"),
        (["--threads", "0"], "'0' is no whole number from 1"),
    ],
)
def test_eval__mistakes_are_one_line(
    checkpoint: Path, shapes: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], line: str
) -> None:
    assert main(["eval", str(checkpoint), "--data", str(shapes), *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert line in captured.err.splitlines()[-1]


@pytest.mark.parametrize(
    ("model", "line"),
    [
        ("nothing.safetensors", "nothing.safetensors: no such file"),
        ("nothing.onnx", "nothing.onnx: no such file"),
        ("nothing", "nothing: no such file or folder"),
    ],
)
def test_eval__missing_model_is_one_line(
    shapes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], model: str, line: str
) -> None:
    assert main(["eval", str(tmp_path / model), "--data", str(shapes)]) == 2
    assert line in capsys.readouterr().err.splitlines()[-1]


def test_eval__data_without_a_class_is_one_line(
    shapes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = _write_checkpoint(tmp_path / "y.safetensors", ("square", "ring"))
    assert main(["eval", str(path), "--data", str(shapes)]) == 2
    assert "no class 'ring'; it has disc, square" in capsys.readouterr().err.splitlines()[-1]
