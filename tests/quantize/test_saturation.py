"""The simulator's saturating mode: against a slow oracle, an emulated CPU, and OpenVINO told to use AVX2."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from fcos_edge.quantize.formats import onnx as onnx_format
from fcos_edge.quantize.graph import Conv, Graph, Input
from fcos_edge.quantize.recipe import parse_recipe
from fcos_edge.quantize.record import Point, Record, conv_integers, weight_scales
from fcos_edge.quantize.saturation import RUNTIMES, SaturatingSimulator, overflowing_layers
from fcos_edge.quantize.simulate import Simulator, dequantize
from fcos_edge.runtime import FloatArray, UInt8Array
from tests.quantize.graphs import LITE_MEAN, LITE_STD, random_pictures, tiny_graph, tiny_record

Ints = npt.NDArray[np.int64]
QEMU = shutil.which("qemu-x86_64-static") or shutil.which("qemu-x86_64")
HIGH = 140  # a zero point with which most integers are large: half of the pairs that can saturate do

# channels, outputs, kernel, stride, pads, groups
Case = tuple[int, int, int, int, tuple[int, int, int, int], int]
CASES: dict[str, Case] = {
    "pointwise": (16, 12, 1, 1, (0, 0, 0, 0), 1),
    "pointwise, odd channels": (17, 9, 1, 1, (0, 0, 0, 0), 1),
    "pointwise, one output": (10, 1, 1, 1, (0, 0, 0, 0), 1),
    "dense": (8, 8, 3, 1, (1, 1, 1, 1), 1),
    "stem: three channels": (3, 8, 3, 2, (0, 0, 1, 1), 1),
    "dense, one channel": (1, 8, 3, 1, (1, 1, 1, 1), 1),
    "dense, five channels": (5, 6, 5, 2, (1, 2, 2, 1), 1),
    "groups": (6, 4, 3, 1, (1, 1, 1, 1), 2),
}


def make_case(
    channels: int, out: int, kernel: int, stride: int, pads: tuple[int, int, int, int], groups: int
) -> tuple[Graph, Record]:
    """A pointwise convolution that cannot saturate, then the one in question."""
    random, size = np.random.default_rng(channels), 9
    widen = Conv(
        "widen", ("input",), _weights(random, channels, 3, 1, 1), _weights(random, channels), 1, (0,) * 4, 1,
        "none",
    )  # fmt: skip
    weight = _weights(random, out, channels // groups, kernel, kernel)
    conv = Conv("conv", ("widen",), weight, _weights(random, out), stride, pads, groups, "none")
    height, width = ((size + pads[i] + pads[i + 2] - kernel) // stride + 1 for i in (0, 1))
    shapes = {"input": (3, size, size), "widen": (channels, size, size), "conv": (out, height, width)}
    graph = Graph((Input("input", LITE_MEAN, LITE_STD), widen, conv), {"out": "conv"}, (size, size), shapes)
    points = {
        "input": Point(1 / 128, 127),
        "widen": Point(float(np.float32(0.006)), HIGH),
        "conv": Point(float(np.float32(0.012 * np.sqrt(weight[0].size))), 128),
    }
    scales = {node.name: weight_scales(node, points[node.inputs[0]].scale) for node in (widen, conv)}
    scales["widen"] = scales["widen"] * np.float32(2.1)
    return graph, Record(points, scales)


def _weights(random: np.random.Generator, *shape: int) -> FloatArray:
    return random.uniform(-1, 1, shape).astype(np.float32)


def saturated_sums_slowly(node: Conv, record: Record, x: Ints, runtime: str) -> Ints:
    """Location by location and pair by pair. x: (C, h, w), 0..255; returns (O, h, w) int32 sums."""
    zero_point = record.points[node.inputs[0]].zero_point
    integers = conv_integers(node, record)
    top, left, bottom, right = node.pads
    padded = np.pad(x, ((0, 0), (top, bottom), (left, right)), constant_values=zero_point)
    out, channels, kernel_h, kernel_w = integers.weight.shape
    height = (padded.shape[1] - kernel_h) // node.stride + 1
    width = (padded.shape[2] - kernel_w) // node.stride + 1
    sums = np.zeros((out, height, width), np.int64)
    for o, row, column in np.ndindex(out, height, width):
        first = o // (out // node.groups) * channels
        products = []
        for i, j in np.ndindex(kernel_h, kernel_w):
            for c in range(channels):
                value = padded[first + c, row * node.stride + i, column * node.stride + j]
                products.append(int(value) * int(integers.weight[o, c, i, j]))
            if runtime == "openvino" and channels % 2:
                products.append(0)
        products += [0] * (len(products) % 2)
        pairs = (products[k] + products[k + 1] for k in range(0, len(products), 2))
        total = sum(min(max(pair, -32768), 32767) for pair in pairs)
        weight_sum = int(integers.weight[o].astype(np.int64).sum())
        sums[o, row, column] = total - zero_point * weight_sum + int(integers.bias[o])
    return sums


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_saturating__equals_the_slow_sums(runtime: str, case: Case) -> None:
    graph, record = make_case(*case)
    conv = graph.nodes[2]
    assert isinstance(conv, Conv)
    pictures = random_pictures(graph, 1, seed=3)
    found = {n.name: v[0].numpy() for n, v in SaturatingSimulator(graph, record, runtime).run_nodes(pictures)}
    source = found["widen"].astype(np.int64) + HIGH
    sums = saturated_sums_slowly(conv, record, source, runtime)
    point, integers = record.points["conv"], conv_integers(conv, record)
    multiplier = integers.bias_scale / np.float32(point.scale)
    steps = sums.astype(np.float32) * multiplier[:, None, None]
    wanted = np.clip(np.rint(steps) + point.zero_point, 0, 255) - point.zero_point
    np.testing.assert_array_equal(found["conv"], wanted)
    is_alone = case[0] == 1 and runtime == "openvino"  # no second product: nothing saturates
    plain = {n.name: v[0].numpy() for n, v in Simulator(graph, record).run_nodes(pictures)}
    assert np.array_equal(found["conv"], plain["conv"]) == is_alone


def test_saturating__depthwise_convolutions_do_not() -> None:
    graph, record = make_case(8, 8, 3, 1, (1, 1, 1, 1), 8)
    pictures = random_pictures(graph, 1)
    np.testing.assert_array_equal(
        SaturatingSimulator(graph, record).run(pictures)["out"], Simulator(graph, record).run(pictures)["out"]
    )
    assert overflowing_layers(graph, record, pictures) == ()


def test_saturating__seven_bits_never_do() -> None:
    # 2 * 255 * 63 = 32130: no pair can, whatever the picture, so that none is even looked at.
    recipe = parse_recipe("w7c_a8t_minmax")
    assert 2 * 255 * recipe.weight_limit <= 32767
    for case in CASES.values():
        graph, record = make_case(*case)
        extreme = {
            node.name: np.full(node.weight.shape, recipe.weight_limit, np.int8)
            for node in graph.nodes
            if isinstance(node, Conv)
        }
        record = replace(record, rounded_weights=extreme, recipe=recipe.name)
        white = np.full((1, *graph.input_hw, 3), 255, np.uint8)
        np.testing.assert_array_equal(
            SaturatingSimulator(graph, record).run(white)["out"], Simulator(graph, record).run(white)["out"]
        )
        assert overflowing_layers(graph, record, white) == ()


def test_overflowing_layers__names_shares_and_largest_sums() -> None:
    graph, record = make_case(*CASES["pointwise"])
    weight = np.zeros((12, 16, 1, 1), np.int8)
    weight[0, :2], weight[1, 2:4], weight[2, 1:3] = 127, -127, 127  # the third: two pairs of one each
    bright = {"widen": np.zeros((16, 3, 1, 1), np.int8), "conv": weight}
    record = replace(record, rounded_weights=bright)
    source, widen, conv = graph.nodes
    assert isinstance(widen, Conv)
    widen = replace(widen, bias=np.full(16, 9.0, np.float32))
    graph = replace(graph, nodes=(source, widen, conv))
    (row,) = overflowing_layers(graph, record, random_pictures(graph, 2))
    # 12 outputs of 8 pairs, at 9 * 9 places of 2 pictures; every input is 255.
    assert (row.name, row.count, row.largest_sum) == ("conv", 2 * 81 * 2, 2 * 255 * 127)
    assert row.share == pytest.approx(2 / (12 * 8))


def test_overflowing_layers__largest_share_first_and_none_that_is_in_float() -> None:
    graph = tiny_graph()
    record = tiny_record(graph)
    pictures = random_pictures(graph, 2)
    rows = overflowing_layers(graph, record, pictures)
    assert len(rows) > 2
    assert [row.share for row in rows] == sorted((row.share for row in rows), reverse=True)
    kept = overflowing_layers(graph, replace(record, float_nodes=(rows[0].name,)), pictures)
    assert rows[0].name not in [row.name for row in kept]


def test_saturating__unknown_runtime_is_refused() -> None:
    graph = tiny_graph()
    with pytest.raises(ValueError, match="tflite"):
        SaturatingSimulator(graph, tiny_record(graph), "tflite")


# Both oracles are started once for all cases: importing a runtime takes most of their time.
_RUN_ONNX = """
import sys, numpy, onnxruntime
from pathlib import Path
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
for path in Path(sys.argv[1]).glob("*.onnx"):
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    pictures = numpy.load(path.with_suffix(".npy"))
    numpy.savez(path.with_suffix(".npz"), **dict(zip(names, session.run(names, {"images": pictures}))))
"""
_RUN_OPENVINO = """
import sys, numpy, openvino
from pathlib import Path
for path in Path(sys.argv[1]).glob("*.onnx"):
    model = openvino.Core().compile_model(str(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    found = model(numpy.load(path.with_suffix(".npy")))
    numpy.savez(path.with_suffix(".npz"), **{port.get_any_name(): found[port] for port in model.outputs})
"""
ORACLE_CASES = {
    **{name: make_case(*case) for name, case in CASES.items() if name != "groups"},
    "depthwise": make_case(16, 16, 3, 1, (1, 1, 1, 1), 16),
}


def run_elsewhere(
    folder: Path, cases: dict[str, tuple[Graph, Record]], script: str, *prefix: str, **variables: str
) -> dict[str, dict[str, FloatArray]]:
    """Every case's outputs, from another process."""
    names = {name: f"case{index}" for index, name in enumerate(cases)}
    for name, (graph, record) in cases.items():
        (folder / f"{names[name]}.onnx").write_bytes(onnx_format.serialize(graph, record))
        np.save(folder / f"{names[name]}.npy", _pictures(graph))
    # The interpreter itself: an emulator starts no script of a virtual environment.
    python, path = os.path.realpath(sys.executable), os.pathsep.join(filter(None, sys.path))
    environment = {**os.environ, "PYTHONPATH": path, **variables}
    command = [*prefix, python, "-c", script, str(folder)]
    subprocess.run(command, check=True, env=environment, capture_output=True, timeout=120)
    return {name: dict(np.load(folder / f"{names[name]}.npz")) for name in cases}


def _pictures(graph: Graph) -> UInt8Array:
    return random_pictures(graph, 1, seed=3)


def assert_saturates_alike(
    found: dict[str, dict[str, FloatArray]], cases: dict[str, tuple[Graph, Record]], runtime: str
) -> None:
    for name, (graph, record) in cases.items():
        integers = SaturatingSimulator(graph, record, runtime).run(_pictures(graph))
        for output, wanted in dequantize(graph, record, integers).items():
            np.testing.assert_array_equal(found[name][output], wanted, err_msg=f"{name}: {output}")


@pytest.mark.skipif(QEMU is None or platform.machine() != "x86_64", reason="needs qemu-x86_64 on x86-64")
def test_saturating__onnx_runtime_on_an_emulated_haswell_is_the_same_to_the_bit(tmp_path: Path) -> None:
    assert QEMU is not None
    graph = tiny_graph(1)
    cases = {**ORACLE_CASES, "every kind of node": (graph, tiny_record(graph))}
    found = run_elsewhere(tmp_path, cases, _RUN_ONNX, QEMU, "-cpu", "Haswell")
    assert_saturates_alike(found, cases, "onnxruntime")


def has_avx2() -> bool:
    try:
        return "avx2" in Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return False


@pytest.mark.skipif(not has_avx2(), reason="needs an x86 CPU with AVX2")
def test_saturating__openvino_without_vnni_is_the_same_to_the_bit(tmp_path: Path) -> None:
    # Single convolutions: there is no order of rounding in which it could differ.
    found = run_elsewhere(tmp_path, ORACLE_CASES, _RUN_OPENVINO, ONEDNN_MAX_CPU_ISA="AVX2")
    assert_saturates_alike(found, ORACLE_CASES, "openvino")
