"""`fcos-edge inspect` on a checkpoint, a bundle and a lone model file."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from fcos_edge.bundle import Manifest, ManifestArtifact, describe_file, write_manifest
from fcos_edge.cli import main
from fcos_edge.sensitivity_table import SensitivityRow, SensitivityTable, write_table
from fcos_edge.spec import ModelSpec
from fcos_edge.train.checkpoint import Checkpoint, save_checkpoint
from fcos_edge.train.config import NetworkConfig
from fcos_edge.train.model import Fcos
from tests.quantize.graphs import tiny_graph, tiny_record
from tests.recordings import THRESHOLD, write_recording
from tests.small_specs import SMALL_SPEC

CLASSES = ("ant", "bee", "cat")
# 64x32: p3 has 4 * 8 locations, p4 2 * 4, p5 1 * 2, together 42.
SPEC = ModelSpec("tiny", CLASSES, (32, 64), (127.0,) * 3, (128.0,) * 3, strides=(8, 16, 32))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint, a model file, and a bundle that holds the same file and a record."""
    folder = tmp_path_factory.mktemp("inspect")
    config = NetworkConfig(num_classes=3, fpn_channels=16, tower_depth=1, strides=SPEC.strides)
    record = tiny_record(tiny_graph()).to_dict()
    checkpoint = Checkpoint(Fcos(config), config, SPEC, (0.3, 0.4, 0.5), {"AP": 0.2}, {}, record)
    save_checkpoint(folder / "tiny.safetensors", checkpoint)
    bundle = folder / "bundle"
    (bundle / "golden").mkdir(parents=True)
    model = write_recording(bundle / "model.npz")
    write_recording(folder / "model.npz")
    (bundle / "golden" / "cat.png").write_bytes(b"...")
    (bundle / "calibration.json").write_text(json.dumps(record))
    artifact = ManifestArtifact((describe_file(model),), "onnx", "fp32", {"largest_difference": 0.0})
    write_manifest(bundle, Manifest(SMALL_SPEC, (artifact,)))
    return folder


def _inspect(capsys: pytest.CaptureFixture[str], *argv: str | Path) -> dict[str, Any]:
    assert main(["inspect", *map(str, argv), "--json"]) == 0
    document: dict[str, Any] = json.loads(capsys.readouterr().out)
    return document


def test_checkpoint__is_counted(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document = _inspect(capsys, folder / "tiny.safetensors")
    assert document["kind"] == "checkpoint"
    assert document["spec"] == SPEC.to_dict()
    assert document["metrics"] == {"AP": 0.2}
    cost = document["cost"]
    assert (cost["locations"], cost["values"], cost["anchor_values"]) == (42, 42 * 8, 42 * 9 * 7)
    network = Fcos(NetworkConfig(num_classes=3, fpn_channels=16, tower_depth=1, strides=SPEC.strides))
    assert cost["parameters"] == sum(parameter.numel() for parameter in network.parameters())
    assert "layers" not in document


def test_checkpoint__layers_add_up(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document = _inspect(capsys, folder / "tiny.safetensors", "--layers")
    layers = {layer["name"]: layer for layer in document["layers"]}
    assert document["cost"]["multiply_adds"] == sum(layer["multiply_adds"] for layer in layers.values())
    # The first convolution of EfficientNet-Lite0: 32 kernels of 3 * 3 * 3, stride 2, on 32x64.
    stem = document["layers"][1]
    assert (stem["kind"], stem["output_chw"]) == ("conv 3x3 /2", [32, 16, 32])
    assert (stem["parameters"], stem["multiply_adds"]) == (32 * 27 + 32, 32 * 27 * 16 * 32)


def test_checkpoint__is_printed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(folder / "tiny.safetensors"), "--layers"]) == 0
    out = capsys.readouterr().out
    assert "output values           336 = 42 locations * (3 + 4 + 1)\n" in out
    assert "with nine anchors       2,646 = 42 locations * 9 * (3 + 4)\n" in out
    assert "classes                 ant, bee, cat\n" in out
    assert "conv 3x3 /2" in out


def test_bundle__lists_artifacts_and_record(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document = _inspect(capsys, folder / "bundle", "--layers")
    (artifact,) = document["artifacts"]
    assert (artifact["file"], artifact["verify"]) == ("model.npz", {"largest_difference": 0.0})
    assert artifact["bytes"] == (folder / "bundle" / "model.npz").stat().st_size
    assert document["golden"] == ["cat.png"]
    record = tiny_record(tiny_graph())
    assert document["record"]["sha256"] == record.sha256
    assert document["record"]["points"] == len(record.points) == len(document["layers"])
    low, high = document["record"]["activation_scales"]
    assert (low, high) == (
        min(p.scale for p in record.points.values()),
        max(p.scale for p in record.points.values()),
    )
    assert main(["inspect", str(folder / "bundle"), "--layers"]) == 0
    out = capsys.readouterr().out
    assert f"calibration record {record.sha256[:12]}, from 0 pictures\n" in out
    assert "golden: cat.png\n" in out


def test_model_file__shows_its_document(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document = _inspect(capsys, folder / "model.npz")
    assert document["kind"] == "artifact"
    assert document["spec"]["classes"] == list(SMALL_SPEC.classes)
    assert document["artifact"]["operating_thresholds"] == [THRESHOLD] * 3
    assert main(["inspect", str(folder / "model.npz")]) == 0
    out = capsys.readouterr().out
    assert "onnx fp32, record none\n" in out
    assert "logits_p3" in out


@pytest.mark.parametrize(("path", "said"), [
    ("nothing.onnx", "nothing.onnx: no such file"),
    ("nothing.safetensors", "nothing.safetensors: no such file"),
    ("nothing", "nothing: no model file"),
    ("text.onnx", "text.onnx: no ONNX model"),
    ("text.safetensors", "text.safetensors: no safetensors file"),
    ("empty", "empty: no bundle"),
    ("broken", "broken/manifest.json: manifest: not a JSON document"),
])  # fmt: skip
def test_mistake__is_one_line(
    path: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    Path("broken").mkdir()
    Path("broken/manifest.json").write_text("{")
    Path("text.onnx").write_text("no model")
    Path("text.safetensors").write_text("no model")
    assert main(["inspect", path]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith(f"fcos-edge: {said}")


def test_bundle__broken_record_is_one_line(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_manifest(tmp_path, Manifest(SMALL_SPEC, ()))
    for text in ("{", "[]", '{"version": "1.0"}'):
        (tmp_path / "calibration.json").write_text(text)
        assert main(["inspect", str(tmp_path)]) == 2
        assert capsys.readouterr().err.count("\n") == 1


def test_layers__of_a_lone_file_are_not_known(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(folder / "model.npz"), "--layers"]) == 2
    assert "--layers needs a checkpoint" in capsys.readouterr().err


def test_bundle__needs_no_torch(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in [name for name in sys.modules if name.startswith("fcos_edge.quantize.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "torch", None)
    _inspect(capsys, folder / "bundle", "--layers")


TABLE = SensitivityTable("w8c_a8t_minmax", 8, tuple(
    SensitivityRow(
        f"layer{place}", "linear", 10, 200, harm, 0.0, harm, harm, 0.0, is_float=place == 3
    )
    for place, harm in enumerate((0.001, 0.002, 0.0, 0.04, *[0.0001] * 8))
))  # fmt: skip


def test_bundle__shows_the_most_harmful_layers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_manifest(tmp_path, Manifest(SMALL_SPEC, ()))
    assert _inspect(capsys, tmp_path)["sensitivity"] is None
    write_table(tmp_path / "sensitivity.json", TABLE)
    plot = tmp_path / "sensitivity.png"
    plot.write_bytes(b"...")
    document = _inspect(capsys, tmp_path)
    assert document["sensitivity"] == {**TABLE.to_dict(), "plot": str(plot)}
    assert main(["inspect", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    first = next(place for place, line in enumerate(lines) if line.startswith("harm of each layer"))
    assert lines[first].endswith("of the 10 most harmful of 12 layers (w8c_a8t_minmax, 8 pictures)")
    assert lines[first + 2].split() == [
        "layer3", "linear", "10", "200", "0.04", "0", "0.04", "100%", "#" * 24, "kept", "in", "float",
    ]  # fmt: skip
    assert lines[first + 3].startswith("layer1 ")
    assert lines[first + 12] == f"as a picture: {plot}"
    plot.unlink()
    assert _inspect(capsys, tmp_path)["sensitivity"]["plot"] is None


def test_bundle__layers_shows_the_harm_of_all(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(folder / "bundle", tmp_path / "bundle")
    write_table(tmp_path / "bundle" / "sensitivity.json", TABLE)
    assert main(["inspect", str(tmp_path / "bundle"), "--layers"]) == 0
    lines = capsys.readouterr().out.splitlines()
    shown = [line.split()[0] for line in lines if line.startswith("layer") and "linear" in line]
    assert shown == [row.layer for row in TABLE.rows]


def test_bundle__broken_sensitivity_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_manifest(tmp_path, Manifest(SMALL_SPEC, ()))
    for text in ("{", "[]", '{"schema": "fcos-edge.sensitivity/9.0"}'):
        (tmp_path / "sensitivity.json").write_text(text)
        assert main(["inspect", str(tmp_path)]) == 2
        out, err = capsys.readouterr()
        assert (out, err.count("\n")) == ("", 1)
