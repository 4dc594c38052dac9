"""`fcos-edge eval` on a tiny data set of coloured shapes, of a checkpoint and of a file in a runtime."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from fcos_edge.cli import main
from fcos_edge.spec import ModelSpec
from fcos_edge.train.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from fcos_edge.train.config import NetworkConfig
from fcos_edge.train.evaluation.coco_figures import FIGURES
from fcos_edge.train.evaluation.evaluate import evaluate
from fcos_edge.train.model import Fcos
from fcos_edge.train.torch_runtime import open_checkpoint
from tests.coco_sets import CLASSES, SIDE, make_coco_set


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
    expected = {
        "data": shapes.name,
        "split": "val",
        **evaluate(open_checkpoint(checkpoint, 1), shapes).to_dict(),
    }
    classes = expected.pop("classes")
    assert expected.items() <= document.items()
    for name, figures in classes.items():
        row = document["classes"][name]
        assert figures.items() <= row.items()
        assert row["threshold"] == 0.5
        assert 0 <= row["hits"] <= min(row["boxes"], row["detections"])
        assert sum(row["misses"].values()) == row["boxes"] - row["hits"]
        assert sum(row["false_alarms"].values()) == row["detections"] - row["hits"]
        assert row["recall"] == pytest.approx(row["hits"] / row["boxes"], abs=1e-4)  # four digits
        low, high = row["AP_interval_95"]
        assert 0 <= low <= high <= 1
    assert document["schema"] == "fcos-edge.eval/1.1"
    assert document["model"] == "x.safetensors (fp32) in PyTorch"
    assert document["conditions"]["threads"] == 1
    assert document["command"].startswith("fcos-edge eval")
    assert "curves" not in document
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


@pytest.fixture(scope="module")
def onnx_file(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoint, exported as fp32."""
    pytest.importorskip("onnxruntime")
    from fcos_edge.quantize.deploy import deploy
    from fcos_edge.quantize.formats.onnx import write

    loaded = load_checkpoint(checkpoint)
    graph = deploy(loaded.network, loaded.spec.input_hw)
    folder = tmp_path_factory.mktemp("onnx")
    (path,) = write(folder, graph, None, loaded.spec, "fp32", loaded.operating_thresholds)
    return path


def test_eval__file_in_a_runtime_agrees_with_the_checkpoint(
    checkpoint: Path, onnx_file: Path, shapes: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    figures = []
    for model in (checkpoint, onnx_file):
        assert main(["eval", str(model), "--data", str(shapes), "--threads", "1", "--json"]) == 0
        figures.append(json.loads(capsys.readouterr().out))
    # fp32 differs by rounding alone: a tenth of a point of 100.
    assert figures[0]["AP"] == pytest.approx(figures[1]["AP"], abs=1e-3)
    assert figures[0]["AR100"] == pytest.approx(figures[1]["AR100"], abs=1e-3)


@pytest.mark.parametrize(
    ("absent", "code", "line"),
    [
        ("torch", 0, ""),  # as on a device
        ("faster_coco_eval", 2, "faster_coco_eval is not installed; run: pip install 'fcos-edge[parity]'"),
    ],
)
def test_eval__what_a_file_needs(onnx_file: Path, shapes: Path, absent: str, code: int, line: str) -> None:
    script = f"import sys; sys.modules[{absent!r}] = None; from fcos_edge.cli import main; sys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-c", script, "eval", str(onnx_file), "--data", str(shapes)],
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == code, done.stderr
    assert line in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--split", "train"], "no split 'train', it has val"),
        (["--data", "nowhere"], "nowhere: no such file or folder"),
        (["--curves"], "--curves: 101 numbers a class are for programs; add --json"),
        (["--classes", "ring"], "--classes: 'ring' is none of the model's: square, disc"),
        (["--classes", "disc,disc"], "--classes: disc is named twice"),
        (["--results", "setup.py"], "--results setup.py: is there already"),
        (["--results", "nowhere/x.json"], "--results nowhere/x.json: there is no folder nowhere"),
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
    command = ["eval", str(path), "--data", str(shapes), "--json"]
    assert main(command) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert "no class 'ring'; it has disc, square; measure the others with --classes square" in line
    assert main([*command, "--classes", "square"]) == 0
    assert list(json.loads(capsys.readouterr().out)["classes"]) == ["square"]


def test_eval__some_classes_have_the_figures_that_they_have_among_all(
    checkpoint: Path, shapes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["eval", str(checkpoint), "--data", str(shapes), "--threads", "1", "--json", "--curves"]
    assert main(command) == 0
    everything = json.loads(capsys.readouterr().out)
    assert main([*command, "--classes", "disc", "--results", str(tmp_path / "disc.json")]) == 0
    disc = json.loads(capsys.readouterr().out)
    alone, among = (document["classes"]["disc"] for document in (disc, everything))
    assert list(disc["classes"]) == ["disc"]
    # Only that a disc is taken for a square nobody can tell who does not look for squares.
    assert {**among, **{key: alone[key] for key in ("misses", "false_alarms")}} == alone
    assert disc["AP"] == disc["classes"]["disc"]["AP"]
    assert disc["curves"]["all"] == everything["curves"]["classes"]["disc"]
    assert {entry["category_id"] for entry in json.loads((tmp_path / "disc.json").read_bytes())} == {9}


def test_eval__results_give_an_evaluator_the_same_figures(
    checkpoint: Path, shapes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    package = pytest.importorskip("faster_coco_eval")
    file = tmp_path / "x.json"
    command = [
        "eval",
        str(checkpoint),
        "--data",
        str(shapes),
        "--threads",
        "1",
        "--results",
        str(file),
        "--json",
    ]
    assert main(command) == 0
    captured = capsys.readouterr()
    document = json.loads(captured.out)
    results = json.loads(file.read_bytes())
    assert document["results"]["detections"] == len(results) > 0
    wrote = f"wrote {file}: {len(results)} detections in 2 pictures; image_id and category_id are the data"
    assert wrote in captured.err
    truth = package.COCO(str(shapes / "annotations" / "instances_val.json"))
    evaluator = package.COCOeval_faster(truth, truth.loadRes(str(file)), "bbox")
    evaluator.run()
    assert [document[name] for name in FIGURES] == [round(float(v), 4) for v in evaluator.stats[:12]]
    # It is there now, and stays as it is.
    assert main(command) == 2
    assert "is there already" in capsys.readouterr().err
    assert json.loads(file.read_bytes()) == results


def test_eval__pictures_without_labels(
    checkpoint: Path, shapes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    labelled, folder, listed = (tmp_path / f"{name}.json" for name in ("labelled", "folder", "listed"))
    (tmp_path / "list.txt").write_text(f"{shapes}/val/val0.png\n{shapes}/val/val1.png\n")
    command = ["eval", str(checkpoint), "--threads", "1", "--data"]
    assert main([*command, str(shapes), "--results", str(labelled)]) == 0
    assert main([*command, str(shapes / "val"), "--results", str(folder)]) == 0
    capsys.readouterr()
    assert main([*command, str(tmp_path / "list.txt"), "--results", str(listed), "--json"]) == 0
    captured = capsys.readouterr()
    wanted = [
        # The data set numbers them from 100, its categories are 7 and 9.
        {**entry, "image_id": entry["image_id"] - 99, "category_id": (entry["category_id"] - 5) // 2}
        for entry in json.loads(labelled.read_bytes())
    ]
    assert json.loads(folder.read_bytes()) == json.loads(listed.read_bytes()) == wanted
    document = json.loads(captured.out)
    assert (document["data"], document["pictures"]) == ("list.txt", 2)
    assert document["results"]["detections"] == len(wanted)
    assert "image_id is 1, 2, 3, ... in their order, category_id is the class's place" in captured.err


def test_eval__pictures_without_labels_have_nothing_to_measure(
    checkpoint: Path, shapes: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["eval", str(checkpoint), "--data", str(shapes / "val")]) == 2
    captured = capsys.readouterr()
    assert "pictures without labels, there is nothing to measure" in captured.err.splitlines()[-1]
    assert "--results FILE" in captured.err


def test_eval__yolo_and_coco_say_the_same(
    checkpoint: Path, shapes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    document = json.loads((shapes / "annotations" / "instances_val.json").read_bytes())
    (tmp_path / "labels" / "val").mkdir(parents=True)
    shutil.copytree(shapes / "val", tmp_path / "images" / "val")
    (tmp_path / "data.yaml").write_text("val: images/val\nnames: [square, disc]\n")
    for image in document["images"]:
        rows = []
        for entry in document["annotations"]:
            if entry["image_id"] == image["id"]:
                x, y, width, height = entry["bbox"]
                numbers = [x + width / 2, y + height / 2, width, height]
                label = (entry["category_id"] - 7) // 2
                rows.append(" ".join(map(str, [label, *(number / SIDE for number in numbers)])))
        name = Path(image["file_name"]).with_suffix(".txt")
        (tmp_path / "labels" / "val" / name).write_text("\n".join(rows))
    said = []
    for data in (shapes, tmp_path, tmp_path / "data.yaml", shapes / "annotations" / "instances_val.json"):
        assert main(["eval", str(checkpoint), "--data", str(data), "--threads", "1", "--json"]) == 0
        document = json.loads(capsys.readouterr().out)
        # What was asked for and when differ, and nothing else.
        said.append({key: document[key] for key in document.keys() - {"data", "command", "conditions"}})
    assert said[1:] == said[:1] * 3


def test_eval__html_is_the_page_of_its_json(
    checkpoint: Path, shapes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page, again = tmp_path / "eval.html", tmp_path / "again.html"
    command = ["eval", str(checkpoint), "--data", str(shapes), "--threads", "1", "--html", str(page)]
    assert main([*command, "--json", "--curves"]) == 0
    (tmp_path / "eval.json").write_text(capsys.readouterr().out)
    report = ["report", str(tmp_path / "eval.json"), "--html", str(again)]
    assert main([*report, "--data", str(shapes)]) == 0
    assert page.read_text() == again.read_text()
    assert "Precision and recall" in page.read_text()
    # Both pictures are in it, each once; without the data only their boxes are.
    assert page.read_text().count("data:image/jpeg") == 2
    assert main(report) == 0
    assert "data:image/jpeg" not in again.read_text()
    assert "val0.png" in again.read_text()


def test_eval__page_that_cannot_be_written_is_refused_before_the_work(
    shapes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.html").write_text("my own page")
    for path, said in (
        (tmp_path / "mine.html", "is there already and no page of ours"),
        (tmp_path / "nowhere" / "x.html", "make it first"),
    ):
        # There is no such model either: nobody has looked yet.
        assert main(["eval", "nowhere.onnx", "--data", str(shapes), "--html", str(path)]) == 2
        assert said in capsys.readouterr().err
