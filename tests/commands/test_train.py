"""`fcos-edge train` on a tiny data set of coloured shapes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from fcos_edge.cli import main
from fcos_edge.quantize.deploy import deploy
from fcos_edge.quantize.record import Record, check_record
from fcos_edge.train.checkpoint import load_checkpoint
from tests.coco_sets import CLASSES, make_coco_set

CHECKPOINT = "smoke.safetensors"


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_coco_set(tmp_path_factory.mktemp("shapes"), "train", 7)


@pytest.fixture(scope="module")
def finished(shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run's folder with everything that it leaves."""
    out = tmp_path_factory.mktemp("runs") / "new" / "x"
    more = ("--epochs", "2", "--eval-every", "1", "--seed", "3", "--html", str(out / "training.html"))
    assert main(_command(shapes, out, *more)) == 0
    return out


def _command(data: Path, out: Path, *more: str) -> list[str]:
    smoke = ["--preset", "smoke", "--hold-out", "3", "--workers", "0", "--threads", "1"]
    return ["train", "--data", str(data), "--out", str(out), *smoke, *more]


def test_train__leaves_a_complete_checkpoint(finished: Path, shapes: Path) -> None:
    checkpoint = load_checkpoint(finished / CHECKPOINT)
    assert checkpoint.spec.classes == CLASSES
    assert checkpoint.network_config.num_classes == len(CLASSES)
    assert checkpoint.config["seed"] == 3
    assert checkpoint.config["epochs"] == 2
    assert checkpoint.metrics["training_pictures"] == 4
    assert {"fcos_edge", "torch", "numpy"} <= set(checkpoint.config["made_with"])
    (data,) = checkpoint.config["made_from"]
    assert (data["path"], data["pictures"], len(data["sha256"])) == (shapes.name, 7, 64)
    assert checkpoint.metrics["held_out"]["pictures"] == 3
    assert sum(row["boxes"] for row in checkpoint.metrics["held_out"]["classes"].values()) == 6
    assert len(checkpoint.operating_thresholds) == len(CLASSES)
    rows = [json.loads(line) for line in (finished / "metrics.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in rows] == [1, 2]
    assert rows[0]["held_out"]["pictures"] == 3


def test_train__html_stands_in_the_new_folder_and_of_a_run_at_any_time(
    finished: Path, tmp_path: Path
) -> None:
    assert main(["report", str(finished), "--html", str(tmp_path / "page.html")]) == 0
    page = (tmp_path / "page.html").read_text()
    assert page == (finished / "training.html").read_text()
    steps = json.loads((finished / "metrics.jsonl").read_text().splitlines()[-1])["step"]
    assert f"Finished: {steps} steps, epoch 2 of 2. AP is of 3 held-out pictures." in page
    # The line that began it is in its folder.
    assert f"--out {finished} --preset smoke" in page


def test_train__page_that_cannot_be_written_is_refused_before_the_work(
    shapes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, page = tmp_path / "x", tmp_path / "page.html"
    command = [*_command(shapes, out, "--epochs", "1"), "--html", str(page)]
    page.write_text("my own page")
    assert main(command) == 2
    assert "is there already and no page of ours" in _only_line(capsys)
    assert not out.exists()


def test_train__checkpoint_can_be_exported_without_pictures(finished: Path) -> None:
    checkpoint = load_checkpoint(finished / CHECKPOINT)
    record = Record.from_dict(checkpoint.record)
    check_record(deploy(checkpoint.network, checkpoint.spec.input_hw), record)
    assert len(record.picture_sha256) == 4


def test_train__checkpoint_names_no_path_of_this_machine(finished: Path, shapes: Path) -> None:
    assert str(shapes.parent).encode() not in (finished / CHECKPOINT).read_bytes()


def test_train__json_is_one_document(
    shapes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "x"
    assert main(_command(shapes, out, "--classes", "disc", "--hold-out", "0", "--json")) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["checkpoint"] == str(out / CHECKPOINT)
    assert document["is_calibrated"] is True
    # Nothing was held out, so nothing says better than a half.
    assert document["operating_thresholds"] == {"disc": 0.5}
    assert "held_out" not in document["metrics"]
    assert load_checkpoint(out / CHECKPOINT).spec.classes == ("disc",)


def test_train__finished_run_is_not_overwritten(
    finished: Path, shapes: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (finished / CHECKPOINT).read_bytes()
    assert main(_command(shapes, finished, "--epochs", "2", "--seed", "3")) == 2
    assert (finished / CHECKPOINT).read_bytes() == before
    assert f"{CHECKPOINT}: is there already; choose another --out" in _only_line(capsys)


def test_train__interrupted_run_goes_on(finished: Path, shapes: Path, tmp_path: Path) -> None:
    # All epochs are done, but the checkpoint was not written yet.
    out = tmp_path / "x"
    shutil.copytree(finished, out)
    (out / CHECKPOINT).unlink()
    assert main(_command(shapes, out, "--epochs", "2", "--seed", "3")) == 0
    assert len((out / "metrics.jsonl").read_text().splitlines()) == 2  # nothing trained again
    assert (out / CHECKPOINT).read_bytes() == (finished / CHECKPOINT).read_bytes()


def test_train__resume_takes_the_runs_own_arguments(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "x"
    shutil.copytree(finished, out)
    (out / CHECKPOINT).unlink()
    assert main(["train", "--out", str(out), "--resume", "--seed", "3"]) == 2
    assert "--resume takes the run's own arguments; leave out --seed" in _only_line(capsys)
    assert main(["train", "--out", str(out), "--resume", "--workers", "0", "--threads", "1"]) == 0
    assert (out / CHECKPOINT).read_bytes() == (finished / CHECKPOINT).read_bytes()


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (None, "run.json: no run to resume (No such file or directory); give a run's folder"),
        ("{", "run.json: damaged (JSONDecodeError"),
        ("[]", "run.json: damaged (TypeError"),
        ('{"name": "x"}', "run.json: damaged (KeyError: 'classes')"),
    ],
)
def test_train__resume_without_a_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str | None, line: str
) -> None:
    if text is not None:
        (tmp_path / "run.json").write_text(text)
    assert main(["train", "--out", str(tmp_path), "--resume"]) == 2
    assert line in _only_line(capsys)


def test_train__a_network_that_cannot_be_exported_is_trained_all_the_same(
    shapes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "x"
    settings = ["--set", "network.quality_from=distances", "--set", "loss.quality=none", "--no-tensorboard"]
    assert main(_command(shapes, out, *settings)) == 0
    assert "not calibrated: " in capsys.readouterr().err
    assert load_checkpoint(out / CHECKPOINT).record is None
    assert main(["export", str(out / CHECKPOINT), "--int8", "--out", str(tmp_path / "bundle")]) == 2
    _only_line(capsys)
    assert not (tmp_path / "bundle").exists()
    assert main(["inspect", str(out / CHECKPOINT)]) == 0
    assert "cannot be exported" in capsys.readouterr().out


def test_train__what_the_check_refuses_can_be_excluded(
    shapes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, out = tmp_path / "data", tmp_path / "x"
    shutil.copytree(shapes, data)
    (data / "train" / "train6.png").unlink()
    assert main(_command(data, out)) == 2
    assert "the data check refuses missing pictures (1)" in capsys.readouterr().err.splitlines()[-1]
    assert not out.exists()
    assert main(_command(data, out, "--exclude", "missing,colour")) == 2
    assert "'colour' is not looked for" in capsys.readouterr().err.splitlines()[-1]
    assert main(_command(data, out, "--exclude", "missing")) == 0
    assert load_checkpoint(out / CHECKPOINT).metrics["training_pictures"] == 3


@pytest.mark.parametrize(
    ("more", "line"),
    [
        (["--seed", "4"], "holds another run, its config differ"),
        (["--seed", "3", "--hold-out", "2"], "holds another run, its held_out differ"),
        (["--seed", "3", "--classes", "disc,square"], "holds another run, its classes differ"),
    ],
)
def test_train__folder_of_another_run_is_refused(
    finished: Path,
    shapes: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    more: list[str],
    line: str,
) -> None:
    out = tmp_path / "x"
    shutil.copytree(finished, out)
    (out / CHECKPOINT).unlink()
    assert main(_command(shapes, out, "--epochs", "2", *more)) == 2
    assert line in _only_line(capsys)
    assert not (out / CHECKPOINT).exists()


@pytest.mark.parametrize(
    ("there", "line"),
    [
        ("thesis.txt", "holds thesis.txt, which is not of this run; choose another --out"),
        ("state.pt", "holds a run without its run.json; choose another --out"),
    ],
)
def test_train__folder_with_other_files_is_refused(
    shapes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], there: str, line: str
) -> None:
    out = tmp_path / "x"
    out.mkdir()
    (out / there).write_text("years of work")
    assert main(_command(shapes, out)) == 2
    assert line in _only_line(capsys)
    assert [(path.name, path.read_text()) for path in out.iterdir()] == [(there, "years of work")]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"name": "other"}'])
def test_train__broken_run_file_is_refused(
    shapes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    (tmp_path / "run.json").write_text(text)
    assert main(_command(shapes, tmp_path)) == 2
    assert "holds another run" in _only_line(capsys)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--preset", "lite9"], "preset 'lite9' is not known; choose from lite0-256, lite0-320,"),
        (["--preset", "street8-lite0-320"], "no class 'person'"),  # the preset names its classes
        (["--classes", "square,ring"], "no class 'ring'"),
        (["--classes", "disc,disc"], "'disc,disc' is no list of different names"),
        (["--classes", "disc,"], "'disc,' is no list of different names"),
        (["--hold-out", "7"], "cannot hold out 7 of 7 pictures; hold out fewer"),
        (["--set", "assign.method=hungarian"], "assignment 'hungarian' is not known; choose from atss,"),
        (["--set", "epoch=3"], "setting 'epoch' is not known"),
        (["--batch-size", "3", "--accumulate", "2"], "a batch of 3 pictures cannot be cut into 2"),
        (["--cache", "-1"], "'-1' is no number of gigabytes"),
        (["--hold-out", "-1"], "'-1' is no whole number from 0"),
        (["--epochs", "0"], "'0' is no whole number from 1"),
        (["--data", "nowhere"], "nowhere: no such file or folder; check the path of the data set"),
        (
            ["--weights", "nowhere.pth"],
            "nowhere.pth: no such file; give a file of EfficientNet-Lite0's ImageNet weights",
        ),
    ],
)
def test_train__mistakes_are_one_line(
    shapes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], line: str
) -> None:
    out = tmp_path / "x"
    assert main([*_command(shapes, out), *arguments]) == 2
    assert line in _only_line(capsys)
    assert not out.exists()


def test_train__out_is_a_file(shapes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "x"
    out.write_text("a file")
    assert main(_command(shapes, out)) == 2
    assert "x: is a file, expected a folder; choose another --out" in _only_line(capsys)


@pytest.mark.parametrize("workers", ["0", "1"])
def test_train__broken_picture_is_one_line(
    shapes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], workers: str
) -> None:
    data = tmp_path / "data"
    shutil.copytree(shapes, data)
    for path in (data / "train").iterdir():
        path.write_bytes(b"no picture")
    assert main([*_command(data, tmp_path / "x"), "--workers", workers]) == 2
    line = _only_line(capsys)
    assert "Traceback" not in line
    assert line.startswith(f"fcos-edge: {data}")


def _only_line(capsys: pytest.CaptureFixture[str]) -> str:
    """The last line on stderr; nothing is on stdout. Lines before it say what was begun."""
    captured = capsys.readouterr()
    assert captured.out == ""
    return captured.err.splitlines()[-1]
