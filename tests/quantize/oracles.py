"""Slow, obvious versions of what `quantize/` does fast."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from fcos_edge.quantize.graph import Activation, Conv, Input, Node, Resize
from fcos_edge.quantize.record import Point, Record, conv_integers
from fcos_edge.runtime import UInt8Array

Ints = npt.NDArray[np.int64]


def node_slowly(node: Node, record: Record, inputs: list[Ints], picture: UInt8Array) -> Ints:
    """One node in integers, location by location.

    inputs:  (C, h, w) each, 0..255
    picture: (H, W, 3) uint8, what the Input node reads
    returns: (C, h, w), 0..255
    """
    point = record.points[node.name]
    if isinstance(node, Input):
        return _quantize_picture(node, point, picture)
    if isinstance(node, Conv):
        return _convolve(node, record, inputs[0])
    if isinstance(node, Resize):
        return inputs[0].repeat(node.factor, axis=1).repeat(node.factor, axis=2)
    terms = [
        (values - record.points[name].zero_point).astype(np.float32)
        * (np.float32(record.points[name].scale) / np.float32(point.scale))
        for name, values in zip(node.inputs, inputs, strict=True)
    ]
    return _round_and_clamp(terms[0] + terms[1], node.activation, point)


def _quantize_picture(node: Input, point: Point, picture: UInt8Array) -> Ints:
    if node.uniform:
        integers: Ints = picture.transpose(2, 0, 1).astype(np.int64)
        return integers
    pixels = picture.astype(np.float32)
    normalized = (pixels - np.array(node.mean, np.float32)) / np.array(node.std, np.float32)
    steps = normalized.transpose(2, 0, 1) / np.float32(point.scale)
    return _round_and_clamp(steps, "none", point)


def _convolve(node: Conv, record: Record, x: Ints) -> Ints:
    source, point = record.points[node.inputs[0]], record.points[node.name]
    is_float = node.name in record.float_nodes
    integers = conv_integers(node, record)
    weight = node.weight if is_float else integers.weight.astype(np.int64)
    bias = node.bias if is_float else integers.bias.astype(np.int64)
    values = (x - source.zero_point) * np.float32(source.scale) if is_float else x - source.zero_point
    top, left, bottom, right = node.pads
    values = np.pad(values, ((0, 0), (top, bottom), (left, right)))
    channels, kernel_h, kernel_w = weight.shape[1:]
    height = (values.shape[1] - kernel_h) // node.stride + 1
    width = (values.shape[2] - kernel_w) // node.stride + 1
    out_per_group = len(weight) // node.groups
    sums = np.zeros((len(weight), height, width), np.float64 if is_float else np.int64)
    for out in range(len(weight)):
        first = out // out_per_group * channels
        for row in range(height):
            for column in range(width):
                rows = slice(row * node.stride, row * node.stride + kernel_h)
                columns = slice(column * node.stride, column * node.stride + kernel_w)
                window = values[first : first + channels, rows, columns]
                sums[out, row, column] = (window * weight[out]).sum() + bias[out]
    if is_float:
        limit = {"none": math.inf, "relu": math.inf, "relu6": 6.0}[node.activation]
        real = np.clip(sums, -math.inf if node.activation == "none" else 0.0, limit)
        return _round_and_clamp((real / point.scale).astype(np.float32), node.activation, point)
    assert np.abs(sums).max() < 2**31, "int32 overflow"
    factor = np.float32(source.scale) * integers.weight_scale / np.float32(point.scale)
    assert factor.dtype == np.float32
    return _round_and_clamp(sums.astype(np.float32) * factor[:, None, None], node.activation, point)


def _round_and_clamp(steps: npt.NDArray[np.float32], activation: Activation, point: Point) -> Ints:
    integers = np.rint(steps).astype(np.int64) + point.zero_point
    low, high = 0, 255
    if activation != "none":
        low = point.zero_point
    if activation == "relu6":
        high = min(high, point.zero_point + round(6 / point.scale))
    return np.clip(integers, low, high)
