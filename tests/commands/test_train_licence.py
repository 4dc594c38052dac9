"""`fcos-edge train --licence`: what trains, and what the run and its checkpoint say of it."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fcos_edge.cli import main
from fcos_edge.train.checkpoint import load_checkpoint, save_checkpoint
from fcos_edge.train.run import LICENSED, provenance_of_both, read_run
from tests.coco_sets import make_coco_set

CHECKPOINT = "smoke.safetensors"
BY, BY_NC = ({"id": i, "url": f"http://creativecommons.org/licenses/{i}/2.0/"} for i in ("by", "by-nc"))
SAID = "only those whose licence record allows commercial use"


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nine pictures: six under BY, two under BY-NC, one without a record."""
    folder = make_coco_set(tmp_path_factory.mktemp("shapes"), "train", 9)
    path = folder / "annotations" / "instances_train.json"
    document = json.loads(path.read_text())
    for image, name in zip(document["images"], ["by-nc", *["by"] * 6, "by-nc"], strict=False):
        image["license"] = name
    path.write_text(json.dumps(document | {"licenses": [BY, BY_NC]}))
    return folder


@pytest.fixture(scope="module")
def finished(shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "x"
    assert main(_command(shapes, out, "--licence", "commercial", "--html", str(out / "training.html"))) == 0
    return out


def _command(data: Path, out: Path, *more: str) -> list[str]:
    machine = ["--workers", "0", "--threads", "1", "--no-tensorboard"]
    plan = ["--preset", "smoke", "--hold-out", "2", "--set", "input_hw=[64,64]"]
    # Not exported, so not calibrated: that takes longer than all else.
    plan += ["--set", "network.quality_from=distances", "--set", "loss.quality=none"]
    return ["train", "--data", str(data), "--out", str(out), *plan, *machine, *more]


def test_licence__trains_and_holds_out_chosen_pictures_alone(finished: Path) -> None:
    checkpoint = load_checkpoint(finished / CHECKPOINT)
    assert checkpoint.metrics["training_pictures"] == 4
    assert checkpoint.metrics["held_out"]["pictures"] == 2
    (made_from,) = checkpoint.config["made_from"]
    assert made_from["pictures"] == 6
    counts = [(row["url"], row["verdict"], row["pictures"]) for row in made_from["licences"]]
    assert counts == [(BY["url"], "allowed", 6), (BY_NC["url"], "forbidden", 2), ("", "no record", 1)]


def test_licence__stands_in_run_provenance_and_page(finished: Path) -> None:
    assert json.loads((finished / "run.json").read_text())["licence"] == "commercial"
    assert read_run(finished).licence == "commercial"
    assert load_checkpoint(finished / CHECKPOINT).spec.provenance[LICENSED] == SAID
    assert "licence record of the pictures" in (finished / "training.html").read_text()


def test_licence__resumes_to_the_same_file(finished: Path, tmp_path: Path) -> None:
    out = tmp_path / "x"
    shutil.copytree(finished, out)
    (out / CHECKPOINT).unlink()
    assert main(["train", "--out", str(out), "--resume", "--workers", "0", "--threads", "1"]) == 0
    assert (out / CHECKPOINT).read_bytes() == (finished / CHECKPOINT).read_bytes()


def test_licence__a_run_without_it_is_another(
    finished: Path, shapes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "x"
    shutil.copytree(finished, out)
    (out / CHECKPOINT).unlink()
    assert main(_command(shapes, out)) == 2
    assert "holds another run, its licence differ" in capsys.readouterr().err.splitlines()[-1]
    assert main(["train", "--out", str(out), "--resume", "--licence", "commercial"]) == 2
    assert "leave out --licence" in capsys.readouterr().err.splitlines()[-1]


def test_licence__a_start_that_had_other_pictures_is_said(
    finished: Path, shapes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = load_checkpoint(finished / CHECKPOINT)
    bare = {key: value for key, value in first.spec.provenance.items() if key != LICENSED}
    save_checkpoint(tmp_path / "other.safetensors", replace(first, spec=replace(first.spec, provenance=bare)))
    for path, is_said in ((tmp_path / "other.safetensors", False), (finished / CHECKPOINT, True)):
        out = tmp_path / path.stem
        assert main(_command(shapes, out, "--licence", "commercial", "--start", str(path))) == 0
        assert (LICENSED in load_checkpoint(out / CHECKPOINT).spec.provenance) == is_said
        assert ("which this run begins with, had other pictures" in capsys.readouterr().err) != is_said


def test_licence__a_set_without_records_beside_another(
    shapes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bare = make_coco_set(tmp_path / "bare", "train", 3, seed=1)
    command = _command(bare, tmp_path / "x", "--licence", "commercial")
    assert main(command) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert f"{bare}: none of 3 pictures has a licence record that allows commercial use" in line
    assert not (tmp_path / "x").exists()
    both = [*command[:3], str(shapes), *command[3:]]
    assert main([*both, "--hold-out", "6"]) == 2  # nothing of the bare one is there to hold out
    lines = capsys.readouterr().err.splitlines()
    assert "  0 of 3 pictures have a licence record that allows commercial use; nothing" in "\n".join(lines)
    assert "cannot hold out 6 of 6 pictures" in lines[-1]


@pytest.mark.parametrize("verb", ["train", "analyze"])
def test_licence__of_another_use(verb: str, shapes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = [verb, "--data", str(shapes), "--licence", "foo", *["--out", "x"]]
    assert main(command) == 2
    assert "argument --licence: invalid choice: 'foo'" in capsys.readouterr().err.splitlines()[-1]


def test_analyze__chosen_pictures_alone(shapes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["analyze", "--data", str(shapes), "--split", "train", "--licence", "commercial"]
    assert main([*command, "--json"]) == 0
    captured = capsys.readouterr()
    document = json.loads(captured.out)
    assert (document["pictures"], document["licence"]) == (6, "commercial")
    assert captured.err.splitlines()[0] == (
        "6 of 9 pictures have a licence record that allows commercial use"
    )
    assert main([*command, "--check"]) == 0
    assert "    kept 6: http://creativecommons.org/licenses/by/2.0/" in capsys.readouterr().out


# of the first training, of the second, of what comes out of both
BOTH: list[tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = [
    ({"data": ["a"], LICENSED: SAID}, {"data": ["b"], LICENSED: SAID}, {"data": ["a"], LICENSED: SAID}),
    ({"data": ["a"], LICENSED: SAID}, {"data": ["b"]}, {"data": ["a"]}),
    ({"data": ["a"]}, {"data": ["b"], LICENSED: SAID}, {"data": ["a"]}),
]


@pytest.mark.parametrize(("first", "second", "wanted"), BOTH)
def test_provenance__says_it_only_of_two_such_trainings(
    first: dict[str, Any], second: dict[str, Any], wanted: dict[str, Any]
) -> None:
    assert provenance_of_both(first, second) == wanted
