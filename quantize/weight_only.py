"""Float weights in fewer bytes: float16, or int8 with float activations.

Int8 weights are multiples of one scale per output channel, whose largest |weight| is 127 of them, and are
multiplied out again where the network runs; biases stay float32. That needs no calibration, saves three
quarters of the bytes, and no time.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from fcos_edge.errors import ArtifactError
from fcos_edge.quantize.graph import Conv, Graph
from fcos_edge.quantize.record import WEAKEST_CHANNEL, WEIGHT_LIMIT, Int8Array
from fcos_edge.runtime import FloatArray


def rounded_weights(conv: Conv) -> tuple[Int8Array, FloatArray]:
    """(O, I / groups, kh, kw) int8 in -127..127, and the scales per output channel, (O,) float32."""
    weight = conv.weight.astype(np.float64)
    largest = np.abs(weight).reshape(len(weight), -1).max(axis=1)
    floor = (float(largest.max()) or 1.0) * WEAKEST_CHANNEL  # a dead channel needs a scale, too
    scale: FloatArray = (np.maximum(largest, floor) / WEIGHT_LIMIT).astype(np.float32)
    steps = np.rint(weight / scale.astype(np.float64)[:, None, None, None])
    return np.clip(steps, -WEIGHT_LIMIT, WEIGHT_LIMIT).astype(np.int8), scale


def as_float16(name: str, values: FloatArray) -> npt.NDArray[np.float16]:
    """Raises ArtifactError where a value is beyond float16."""
    largest = float(np.abs(values).max(initial=0.0))
    if largest > float(np.finfo(np.float16).max):
        raise ArtifactError(f"{name}: {largest:.3g} is too large for float16; export fp32 or int8")
    return values.astype(np.float16)


def with_rounded_weights(graph: Graph) -> Graph:
    """The float network that such files compute."""

    def rounded(conv: Conv) -> Conv:
        weight, scale = rounded_weights(conv)
        return replace(conv, weight=weight.astype(np.float32) * scale[:, None, None, None])

    nodes = (rounded(node) if isinstance(node, Conv) else node for node in graph.nodes)
    return replace(graph, nodes=tuple(nodes))
