"""Which values of an int8 network stay float: what a record's `float_nodes` mean, for simulator and writers.

A node that the record names is computed in float: it reads real values, dequantized where they are
integers. What it puts out stays float where nothing reads it as integers, so that two such nodes in a row
have no rounding between them, and the last one of an output none behind it. Everywhere else it is
quantized at its own point of the record.

A group normalization is always computed in float. A Resize or MaxPool computes nothing: its value is
whichever of the two its input is.
"""

from __future__ import annotations

from fcos_edge.quantize.graph import Graph, GroupNorm, Node, Selecting
from fcos_edge.quantize.record import Record


def is_computed_in_float(node: Node, record: Record) -> bool:
    """Whether its arithmetic is float32, whatever its inputs and output are."""
    return isinstance(node, GroupNorm) or node.name in record.float_nodes


def float_values(graph: Graph, record: Record) -> frozenset[str]:
    """Names of the nodes whose value is never quantized."""
    reads_integers: set[str] = set()  # nodes of which some reader wants integers
    for node in reversed(graph.nodes):
        passes_on_floats = isinstance(node, Selecting) and node.name not in reads_integers
        if not (is_computed_in_float(node, record) or passes_on_floats):
            reads_integers.update(node.inputs)
    found: set[str] = set()
    for node in graph.nodes:
        can_be = is_computed_in_float(node, record) or (
            isinstance(node, Selecting) and node.inputs[0] in found
        )
        if can_be and node.name not in reads_integers:
            found.add(node.name)
    return frozenset(found)


def float_branches(graph: Graph, record: Record) -> frozenset[str]:
    """Names of the outputs that a file with integer outputs must give in float.

    All levels of a kind (`logits_p3`, `logits_p4`, ...) have one dtype, so that one is enough for all.
    """
    floats = float_values(graph, record)
    kinds = {_kind(output) for output, name in graph.outputs.items() if name in floats}
    return frozenset(output for output in graph.outputs if _kind(output) in kinds)


def _kind(output: str) -> str:
    return output.split("_")[0]
