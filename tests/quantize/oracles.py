"""Slow, obvious versions of what `quantize/` does fast."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
import numpy.typing as npt

from fcos_edge.quantize.graph import Activation, Add, Conv, GroupNorm, Input, MaxPool, Node, Resize
from fcos_edge.quantize.record import Point, Record, conv_integers, is_picture
from fcos_edge.runtime import UInt8Array

Ints = npt.NDArray[np.int64]
Reals = npt.NDArray[np.float64]
Values = npt.NDArray[Any]


def node_slowly(
    node: Node, record: Record, inputs: list[Values], picture: UInt8Array, floats: Collection[str] = ()
) -> Values:
    """One node, location by location.

    inputs:  (C, h, w) each, integers 0..255, or real where their node is in `floats`
    picture: (H, W, 3) uint8, what the Input node reads
    floats:  names of the nodes whose value stays float
    returns: (C, h, w), integers 0..255, or real
    """
    point = record.points[node.name]
    if isinstance(node, Input):
        return _quantize_picture(node, point, picture)
    if isinstance(node, Resize):
        return inputs[0].repeat(node.factor, axis=1).repeat(node.factor, axis=2)
    if isinstance(node, MaxPool):
        return _pool(node, inputs[0])
    if isinstance(node, GroupNorm) or node.name in record.float_nodes:
        real = _in_float(
            node, [_real(*pair, record, floats) for pair in zip(node.inputs, inputs, strict=True)]
        )
        if node.name in floats:
            return real
        return _round_and_clamp((real / point.scale).astype(np.float32), node.activation, point)
    if isinstance(node, Conv):
        return _convolve(node, record, inputs[0])
    terms = [
        (values - record.points[name].zero_point).astype(np.float32)
        * (np.float32(record.points[name].scale) / np.float32(point.scale))
        for name, values in zip(node.inputs, inputs, strict=True)
    ]
    return _round_and_clamp(terms[0] + terms[1], node.activation, point)


def _quantize_picture(node: Input, point: Point, picture: UInt8Array) -> Ints:
    if is_picture(node, point):
        integers: Ints = picture.transpose(2, 0, 1).astype(np.int64)
        return integers
    pixels = picture.astype(np.float32)
    normalized = (pixels - np.array(node.mean, np.float32)) / np.array(node.std, np.float32)
    steps = normalized.transpose(2, 0, 1) / np.float32(point.scale)
    return _round_and_clamp(steps, "none", point)


def _real(name: str, values: Values, record: Record, floats: Collection[str]) -> Reals:
    point = record.points[name]
    real: Reals = values if name in floats else (values - point.zero_point) * np.float64(point.scale)
    return real


def _pool(node: MaxPool, x: Values) -> Values:
    top, left, bottom, right = node.pads
    padded = np.pad(x, ((0, 0), (top, bottom), (left, right)), constant_values=x.min())
    height, width = ((side - node.kernel) // node.stride + 1 for side in padded.shape[1:])
    pooled = np.zeros((len(x), height, width), x.dtype)
    for row in range(height):
        for column in range(width):
            rows = slice(row * node.stride, row * node.stride + node.kernel)
            columns = slice(column * node.stride, column * node.stride + node.kernel)
            pooled[:, row, column] = padded[:, rows, columns].max(axis=(1, 2))
    return pooled


def _normalize_groups(node: GroupNorm, x: Reals) -> Reals:
    found = np.zeros_like(x)
    width = len(x) // node.groups
    for first in range(0, len(x), width):
        group = x[first : first + width]
        found[first : first + width] = (group - group.mean()) / np.sqrt(group.var() + node.eps)
    return found * node.gamma[:, None, None] + node.beta[:, None, None]


def _in_float(node: Conv | Add | GroupNorm, inputs: list[Reals]) -> Reals:
    if isinstance(node, Add):
        total = inputs[0] + inputs[1]
    elif isinstance(node, GroupNorm):
        total = _normalize_groups(node, inputs[0])
    else:
        total = _sums(node, inputs[0], node.weight.astype(np.float64), node.bias.astype(np.float64))
    if node.activation == "none":
        return total
    return np.clip(total, 0.0, 6.0 if node.activation == "relu6" else None)


def _convolve(node: Conv, record: Record, x: Ints) -> Ints:
    source, point = record.points[node.inputs[0]], record.points[node.name]
    integers = conv_integers(node, record)
    sums = _sums(
        node, x - source.zero_point, integers.weight.astype(np.int64), integers.bias.astype(np.int64)
    )
    assert np.abs(sums).max() < 2**31, "int32 overflow"
    factor = np.float32(source.scale) * integers.weight_scale / np.float32(point.scale)
    assert factor.dtype == np.float32
    return _round_and_clamp(sums.astype(np.float32) * factor[:, None, None], node.activation, point)


def _sums(node: Conv, values: Values, weight: Values, bias: Values) -> Values:
    """A convolution in the dtype of its weights."""
    top, left, bottom, right = node.pads
    values = np.pad(values, ((0, 0), (top, bottom), (left, right)))
    channels, kernel_h, kernel_w = weight.shape[1:]
    height = (values.shape[1] - kernel_h) // node.stride + 1
    width = (values.shape[2] - kernel_w) // node.stride + 1
    out_per_group = len(weight) // node.groups
    sums = np.zeros((len(weight), height, width), weight.dtype)
    for out in range(len(weight)):
        first = out // out_per_group * channels
        for row in range(height):
            for column in range(width):
                rows = slice(row * node.stride, row * node.stride + kernel_h)
                columns = slice(column * node.stride, column * node.stride + kernel_w)
                window = values[first : first + channels, rows, columns]
                sums[out, row, column] = (window * weight[out]).sum() + bias[out]
    return sums


def _round_and_clamp(steps: npt.NDArray[np.float32], activation: Activation, point: Point) -> Ints:
    integers = np.rint(steps).astype(np.int64) + point.zero_point
    low, high = 0, 255
    if activation != "none":
        low = point.zero_point
    if activation == "relu6":
        high = min(high, point.zero_point + round(6 / point.scale))
    return np.clip(integers, low, high)
