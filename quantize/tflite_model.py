"""A TFLite model as a list of tensors and operators, and the bytes of its file.

Written with the flatbuffer schema that ai-edge-litert ships; no converter, and so none of its choices:
tensors keep the names and the order that they are given here, and the same calls give the same bytes.

tensor    an index into the file's only subgraph, as `add_tensor` returns it
operator  reads and writes tensors; operators run in the order in which they are added
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import flatbuffers
import numpy as np
import numpy.typing as npt
from ai_edge_litert import schema_py_generated as schema

Array = npt.NDArray[Any]

SIGNATURE = "serving_default"
_SCHEMA_VERSION = 3
_FILE_IDENTIFIER = b"TFL3"
# What the schema demands of buffers; runtimes map the file and read the weights where they stand.
_BUFFER_ALIGNMENT = 16

_TENSOR_TYPES = {
    np.dtype(np.float32): schema.TensorType.FLOAT32,
    np.dtype(np.float16): schema.TensorType.FLOAT16,
    np.dtype(np.int32): schema.TensorType.INT32,
    np.dtype(np.uint8): schema.TensorType.UINT8,
    np.dtype(np.int8): schema.TensorType.INT8,
}
# The first version of each operator that takes this type as its first input; 1 where none is given.
# A newer version than needed would shut out older runtimes.
_VERSIONS = {
    ("CONV_2D", np.dtype(np.int8)): 3,
    ("DEPTHWISE_CONV_2D", np.dtype(np.int8)): 3,
    ("ADD", np.dtype(np.int8)): 2,
    ("PAD", np.dtype(np.int8)): 2,
    ("MAX_POOL_2D", np.dtype(np.int8)): 2,
    ("RESIZE_NEAREST_NEIGHBOR", np.dtype(np.int8)): 2,
    ("DEQUANTIZE", np.dtype(np.int8)): 2,
    ("DEQUANTIZE", np.dtype(np.float16)): 3,
}


@dataclass(frozen=True, eq=False)
class Quantization:
    """Real value = (q - zero point) * scale.

    scales       (1,) for a whole tensor, or one per slice along `axis`
    zero_points  as many
    """

    scales: tuple[float, ...]
    zero_points: tuple[int, ...]
    axis: int = 0


class FlatModel:
    """A TFLite model under construction."""

    def __init__(self) -> None:
        # Buffer 0 is empty by definition: the one of every tensor that is computed.
        self._buffers: list[Any] = [schema.BufferT()]
        self._dtypes: list[np.dtype[Any]] = []
        self._codes: dict[tuple[str, int], int] = {}
        self._subgraph = schema.SubGraphT()
        self._subgraph.name = "main"
        self._subgraph.tensors = []
        self._subgraph.operators = []

    def add_tensor(
        self,
        name: str,
        shape: Sequence[int],
        dtype: npt.DTypeLike,
        quantization: Quantization | None = None,
    ) -> int:
        """Add a tensor that an operator, or the caller of the model, will fill."""
        return self._add(name, shape, np.dtype(dtype), quantization, buffer=0)

    def add_constant(self, name: str, values: Array, quantization: Quantization | None = None) -> int:
        """Add a tensor whose values stand in the file."""
        buffer = _AlignedBuffer()
        buffer.data = np.ascontiguousarray(values).tobytes()
        self._buffers.append(buffer)
        return self._add(name, values.shape, values.dtype, quantization, buffer=len(self._buffers) - 1)

    def add_like(self, tensor: int, name: str, shape: Sequence[int]) -> int:
        """Add a tensor of the type and quantization of another one."""
        added = self._add(name, shape, self._dtypes[tensor], None, buffer=0)
        self._subgraph.tensors[added].quantization = self._subgraph.tensors[tensor].quantization
        return added

    def add_operator(self, name: str, inputs: Sequence[int], output: int, options: Any = None) -> None:
        """Add the built-in operator `name` of the schema, such as CONV_2D.

        options  the schema's own options object, such as Conv2DOptionsT, where the operator has any
        """
        operator = schema.OperatorT()
        operator.opcodeIndex = self._code_index(name, _VERSIONS.get((name, self._dtypes[inputs[0]]), 1))
        operator.inputs = list(inputs)
        operator.outputs = [output]
        if options is not None:
            kind = type(options).__name__.removesuffix("T")
            operator.builtinOptionsType = getattr(schema.BuiltinOptions, kind)
            operator.builtinOptions = options
        self._subgraph.operators.append(operator)

    def serialize(self, inputs: Mapping[str, int], outputs: Mapping[str, int]) -> bytes:
        """The file's bytes. Both mappings are names -> tensors, in the order that callers will see."""
        self._subgraph.inputs = list(inputs.values())
        self._subgraph.outputs = list(outputs.values())
        signature = schema.SignatureDefT()
        signature.signatureKey = SIGNATURE
        signature.subgraphIndex = 0
        signature.inputs = [_tensor_map(name, tensor) for name, tensor in inputs.items()]
        signature.outputs = [_tensor_map(name, tensor) for name, tensor in outputs.items()]
        model = schema.ModelT()
        model.version = _SCHEMA_VERSION
        model.description = "fcos-edge"
        model.operatorCodes = [_operator_code(name, version) for name, version in self._codes]
        model.subgraphs = [self._subgraph]
        model.buffers = self._buffers
        model.signatureDefs = [signature]
        builder = flatbuffers.Builder(sum(len(buffer.data or b"") for buffer in self._buffers) + (1 << 20))
        builder.Finish(model.Pack(builder), _FILE_IDENTIFIER)
        return bytes(builder.Output())

    def _add(
        self,
        name: str,
        shape: Sequence[int],
        dtype: np.dtype[Any],
        quantization: Quantization | None,
        buffer: int,
    ) -> int:
        tensor = schema.TensorT()
        tensor.name = name
        tensor.shape = [int(side) for side in shape]
        tensor.type = _TENSOR_TYPES[dtype]
        tensor.buffer = buffer
        if quantization is not None:
            tensor.quantization = schema.QuantizationParametersT()
            tensor.quantization.scale = list(quantization.scales)
            tensor.quantization.zeroPoint = list(quantization.zero_points)
            tensor.quantization.quantizedDimension = quantization.axis
        self._subgraph.tensors.append(tensor)
        self._dtypes.append(dtype)
        return len(self._dtypes) - 1

    def _code_index(self, name: str, version: int) -> int:
        return self._codes.setdefault((name, version), len(self._codes))


class _AlignedBuffer(schema.BufferT):  # type: ignore[misc]
    """A buffer that is packed on a 16-byte border; the schema's own `Pack` forgets that, and is slow."""

    def Pack(self, builder: Any) -> Any:  # noqa: N802 (the schema's name)
        builder.StartVector(1, len(self.data), _BUFFER_ALIGNMENT)
        builder.head -= len(self.data)
        builder.Bytes[builder.head : builder.head + len(self.data)] = self.data
        data = builder.EndVector()
        schema.BufferStart(builder)
        schema.BufferAddData(builder, data)
        return schema.BufferEnd(builder)


def _operator_code(name: str, version: int) -> Any:
    code = schema.OperatorCodeT()
    code.builtinCode = getattr(schema.BuiltinOperator, name)
    # Where readers from before 2020 look; 127 would mean "see builtinCode".
    code.deprecatedBuiltinCode = min(code.builtinCode, 127)
    code.version = version
    return code


def _tensor_map(name: str, tensor: int) -> Any:
    entry = schema.TensorMapT()
    entry.name = name
    entry.tensorIndex = tensor
    return entry
