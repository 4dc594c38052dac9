"""`fcos-edge train --start` and `--teacher`: a run that begins with a whole detector, or learns from one."""

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
from tests.coco_sets import CLASSES, make_coco_set
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


def test_teacher__the_run_says_it_and_goes_on(shapes: Path, tmp_path: Path) -> None:
    out, teacher = tmp_path / "x", tmp_path / "teacher.safetensors"
    small = _no_export()
    save_checkpoint(teacher, replace(small, spec=replace(small.spec, classes=CLASSES)))
    # Another neck than the teacher's; nothing but the teacher's boxes is learned beside the labels.
    settings = [*_SETTINGS, "network.fpn_channels=16", "distill.classes=0", "distill.boxes=0.5"]
    assert main([*_command(shapes, out, "--teacher", str(teacher)), *_set(settings)]) == 0
    found, sha256 = load_checkpoint(out / NAME), sha256_of(teacher)
    wanted = {"file": "teacher.safetensors", "sha256": sha256, "provenance": {"data": ["x"]}}
    assert found.config["taught_by"] == wanted
    assert found.config["distill"] == {"classes": 0.0, "boxes": 0.5, "centerness": 1.0}
    assert json.loads((out / "run.json").read_text())["teacher"]["sha256"] == sha256
    (row,) = map(json.loads, (out / "metrics.jsonl").read_text().splitlines())
    assert row["loss_distill"] > 0
    assert main(["report", str(out), "--html", str(tmp_path / "page.html")]) == 0
    page = (tmp_path / "page.html").read_text()
    assert "loss, of the teacher" in page
    assert "learns from" in page
    before = (out / NAME).read_bytes()
    (out / NAME).unlink()
    assert main(["train", "--out", str(out), "--resume", "--workers", "0", "--threads", "1"]) == 0
    assert (out / NAME).read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--teacher", str(embedded.CHECKPOINT)],
            "the run's square, disc; give a teacher that has the run's",
        ),
        (["--teacher", "x.safetensors"], "x.safetensors: no such file; give a .safetensors checkpoint"),
        (["--teacher", "x", "--qat", "x"], "--qat learns from labels alone; leave out --teacher"),
        (
            ["--set", "distill.boxes=2"],
            "--set distill is for a teacher; add --teacher CHECKPOINT, or leave it",
        ),
        (["--set", "distill.boxes=-1"], "setting distill.boxes is -1.0, expected a number from 0 to 1000"),
    ],
)
def test_teacher__wrong_arguments(
    shapes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: Sequence[str], message: str
) -> None:
    assert main([*_command(shapes, tmp_path / "x"), *arguments]) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert message in line
    assert not (tmp_path / "x").exists()


def test_train__a_run_of_before_there_were_teachers_goes_on(shapes: Path, tmp_path: Path) -> None:
    out = tmp_path / "x"
    command = [*_command(shapes, out), *_set(_SETTINGS), "--weights", "none"]
    assert main(command) == 0
    before = (out / NAME).read_bytes()
    (out / NAME).unlink()
    document = json.loads((out / "run.json").read_text())
    del document["config"]["distill"]
    (out / "run.json").write_text(json.dumps(document))
    state = torch.load(out / "state.pt", weights_only=True)
    state["config"] = json.dumps(document["config"])
    torch.save(state, out / "state.pt")
    for again in (command, ["train", "--out", str(out), "--resume", "--workers", "0", "--threads", "1"]):
        assert main(again) == 0
        assert (out / NAME).read_bytes() == before
        (out / NAME).unlink()
