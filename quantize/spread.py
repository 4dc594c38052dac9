"""How sure a calibration is: the ranges of two halves of its pictures, compared."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fcos_edge.quantize.calibrate import calibrate_inputs
from fcos_edge.quantize.graph import Graph, Input
from fcos_edge.quantize.recipe import Recipe
from fcos_edge.runtime import UInt8Array

ENOUGH_PICTURES = 100


@dataclass(frozen=True)
class Spread:
    """Scales of two halves: how much larger the larger one is, as a part of the smaller one.

    median, worst  over all nodes
    worst_node     where that is
    """

    median: float
    worst: float
    worst_node: str

    def __str__(self) -> str:
        return (
            f"the scales of its two halves differ by {self.median:.0%} (median)"
            f" and {self.worst:.0%} (worst, {self.worst_node})"
        )


def measure_spread(graph: Graph, inputs: UInt8Array, recipe: Recipe) -> Spread | None:
    """Calibrate on every other picture, then on the rest; None with a single one.

    inputs  letterboxed pictures, (N, H, W, 3) uint8 RGB
    """
    if len(inputs) < 2:
        return None
    ranges_only = Recipe(recipe.weight_bits, recipe.is_per_channel, recipe.is_symmetric, recipe.estimator)
    one, other = (calibrate_inputs(graph, inputs[start::2], recipe=ranges_only).points for start in (0, 1))
    names = [node.name for node in graph.nodes if not isinstance(node, Input)]
    ratios = np.array([one[name].scale / other[name].scale for name in names])
    parts = np.maximum(ratios, 1 / ratios) - 1
    return Spread(float(np.median(parts)), float(parts.max()), names[int(parts.argmax())])
