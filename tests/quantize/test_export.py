"""Export: what a bundle holds, that it is the same each time, and that nothing wrong is ever left behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fcos_edge import runtime, verify
from fcos_edge.bundle import RECORD_NAME, check_files, read_manifest
from fcos_edge.calibration_pictures import picture_sha256
from fcos_edge.errors import FcosEdgeError, GateError, UsageError
from fcos_edge.image import read_image_bgr
from fcos_edge.quantize.export import ExportOptions, export
from fcos_edge.quantize.formats import load_writer
from fcos_edge.quantize.graph import Conv, Graph
from fcos_edge.quantize.make_golden import golden_sources
from fcos_edge.quantize.make_record import Int8Options
from fcos_edge.quantize.record import Record
from fcos_edge.spec import ModelSpec
from fcos_edge.train.checkpoint import Checkpoint
from fcos_edge.train.config import NetworkConfig
from fcos_edge.train.model import Fcos
from tests.coco_sets import CLASSES, draw_shapes
from tests.quantize.test_placing import tree, write_bundle
from tests.small_detector import INPUT_HW, small_detector

FILES = {
    "onnx": {"model.fp32.onnx", "model.int8.onnx"},
    "openvino": {f"model.{p}.{suffix}" for p in ("fp32", "fp16", "int8") for suffix in ("xml", "bin")},
    "tflite": {"model.fp32.tflite", "model.fp16.tflite", "model.int8.tflite"},
}
RUNTIMES = {"onnx": "onnxruntime", "openvino": "openvino", "tflite": "tflite"}
SUFFIXES = {"onnx": "onnx", "openvino": "xml", "tflite": "tflite"}


def silent(message: str) -> None:
    """For `say`."""


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    return small_detector()


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_bundle__holds_what_the_design_says(embedded_bundle: Path) -> None:
    assert names(embedded_bundle) == {
        "manifest.json", "golden", "calibration.json", "README.md", "sensitivity.json", "sensitivity.png",
        *set().union(*FILES.values()),
    }  # fmt: skip
    manifest = read_manifest(embedded_bundle)
    for artifact in manifest.artifacts:
        check_files(embedded_bundle, artifact)
        assert artifact.verify["passed"] is True
        assert artifact.verify["runtime"] == RUNTIMES[artifact.format]
        assert artifact.verify["checks"]
    record = Record.from_dict(json.loads((embedded_bundle / RECORD_NAME).read_text()))
    golden = json.loads((embedded_bundle / "golden" / "golden.json").read_text())
    assert golden["record_sha256"] == record.sha256


def test_export__twice__same_bytes(embedded_bundle: Path, repo_root: Path, tmp_path: Path) -> None:
    """Another process, another folder, another order of sets and dicts by hash."""
    subprocess.run(
        [sys.executable, "-m", "fcos_edge", "export", "--int8", "--formats", "tflite,onnx", "--out", "again"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(repo_root), "PYTHONHASHSEED": "7"},
        capture_output=True,
        check=True,
    )
    again = tmp_path / "again"
    golden = {f"golden/{name}" for name in names(embedded_bundle / "golden")} - {"golden/golden.json"}
    index, index_again = (
        json.loads((folder / "golden" / "golden.json").read_text()) for folder in (embedded_bundle, again)
    )
    # There is no OpenVINO file this time, so its thresholds are not there either.
    del index["operating_thresholds"]["model.int8.xml"]
    assert index_again == index
    for name in sorted(FILES["onnx"] | FILES["tflite"] | {RECORD_NAME} | golden):
        assert (again / name).read_bytes() == (embedded_bundle / name).read_bytes(), name


def test_bundle__names_no_path_of_this_machine(embedded_bundle: Path, repo_root: Path) -> None:
    paths = [repo_root, embedded_bundle, embedded_bundle.parent, Path(torch.__file__).parent.parent]
    needles = [str(path).encode() for path in paths]
    needles += [f"{home}/".encode() for home in (Path.home(),) if len(home.parts) > 1]
    # Not embedded_bundle: its name is the model's, which every file carries.
    assert embedded_bundle.parent.name.encode() not in (embedded_bundle / "manifest.json").read_bytes()
    for file in filter(Path.is_file, embedded_bundle.rglob("*")):
        content = file.read_bytes()
        assert not [needle for needle in needles if needle in content], file.name


def test_export__without_int8__writes_floats_alone(checkpoint: Checkpoint, tmp_path: Path) -> None:
    out = tmp_path / "out"
    # No record is needed then.
    export(replace(checkpoint, record=None), out, ExportOptions(("onnx",)), say=silent)
    assert names(out) == {"manifest.json", "golden", "README.md", "model.fp32.onnx"}
    assert "int8" not in (out / "README.md").read_text()
    with np.load(out / "golden" / "cat.npz") as arrays:
        assert not [name for name in arrays.files if name.startswith("int8")]


def test_export__pictures_make_the_record(checkpoint: Checkpoint, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    pictures = [draw_shapes(random)[0], read_image_bgr(golden_sources()[0])]
    export(
        checkpoint, tmp_path / "out", ExportOptions(("onnx",), Int8Options()), pictures=pictures, say=silent
    )
    record = Record.from_dict(json.loads((tmp_path / "out" / RECORD_NAME).read_text()))
    assert record.picture_sha256 == tuple(sorted(map(picture_sha256, pictures)))
    assert "int8 ranges: 2 pictures" in (tmp_path / "out" / "README.md").read_text()


def test_export__int8_without_record_or_pictures__is_one_line(checkpoint: Checkpoint, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds no calibration record; give pictures with --data"):
        export(
            replace(checkpoint, record=None),
            tmp_path / "out",
            ExportOptions(("onnx",), Int8Options()),
            say=silent,
        )
    assert tree(tmp_path) == {}


def test_export__untrained_rectangular_network__in_float(tmp_path: Path) -> None:
    """int8 is not asked for: the outputs of an untrained network hardly vary, and 8 bits lose them."""
    torch.manual_seed(0)
    config = NetworkConfig(len(CLASSES), fpn_channels=16, tower_depth=1)
    spec = ModelSpec("tiny", CLASSES, (64, 96), config.mean, config.std)
    untrained = Checkpoint(Fcos(config).eval(), config, spec, (0.5,) * len(CLASSES))
    report = export(untrained, tmp_path / "out", ExportOptions(tuple(FILES)), say=silent)
    assert {(row.runtime, row.precision) for row in report.artifacts} == {
        ("onnxruntime", "fp32"),
        ("openvino", "fp32"), ("openvino", "fp16"),
        ("tflite", "fp32"), ("tflite", "fp16"),
    }  # fmt: skip
    assert read_manifest(tmp_path / "out").spec.input_hw == (64, 96)


Fault = Callable[[Graph], Graph]


def one_weight(graph: Graph) -> Graph:
    """The largest weight of the first convolution has the wrong sign."""
    stem = next(node for node in graph.nodes if isinstance(node, Conv))
    weight = stem.weight.copy()
    weight.flat[np.abs(weight).argmax()] *= -1
    return _replaced(graph, stem, replace(stem, weight=weight))


def one_output(graph: Graph) -> Graph:
    """The classes of P3 stand in reverse."""
    (head,) = (node for node in graph.nodes if node.name == graph.outputs["logits_p3"])
    assert isinstance(head, Conv)
    return _replaced(graph, head, replace(head, weight=head.weight[::-1], bias=head.bias[::-1]))


def _replaced(graph: Graph, old: Conv, new: Conv) -> Graph:
    return replace(graph, nodes=tuple(new if node is old else node for node in graph.nodes))


def plant(patch: pytest.MonkeyPatch, name: str, precision: str, fault: Fault) -> None:
    """The writer `name` writes `precision` alone, and that with the fault."""
    writer = load_writer(name)
    real = writer.write

    def write(folder: Path, graph: Graph, *rest: Any) -> tuple[Path, ...]:
        return real(folder, fault(graph), *rest)

    patch.setattr(writer, "PRECISIONS", (precision,))
    patch.setattr(writer, "write", write)


@pytest.mark.parametrize(("name", "precision", "fault", "said"), [
    ("onnx", "fp32", one_weight, "logits_p3: largest difference to PyTorch / largest value is"),
    ("onnx", "fp32", one_output, "logits_p3: largest difference to PyTorch / largest value is"),
    # The simulator's integers on a CPU where the runtime is exact, else their mean difference.
    ("onnx", "int8", one_weight, r"logits(_p3)?: (largest|mean) difference to the simulator in .* is"),
    ("openvino", "fp32", one_weight, "logits_p3: largest difference to PyTorch / largest value is"),
    ("openvino", "fp16", one_output, "logits_p3: largest difference to PyTorch / largest value is"),
    ("openvino", "int8", one_weight, "logits: mean difference to the simulator in one-bit floors is"),
    ("tflite", "fp32", one_output, "logits_p3: largest difference to PyTorch / largest value is"),
    ("tflite", "fp16", one_weight, "logits_p3: largest difference to PyTorch / largest value is"),
    ("tflite", "int8", one_weight, r"logits(_p3)?: (largest|mean) difference to the simulator in .* is"),
    ("tflite", "int8", one_output, r"logits(_p3)?: (largest|mean) difference to the simulator in .* is"),
])  # fmt: skip
def test_export__fault_in_a_writer__is_named_and_nothing_left(
    name: str, precision: str, fault: Fault, said: str,
    checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    write_bundle(tmp_path / "out", "of yesterday")
    was = tree(tmp_path)
    plant(monkeypatch, name, precision, fault)
    file = rf"model\.{precision}\.{SUFFIXES[name]} in {RUNTIMES[name]}"
    with pytest.raises(GateError, match=rf"^{file}: {said} [\d.e+-]+, allowed at most [\d.e+-]+"):
        export(
            checkpoint,
            tmp_path / "out",
            ExportOptions((name,), Int8Options() if precision == "int8" else None),
            say=silent,
        )
    assert tree(tmp_path) == was


@pytest.mark.parametrize(("installed", "said"), [
    (("onnxruntime",), r"model\.fp32\.tflite: no runtime here verifies it; pip install"),
    ((), r"no runtime for its files is installed"),
], ids=["one of two", "none"])  # fmt: skip
def test_export__what_cannot_be_verified_is_not_written(
    installed: tuple[str, ...], said: str,
    checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    real = runtime.installed_package
    monkeypatch.setattr(
        verify, "installed_package", lambda file: found if (found := real(file)) in installed else None
    )
    with pytest.raises(FcosEdgeError, match=said):
        export(checkpoint, tmp_path / "out", ExportOptions(("onnx", "tflite")), say=silent)
    assert tree(tmp_path) == {}


def test_export__network_is_left_as_it_was(checkpoint: Checkpoint, tmp_path: Path) -> None:
    before = {name: value.clone() for name, value in checkpoint.network.state_dict().items()}
    export(checkpoint, tmp_path / "out", ExportOptions(("onnx",)), say=silent)
    assert not checkpoint.network.training
    for name, value in checkpoint.network.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert read_manifest(tmp_path / "out").spec.input_hw == INPUT_HW
