"""Make the tiny models of `fcos-edge doctor` again: two small bundles, with what they must put out.

    python benchmarks/doctor_models.py fcos_edge/doctor/models

network     a detector in small, untrained: every operator of a real one, 106 million multiply-adds in 20,000
            weights. It is compared with the float network and the integer simulator, and timed
saturation  convolutions whose products of uint8 and int8 exceed 16 bits in pairs, beside one whose do not

OpenVINO has no file of its own for `network`, since it reads ONNX: its .xml would be half of all bytes.

The weights of `network` have 7 bits: 2 * 255 * 64 is below 32767, so that its integers are the same on every
CPU, and what is wrong there is wrong.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch

from conditions import run_as_script
from fcos_edge.artifact import Format, Precision
from fcos_edge.bundle import Manifest, ManifestArtifact, describe_file, write_manifest
from fcos_edge.doctor.samples import NETWORK, SATURATION, Expected, picture, save_expected
from fcos_edge.quantize.calibrate import calibrate
from fcos_edge.quantize.execute import DeployNetwork
from fcos_edge.quantize.formats import format_names, load_writer
from fcos_edge.quantize.graph import Activation, Add, Conv, Graph, Input, Node, Resize
from fcos_edge.quantize.record import WEIGHT_LIMIT, Point, Record
from fcos_edge.quantize.simulate import simulate
from fcos_edge.runtime import FloatArray
from fcos_edge.spec import BRANCHES, ModelSpec

Array = npt.NDArray[Any]

_SMALL_FORMATS = ("onnx", "tflite")
_WIDTH = 112
_SAFE_WEIGHT = 64
# More channels than any kernel adds up in one step, so that saturation shows in every kernel there is.
_CHANNELS = 32
_SATURATION_HW = (32, 32)


class GraphBuilder:
    """A deploy graph, node by node, with random weights of unit gain."""

    def __init__(self, picture: Input, input_hw: tuple[int, int], seed: int = 0) -> None:
        self.input_hw = input_hw
        self.nodes: list[Node] = [picture]
        self.shapes = {picture.name: (3, *input_hw)}
        self._generator = np.random.default_rng(seed)

    def conv(
        self,
        name: str,
        source: str,
        channels: int,
        kernel: int = 1,
        stride: int = 1,
        activation: Activation = "relu6",
        *,
        is_depthwise: bool = False,
    ) -> str:
        """A convolution whose output has ceil(side / stride) rows and columns."""
        groups = channels if is_depthwise else 1
        inputs = self.shapes[source][0] // groups
        spread = np.sqrt(2 / (inputs * kernel * kernel))
        weight = self._generator.normal(0, spread, (channels, inputs, kernel, kernel))
        bias = self._generator.normal(0.2, 0.2, channels)
        return self.add_conv(
            name, source, weight.astype(np.float32), bias.astype(np.float32), stride, activation, groups
        )

    def add_conv(
        self,
        name: str,
        source: str,
        weight: FloatArray,
        bias: FloatArray,
        stride: int = 1,
        activation: Activation = "none",
        groups: int = 1,
    ) -> str:
        """weight: (O, I / groups, k, k); bias: (O,)"""
        _, height, width = self.shapes[source]
        # Just as many zeros as the last window needs, the odd one at the end.
        missing = max(0, (-(-height // stride) - 1) * stride + weight.shape[2] - height)
        begin = missing // 2
        pads = (begin, begin, missing - begin, missing - begin)
        self.nodes.append(Conv(name, (source,), weight, bias, stride, pads, groups, activation))
        self.shapes[name] = (len(bias), -(-height // stride), -(-width // stride))
        return name

    def add(self, name: str, first: str, second: str) -> str:
        self.nodes.append(Add(name, (first, second), "none"))
        self.shapes[name] = self.shapes[first]
        return name

    def enlarge(self, name: str, source: str) -> str:
        self.nodes.append(Resize(name, (source,), 2))
        channels, height, width = self.shapes[source]
        self.shapes[name] = (channels, height * 2, width * 2)
        return name

    def graph(self, outputs: dict[str, str]) -> Graph:
        return Graph(tuple(self.nodes), outputs, self.input_hw, self.shapes)


def network_spec() -> ModelSpec:
    return ModelSpec(
        NETWORK, ("one", "two"), (320, 320), mean=(127.0,) * 3, std=(128.0,) * 3, strides=(16, 32)
    )


def network_graph(spec: ModelSpec) -> Graph:
    """Stem, separable convolutions with a residual, two levels of a pyramid, three outputs each.

    Most of the time goes where a real detector's goes, into a 1x1 convolution of many channels, and a tenth
    of it into the stem, which of all layers gains least from int8.
    """
    build = GraphBuilder(Input("images", spec.mean, spec.std), spec.input_hw)
    # Not 3: tflite-runtime 2.14 gets windows that are smaller than their stride wrong.
    x = build.conv("stem", "images", 16, 4, 4)
    shortcut = build.conv("wide1", x, _WIDTH, activation="none")
    x = build.conv("deep2", shortcut, _WIDTH, 3, is_depthwise=True)
    x = build.conv("wide2", x, _WIDTH, activation="none")
    x = build.add("residual", shortcut, x)
    x = build.conv("deep3", x, _WIDTH, 3, 2, is_depthwise=True)
    x = build.conv("wide3", x, 16)
    c4 = build.conv("deep4", x, 16, 3, 2, is_depthwise=True)
    p5 = build.conv("deep5", c4, 16, 3, 2, is_depthwise=True)
    lateral = build.conv("lateral4", c4, 16, activation="none")
    p4 = build.add("p4", lateral, build.enlarge("up5", p5))
    outputs = {}
    for level, source in (("p4", p4), ("p5", p5)):
        for branch, channels in zip(BRANCHES, (len(spec.classes), 4, 1), strict=True):
            name = f"{branch}_{level}"
            outputs[name] = build.conv(f"{name}_conv", source, channels, activation="none")
    return build.graph(outputs)


def network_record(graph: Graph, spec: ModelSpec) -> Record:
    """Calibrated on the very picture; weights of 7 bits."""
    record = calibrate(graph, [picture(spec.input_hw)[0, :, :, ::-1]], spec)
    coarser = np.float32(WEIGHT_LIMIT / _SAFE_WEIGHT)
    scales = {name: scale * coarser for name, scale in record.weight_scales.items()}
    return replace(record, weight_scales=scales)


def saturation_spec() -> ModelSpec:
    return ModelSpec(
        SATURATION, ("one", "two", "three", "four"), _SATURATION_HW, (0.0,) * 3, (1.0,) * 3, strides=(1,)
    )


def saturation_graph_and_record(spec: ModelSpec) -> tuple[Graph, Record]:
    """Every integer is chosen: for a bright picture the convolution `features` gives 240 to 255 everywhere.

    No stride: OpenVINO 2026.4 refuses 1x1 convolutions with one on Arm.

    logits      1x1, all weights 127
    ltrb        3x3, all weights 127
    centerness  1x1, all weights 60: 2 * 255 * 60 fits 16 bits
    """
    build = GraphBuilder(Input("images", spec.mean, spec.std), spec.input_hw)
    # A third of each colour: weights 42, far from any limit.
    grey = np.full((_CHANNELS, 3, 1, 1), 1 / 3, np.float32)
    features = build.add_conv("features", "images", grey, np.zeros(_CHANNELS, np.float32), 1, "relu")
    points = {"images": Point(1.0, 0), features: Point(1.0, 0)}
    scales = {features: np.full(_CHANNELS, 1 / 126, np.float32)}
    outputs = {}
    for branch, channels, kernel, weight in (
        ("logits", 4, 1, 127),
        ("ltrb", 4, 3, 127),
        ("centerness", 1, 1, 60),
    ):
        name = f"{branch}_p0"
        shape = (channels, _CHANNELS, kernel, kernel)
        values, bias = np.full(shape, weight, np.float32), np.zeros(channels, np.float32)
        outputs[name] = build.add_conv(f"{name}_conv", features, values, bias)
        # The largest sum there is becomes 230 of 255; weights as integers: scale 1.
        largest = 255 * weight * _CHANNELS * kernel * kernel
        points[outputs[name]] = Point(float(np.float32(largest / 230)), 0)
        scales[outputs[name]] = np.ones(channels, np.float32)
    return build.graph(outputs), Record(points, scales)


def write_bundle(
    folder: Path,
    graph: Graph,
    record: Record,
    spec: ModelSpec,
    formats: Sequence[str],
    precisions: Sequence[Precision],
) -> None:
    """Model files, the manifest, and what comes out for `samples.picture`."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    artifacts = []
    for name in formats:
        writer = load_writer(name)
        for precision in precisions:
            files = writer.write(folder, graph, record, spec, precision, (0.5,) * len(spec.classes))
            artifacts.append(
                ManifestArtifact(tuple(map(describe_file, files)), cast(Format, name), precision)
            )
    write_manifest(folder, Manifest(spec, tuple(artifacts)))
    save_expected(folder, expected_outputs(graph, record, spec))


def expected_outputs(graph: Graph, record: Record, spec: ModelSpec) -> Expected:
    images = picture(spec.input_hw, is_bright=spec.name == SATURATION)
    with torch.inference_mode():
        real = {name: value.numpy() for name, value in DeployNetwork(graph)(torch.from_numpy(images)).items()}
    integers = simulate(graph, record, images)
    points = {
        branch: [record.points[graph.outputs[f"{branch}_{level}"]] for level in spec.level_names]
        for branch in BRANCHES
    }
    return Expected(
        fp32={branch: _joined(real, branch, spec) for branch in BRANCHES},
        int8={branch: _joined(integers, branch, spec) for branch in BRANCHES},
        points={branch: tuple((p.scale, p.zero_point) for p in levels) for branch, levels in points.items()},
    )


def _joined(outputs: Mapping[str, Array], branch: str, spec: ModelSpec) -> Array:
    """(L, C): the levels of one branch, one after the other."""
    levels = [outputs[f"{branch}_{level}"] for level in spec.level_names]
    return np.concatenate([level.reshape(-1, level.shape[-1]) for level in levels])


def run(args: argparse.Namespace) -> None:
    spec = network_spec()
    graph = network_graph(spec)
    write_bundle(
        args.folder / NETWORK, graph, network_record(graph, spec), spec, _SMALL_FORMATS, ("fp32", "int8")
    )
    spec = saturation_spec()
    graph, record = saturation_graph_and_record(spec)
    write_bundle(args.folder / SATURATION, graph, record, spec, format_names(), ("int8",))
    for path in sorted(args.folder.rglob("*")):
        if path.is_file():
            print(f"{path.stat().st_size:8,}  {path.relative_to(args.folder)}")
    print(f"{sum(p.stat().st_size for p in args.folder.rglob('*') if p.is_file()):8,}  bytes in all")


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Make the tiny models of `fcos-edge doctor`.")
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="fcos_edge/doctor/models")
    return parser


if __name__ == "__main__":
    run_as_script(make_parser(), run)
