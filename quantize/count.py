"""What a network costs: parameters, multiply-adds and output values, counted on the deploy graph.

O, I     output and input channels
kh, kw   kernel height and width
L        locations of all levels together
C        classes
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from fcos_edge.quantize.graph import Conv, Graph, Node

# RetinaNet's: three scales times three ratios at every location, each with C classes and 4 offsets.
ANCHORS_PER_LOCATION = 9


@dataclass(frozen=True)
class LayerCost:
    """One node.

    kind           `conv 3x3 /2`, `depthwise 3x3`, `add`, ...
    output_chw     channels, height and width of its output
    parameters     weights and biases; a convolution that levels share is counted once per level here
    multiply_adds  O * h * w * (I / groups) * kh * kw of a convolution, padding included; else 0
    """

    name: str
    kind: str
    output_chw: tuple[int, int, int]
    parameters: int
    multiply_adds: int


@dataclass(frozen=True)
class OutputCost:
    """Values that the network returns per picture.

    locations      L
    values         L * (C + 4 + 1): logits, distances, center-ness
    anchor_values  L * 9 * (C + 4): what the same levels with nine anchors per location would return
    """

    locations: int
    values: int
    anchor_values: int


def layer_costs(graph: Graph) -> tuple[LayerCost, ...]:
    """Every node in the graph's order."""
    return tuple(_cost(node, graph.shapes[node.name]) for node in graph.nodes)


def output_cost(num_locations: int, num_classes: int) -> OutputCost:
    """Of a detector with so many locations and classes, background not counted."""
    return OutputCost(
        num_locations,
        num_locations * (num_classes + 4 + 1),
        num_locations * ANCHORS_PER_LOCATION * (num_classes + 4),
    )


def _cost(node: Node, output_chw: tuple[int, int, int]) -> LayerCost:
    if not isinstance(node, Conv):
        return LayerCost(node.name, type(node).__name__.lower(), output_chw, 0, 0)
    _, height, width = output_chw
    # The weight has O * (I / groups) * kh * kw values, and each is used once per output pixel.
    multiply_adds = node.weight.size * height * width
    return LayerCost(node.name, _kind(node), output_chw, node.weight.size + node.bias.size, multiply_adds)


def _kind(conv: Conv) -> str:
    _, in_channels, *kernel_hw = conv.weight.shape
    is_depthwise = conv.groups > 1 and in_channels == 1
    is_pointwise = prod(kernel_hw) == 1 and conv.groups == 1
    kind = "depthwise" if is_depthwise else "pointwise" if is_pointwise else "conv"
    size = "" if is_pointwise else " {}x{}".format(*kernel_hw)
    return f"{kind}{size}" + (f" /{conv.stride}" if conv.stride > 1 else "")
