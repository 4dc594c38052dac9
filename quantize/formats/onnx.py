"""Write a deploy graph as ONNX: float, or int8 as QDQ nodes built from the record.

QDQ        every quantized tensor is a QuantizeLinear - DequantizeLinear pair around a float operator;
           runtimes fuse such a neighbourhood into one integer operator
NHWC/NCHW  pictures and outputs are NHWC, ONNX convolutions NCHW: one Transpose after the picture, one in
           front of each output

A node that the record keeps in float has no pair around it where its value stays float (`float_values.py`).

The picture's DequantizeLinear comes before its Transpose: the other order leaves the first convolution
of OpenVINO in float. Weights are int8 per output channel and activations uint8 per tensor (U8S8), which
is what x86 with VNNI multiplies fastest.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from fcos_edge import __version__
from fcos_edge.artifact import DOCUMENT_KEY, ArtifactInfo, OutputInfo, Precision, dump_document
from fcos_edge.quantize.float_values import float_values, is_computed_in_float
from fcos_edge.quantize.formats import PLAIN_OPTIONS, WriteOptions
from fcos_edge.quantize.graph import Activation, Add, Conv, Graph, GroupNorm, Input, MaxPool, Node, Resize
from fcos_edge.quantize.recipe import parse_recipe
from fcos_edge.quantize.record import MIDDLE, Point, Record, conv_integers, is_picture, quantized_bounds
from fcos_edge.quantize.refinements.equalization import equalized
from fcos_edge.quantize.weight_only import as_float16, rounded_weights
from fcos_edge.spec import ModelSpec

FORMAT = "onnx"
PRECISIONS = ("fp32", "int8")
ON_REQUEST = ("fp16", "w8")

# The oldest pair that has every operator here, so that ONNX Runtime 1.17 and older tools read the file.
OPSET = 17
IR_VERSION = 8

Array = npt.NDArray[Any]


def write(
    folder: Path,
    graph: Graph,
    record: Record | None,
    spec: ModelSpec,
    precision: str,
    operating_thresholds: tuple[float, ...],
    options: WriteOptions = PLAIN_OPTIONS,
) -> tuple[Path, ...]:
    """Write `model.<precision>.onnx`; the same arguments give the same bytes."""
    quantization = record_for(precision, PRECISIONS + ON_REQUEST, record)
    info = ArtifactInfo(
        format="onnx",
        precision=cast(Precision, precision),
        outputs=tuple(OutputInfo(name) for name in graph.outputs),
        operating_thresholds=operating_thresholds,
        record_sha256=quantization.sha256 if quantization else "",
        recipe=quantization.recipe if quantization else "",
        tool_versions={"fcos-edge": __version__, "onnx": onnx.__version__},
    )
    path = folder / f"model.{precision}.onnx"
    path.write_bytes(
        serialize(graph, quantization, dump_document(spec, info), options=options, weights=precision)
    )
    return (path,)


def serialize(
    graph: Graph,
    record: Record | None,
    document: str | None = None,
    *,
    options: WriteOptions = PLAIN_OPTIONS,
    weights: str = "fp32",
    keeps_terms: bool = False,
) -> bytes:
    """The ONNX file of a graph: float without a record, int8 QDQ with one.

    weights      as what float ones stand in the file: "fp16" widened by a Cast, "w8" (`weight_only.py`)
                 multiplied out, anything else as they are
    keeps_terms  for OpenVINO: a MaxPool of one pixel, which changes nothing, stands between a convolution and
                 an Add, so that they are not fused
    """
    model = _Builder(graph, record, options, weights, keeps_terms and record is not None).model()
    if document is not None:
        helper.set_model_props(model, {DOCUMENT_KEY: document})
    return bytes(model.SerializeToString(deterministic=True))


def record_for(precision: str, supported: tuple[str, ...], record: Record | None) -> Record | None:
    """The record where the precision needs one, None where it does not."""
    if precision not in supported:
        raise ValueError(f"precision is {precision}, expected {', '.join(supported)}")
    if precision != "int8":
        return None
    if record is None:
        raise ValueError("int8 needs a calibration record")
    return record


class _Builder:
    """Emits one ONNX node after the other.

    values: name of a graph node -> name of the float NCHW tensor that stands for its output
    """

    def __init__(
        self, graph: Graph, record: Record | None, options: WriteOptions, weights: str, keeps_terms: bool
    ) -> None:
        self.graph = graph = equalized(graph, record.channel_factors) if record else graph
        self.record = record
        # With zero points of 0, as who asks for symmetric activations wants them.
        self.is_signed = record is not None and parse_recipe(record.recipe).is_symmetric
        # A name stands for any size, and is the same one in all shapes.
        self.batch = "batch" if options.batch is None else options.batch
        self.weights = weights
        self.keeps_terms = keeps_terms
        self.float_values = float_values(graph, record) if record else frozenset()
        self.convolutions = {node.name for node in graph.nodes if isinstance(node, Conv)}
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, onnx.TensorProto] = {}
        self.values: dict[str, str] = {}

    def model(self) -> onnx.ModelProto:
        for node in self.graph.nodes:
            match node:
                case Input():
                    self.values[node.name] = self.picture(node)
                case Conv():
                    self.values[node.name] = self.conv(node)
                case Add():
                    terms = [self.term(name) for name in node.inputs]
                    total = self.emit("Add", terms, f"{node.name}/sum")
                    self.values[node.name] = self.activated(node, total)
                case Resize():
                    self.values[node.name] = self.selected(node, self.enlarged(node))
                case MaxPool():
                    self.values[node.name] = self.selected(node, self.pooled(node))
                case GroupNorm():
                    self.values[node.name] = self.activated(node, self.group_normalized(node))
        outputs = [self.output(name, source) for name, source in self.graph.outputs.items()]
        height, width = self.graph.input_hw
        picture = helper.make_tensor_value_info("images", TensorProto.UINT8, [self.batch, height, width, 3])
        graph = helper.make_graph(
            self.nodes, "fcos", [picture], outputs, initializer=list(self.constants.values())
        )
        return helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=IR_VERSION,
            producer_name="fcos-edge",
        )

    def picture(self, node: Input) -> str:
        """The normalized picture, NCHW. Where it is the quantized input itself, nothing is computed."""
        point = self.record.points[node.name] if self.record else None
        if node.uniform and (point is None or (is_picture(node, point) and not self.is_signed)):
            pixels = self.dequantized("images", Point(*node.uniform), node.name)
        else:
            pixels = self.emit("Cast", ["images"], f"{node.name}/float", to=TensorProto.FLOAT)
            pixels = self.emit("Sub", [pixels, self.constant(f"{node.name}/mean", _float32(node.mean))])
            pixels = self.emit("Div", [pixels, self.constant(f"{node.name}/std", _float32(node.std))])
            if point:
                pixels = self.dequantized(self.quantized(pixels, point, node.name), point, node.name)
        return self.emit("Transpose", [pixels], f"{node.name}/nchw", perm=[0, 3, 1, 2])

    def conv(self, node: Conv) -> str:
        if self.record is None or is_computed_in_float(node, self.record):
            weight, bias = self.float_constants(node)
        else:
            weight, bias = self.integer_constants(node, self.record)
        total = self.emit(
            "Conv",
            [self.values[node.inputs[0]], weight, bias],
            f"{node.name}/conv",
            kernel_shape=list(node.weight.shape[2:]),
            strides=[node.stride, node.stride],
            pads=list(node.pads),
            group=node.groups,
        )
        return self.activated(node, total)

    def float_constants(self, node: Conv) -> tuple[str, str]:
        names = f"{node.name}/weight", f"{node.name}/bias"
        if self.weights == "w8" and self.record is None:
            return self.multiplied_out(node, names[0]), self.constant(names[1], node.bias)
        if self.weights == "fp16":
            return self.widened(names[0], node.weight), self.widened(names[1], node.bias)
        return self.constant(names[0], node.weight), self.constant(names[1], node.bias)

    def multiplied_out(self, node: Conv, name: str) -> str:
        # ONNX Runtime keeps a DequantizeLinear, and runs it each time: 97 ms where fp32 takes 44.
        integers, scale = rounded_weights(node)
        steps = self.emit("Cast", [self.constant(f"{name}/integers", integers)], to=TensorProto.FLOAT)
        return self.emit("Mul", [steps, self.constant(f"{name}/scale", scale[:, None, None, None])], name)

    def widened(self, name: str, values: Array) -> str:
        half = self.constant(f"{name}/fp16", as_float16(name, values))
        return self.emit("Cast", [half], name, to=TensorProto.FLOAT)

    def integer_constants(self, node: Conv, record: Record) -> tuple[str, str]:
        """Weight and bias as the record's integers behind a DequantizeLinear each."""
        integers = conv_integers(node, record)
        scales = integers.weight_scale, integers.bias_scale
        if integers.has_one_scale:
            scales = integers.weight_scale[0], integers.bias_scale[0]
        weight = self.dequantized_constant(f"{node.name}/weight", integers.weight, scales[0])
        if self.is_signed and not self.keeps_terms:
            # TensorRT dequantizes no int32; ONNX Runtime finds the integers again.
            real = (integers.bias.astype(np.float64) * integers.bias_scale).astype(np.float32)
            return weight, self.constant(f"{node.name}/bias", real)
        bias = self.dequantized_constant(f"{node.name}/bias", integers.bias, scales[1])
        return weight, bias

    def dequantized_constant(self, name: str, integers: Array, scale: Array | np.float32) -> str:
        """scale: (O,), one per output channel, or one for all"""
        parts = [
            self.constant(f"{name}/integers", integers),
            self.constant(f"{name}/scale", scale),
            self.constant(f"{name}/zero_point", np.zeros(np.shape(scale), integers.dtype)),
        ]
        axis = {"axis": 0} if np.ndim(scale) else {}
        return self.emit("DequantizeLinear", parts, name, **axis)

    def term(self, name: str) -> str:
        """What an Add reads of the node `name`."""
        value = self.values[name]
        if self.keeps_terms and name in self.convolutions - self.float_values:
            return self.emit("MaxPool", [value], kernel_shape=[1, 1])
        return value

    def activated(self, node: Conv | Add | GroupNorm, total: str) -> str:
        """Activation, then the quantization point of the node."""
        if self.record is None or node.name in self.float_values:
            return self.clipped(node.name, total, node.activation)
        if is_computed_in_float(node, self.record) and not isinstance(node, GroupNorm):
            # ONNX Runtime quantizes what stands between a DequantizeLinear and a QuantizeLinear, the float
            # weights of a convolution too, and looks past a Relu or Clip. A Max that does nothing stops it.
            lowest = self.constant("lowest", np.float32(np.finfo(np.float32).min))
            total = self.emit("Max", [total, lowest], f"{node.name}/kept")
        return self.requantized(node.name, total, node.activation)

    def requantized(self, name: str, total: str, activation: Activation) -> str:
        assert self.record is not None
        point = self.record.points[name]
        if self.is_signed and self.keeps_terms:
            total, activation = self.clipped(name, total, activation), "none"
        integers = self.quantized(total, point, name)
        low, high = quantized_bounds(activation, point)
        if (low, high) != (0, 255) and self.is_signed:
            return self.clipped_again(name, integers, (low, high), point)
        if (low, high) != (0, 255):
            # On the integers, so that the convolution in front still fuses with its QuantizeLinear.
            bounds = [
                self.constant(f"{name}/low", np.array(low, np.uint8)),
                self.constant(f"{name}/high", np.array(high, np.uint8)),
            ]
            integers = self.emit("Clip", [integers, *bounds], f"{name}/clip")
        return self.dequantized(integers, point, name)

    def clipped_again(self, name: str, integers: str, bounds: tuple[int, int], point: Point) -> str:
        """The activation between two quantizations with one scale, which changes no integer within bounds.

        In front of the first, no runtime would fuse the convolution; and TensorRT has no Clip on int8.
        """
        real = self.dequantized(integers, point, name)
        if bounds[1] == 255:
            real = self.emit("Relu", [real], f"{name}/relu")
        else:
            low, high = (np.float32(point.scale) * np.float32(q - point.zero_point) for q in bounds)
            real = self.emit(
                "Clip", [real, self.constant(f"{name}/low", low), self.constant(f"{name}/high", high)]
            )
        integers = self.emit("QuantizeLinear", [real, *self.point(point, name)], f"{name}/clipped")
        return self.emit("DequantizeLinear", [integers, *self.point(point, name)], f"{name}/activated")

    def clipped(self, name: str, total: str, activation: Activation) -> str:
        if activation == "none":
            return total
        if activation == "relu":
            return self.emit("Relu", [total], f"{name}/relu")
        bounds = [self.constant("zero", np.float32(0)), self.constant("six", np.float32(6))]
        return self.emit("Clip", [total, *bounds], f"{name}/relu6")

    def enlarged(self, node: Resize) -> str:
        factors = self.constant(f"scales_{node.factor}", _float32((1, 1, node.factor, node.factor)))
        return self.emit(
            "Resize",
            [self.values[node.inputs[0]], "", factors],
            f"{node.name}/resize",
            mode="nearest",
            coordinate_transformation_mode="asymmetric",
            nearest_mode="floor",
        )

    def pooled(self, node: MaxPool) -> str:
        return self.emit(
            "MaxPool",
            [self.values[node.inputs[0]]],
            f"{node.name}/pool",
            kernel_shape=[node.kernel, node.kernel],
            strides=[node.stride, node.stride],
            pads=list(node.pads),
        )

    def selected(self, node: Node, values: str) -> str:
        """Quantized as the input is, so that the operator itself may run on integers."""
        if self.record is None or node.name in self.float_values:
            return values
        return self.requantized(node.name, values, "none")

    def group_normalized(self, node: GroupNorm) -> str:
        """Each group as one channel of an InstanceNormalization: no GroupNormalization before opset 18."""
        channels = len(node.gamma)
        ones = self.constant(f"ones_{node.groups}", np.ones(node.groups, np.float32))
        zeros = self.constant(f"zeros_{node.groups}", np.zeros(node.groups, np.float32))
        grouped = self.constant(f"grouped_{node.groups}", np.array([0, node.groups, -1], np.int64))
        height, width = self.graph.shapes[node.name][1:]
        shape = self.constant(
            f"shape_{channels}_{height}_{width}", np.array([0, channels, height, width], np.int64)
        )
        value = self.emit("Reshape", [self.values[node.inputs[0]], grouped], f"{node.name}/groups")
        value = self.emit(
            "InstanceNormalization", [value, ones, zeros], f"{node.name}/normalized", epsilon=node.eps
        )
        value = self.emit("Reshape", [value, shape], f"{node.name}/channels")
        gamma = self.constant(f"{node.name}/gamma", node.gamma.reshape(-1, 1, 1))
        beta = self.constant(f"{node.name}/beta", node.beta.reshape(-1, 1, 1))
        return self.emit(
            "Add", [self.emit("Mul", [value, gamma], f"{node.name}/scaled"), beta], f"{node.name}/shifted"
        )

    def output(self, name: str, source: str) -> onnx.ValueInfoProto:
        channels, height, width = self.graph.shapes[source]
        self.emit("Transpose", [self.values[source]], name, perm=[0, 2, 3, 1])
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, [self.batch, height, width, channels])

    def quantized(self, value: str, point: Point, name: str) -> str:
        return self.emit("QuantizeLinear", [value, *self.point(point, name)], f"{name}/integers")

    def dequantized(self, integers: str, point: Point, name: str) -> str:
        return self.emit("DequantizeLinear", [integers, *self.point(point, name)], f"{name}/value")

    def point(self, point: Point, name: str) -> list[str]:
        zero_point = np.int8(point.zero_point - MIDDLE) if self.is_signed else np.uint8(point.zero_point)
        return [
            self.constant(f"{name}/scale", np.float32(point.scale)),
            self.constant(f"{name}/zero_point", zero_point),
        ]

    def constant(self, name: str, value: Array | np.float32) -> str:
        if name not in self.constants:
            self.constants[name] = numpy_helper.from_array(np.asarray(value, order="C"), name)
        return name

    def emit(self, operator: str, inputs: list[str], output: str = "", **attributes: Any) -> str:
        output = output or f"{inputs[0]}/{operator.lower()}"
        self.nodes.append(helper.make_node(operator, inputs, [output], name=output, **attributes))
        return output


def _float32(values: tuple[float, ...]) -> Array:
    return np.asarray(values, np.float32)
