"""Cross-layer equalization: the same network with weights that one scale fits better.

A ReLU lets a positive factor through: relu(f x) = f relu(x). So a convolution's output channel can be
multiplied by any f > 0, if whoever reads it divides its weights by f. With r1 the largest |weight| that
makes a channel and r2 the largest that reads it, f = sqrt(r2 / r1) makes both sqrt(r1 r2): the channel takes
as large a part of the one range as of the other. Chains of convolutions, depthwise ones among them, settle
by repetition. ReLU6 is not scale-invariant; an addition or an output would show the factor.

Nagel et al. 2019, "Data-Free Quantization Through Weight Equalization and Bias Correction", section 4.1.

O, I     output and input channels
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from fcos_edge.errors import CheckpointError
from fcos_edge.quantize.graph import Conv, Graph
from fcos_edge.runtime import FloatArray

Float64Array = npt.NDArray[np.float64]

SWEEPS = 100  # at most; 20 are usual
SETTLED = 1e-3  # largest change of a factor, relative, at which the sweeps end
# A channel that is next to dead on one side would be blown up beyond what float32 and int32 biases hold well.
LARGEST_FACTOR = 64.0


def channel_factors(graph: Graph) -> dict[str, FloatArray]:
    """Factors for `equalized`: convolution name -> (O,) float32, of every convolution that can carry one."""
    readers: dict[str, list[Conv]] = {
        node.name: [
            reader for reader in graph.nodes if isinstance(reader, Conv) and node.name in reader.inputs
        ]
        for node in graph.nodes
        if isinstance(node, Conv) and _can_carry(graph, node)
    }
    sizes = {node.name: _sizes(node) for node in graph.nodes if isinstance(node, Conv)}
    factors = {name: np.ones(len(sizes[name])) for name in readers}
    for _ in range(SWEEPS):
        largest_change = 1.0
        for name, reading in readers.items():
            made = sizes[name].max(axis=1)
            read = np.max([_read_sizes(reader, sizes[reader.name]) for reader in reading], axis=0)
            is_alive = (made > 0) & (read > 0)
            change = np.sqrt(np.divide(read, made, out=np.ones_like(made), where=is_alive))
            wanted = np.clip(factors[name] * change, 1 / LARGEST_FACTOR, LARGEST_FACTOR)
            change = wanted / factors[name]
            factors[name] = wanted
            sizes[name] = sizes[name] * change[:, None]
            for reader in reading:
                divisor = change[:, None] if reader.groups > 1 else change
                sizes[reader.name] = sizes[reader.name] / divisor
            largest_change = max(largest_change, change.max(), 1 / change.min())
        if largest_change <= 1 + SETTLED:
            break
    return {name: factor.astype(np.float32) for name, factor in factors.items()}


def _can_carry(graph: Graph, conv: Conv) -> bool:
    """Whether a factor on its output leaves the network as it is."""
    readers = [node for node in graph.nodes if conv.name in node.inputs]
    # Of grouped convolutions, only depthwise ones: there input channel and output channel are one.
    is_undone = all(isinstance(r, Conv) and (r.groups == 1 or _is_depthwise(r)) for r in readers)
    is_output = conv.name in graph.outputs.values()
    return conv.activation != "relu6" and bool(readers) and is_undone and not is_output


def _is_depthwise(conv: Conv) -> bool:
    return conv.groups == len(conv.weight) and conv.weight.shape[1] == 1


def _sizes(conv: Conv) -> Float64Array:
    """The largest |weight| of each kernel, (O, I / groups)."""
    sizes: Float64Array = np.abs(conv.weight.astype(np.float64)).max(axis=(2, 3))
    return sizes


def _read_sizes(conv: Conv, sizes: Float64Array) -> Float64Array:
    """The largest |weight| that reads each input channel, (I,)."""
    largest: Float64Array = sizes.max(axis=1 if conv.groups > 1 else 0)
    return largest


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
