"""The ONNX writer, run by ONNX Runtime on tiny graphs."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest
import torch

from fcos_edge.artifact import DOCUMENT_KEY, OutputInfo, parse_document
from fcos_edge.quantize.execute import DeployNetwork
from fcos_edge.quantize.formats import onnx as onnx_format
from fcos_edge.quantize.graph import Conv, Graph
from fcos_edge.quantize.record import Point, Record
from fcos_edge.quantize.simulate import dequantize, simulate
from fcos_edge.runtimes.onnxruntime import INT8_ACTIVATIONS
from tests.quantize.graphs import random_pictures, tiny_graph, tiny_record, tiny_spec

IMAGENET = {"mean": (123.675, 116.28, 103.53), "std": (58.395, 57.12, 57.375)}
THRESHOLDS = (0.3, 0.4, 0.5)
Outputs = dict[str, npt.NDArray[np.float32]]


def run_onnx(model: bytes, pictures: npt.NDArray[np.uint8]) -> Outputs:
    """One picture at a time, as the file takes them."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    for key, value in INT8_ACTIVATIONS.items():
        options.add_session_config_entry(key, value)
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    runs = [session.run(names, {"images": picture[None]}) for picture in pictures]
    return {name: np.concatenate(parts) for name, parts in zip(names, zip(*runs, strict=True), strict=True)}


def run_torch(graph: Graph, pictures: npt.NDArray[np.uint8]) -> Outputs:
    return {name: value.numpy() for name, value in DeployNetwork(graph)(torch.from_numpy(pictures)).items()}


def simulated(graph: Graph, record: Record, pictures: npt.NDArray[np.uint8]) -> Outputs:
    """The simulator's integers as real values, NHWC."""
    return dequantize(graph, record, simulate(graph, record, pictures))


def optimized(model: bytes, folder: Path) -> Counter[str]:
    """Operators of the graph that ONNX Runtime really runs."""
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(folder / "optimized.onnx")
    options.log_severity_level = 4  # it warns that such a file belongs to this machine
    onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return Counter(node.op_type for node in onnx.load(folder / "optimized.onnx").graph.node)


GRAPHS = {
    "square": tiny_graph(0),
    "rectangular": tiny_graph(1, input_hw=(32, 96)),
    "one class": tiny_graph(2, classes=1),
    "normalized in float": tiny_graph(3, mean=IMAGENET["mean"], std=IMAGENET["std"]),
    "mean that is no integer": tiny_graph(4, mean=(127.5,) * 3, std=(127.5,) * 3),
}


@pytest.mark.parametrize("name", GRAPHS)
def test_fp32__is_the_deploy_network(name: str) -> None:
    graph = GRAPHS[name]
    pictures = random_pictures(graph, 2)
    found = run_onnx(onnx_format.serialize(graph, None), pictures)
    assert list(found) == list(graph.outputs)
    for output, wanted in run_torch(graph, pictures).items():
        # Float32 sums in another order.
        np.testing.assert_allclose(found[output], wanted, rtol=0, atol=1e-5 * np.abs(wanted).max())


@pytest.mark.parametrize("name", GRAPHS)
def test_int8__is_the_simulator_to_the_bit(name: str) -> None:
    graph = GRAPHS[name]
    record = tiny_record(graph)
    assert_exact(graph, record)


def assert_exact(graph: Graph, record: Record) -> None:
    pictures = random_pictures(graph, 4, seed=9)
    found = run_onnx(onnx_format.serialize(graph, record), pictures)
    wanted = simulated(graph, record, pictures)
    for output in graph.outputs:
        np.testing.assert_array_equal(found[output], wanted[output], err_msg=output)


@pytest.mark.parametrize(
    ("node", "point"),
    [
        ("stem", Point(0.05, 0)),  # relu6 that ends at 120 of 255
        ("stem", Point(0.05, 9)),  # and whose zero is not the smallest integer
        ("block", Point(0.02, 30)),  # relu with integers below its zero
        ("merged", Point(0.03, 11)),  # relu after an add
    ],
)
def test_int8__activation_narrower_than_its_range__is_clipped_exactly(node: str, point: Point) -> None:
    graph = tiny_graph(5)
    record = tiny_record(graph)
    record = replace(record, points={**record.points, node: point})
    model = onnx.load_from_string(onnx_format.serialize(graph, record))
    operators = Counter(node.op_type for node in model.graph.node)
    assert operators["Clip"] == 1
    assert_exact(graph, record)


def test_int8__convolution_kept_in_float__is_near_the_simulator(tmp_path: Path) -> None:
    graph = tiny_graph(6)
    kept = ("head_logits_p3", "head_ltrb_p4")  # nothing behind them: differences do not spread
    record = tiny_record(graph, float_nodes=kept)
    model = onnx_format.serialize(graph, record)
    pictures = random_pictures(graph, 2)
    found, wanted = run_onnx(model, pictures), simulated(graph, record, pictures)
    for output, source in graph.outputs.items():
        # A float sum in another order may fall on the other side of a half: one step, here and there.
        steps = np.abs(found[output] - wanted[output]) / record.points[source].scale
        assert steps.max() < (1.01 if source in kept else 1e-6)
        assert steps.mean() < 0.02
    operators = optimized(model, tmp_path)
    assert operators["QLinearConv"] == sum(isinstance(node, Conv) for node in graph.nodes) - len(kept)


def test_int8__runs_in_integers_throughout(tmp_path: Path) -> None:
    graph = GRAPHS["square"]
    operators = optimized(onnx_format.serialize(graph, tiny_record(graph)), tmp_path)
    convolutions = sum(isinstance(node, Conv) for node in graph.nodes)
    # Nothing else: no Clip, no Transpose (one picture channel count fits both layouts), no lone QDQ pair.
    assert operators == {
        "QLinearConv": convolutions, "QLinearAdd": 2, "Resize": 1, "DequantizeLinear": len(graph.outputs),
    }  # fmt: skip


def test_fp32__runs_without_transposes_inside(tmp_path: Path) -> None:
    operators = optimized(onnx_format.serialize(GRAPHS["square"], None), tmp_path)
    assert operators["Transpose"] <= 1 + len(GRAPHS["square"].outputs)
    assert not {"Clip", "Relu"} & set(operators)


@pytest.mark.parametrize("precision", onnx_format.PRECISIONS)
def test_write__same_bytes_twice_and_no_path_inside(precision: str, tmp_path: Path) -> None:
    graph = tiny_graph(7)
    files: list[Path] = []
    for name in ("first", "second"):
        folder = tmp_path / name
        folder.mkdir()
        files += onnx_format.write(folder, graph, tiny_record(graph), tiny_spec(graph), precision, THRESHOLDS)
    assert [path.name for path in files] == [f"model.{precision}.onnx"] * 2
    first, second = (path.read_bytes() for path in files)
    assert first == second
    assert str(tmp_path).encode() not in first
    assert str(Path(onnx_format.__file__).parents[2]).encode() not in first


@pytest.mark.parametrize("precision", onnx_format.PRECISIONS)
def test_write__carries_spec_and_info(precision: str, tmp_path: Path) -> None:
    graph = tiny_graph(8)
    record, spec = tiny_record(graph), tiny_spec(graph)
    (path,) = onnx_format.write(tmp_path, graph, record, spec, precision, THRESHOLDS)
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    assert model.ir_version == 8  # ONNX Runtime 1.17 reads up to 9
    found, info = parse_document({entry.key: entry.value for entry in model.metadata_props}[DOCUMENT_KEY])
    assert found == spec
    assert (info.format, info.precision, info.operating_thresholds) == ("onnx", precision, THRESHOLDS)
    assert info.outputs == tuple(OutputInfo(name) for name in graph.outputs)
    assert info.record_sha256 == (record.sha256 if precision == "int8" else "")


@pytest.mark.parametrize(("precision", "record"), [("int8", None), ("int4", None)])
def test_write__refuses_what_it_cannot_write(precision: str, record: None, tmp_path: Path) -> None:
    graph = GRAPHS["square"]
    with pytest.raises(ValueError, match="int8"):
        onnx_format.write(tmp_path, graph, record, tiny_spec(graph), precision, THRESHOLDS)
    assert not list(tmp_path.iterdir())
