"""Cross-layer equalization: the same network with weights that one scale fits better."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from fcos_edge.errors import CheckpointError
from fcos_edge.quantize.graph import Conv, Graph
from fcos_edge.runtime import FloatArray


def equalized(graph: Graph, factors: Mapping[str, FloatArray]) -> Graph:
    """The graph with each named convolution's output channels multiplied, and undone where they are read.

    factors  convolution name -> (O,) float32, > 0

    Raises CheckpointError where a factor stands at a node that cannot carry it.
    """
    if not factors:
        return graph
    nodes = []
    for node in graph.nodes:
        carries = isinstance(node, Conv)
        if not carries and any(name in factors for name in (node.name, *node.inputs)):
            raise CheckpointError(
                f"calibration record: {node.name} cannot be equalized; calibrate again with --data"
            )
        if isinstance(node, Conv):
            node = _scaled(node, factors)
        nodes.append(node)
    return replace(graph, nodes=tuple(nodes))


def _scaled(conv: Conv, factors: Mapping[str, FloatArray]) -> Conv:
    weight, bias = conv.weight.astype(np.float64), conv.bias.astype(np.float64)
    own, source = factors.get(conv.name), factors.get(conv.inputs[0])
    if source is not None:
        # Depthwise: input channel and output channel are one.
        divisor = source[:, None, None, None] if conv.groups > 1 else source[None, :, None, None]
        weight = weight / divisor.astype(np.float64)
    if own is not None:
        weight = weight * own.astype(np.float64)[:, None, None, None]
        bias = bias * own.astype(np.float64)
    return replace(conv, weight=weight.astype(np.float32), bias=bias.astype(np.float32))
