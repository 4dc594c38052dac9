"""`fcos-edge train --qat`: from a checkpoint to one whose record was trained, and on to a file."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from fcos_edge import embedded
from fcos_edge.cli import main
from fcos_edge.quantize.deploy import deploy
from fcos_edge.quantize.record import Record, check_record
from fcos_edge.train.checkpoint import load_checkpoint, save_checkpoint
from tests.coco_sets import make_coco_set
from tests.small_detector import INPUT_HW

NAME = "small.safetensors"


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = make_coco_set(tmp_path_factory.mktemp("shapes"), "train", 6)
    path = folder / "annotations" / "instances_train.json"
    document = json.loads(path.read_text())
    names = embedded_classes()
    document["categories"] = [{"id": 7 + 2 * label, "name": name} for label, name in enumerate(names)]
    path.write_text(json.dumps(document))
    return folder


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The embedded detector for a fifteenth of its pixels. It has no record, and an older config."""
    path = tmp_path_factory.mktemp("start") / NAME
    checkpoint = load_checkpoint(embedded.CHECKPOINT)
    spec = replace(checkpoint.spec, name="small", input_hw=INPUT_HW)
    save_checkpoint(path, replace(checkpoint, spec=spec, record=None))
    return path


@pytest.fixture(scope="module")
def finished(start: Path, shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "x"
    assert main(_command(start, shapes, out, "--recipe", "w8c_a8t_minmax")) == 0
    return out


def embedded_classes() -> tuple[str, ...]:
    """The first two are drawn as squares and discs."""
    return load_checkpoint(embedded.CHECKPOINT).spec.classes


def _command(start: Path, data: Path, out: Path, *more: str) -> list[str]:
    plan = ["--preset", "smoke", "--epochs", "1", "--hold-out", "2", "--set", "optimizer.warmup_steps=0"]
    machine = ["--workers", "0", "--threads", "1", "--no-tensorboard"]
    return ["train", "--qat", str(start), "--data", str(data), "--out", str(out), *plan, *machine, *more]


def test_qat__leaves_the_same_network_with_other_weights_and_a_record(finished: Path, start: Path) -> None:
    before, after = load_checkpoint(start), load_checkpoint(finished / NAME)
    assert (after.network_config, after.spec.classes) == (before.network_config, before.spec.classes)
    assert after.spec.input_hw == INPUT_HW
    assert after.spec.provenance["qat"] == "w8c_a8t_minmax_qat, learned ranges"
    record = Record.from_dict(dict(after.record or {}))
    assert (record.recipe, len(record.picture_sha256)) == ("w8c_a8t_minmax_qat", 4)
    check_record(deploy(after.network, INPUT_HW), record)
    own, new = before.network.state_dict(), after.network.state_dict()
    moved = {name for name in own if not torch.equal(own[name], new[name])}
    assert {"backbone.stem.0.weight", "backbone.stem.1.bias", "head.scales.p3.factor"} <= moved
    assert not {name for name in moved if "running" in name}  # statistics stand still


def test_qat__is_exported_with_its_own_record(finished: Path, tmp_path: Path) -> None:
    out = tmp_path / "bundle"
    command = ["export", str(finished / NAME), "--int8", "--formats", "onnx", "--out", str(out)]
    assert main(command) == 0
    found = json.loads((out / "calibration.json").read_text())
    assert found == dict(load_checkpoint(finished / NAME).record or {})


def test_qat__interrupted_run_goes_on(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # All steps are done, but the checkpoint was not written yet.
    out = tmp_path / "x"
    shutil.copytree(finished, out)
    (out / NAME).unlink()
    assert main(["train", "--out", str(out), "--resume", "--workers", "0", "--threads", "1"]) == 0
    assert (out / NAME).read_bytes() == (finished / NAME).read_bytes()
    assert "calibrating" not in capsys.readouterr().err


def test_qat__observed_ranges_stay_and_another_activation_takes_the_weights(
    start: Path, shapes: Path, tmp_path: Path
) -> None:
    options = ["--ranges", "observed", "--recipe", "w8t_a8t_minmax_cle", "--set", "network.activation=relu"]
    assert main(_command(start, shapes, tmp_path / "x", *options)) == 0
    checkpoint = load_checkpoint(tmp_path / "x" / NAME)
    record = Record.from_dict(dict(checkpoint.record or {}))
    assert checkpoint.network_config.activation == "relu"
    assert record.recipe == "w8t_a8t_minmax_cle_qat"
    assert record.channel_factors
    assert not any("log_" in name for name in checkpoint.network.state_dict())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--recipe", "w8x"], "recipe 'w8x': 'w8x' is none of w8c, w8t, w7c, w7t"),
        (["--classes", "cat"], "--qat takes the classes of its checkpoint; leave out --classes"),
        (["--weights", "none"], "--qat takes the weights of its checkpoint; leave out --weights"),
        (["--set", "network.fpn_channels=8"], "fpn_channels is 8, the checkpoint's is 96; leave it as it is"),
        (["--set", "short_sides=[64]"], "short_sides: int8 is trained at one input size"),
    ],
)
def test_qat__wrong_arguments(
    start: Path, shapes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    arguments: Sequence[str], message: str,
) -> None:  # fmt: skip
    assert main(_command(start, shapes, tmp_path / "x", *arguments)) == 2
    assert message in _only_line(capsys)
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("option", ["--recipe=w8c_a8t_mse", "--ranges=observed"])
def test_train__int8_options_without_qat(
    shapes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], option: str
) -> None:
    assert main(["train", "--data", str(shapes), "--out", str(tmp_path / "x"), option]) == 2
    assert "add --qat CHECKPOINT, or leave it out" in _only_line(capsys)


def test_qat__no_checkpoint(shapes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(_command(tmp_path / "none", shapes, tmp_path / "x")) == 2
    assert "no such file; give a .safetensors checkpoint" in _only_line(capsys)


def _only_line(capsys: pytest.CaptureFixture[str]) -> str:
    """The last line on stderr; nothing is on stdout."""
    out, err = capsys.readouterr()
    assert out == ""
    line = err.splitlines()[-1]
    assert line.startswith("fcos-edge: ")
    return line
