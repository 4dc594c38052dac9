"""The TFLite writer, run by ai-edge-litert on tiny graphs."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from ai_edge_litert.interpreter import Interpreter, OpResolverType

from fcos_edge.artifact import parse_document
from fcos_edge.errors import ArtifactError
from fcos_edge.quantize.add_scales import align_add_scales
from fcos_edge.quantize.execute import DeployNetwork
from fcos_edge.quantize.formats import tflite
from fcos_edge.quantize.graph import Add, Conv, Graph
from fcos_edge.quantize.record import Point, Record
from fcos_edge.quantize.simulate import simulate
from fcos_edge.quantize.tflite_model import FlatModel, Quantization
from fcos_edge.runtime import UInt8Array
from fcos_edge.trailer import read_trailer
from tests.quantize.graphs import random_pictures, tiny_graph, tiny_record, tiny_spec

IMAGENET: Any = {"mean": (123.675, 116.28, 103.53), "std": (58.395, 57.12, 57.375)}
THRESHOLDS = (0.3, 0.4, 0.5)
Outputs = dict[str, npt.NDArray[Any]]

PLAIN = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
XNNPACK = OpResolverType.AUTO


def with_pads(graph: Graph, name: str, pads: tuple[int, int, int, int]) -> Graph:
    nodes = [replace(n, pads=pads) if isinstance(n, Conv) and n.name == name else n for n in graph.nodes]
    return replace(graph, nodes=tuple(nodes))


GRAPHS = {
    "square": tiny_graph(0),
    "rectangular": tiny_graph(1, input_hw=(32, 96)),
    "normalized in float": tiny_graph(2, **IMAGENET),
    "dead channels with a large bias": tiny_graph(3, dead_bias=5.0),
    # stride 2 on an even side: SAME would be (0, 0, 1, 1), so these need a PAD each
    "own padding": with_pads(with_pads(tiny_graph(4), "c3", (1, 1, 1, 1)), "depthwise", (1, 1, 1, 1)),
    # c3 is 10 x 6, c4 5 x 3
    "odd sides": tiny_graph(5, input_hw=(160, 96)),
}


def write(folder: Path, graph: Graph, precision: str, record: Record | None = None) -> Path:
    (path,) = tflite.write(folder, graph, record, tiny_spec(graph), precision, THRESHOLDS)
    return path


def run_tflite(path: Path, pictures: UInt8Array, *, threads: int = 1, resolver: Any = XNNPACK) -> Outputs:
    """One picture at a time, as the file takes them. NHWC."""
    interpreter = Interpreter(str(path), num_threads=threads, experimental_op_resolver_type=resolver)
    interpreter.allocate_tensors()
    (source,) = interpreter.get_input_details()
    runs = []
    for picture in pictures:
        if source["dtype"] == np.int8:
            picture = (picture.astype(np.int16) - 128).astype(np.int8)
        interpreter.set_tensor(source["index"], picture[None])
        interpreter.invoke()
        runs.append({d["name"]: interpreter.get_tensor(d["index"]) for d in interpreter.get_output_details()})
    return {name: np.concatenate([run[name] for run in runs]) for name in runs[0]}


def run_torch(graph: Graph, pictures: UInt8Array) -> Outputs:
    return {name: value.numpy() for name, value in DeployNetwork(graph)(torch.from_numpy(pictures)).items()}


def aligned_record(graph: Graph, float_nodes: tuple[str, ...] = ()) -> Record:
    record = tiny_record(graph, float_nodes=float_nodes)
    return replace(record, points=align_add_scales(graph, record.points))


def largest_difference(found: Outputs, wanted: Outputs) -> float:
    """Over all outputs, relative to each output's largest value."""
    assert list(found) == list(wanted)
    return max(float(np.abs(found[name] - v).max() / np.abs(v).max()) for name, v in wanted.items())


@pytest.mark.parametrize("resolver", [XNNPACK, PLAIN], ids=["xnnpack", "plain kernels"])
@pytest.mark.parametrize("name", GRAPHS)
def test_fp32__equals_torch(name: str, resolver: Any, tmp_path: Path) -> None:
    graph, pictures = GRAPHS[name], random_pictures(GRAPHS[name])
    found = run_tflite(write(tmp_path, graph, "fp32"), pictures, resolver=resolver)
    # Sums of a few hundred float32 products in another order, thirteen layers deep.
    assert largest_difference(found, run_torch(graph, pictures)) < 1e-5


@pytest.mark.parametrize("name", GRAPHS)
def test_fp16__equals_torch_with_rounded_weights(name: str, tmp_path: Path) -> None:
    graph, pictures = GRAPHS[name], random_pictures(GRAPHS[name])
    rounded = replace(graph, nodes=tuple(
        replace(node, weight=_half(node.weight), bias=_half(node.bias)) if isinstance(node, Conv) else node
        for node in graph.nodes
    ))  # fmt: skip
    found = run_tflite(write(tmp_path, graph, "fp16"), pictures)
    assert largest_difference(found, run_torch(rounded, pictures)) < 1e-5


def _half(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    return values.astype(np.float16).astype(np.float32)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("name", GRAPHS)
def test_int8__equals_the_simulator(name: str, threads: int, tmp_path: Path) -> None:
    graph, pictures = GRAPHS[name], random_pictures(GRAPHS[name])
    record = aligned_record(graph)
    found = run_tflite(write(tmp_path, graph, "int8", record), pictures, threads=threads)
    assert_equals_simulator(found, graph, record, pictures)


@pytest.mark.parametrize(
    "float_nodes",
    [
        ("stem",),  # reads the picture
        ("depthwise", "block"),  # depthwise
        ("c4",),  # feeds a Resize
        ("tower_p3",),  # read by three
        ("depthwise", "project"),  # one after the other
    ],
)
def test_int8__convolutions_kept_in_float__equal_the_simulator(
    float_nodes: tuple[str, ...], tmp_path: Path
) -> None:
    graph, pictures = tiny_graph(0), random_pictures(tiny_graph(0))
    record = aligned_record(graph, float_nodes)
    found = run_tflite(write(tmp_path, graph, "int8", record), pictures)
    # Float sums differ in their last bits between torch and XNNPACK; none of these happens to lie on a half.
    assert_equals_simulator(found, graph, record, pictures)


def test_int8__plain_kernels__differ_by_rounding_only(tmp_path: Path) -> None:
    graph, pictures = tiny_graph(0), random_pictures(tiny_graph(0))
    record = aligned_record(graph)
    found = run_tflite(write(tmp_path, graph, "int8", record), pictures, resolver=PLAIN)
    wanted = simulate(graph, record, pictures)
    for name in graph.outputs:
        steps = np.abs(found[name].astype(int) + 128 - wanted[name])
        # TFLite's own kernels round twice: some values of each layer are off by one, and it adds up.
        assert steps.mean() < 2, name


def assert_equals_simulator(found: Outputs, graph: Graph, record: Record, pictures: UInt8Array) -> None:
    wanted = simulate(graph, record, pictures)
    assert list(found) == list(graph.outputs)
    for name in graph.outputs:
        assert found[name].dtype == np.int8
        np.testing.assert_array_equal(found[name].astype(int) + 128, wanted[name], err_msg=name)


@pytest.mark.parametrize("seed", range(5))
def test_int8__add__every_pair_of_inputs_rounds_as_the_simulator_does(seed: int) -> None:
    random = np.random.default_rng(seed)
    scales, zero_points = np.exp(random.uniform(-4, -1, 3)), random.integers(0, 256, 3)
    names = ("block", "project", "residual")  # the inputs of the Add, and itself
    graph = GRAPHS["square"]
    points = dict.fromkeys((node.name for node in graph.nodes), Point(1.0, 0))
    for name, scale, zero_point in zip(names, scales, zero_points, strict=True):
        points[name] = Point(float(np.float32(scale)), int(zero_point))
    a, b, y = (align_add_scales(graph, points)[name] for name in names)
    q_a, q_b = (q.reshape(1, 256, 256, 1) for q in np.meshgrid(np.arange(256), np.arange(256), indexing="ij"))

    model = FlatModel()
    for name, point in zip("aby", (a, b, y), strict=True):
        quantization = Quantization((point.scale,), (point.zero_point - 128,))
        model.add_tensor(name, q_a.shape, np.int8, quantization)
    model.add_operator("ADD", [0, 1], 2)
    interpreter = Interpreter(model_content=model.serialize({"a": 0, "b": 1}, {"y": 2}), num_threads=1)
    interpreter.allocate_tensors()
    interpreter.set_tensor(0, (q_a - 128).astype(np.int8))
    interpreter.set_tensor(1, (q_b - 128).astype(np.int8))
    interpreter.invoke()

    total = sum(
        (q - point.zero_point).astype(np.float32) * (np.float32(point.scale) / np.float32(y.scale))
        for q, point in ((q_a, a), (q_b, b))
    )
    wanted = np.clip(np.rint(total) + y.zero_point, 0, 255)
    np.testing.assert_array_equal(interpreter.get_tensor(2).astype(int) + 128, wanted)


@pytest.mark.parametrize("precision", tflite.PRECISIONS)
def test_xnnpack__takes_everything_but_the_resize(precision: str, tmp_path: Path) -> None:
    graph = tiny_graph(0)
    interpreter = Interpreter(str(write(tmp_path, graph, precision, aligned_record(graph))))
    interpreter.allocate_tensors()
    # Delegated operators stay in this list beside the delegates; two delegates are the parts before and
    # after the one Resize. Another one would mean an operator that XNNPACK refused.
    operators = [operator["op_name"] for operator in interpreter._get_ops_details()]
    assert operators.count("DELEGATE") == 2


@pytest.mark.parametrize("precision", tflite.PRECISIONS)
def test_document__says_what_the_file_holds(precision: str, tmp_path: Path) -> None:
    graph = tiny_graph(0)
    record = aligned_record(graph)
    path = write(tmp_path, graph, precision, record)
    spec, info = parse_document(read_trailer(path))
    assert path.name == f"model.{precision}.tflite"
    assert spec == tiny_spec(graph)
    assert (info.format, info.precision, info.operating_thresholds) == ("tflite", precision, THRESHOLDS)
    assert info.record_sha256 == (record.sha256 if precision == "int8" else "")
    assert "ai-edge-litert" in info.tool_versions
    interpreter = Interpreter(str(path))
    (source,) = interpreter.get_input_details()
    # The picture is its own quantization, shifted as all int8 of TFLite is.
    dtype = np.int8 if precision == "int8" else np.uint8
    assert (source["name"], source["dtype"]) == ("images", dtype)
    assert source["quantization"] == (1 / 128, 127 - (128 if precision == "int8" else 0))
    for output, detail in zip(info.outputs, interpreter.get_output_details(), strict=True):
        assert detail["name"] == output.name
        if output.scale is not None:
            assert detail["quantization"] == (output.scale, output.zero_point)
    signature = interpreter.get_signature_list()["serving_default"]
    assert sorted(signature["outputs"]) == sorted(spec.output_names)


@pytest.mark.parametrize("precision", tflite.PRECISIONS)
def test_write__twice__same_bytes_and_no_paths(precision: str, tmp_path: Path) -> None:
    graph = tiny_graph(0)
    record = aligned_record(graph)
    folders = [tmp_path / "first", tmp_path / "second"]
    for folder in folders:
        folder.mkdir()
    first, second = (write(folder, graph, precision, record).read_bytes() for folder in folders)
    assert first == second
    assert not re.search(rb"/(home|root|usr|tmp|work|opt|Users)/|site-packages|\.py\b", first)


def test_write__weights_stand_on_16_byte_borders(tmp_path: Path) -> None:
    # Kernels load them as vectors from where the file is mapped; some Arm ones fault otherwise.
    graph = tiny_graph(0)
    model = write(tmp_path, graph, "fp32").read_bytes()
    for node in graph.nodes:
        if isinstance(node, Conv) and node.weight.size >= 16:
            layout = (1, 2, 3, 0) if node.groups > 1 else (0, 2, 3, 1)
            assert model.index(node.weight.transpose(layout).tobytes()) % 16 == 0


def test_fp16__weight_beyond_its_range__is_refused(tmp_path: Path) -> None:
    graph = tiny_graph(0, dead_bias=1e5)
    with pytest.raises(ArtifactError, match="too large for float16; export fp32 or int8"):
        write(tmp_path, graph, "fp16")
    assert not list(tmp_path.iterdir())


def test_write__groups_that_tflite_lacks__are_refused(tmp_path: Path) -> None:
    graph = tiny_graph(0)
    nodes = [
        replace(node, groups=2, weight=node.weight[:, : node.weight.shape[1] // 2])
        if isinstance(node, Conv) and node.name == "project"
        else node
        for node in graph.nodes
    ]
    with pytest.raises(ArtifactError, match="project: 2 groups for 16 input and 8 output channels"):
        write(tmp_path, replace(graph, nodes=tuple(nodes)), "fp32")


def test_write__int8_without_record__is_our_own_mistake(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="calibration record"):
        write(tmp_path, tiny_graph(0), "int8")


def test_write__one_conv_that_makes_an_output_and_feeds_an_add(tmp_path: Path) -> None:
    """An output in the middle of the network keeps its name, and what follows still reads it."""
    graph = tiny_graph(0)
    assert any(isinstance(node, Add) and "lateral" in node.inputs for node in graph.nodes)
    graph = replace(graph, outputs={**graph.outputs, "logits_p3": "lateral"})
    pictures = random_pictures(graph)
    found = run_tflite(write(tmp_path, graph, "fp32"), pictures)
    assert largest_difference(found, run_torch(graph, pictures)) < 1e-5
