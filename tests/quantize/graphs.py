"""Small FCOS-like deploy graphs with every kind of node: kilobytes, milliseconds, no training."""

from __future__ import annotations

import numpy as np
import torch

from fcos_edge.quantize.add_scales import align_add_scales
from fcos_edge.quantize.execute import DeployNetwork
from fcos_edge.quantize.graph import (
    Activation,
    Add,
    Conv,
    Graph,
    GroupNorm,
    Input,
    MaxPool,
    Node,
    Resize,
    Selecting,
)
from fcos_edge.quantize.record import Point, Record, weight_scales
from fcos_edge.runtime import UInt8Array
from fcos_edge.spec import ModelSpec

LITE_MEAN, LITE_STD = (127.0, 127.0, 127.0), (128.0, 128.0, 128.0)
CHANNELS = 8


class _Builder:
    """Appends nodes and keeps their shapes; pads are TF-SAME, so even sides get one-sided pads."""

    def __init__(self, seed: int, input_hw: tuple[int, int]) -> None:
        self.random = np.random.default_rng(seed)
        self.nodes: list[Node] = []
        self.shapes: dict[str, tuple[int, int, int]] = {}
        self.input_hw = input_hw

    def add(self, node: Node, shape: tuple[int, int, int]) -> str:
        self.nodes.append(node)
        self.shapes[node.name] = shape
        return node.name

    def conv(
        self,
        name: str,
        source: str,
        channels: int,
        *,
        kernel: int = 1,
        stride: int = 1,
        depthwise: bool = False,
        activation: Activation = "none",
        dead_bias: float = 0.0,
    ) -> str:
        in_channels, height, width = self.shapes[source]
        groups = in_channels if depthwise else 1
        shape = (channels, in_channels // groups, kernel, kernel)
        weight = self.random.normal(0, np.sqrt(2 / np.prod(shape[1:])), shape).astype(np.float32)
        bias = self.random.normal(0, 0.2, channels).astype(np.float32)
        if dead_bias:
            weight[0], bias[0] = 1e-20, dead_bias
        (top, bottom), (left, right) = (_same(side, kernel, stride) for side in (height, width))
        node = Conv(name, (source,), weight, bias, stride, (top, left, bottom, right), groups, activation)
        return self.add(node, (channels, -(-height // stride), -(-width // stride)))

    def group_norm(self, name: str, source: str, groups: int, activation: Activation) -> str:
        channels = self.shapes[source][0]
        gamma = self.random.uniform(0.5, 1.5, channels).astype(np.float32)
        beta = self.random.normal(0, 0.5, channels).astype(np.float32)
        node = GroupNorm(name, (source,), gamma, beta, groups, 1e-5, activation)
        return self.add(node, self.shapes[source])


def _same(side: int, kernel: int, stride: int) -> tuple[int, int]:
    total = max((-(-side // stride) - 1) * stride + kernel - side, 0)
    return total // 2, total - total // 2


def tiny_graph(
    seed: int = 0,
    *,
    input_hw: tuple[int, int] = (64, 64),
    classes: int = 3,
    mean: tuple[float, float, float] = LITE_MEAN,
    std: tuple[float, float, float] = LITE_STD,
    dead_bias: float = 0.0,
) -> Graph:
    """Two levels, P3 and P4, each with its three outputs; all weights random.

    dead_bias  not 0: one channel of `expand`, of `depthwise` and of each output has next to no weights
               and this bias
    """
    b = _Builder(seed, input_hw)
    x = b.add(Input("input", mean, std), (3, *input_hw))
    x = b.conv("stem", x, CHANNELS, kernel=3, stride=2, activation="relu6")
    x = b.conv("expand", x, 2 * CHANNELS, activation="relu6", dead_bias=dead_bias)
    x = b.conv("depthwise", x, 2 * CHANNELS, kernel=3, stride=2, depthwise=True, activation="relu6",
               dead_bias=dead_bias)  # fmt: skip
    skip = b.conv("project", x, CHANNELS)
    x = b.conv("block", skip, CHANNELS, kernel=5, depthwise=True, activation="relu")
    residual = b.add(Add("residual", (x, skip), "none"), b.shapes[skip])
    c3 = b.conv("c3", residual, CHANNELS, kernel=3, stride=2, activation="relu")
    c4 = b.conv("c4", c3, CHANNELS, kernel=3, stride=2)  # lateral: no activation
    up = b.add(Resize("up", (c4,), 2), (CHANNELS, *b.shapes[c3][1:]))
    lateral = b.conv("lateral", c3, CHANNELS)
    merged = b.add(Add("merged", (lateral, up), "relu"), b.shapes[lateral])
    outputs = {}
    for level, feature in (("p3", merged), ("p4", c4)):
        tower = b.conv(f"tower_{level}", feature, CHANNELS, kernel=3, depthwise=True, activation="relu")
        for branch, channels in (("logits", classes), ("ltrb", 4), ("centerness", 1)):
            name = f"{branch}_{level}"
            outputs[name] = b.conv(f"head_{name}", tower, channels, dead_bias=dead_bias)
    return Graph(tuple(b.nodes), outputs, input_hw, b.shapes)


def paper_graph(seed: int = 0, *, input_hw: tuple[int, int] = (64, 64)) -> Graph:
    """As the paper's network: a pool behind the stem, a block, and group normalization in the heads."""
    b = _Builder(seed, input_hw)
    x = b.add(Input("input", (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)), (3, *input_hw))
    x = b.conv("stem", x, CHANNELS, kernel=7, stride=2, activation="relu")
    _, height, width = b.shapes[x]
    x = b.add(MaxPool("pool", (x,), 3, 2, (1, 1, 1, 1)), (CHANNELS, height // 2, width // 2))
    narrow = b.conv("narrow", x, CHANNELS, activation="relu")
    wide = b.conv("wide", narrow, CHANNELS, kernel=3)
    p3 = b.add(Add("block", (wide, x), "relu"), b.shapes[wide])
    p3 = b.conv("smooth", p3, CHANNELS, kernel=3, stride=2)
    outputs = {}
    for level, feature in (("p3", p3), ("p4", b.conv("p4", p3, CHANNELS, kernel=3, stride=2))):
        for branch, channels in (("logits", 3), ("ltrb", 4), ("centerness", 1)):
            tower = b.conv(f"tower_{branch}_{level}", feature, CHANNELS, kernel=3)
            tower = b.group_norm(f"norm_{branch}_{level}", tower, 4, "relu")
            name = f"{branch}_{level}"
            outputs[name] = b.conv(f"head_{name}", tower, channels, kernel=3)
    return Graph(tuple(b.nodes), outputs, input_hw, b.shapes)


def tiny_spec(graph: Graph, classes: int = 3) -> ModelSpec:
    """A spec that fits `tiny_graph`."""
    source = graph.nodes[0]
    assert isinstance(source, Input)
    names = tuple(f"class{index}" for index in range(classes))
    return ModelSpec("tiny", names, graph.input_hw, source.mean, source.std, strides=(8, 16))


def random_pictures(graph: Graph, count: int = 2, seed: int = 0) -> UInt8Array:
    """(N, H, W, 3) uint8: smooth random colours with some noise, black and white included."""
    random = np.random.default_rng(seed)
    height, width = graph.input_hw
    coarse = random.integers(0, 256, (count, 4, 4, 3)).astype(np.float32)
    rows, columns = np.arange(height) * 4 // height, np.arange(width) * 4 // width
    smooth = coarse[:, rows][:, :, columns]
    noisy = smooth + random.normal(0, 20, smooth.shape)
    pictures: UInt8Array = np.clip(noisy, 0, 255).astype(np.uint8)
    return pictures


def tiny_record(graph: Graph, seed: int = 0, float_nodes: tuple[str, ...] = ()) -> Record:
    """Ranges over four random pictures, in the plainest way; `quantize/calibrate.py` is not used."""
    points: dict[str, Point] = {}
    for node, value in DeployNetwork(graph).run_nodes(torch.from_numpy(random_pictures(graph, 4, seed))):
        if isinstance(node, Input) and node.uniform:
            points[node.name] = Point(*node.uniform)
        elif isinstance(node, Selecting):
            points[node.name] = points[node.inputs[0]]
        else:
            low, high = min(float(value.min()), 0.0), max(float(value.max()), 1e-3)
            # Rounded down: 255 steps must not exceed a ReLU6's 6, or ONNX Runtime keeps the clip.
            scale = float(np.nextafter(np.float32((high - low) / 255), np.float32(0)))
            points[node.name] = Point(scale, round(-low / scale))
    points = align_add_scales(graph, points)
    convs = [node for node in graph.nodes if isinstance(node, Conv)]
    scales = {conv.name: weight_scales(conv, points[conv.inputs[0]].scale) for conv in convs}
    return Record(points, scales, float_nodes)
