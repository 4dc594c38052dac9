"""Choose the scales of an Add's inputs so that no sum lies near a rounding tie.

An integer Add computes round((q_a - z_a) s_a / s_y + (q_b - z_b) s_b / s_y), and every runtime does so in
its own order of float or fixed-point operations. Their results differ by about 1e-4, so that one sum
in 200,000 falls on the other side of a half: some per picture, and each upsets everything after it.

With s_a / s_y and s_b / s_y both a whole number over an odd denominator D, every sum is a multiple of
1 / D, and a half is at least 1 / (2 D) away from it: all runtimes round alike.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from fcos_edge.quantize.graph import Add, Graph, Input, Selecting
from fcos_edge.quantize.record import Point

# Large, so that a scale moves by 0.1 % at most where inputs and sum have similar ranges; small, so that
# 1 / (2 D) = 9.8e-4 stays above the worst error: XNNPACK's multipliers have 21 bits, 2 * 255 / 2^21 = 2.4e-4
# for ratios around 1.
DENOMINATOR = 511


def align_add_scales(graph: Graph, points: Mapping[str, Point]) -> dict[str, Point]:
    """The points with the scales of every Add's inputs moved to the grid of its output's scale.

    Zero points stay. Backwards through the graph, because an input may be an Add itself. An input that
    two Adds share follows the later one; the earlier one's output then follows its inputs nowhere, and
    that Add keeps its ties.
    """
    aligned = dict(points)
    sources = {node.name: node.inputs[0] for node in graph.nodes if isinstance(node, Selecting)}
    fixed = {node.name for node in graph.nodes if isinstance(node, Input)}
    for node in reversed(graph.nodes):
        if not isinstance(node, Add):
            continue
        for name in node.inputs:
            while name in sources:
                name = sources[name]
            if name not in fixed:
                fixed.add(name)
                scale = _on_grid(aligned[name].scale, aligned[node.name].scale)
                aligned[name] = replace(aligned[name], scale=scale)
    for node in graph.nodes:
        if isinstance(node, Selecting):
            aligned[node.name] = aligned[node.inputs[0]]
    return aligned


def _on_grid(scale: float, sum_scale: float) -> float:
    steps = max(1, round(scale / sum_scale * DENOMINATOR))
    return float(np.float32(sum_scale * steps / DENOMINATOR))
