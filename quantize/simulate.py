"""The integer simulator: what an exact runtime computes, to the bit.

It is the oracle of `verify`, and what calibration recipes are judged on. ONNX Runtime (MLAS) and
ai-edge-litert (XNNPACK) compute, for a convolution with input scale s_x, weight scale s_w per output
channel and output scale s_y:

    sum    int32: sum over the window of (q_x - z_x) * q_w, plus q_bias; padding adds nothing
    q_y    clamp(round(float32(sum) * m) + z_y),  m = (s_x * s_w) / s_y, each step rounded to float32

with halves rounded to even. An Add is float32: (q_a - z_a) * (s_a / s_y) + (q_b - z_b) * (s_b / s_y).
XNNPACK adds in fixed point instead; `add_scales` keeps sums away from halves, so that it rounds alike.
OpenVINO rounds in another order and is compared with a tolerance. On x86 without VNNI both ONNX Runtime
and OpenVINO saturate (`saturation.py`).

A node kept in float, and every group normalization, is computed in float32 on real values, and quantized at
its point where something reads it as integers (`float_values.py`). Float sums depend on their order, so that
an output that stays float is equal to about 1e-6 of its largest value, and a value that is quantized again
may be one step off where it fell on a tie, which then spreads as a flipped bit does. Everything in front of
the first such node is equal to the bit, and so is a float addition: two products and one sum have no order.

Integers are kept as q - z, so that zero padding is zero, and as float32, which holds them exactly.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from fcos_edge.quantize.execute import activate, check_pictures, convolve, normalize, normalize_groups, select
from fcos_edge.quantize.float_values import float_values, is_computed_in_float
from fcos_edge.quantize.graph import Add, Conv, Graph, GroupNorm, Input, Node
from fcos_edge.quantize.record import (
    Int8Array,
    Record,
    check_record,
    conv_integers,
    is_picture,
    quantized_bounds,
)
from fcos_edge.quantize.refinements.equalization import equalized
from fcos_edge.runtime import FloatArray, UInt8Array

OutputArray = UInt8Array | FloatArray
EXACT_FLOAT32 = 1 << 24  # every integer up to here is a float32, so sums below it are exact in any order


def simulate(graph: Graph, record: Record, pictures: UInt8Array) -> dict[str, OutputArray]:
    """The integers of every output, or its floats; see `Simulator`, which many pictures should share."""
    return Simulator(graph, record).run(pictures)


def dequantize(graph: Graph, record: Record, outputs: Mapping[str, OutputArray]) -> dict[str, FloatArray]:
    """(q - zero_point) * scale of every output, float32; what is float stays as it is."""
    real: dict[str, FloatArray] = {}
    for output, values in outputs.items():
        found: FloatArray = values.astype(np.float32)
        if values.dtype == np.uint8:
            point = record.points[graph.outputs[output]]
            found = (found - np.float32(point.zero_point)) * np.float32(point.scale)
        real[output] = found
    return real


@dataclass(frozen=True)
class _Factors:
    """A convolution, ready to run.

    weight      (O, I / groups, kh, kw), integers; float64 where sums may not be exact in float32
    bias        (O,), integers of the same dtype
    multiplier  (O, 1, 1) float32, m
    """

    weight: Tensor
    bias: Tensor
    multiplier: Tensor


class Simulator:
    """Pictures (N, H, W, 3) uint8 RGB, letterboxed -> output name -> (N, h, w, C) uint8, or float32 where the
    record keeps the output in float.

    float_values  names of the nodes whose value is float

    Raises CheckpointError where the record does not fit the graph.
    """

    def __init__(self, graph: Graph, record: Record) -> None:
        graph = equalized(graph, record.channel_factors)
        check_record(graph, record)
        self.graph = graph
        self.record = record
        self.float_values = float_values(graph, record)
        self._factors = {
            node.name: _prepare(node, record)
            for node in graph.nodes
            if isinstance(node, Conv) and not is_computed_in_float(node, record)
        }

    def take_weight(self, node: Conv, weight: Int8Array) -> None:
        """Go on with other integers for one convolution's weight, as if the record had them."""
        rounded = {**self.record.rounded_weights, node.name: weight}
        self.record = replace(self.record, rounded_weights=rounded)
        self._factors[node.name] = _prepare(node, self.record)

    def run(self, pictures: UInt8Array) -> dict[str, OutputArray]:
        values = {node.name: value for node, value in self.run_nodes(pictures)}
        outputs: dict[str, OutputArray] = {}
        for output, name in self.graph.outputs.items():
            value = values[name]
            if name not in self.float_values:
                value = (value + self.record.points[name].zero_point).to(torch.uint8)
            outputs[output] = value.permute(0, 2, 3, 1).contiguous().numpy()
        return outputs

    @torch.inference_mode()
    def run_nodes(self, pictures: UInt8Array) -> Iterator[tuple[Node, Tensor]]:
        """Every node with its output, (N, C, h, w) float32: q - zero_point, or real in `float_values`."""
        tensor = torch.from_numpy(np.ascontiguousarray(pictures))
        check_pictures(self.graph, tensor)
        values: dict[str, Tensor] = {}
        for node in self.graph.nodes:
            values[node.name] = self.compute(node, values, tensor)
            yield node, values[node.name]

    def compute(self, node: Node, values: Mapping[str, Tensor], pictures: Tensor) -> Tensor:
        """One node's output from the outputs of the nodes that it reads, or from the pictures."""
        if isinstance(node, Input):
            return self._input(node, pictures)
        if isinstance(node, Conv):
            return self._conv(node, values)
        if isinstance(node, Add):
            return self._add(node, values)
        if isinstance(node, GroupNorm):
            return self._activated(node, normalize_groups(node, self._real(node.inputs[0], values)))
        return select(node, values[node.inputs[0]])

    def sums(self, node: Conv, x: Tensor) -> Tensor:
        """The integer sums of a convolution, bias included, before `requantize`; not of one kept in float."""
        factors = self._factors[node.name]
        return convolve(node, x.to(factors.weight.dtype), factors.weight, factors.bias)

    def requantize(self, node: Conv, sums: Tensor) -> Tensor:
        """A convolution's output from its integer sums."""
        return self._rounded(node, sums.float() * self._factors[node.name].multiplier)

    def _input(self, node: Input, pictures: Tensor) -> Tensor:
        point = self.record.points[node.name]
        if is_picture(node, point):
            return (pictures.float() - point.zero_point).permute(0, 3, 1, 2).contiguous()
        return self._rounded(node, normalize(node, pictures) / point.scale)

    def _conv(self, node: Conv, values: Mapping[str, Tensor]) -> Tensor:
        if is_computed_in_float(node, self.record):
            weight, bias = torch.tensor(node.weight), torch.tensor(node.bias)
            return self._activated(node, convolve(node, self._real(node.inputs[0], values), weight, bias))
        return self.requantize(node, self.sums(node, values[node.inputs[0]]))

    def _real(self, name: str, values: Mapping[str, Tensor]) -> Tensor:
        return values[name] if name in self.float_values else values[name] * self.record.points[name].scale

    def _activated(self, node: Conv | Add | GroupNorm, real: Tensor) -> Tensor:
        """What follows the sums of a node that is computed in float."""
        real = activate(node.activation, real)
        if node.name in self.float_values:
            return real
        return self._rounded(node, real / self.record.points[node.name].scale)

    def _add(self, node: Add, values: Mapping[str, Tensor]) -> Tensor:
        if is_computed_in_float(node, self.record):
            a, b = (self._real(name, values) for name in node.inputs)
            return self._activated(node, a + b)
        scale = np.float32(self.record.points[node.name].scale)
        first, second = (
            values[name] * float(np.float32(self.record.points[name].scale) / scale) for name in node.inputs
        )
        return self._rounded(node, first + second)

    def _rounded(self, node: Conv | Add | GroupNorm | Input, steps: Tensor) -> Tensor:
        """Round to even and clamp; `steps` is overwritten."""
        point = self.record.points[node.name]
        low, high = quantized_bounds("none" if isinstance(node, Input) else node.activation, point)
        return steps.round_().clamp_(low - point.zero_point, high - point.zero_point)


def _prepare(node: Conv, record: Record) -> _Factors:
    integers = conv_integers(node, record)
    source = record.points[node.inputs[0]]
    largest_input = max(source.zero_point, 255 - source.zero_point)
    sums = np.abs(integers.weight.astype(np.int64)).sum(axis=(1, 2, 3)) * largest_input
    sums += np.abs(integers.bias.astype(np.int64))
    # Dense kernels larger than 1x1 may be computed by Winograd's algorithm, whose steps are fractions.
    is_plain_sum = node.groups == len(node.bias) or node.weight.shape[2:] == (1, 1)
    is_exact = is_plain_sum and int(sums.max()) < EXACT_FLOAT32
    dtype = np.float32 if is_exact else np.float64
    # bias_scale is s_x * s_w, rounded to float32: the first of the multiplier's two steps.
    multiplier = integers.bias_scale / np.float32(record.points[node.name].scale)
    return _Factors(
        torch.from_numpy(integers.weight.astype(dtype)),
        torch.from_numpy(integers.bias.astype(dtype)),
        torch.from_numpy(multiplier.astype(np.float32)).reshape(-1, 1, 1),
    )
