"""Write a deploy graph as TFLite: the record's integers as they are, NHWC, one operator per node.

fp32  float weights
fp16  float16 weights, widened by a DEQUANTIZE each; runtimes compute in the precision of their choice
int8  int8 activations and outputs, int8 weights per channel, int32 biases

TFLite's int8 activations are the record's q - 128 with zero point - 128, and so is the picture of an int8
file: shifting a uint8 one inside costs a QUANTIZE, 1.2 ms in tflite-runtime. Where the picture is not its own
quantization, it stays uint8, is dequantized to pixel values, normalized in float and, in int8, quantized
again. A node that the record keeps in float stands behind a DEQUANTIZE where its input is int8, in front of a
QUANTIZE where something reads it as int8 (`float_values.py`). An output that stays float has no scale, and
neither have the others of its kind. Who asks for a uint8 picture and uint8 outputs gets a QUANTIZE at each
end.

O, I     output and input channels
kh, kw   kernel height and width
"""

from __future__ import annotations

from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, cast

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from fcos_edge.artifact import ArtifactInfo, OutputInfo, Precision, dump_document
from fcos_edge.errors import ArtifactError
from fcos_edge.quantize.float_values import float_branches, float_values, is_computed_in_float
from fcos_edge.quantize.formats import PLAIN_OPTIONS, WriteOptions
from fcos_edge.quantize.graph import Activation, Add, Conv, Graph, GroupNorm, Input, MaxPool, Resize
from fcos_edge.quantize.record import Point, Record, conv_integers
from fcos_edge.quantize.refinements.equalization import equalized
from fcos_edge.quantize.tflite_model import FlatModel, Quantization
from fcos_edge.quantize.weight_only import as_float16, rounded_weights
from fcos_edge.runtime import FloatArray
from fcos_edge.spec import ModelSpec
from fcos_edge.trailer import append_trailer

FORMAT = "tflite"
PRECISIONS = ("fp32", "fp16", "int8")
ON_REQUEST = ("w8",)

_TOOLS = ("fcos-edge", "ai-edge-litert", "flatbuffers")
# Between the record's uint8 and TFLite's int8.
_SHIFT = 128
_FUSED = {
    "none": schema.ActivationFunctionType.NONE,
    "relu": schema.ActivationFunctionType.RELU,
    "relu6": schema.ActivationFunctionType.RELU6,
}


def write(
    folder: Path,
    graph: Graph,
    record: Record | None,
    spec: ModelSpec,
    precision: str,
    operating_thresholds: tuple[float, ...],
    options: WriteOptions = PLAIN_OPTIONS,
) -> tuple[Path, ...]:
    """Write `model.<precision>.tflite` into `folder` and return the files written.

    record  for int8 only; float files ignore it

    Raises ArtifactError for what TFLite lacks, a batch of any size among it.
    """
    if precision == "int8" and record is None:
        raise ValueError("int8 needs a calibration record")
    record = record if precision == "int8" else None
    if precision not in PRECISIONS + ON_REQUEST:
        raise ValueError(f"TFLite is written in {', '.join(PRECISIONS + ON_REQUEST)}, not in {precision}")
    model = _Lowering(graph, record, precision, options).serialize()
    # Between the record's uint8 and the integers of the file's outputs.
    shift = _SHIFT if options.tflite_io == "int8" else 0
    info = ArtifactInfo(
        format="tflite",
        precision=cast(Precision, precision),
        outputs=_output_infos(graph, record, shift),
        operating_thresholds=operating_thresholds,
        record_sha256=record.sha256 if record else "",
        recipe=record.recipe if record else "",
        tool_versions=_tool_versions(),
    )
    path = folder / f"model.{precision}.tflite"
    path.write_bytes(append_trailer(model, dump_document(spec, info)))
    return (path,)


def _tool_versions() -> dict[str, str]:
    versions = {}
    for tool in _TOOLS:
        # fcos-edge itself may run from a checkout that was never installed.
        with suppress(PackageNotFoundError):
            versions[tool] = version(tool)
    return versions


def _output_infos(graph: Graph, record: Record | None, shift: int) -> tuple[OutputInfo, ...]:
    if record is None:
        return tuple(map(OutputInfo, graph.outputs))
    floats = float_branches(graph, record)
    points = {name: record.points[node] for name, node in graph.outputs.items()}
    return tuple(
        OutputInfo(name) if name in floats else OutputInfo(name, point.scale, point.zero_point - shift)
        for name, point in points.items()
    )


class _Lowering:
    """Puts one node after the other into a FlatModel.

    A node's value is one tensor, named after it, or after the output that it is: float32 without a record
    and in `float_values`, int8 elsewhere.
    """

    def __init__(self, graph: Graph, record: Record | None, precision: str, options: WriteOptions) -> None:
        if options.batch is None:
            raise ArtifactError("TFLite files have one batch size; name it, or leave this format out")
        self._model = FlatModel()
        self._graph = graph = equalized(graph, record.channel_factors) if record else graph
        self._record = record
        self._precision = precision
        self._batch = options.batch
        self._is_uint8 = options.tflite_io == "uint8" and record is not None
        self._floats = float_values(graph, record) if record else frozenset()
        self._float_outputs = float_branches(graph, record) if record else frozenset()
        # Outputs that a last operator dequantizes, or makes uint8, are named there.
        self._output_names = {
            node: name for name, node in graph.outputs.items()
            if node in self._floats or not (self._is_uint8 or name in self._float_outputs)
        }  # fmt: skip
        self._values: dict[str, int] = {}
        self._constants: dict[str, int] = {}
        self._dequantized: dict[str, int] = {}
        self._picture = -1

    def serialize(self) -> bytes:
        for node in self._graph.nodes:
            if isinstance(node, Input):
                self._add_input(node)
            elif isinstance(node, Conv):
                self._add_conv(node)
            elif isinstance(node, Add):
                self._add_add(node)
            elif isinstance(node, GroupNorm):
                self._add_group_norm(node)
            elif isinstance(node, MaxPool):
                self._add_max_pool(node)
            else:
                self._add_resize(node)
        outputs = {name: self._output(name, node) for name, node in self._graph.outputs.items()}
        return self._model.serialize({"images": self._picture}, outputs)

    def _output(self, name: str, node: str) -> int:
        """The tensor that a caller reads."""
        if node in self._floats:
            return self._values[node]
        if name in self._float_outputs:
            return self._add_float_output(name, node)
        if not (self._is_uint8 and self._record):
            return self._values[node]
        quantization = _unsigned(self._record.points[node])
        output = self._model.add_tensor(name, self._shape(node), np.uint8, quantization)
        self._model.add_operator("QUANTIZE", [self._values[node]], output)
        return output

    def _add_input(self, node: Input) -> None:
        shape = self._shape(node.name)
        point = self._record.points[node.name] if self._record else None
        # With one scale, a QUANTIZE shifts integers, and nothing is rounded.
        if point and node.uniform and point.scale == node.uniform[0]:
            picture = Point(*node.uniform)
            if self._is_uint8:
                self._picture = self._model.add_tensor("images", shape, np.uint8, _unsigned(picture))
            else:
                self._picture = self._model.add_tensor("images", shape, np.int8, _activation(picture))
            if self._is_uint8 or point != picture:
                self._model.add_operator("QUANTIZE", [self._picture], self._add_value(node.name))
            else:
                self._values[node.name] = self._picture
            return
        # A scale of 1 makes a DEQUANTIZE of what would be a CAST, which XNNPACK leaves to a slower kernel.
        uniform = None if self._record else node.uniform
        pixels = Point(*uniform) if uniform else Point(1.0, 0)
        self._picture = self._model.add_tensor("images", shape, np.uint8, _unsigned(pixels))
        value = self._add_value(node.name)
        if uniform:
            self._model.add_operator("DEQUANTIZE", [self._picture], value)
        else:
            normalized = self._add_float(f"{node.name}/normalized", node.name) if self._record else value
            self._add_normalization(node, normalized)
            if self._record:
                self._model.add_operator("QUANTIZE", [normalized], value)

    def _add_normalization(self, node: Input, normalized: int) -> None:
        mean = self._model.add_constant(f"{node.name}/mean", np.array(node.mean, np.float32))
        std = self._model.add_constant(f"{node.name}/std", np.array(node.std, np.float32))
        pixels = self._add_float(f"{node.name}/pixels", node.name)
        centred = self._add_float(f"{node.name}/centred", node.name)
        self._model.add_operator("DEQUANTIZE", [self._picture], pixels)
        self._model.add_operator("SUB", [pixels, mean], centred, schema.SubOptionsT())
        self._model.add_operator("DIV", [centred, std], normalized, schema.DivOptionsT())

    def _add_conv(self, node: Conv) -> None:
        channels = self._graph.shapes[node.inputs[0]][0]
        if node.groups != 1 and not node.groups == channels == len(node.bias):
            raise ArtifactError(
                f"{node.name}: {node.groups} groups for {channels} input and {len(node.bias)} output"
                " channels; TFLite needs 1 group, or one per channel: export the other formats"
            )
        value = self._add_value(node.name)
        if self._record is None:
            self._add_float_conv(node, self._values[node.inputs[0]], value)
        elif is_computed_in_float(node, self._record):
            result = self._float_result(node.name)
            self._add_float_conv(node, self._real(node.inputs[0]), result)
            self._quantize(result, value)
        else:
            self._add_integer_conv(node, self._record, value)

    def _add_integer_conv(self, node: Conv, record: Record, value: int) -> None:
        integers = conv_integers(node, record)
        count = 1 if integers.has_one_scale else len(integers.bias)
        axis = 3 if _is_depthwise(node) and count > 1 else 0
        weight = self._model.add_constant(
            f"{node.name}/weight",
            _channels_last(node, integers.weight),
            _channels(integers.weight_scale[:count], axis),
        )
        bias = self._model.add_constant(
            f"{node.name}/bias", integers.bias, _channels(integers.bias_scale[:count], 0)
        )
        self._add_conv_operator(node, self._values[node.inputs[0]], weight, bias, value)

    def _add_float_conv(self, node: Conv, source: int, value: int) -> None:
        if self._precision == "w8":
            weight = self._add_rounded_weights(node)
        else:
            weight = self._add_weights(f"{node.name}/weight", _channels_last(node, node.weight))
        bias = self._add_weights(f"{node.name}/bias", node.bias)
        self._add_conv_operator(node, source, weight, bias, value)

    def _add_conv_operator(self, node: Conv, source: int, weight: int, bias: int, value: int) -> None:
        padding = schema.Padding.VALID
        if node.pads == _same_pads(node, self._graph.shapes[node.inputs[0]]):
            padding = schema.Padding.SAME
        elif any(node.pads):
            source = self._add_padded(node, source)
        options = schema.DepthwiseConv2DOptionsT() if _is_depthwise(node) else schema.Conv2DOptionsT()
        options.padding = padding
        options.strideW = options.strideH = node.stride
        options.fusedActivationFunction = _FUSED[node.activation]
        if _is_depthwise(node):
            options.depthMultiplier = 1
        operator = "DEPTHWISE_CONV_2D" if _is_depthwise(node) else "CONV_2D"
        self._model.add_operator(operator, [source, weight, bias], value, options)

    def _add_padded(self, node: Conv | MaxPool, source: int) -> int:
        top, left, bottom, right = node.pads
        amounts = np.array([[0, 0], [top, bottom], [left, right], [0, 0]], np.int32)
        paddings = self._model.add_constant(f"{node.name}/pads", amounts)
        _, height, width, channels = self._shape(node.inputs[0])
        shape = (self._batch, height + top + bottom, width + left + right, channels)
        padded = self._model.add_like(source, f"{node.name}/padded", shape)
        self._model.add_operator("PAD", [source, paddings], padded, schema.PadOptionsT())
        return padded

    def _add_add(self, node: Add) -> None:
        options = schema.AddOptionsT()
        options.fusedActivationFunction = _FUSED[node.activation]
        value = self._add_value(node.name)
        if self._record and is_computed_in_float(node, self._record):
            result = self._float_result(node.name)
            self._model.add_operator("ADD", [self._real(name) for name in node.inputs], result, options)
            self._quantize(result, value)
        else:
            self._model.add_operator("ADD", [self._values[name] for name in node.inputs], value, options)

    def _add_resize(self, node: Resize) -> None:
        source, value = self._values[node.inputs[0]], self._add_value(node.name)
        size = self._model.add_constant(f"{node.name}/size", np.array(self._shape(node.name)[1:3], np.int32))
        # Neither corners aligned nor half-pixel centres: output y reads input floor(y / factor).
        options = schema.ResizeNearestNeighborOptionsT()
        self._model.add_operator("RESIZE_NEAREST_NEIGHBOR", [source, size], value, options)

    def _add_max_pool(self, node: MaxPool) -> None:
        source, value = self._values[node.inputs[0]], self._add_value(node.name)
        options = schema.Pool2DOptionsT()
        options.filterHeight = options.filterWidth = node.kernel
        options.strideH = options.strideW = node.stride
        options.padding = schema.Padding.VALID
        if any(node.pads):
            if _activation_of(self._graph, node.inputs[0]) == "none":
                raise ArtifactError(
                    f"{node.name}: pads where values may be negative; TFLite needs an activation in front:"
                    " export the other formats"
                )
            # Zeros, of which there is none above what a window of an activation has.
            source = self._add_padded(node, source)
        self._model.add_operator("MAX_POOL_2D", [source], value, options)

    def _add_group_norm(self, node: GroupNorm) -> None:
        """Over the picture first, one value per channel, then over each group by a 1x1 convolution: the map
        keeps its shape, and XNNPACK takes every operator."""
        value = self._add_value(node.name)
        source, result = self._real(node.inputs[0]), self._float_result(node.name)
        mean = self._add_group_means(node, source, "mean")
        squares = self._add_float(f"{node.name}/squares", node.name)
        self._model.add_operator(
            "SQUARED_DIFFERENCE", [source, mean], squares, schema.SquaredDifferenceOptionsT()
        )
        variance = self._add_group_means(node, squares, "variance")
        eps = self._model.add_constant(f"{node.name}/eps", np.array([node.eps], np.float32))
        gamma = self._model.add_constant(f"{node.name}/gamma", node.gamma)
        beta = self._model.add_constant(f"{node.name}/beta", node.beta)
        positive = self._add_channels(node, "positive")
        inverse, factor = self._add_channels(node, "inverse"), self._add_channels(node, "factor")
        moved, shift = self._add_channels(node, "moved"), self._add_channels(node, "shift")
        self._model.add_operator("ADD", [variance, eps], positive, schema.AddOptionsT())
        self._model.add_operator("RSQRT", [positive], inverse)
        self._model.add_operator("MUL", [inverse, gamma], factor, schema.MulOptionsT())
        self._model.add_operator("MUL", [mean, factor], moved, schema.MulOptionsT())
        self._model.add_operator("SUB", [beta, moved], shift, schema.SubOptionsT())
        scaled = self._add_float(f"{node.name}/scaled", node.name)
        self._model.add_operator("MUL", [source, factor], scaled, schema.MulOptionsT())
        options = schema.AddOptionsT()
        options.fusedActivationFunction = _FUSED[node.activation]
        self._model.add_operator("ADD", [scaled, shift], result, options)
        self._quantize(result, value)

    def _add_group_means(self, node: GroupNorm, source: int, what: str) -> int:
        """(N, 1, 1, C): the mean of each channel's group over the whole map."""
        channels = len(node.gamma)
        axes = self._constant("axes", np.array([1, 2], np.int32))
        options = schema.ReducerOptionsT()
        options.keepDims = True
        of_channels = self._add_channels(node, f"{what}_of_channels")
        self._model.add_operator("MEAN", [source, axes], of_channels, options)
        width = channels // node.groups
        same_group = np.kron(np.eye(node.groups), np.full((width, width), 1 / width)).astype(np.float32)
        weight = self._constant(
            f"groups_{channels}_{node.groups}", same_group.reshape(channels, 1, 1, channels)
        )
        bias = self._constant(f"zeros_{channels}", np.zeros(channels, np.float32))
        conv = schema.Conv2DOptionsT()
        conv.strideW = conv.strideH = 1
        conv.padding = schema.Padding.VALID
        mean = self._add_channels(node, what)
        self._model.add_operator("CONV_2D", [of_channels, weight, bias], mean, conv)
        return mean

    def _add_channels(self, node: GroupNorm, what: str) -> int:
        return self._model.add_tensor(f"{node.name}/{what}", (self._batch, 1, 1, len(node.gamma)), np.float32)

    def _constant(self, name: str, values: Any) -> int:
        """One that several nodes read."""
        if name not in self._constants:
            self._constants[name] = self._model.add_constant(name, values)
        return self._constants[name]

    def _add_value(self, node: str) -> int:
        name = self._output_names.get(node, node)
        if self._is_float(node):
            value = self._add_float(name, node)
        else:
            assert self._record is not None
            quantization = _activation(self._record.points[node])
            value = self._model.add_tensor(name, self._shape(node), np.int8, quantization)
        self._values[node] = value
        return value

    def _add_float(self, name: str, node: str) -> int:
        return self._model.add_tensor(name, self._shape(node), np.float32)

    def _is_float(self, node: str) -> bool:
        return self._record is None or node in self._floats

    def _float_result(self, node: str) -> int:
        """Where a node that is computed in float puts its sums: its value, or what becomes that."""
        return self._values[node] if self._is_float(node) else self._add_float(f"{node}/float", node)

    def _quantize(self, result: int, value: int) -> None:
        if result != value:
            self._model.add_operator("QUANTIZE", [result], value)

    def _real(self, node: str) -> int:
        """The node's value as a float tensor."""
        if self._is_float(node):
            return self._values[node]
        if node not in self._dequantized:
            self._dequantized[node] = self._add_float(f"{node}/dequantized", node)
            self._model.add_operator("DEQUANTIZE", [self._values[node]], self._dequantized[node])
        return self._dequantized[node]

    def _add_float_output(self, name: str, node: str) -> int:
        output = self._add_float(name, node)
        self._model.add_operator("DEQUANTIZE", [self._values[node]], output)
        return output

    def _add_weights(self, name: str, values: FloatArray) -> int:
        if self._precision != "fp16":
            return self._model.add_constant(name, values.astype(np.float32))
        half = self._model.add_constant(f"{name}/fp16", as_float16(name, values))
        widened = self._model.add_tensor(name, values.shape, np.float32)
        self._model.add_operator("DEQUANTIZE", [half], widened)
        return widened

    def _add_rounded_weights(self, node: Conv) -> int:
        integers, scale = rounded_weights(node)
        name, values = f"{node.name}/weight", _channels_last(node, integers)
        axis = 3 if _is_depthwise(node) else 0
        rounded = self._model.add_constant(f"{name}/integers", values, _channels(scale, axis))
        widened = self._model.add_tensor(name, values.shape, np.float32)
        self._model.add_operator("DEQUANTIZE", [rounded], widened)
        return widened

    def _shape(self, node: str) -> tuple[int, int, int, int]:
        channels, height, width = self._graph.shapes[node]
        return (self._batch, height, width, channels)


def _activation(point: Point) -> Quantization:
    return Quantization((point.scale,), (point.zero_point - _SHIFT,))


def _unsigned(point: Point) -> Quantization:
    return Quantization((point.scale,), (point.zero_point,))


def _channels(scales: FloatArray, axis: int) -> Quantization:
    return Quantization(tuple(map(float, scales)), (0,) * len(scales), axis)


def _activation_of(graph: Graph, name: str) -> Activation:
    (node,) = (node for node in graph.nodes if node.name == name)
    return "none" if isinstance(node, Input | Resize | MaxPool) else node.activation


def _is_depthwise(node: Conv) -> bool:
    return node.groups > 1


def _channels_last(node: Conv, weight: Any) -> Any:
    """(O, I / groups, kh, kw) -> (O, kh, kw, I), or (1, kh, kw, O) for a depthwise convolution."""
    return weight.transpose(1, 2, 3, 0) if _is_depthwise(node) else weight.transpose(0, 2, 3, 1)


def _same_pads(node: Conv, input_shape: tuple[int, int, int]) -> tuple[int, int, int, int]:
    """What TensorFlow's SAME adds at top, left, bottom, right: the odd row and column come last."""
    totals = []
    for side, kernel in zip(input_shape[1:], node.weight.shape[2:], strict=True):
        covered = (-(-side // node.stride) - 1) * node.stride + kernel
        totals.append(max(covered - side, 0))
    top, left = (total // 2 for total in totals)
    return top, left, totals[0] - top, totals[1] - left
