"""The network of `models.py` as a TFLite flatbuffer, through the schema that ai-edge-litert carries.

io        picture -> outputs
float32   float32 pixels 0..255 -> float32
uint8     uint8 pixels, cast to float32 inside -> float32
int8      int8, pixel - 128 -> int8
quant     uint8 pixels, requantized to int8 inside -> int8
"""

from __future__ import annotations

from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from fcos_edge.artifact import ArtifactInfo, OutputInfo
from tests.runtimes.models import CHANNELS, FILE_ORDER, SPEC, THRESHOLDS, weight

# Real value = pixel - 127 over 128, as (x - 127) / 128 normalizes: int8 q = pixel - 128.
INPUT_SCALE, INPUT_ZERO_POINT = 1 / 128, -1
WEIGHT_SCALE = 1 / 64
IOS = ("float32", "uint8", "int8", "quant")


def is_quantized(io: str) -> bool:
    return io in ("int8", "quant")


def output_quantization(name: str) -> tuple[float, int]:
    """(scale, zero point), another one for every output."""
    index = SPEC.output_names.index(name)
    return float(np.float32(0.03 + 0.001 * index)), index - 3


def tflite_info(io: str) -> ArtifactInfo:
    outputs = tuple(
        OutputInfo(name, *output_quantization(name)) if is_quantized(io) else OutputInfo(name)
        for name in FILE_ORDER
    )
    precision = "int8" if is_quantized(io) else "fp32"
    return ArtifactInfo("tflite", precision, outputs, THRESHOLDS)  # type: ignore[arg-type]


class _Writer:
    """Collects the tensors and operators of one subgraph."""

    def __init__(self) -> None:
        self.model = schema.ModelT()
        self.model.version = 3
        self.model.operatorCodes, self.model.buffers = [], [schema.BufferT()]
        self.graph = schema.SubGraphT()
        self.graph.tensors, self.graph.operators = [], []
        self.model.subgraphs = [self.graph]

    def tensor(
        self,
        name: str,
        shape: tuple[int, ...],
        dtype: Any,
        data: Any = None,
        quantization: tuple[float, int] | None = None,
    ) -> int:
        tensor = schema.TensorT()
        tensor.name, tensor.shape, tensor.type, tensor.buffer = name, list(shape), dtype, 0
        if quantization is not None:
            tensor.quantization = schema.QuantizationParametersT()
            tensor.quantization.scale = [quantization[0]]
            tensor.quantization.zeroPoint = [quantization[1]]
        if data is not None:
            buffer = schema.BufferT()
            buffer.data = np.frombuffer(data.tobytes(), np.uint8)
            tensor.buffer = len(self.model.buffers)
            self.model.buffers.append(buffer)
        self.graph.tensors.append(tensor)
        return len(self.graph.tensors) - 1

    def operator(
        self, name: str, inputs: list[int], output: int, options: str | None = None, **values: Any
    ) -> None:
        code = schema.OperatorCodeT()
        code.builtinCode = getattr(schema.BuiltinOperator, name)
        code.deprecatedBuiltinCode = code.builtinCode
        code.version = {"AVERAGE_POOL_2D": 2, "CONV_2D": 3}.get(name, 1)
        operator = schema.OperatorT()
        operator.opcodeIndex = len(self.model.operatorCodes)
        operator.inputs, operator.outputs = inputs, [output]
        if options is not None:
            operator.builtinOptionsType = getattr(schema.BuiltinOptions, options)
            operator.builtinOptions = getattr(schema, f"{options}T")()
            for key, value in values.items():
                setattr(operator.builtinOptions, key, value)
        self.model.operatorCodes.append(code)
        self.graph.operators.append(operator)

    def serialize(self) -> bytes:
        builder = flatbuffers.Builder(4096)
        builder.Finish(self.model.Pack(builder), b"TFL3")
        return bytes(builder.Output())


def tflite_model(io: str = "float32", batch: int = 1, names: dict[str, str] | None = None) -> bytes:
    """A flatbuffer without trailer; `names` gives outputs other tensor names than ours."""
    kind = schema.TensorType
    is_int8 = is_quantized(io)
    dtype = kind.INT8 if is_int8 else kind.FLOAT32
    input_quantization = (INPUT_SCALE, INPUT_ZERO_POINT) if is_int8 else None
    writer = _Writer()
    shape = (batch, *SPEC.input_hw, 3)
    if io in ("uint8", "quant"):
        pixel_quantization = (INPUT_SCALE, INPUT_ZERO_POINT + 128) if is_int8 else None
        images = writer.tensor("images", shape, kind.UINT8, quantization=pixel_quantization)
        pixels = writer.tensor("pixels", shape, dtype, quantization=input_quantization)
        writer.operator("QUANTIZE" if is_int8 else "CAST", [images], pixels)
    else:
        images = pixels = writer.tensor("images", shape, dtype, quantization=input_quantization)
    levels = {}
    for level, stride, hw in zip(SPEC.level_names, SPEC.strides, SPEC.level_hw, strict=True):
        levels[level] = writer.tensor(level, (batch, *hw, 3), dtype, quantization=input_quantization)
        writer.operator(
            "AVERAGE_POOL_2D",
            [pixels],
            levels[level],
            "Pool2DOptions",
            padding=schema.Padding.VALID,
            strideH=stride,
            strideW=stride,
            filterHeight=stride,
            filterWidth=stride,
        )
    outputs = []
    for name in FILE_ORDER:
        branch, level = name.split("_")
        channels = CHANNELS[branch]
        kernel = weight(name)[:, None, None, :]
        if is_int8:
            steps = np.round(kernel / WEIGHT_SCALE).astype(np.int8)
            kernel_index = writer.tensor(f"{name}_w", kernel.shape, dtype, steps, (WEIGHT_SCALE, 0))
            bias, bias_scale = np.zeros(channels, np.int32), (INPUT_SCALE * WEIGHT_SCALE, 0)
            bias_index = writer.tensor(f"{name}_b", bias.shape, kind.INT32, bias, bias_scale)
        else:
            kernel_index = writer.tensor(f"{name}_w", kernel.shape, dtype, kernel)
            bias_index = writer.tensor(f"{name}_b", (channels,), dtype, np.zeros(channels, np.float32))
        hw = SPEC.level_hw[SPEC.level_names.index(level)]
        output = writer.tensor(
            (names or {}).get(name, name),
            (batch, *hw, channels),
            dtype,
            quantization=output_quantization(name) if is_int8 else None,
        )
        writer.operator(
            "CONV_2D",
            [levels[level], kernel_index, bias_index],
            output,
            "Conv2DOptions",
            padding=schema.Padding.VALID,
            strideH=1,
            strideW=1,
        )
        outputs.append(output)
    writer.graph.inputs, writer.graph.outputs = [images], outputs
    return writer.serialize()
