"""`fcos-edge train --start`: a run that begins with a whole detector."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from fcos_edge import embedded
from fcos_edge.bundle import sha256_of
from fcos_edge.cli import main
from fcos_edge.train.checkpoint import Checkpoint, as_stored, load_checkpoint, save_checkpoint
from fcos_edge.train.model import Fcos
from tests.coco_sets import make_coco_set
from tests.small_checkpoint import small_checkpoint

NAME = "smoke.safetensors"


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_coco_set(tmp_path_factory.mktemp("shapes"), "train", 4)


def _command(data: Path, out: Path, *more: str) -> list[str]:
    smoke = ["--preset", "smoke", "--hold-out", "0", "--workers", "0", "--threads", "1", "--no-tensorboard"]
    return ["train", "--data", str(data), "--out", str(out), *smoke, *more]


def test_start__the_run_that_comes_out_says_it_and_goes_on(
    shapes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, start = tmp_path / "x", tmp_path / "start.safetensors"
    began = _no_export()
    save_checkpoint(start, began)
    # At a learning rate of nothing, the weights that it ends with are those that it began with.
    settings = ["optimizer.learning_rate=0", *_SETTINGS]
    assert main([*_command(shapes, out, "--start", str(start)), *_set(settings)]) == 0
    assert "start.safetensors has other classes (a, b): the layer that tells" in capsys.readouterr().err
    found, sha256 = load_checkpoint(out / NAME), sha256_of(start)
    assert json.loads((out / "run.json").read_text())["start"]["sha256"] == sha256
    wanted = {"file": "start.safetensors", "sha256": sha256, "provenance": {"data": ["x"]}}
    assert found.config["began_with"] == wanted
    own, new = (as_stored(checkpoint.network).head.ltrb.weight for checkpoint in (began, found))
    assert torch.equal(own, new)
    before = (out / NAME).read_bytes()
    (out / NAME).unlink()
    assert main(["train", "--out", str(out), "--resume", "--workers", "0", "--threads", "1"]) == 0
    assert (out / NAME).read_bytes() == before


def test_start__the_embedded_detector_and_another_one(
    shapes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    out, copy = tmp_path / "x", tmp_path / "copy.safetensors"
    shutil.copy(embedded.CHECKPOINT, copy)
    monkeypatch.setattr("fcos_edge.train.pipeline.train", interrupted)
    assert main(_command(shapes, out, "--start")) == 130
    assert f"{embedded.CHECKPOINT.name} has other classes" in capsys.readouterr().err
    # The same weights from another place are not taken for the same.
    assert main(_command(shapes, out, "--start", str(copy))) == 2
    assert "holds another run, its start differ" in capsys.readouterr().err.splitlines()[-1]


def _no_export() -> Checkpoint:
    """Of a network that no file can have: so nothing is calibrated, which takes the most of a short run."""
    small = small_checkpoint()
    config = replace(small.network_config, quality_from="distances")
    return replace(small, network_config=config, network=Fcos(config).eval(), record=None)


_SETTINGS = (
    "network.fpn_channels=8", "network.tower_depth=1", "network.quality_from=distances", "loss.quality=none",
)  # fmt: skip


def _set(settings: Sequence[str]) -> list[str]:
    return [word for setting in settings for word in ("--set", setting)]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--weights", "none"], "--start is where training begins; leave out --weights, or --start"),
        (["--qat", "x.safetensors"], "leave out --qat, or --start"),
        (["--preset", "lite1-320"], "its backbone is efficientnet_lite0, the run's efficientnet_lite1"),
        (
            ["--set", "network.fpn_channels=64"],
            "its fpn_channels is 96, the run's 64; give another checkpoint",
        ),
    ],
)
def test_start__wrong_arguments(
    shapes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: Sequence[str], message: str
) -> None:
    assert main([*_command(shapes, tmp_path / "x", "--start"), *arguments]) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert message in line
    assert not (tmp_path / "x").exists()
