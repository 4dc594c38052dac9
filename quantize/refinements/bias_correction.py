"""Bias correction: int8 keeps float's mean in every channel of every convolution.

Rounded weights, cut ranges and clamps shift a channel's mean, and shifts add up from layer to layer, while
errors without a mean largely cancel. Float network and integer simulator run side by side over some of the
calibration pictures, layer after layer; what a channel's sum has lost on average, over the pictures and the
places where no clamp hides it, is added to its integer bias. Each convolution reads inputs that are
corrected already, and so makes up for what additions, which have no bias, let through.

The empirical form of Nagel et al. 2019, "Data-Free Quantization Through Weight Equalization and Bias
Correction", section 4.2; Finkelstein et al. 2019, "Fighting Quantization Bias With Bias".
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from fcos_edge.console import track
from fcos_edge.quantize.execute import activate, convolve, normalize, transform
from fcos_edge.quantize.graph import Conv, Graph, Input, Node
from fcos_edge.quantize.record import BIAS_LIMIT, Int32Array, Point, Record, conv_integers, quantized_bounds
from fcos_edge.quantize.refinements.chosen_inputs import chosen_inputs
from fcos_edge.quantize.simulate import Simulator
from fcos_edge.runtime import FloatArray, UInt8Array

PICTURES = 16  # twice as many, or half, leave the same error
MEMORY = 3 << 28  # bytes of values that are held at a time; fewer pictures where they would be more

# The mean of a channel that is clipped nearly everywhere is of few places and steep to correct: it counts as
# if this part of its places were not.
FEWEST_PLACES = 0.02

Maps = dict[str, Tensor]  # node name -> (N, C, h, w) of all pictures


@torch.inference_mode()
def refine(graph: Graph, record: Record, inputs: UInt8Array) -> Record:
    """The record with the `bias_corrections` of every convolution that is computed in integers.

    Corrections that the record already has are corrected further.
    """
    simulator = Simulator(graph, record)
    graph = simulator.graph
    count = min(PICTURES, max(1, MEMORY // (2 * 4 * largest_live(graph))))
    pictures = [torch.from_numpy(picture[None]) for picture in chosen_inputs(inputs, count)]
    corrections = dict(record.bias_corrections)
    real: Maps = {}
    integers: Maps = {}
    for node, done in track(with_last_reads(graph), "correcting biases", len(graph.nodes)):
        # Filled picture by picture: small values that live long would leave holes that nothing fits into.
        real[node.name] = torch.empty((len(pictures), *graph.shapes[node.name]))
        integers[node.name] = torch.empty_like(real[node.name])
        if isinstance(node, Conv) and node.name not in record.float_nodes:
            correction = correct(simulator, node, real, integers)
            if correction.any():
                corrections[node.name] = record.bias_corrections.get(node.name, 0) + correction
        else:
            for index, picture in enumerate(pictures):
                floats, steps = (
                    {name: maps[name][index : index + 1] for name in node.inputs} for maps in (real, integers)
                )
                real[node.name][index] = float_value(node, floats, picture)[0]
                integers[node.name][index] = simulator.compute(node, steps, picture)[0]
        for name in done:
            del real[name], integers[name]
    return replace(record, bias_corrections=corrections)


def correct(simulator: Simulator, node: Conv, real: Maps, integers: Maps) -> Int32Array:
    """The correction of one convolution, (O,). Its outputs, corrected, are filled into the maps."""
    # One by one: float sums may depend on the batch, and corrections must not depend on the order.
    every = range(len(real[node.name]))
    pairs = [tuple(maps[node.inputs[0]][index : index + 1] for maps in (real, integers)) for index in every]
    conv = conv_integers(node, simulator.record)
    weight, bias = torch.tensor(node.weight), torch.tensor(node.bias)
    point = simulator.record.points[node.name]
    errors, places = np.zeros(len(conv.bias)), np.zeros(len(conv.bias))
    for index, (x, steps) in enumerate(pairs):
        before = convolve(node, x, weight, bias)
        error, is_open = sum_errors(node, conv.bias_scale, point, before, simulator.sums(node, steps))
        errors += error.sum((0, 2, 3)).numpy()
        places += is_open.sum((0, 2, 3)).numpy()
        real[node.name][index] = activate(node.activation, before)[0]
    all_places = real[node.name][:, 0].numel()
    correction = errors / np.maximum(places, FEWEST_PLACES * all_places) / conv.bias_scale
    corrected = np.clip(conv.bias + np.rint(correction), -BIAS_LIMIT, BIAS_LIMIT)
    whole: Int32Array = (corrected - conv.bias).astype(np.int32)
    shift = torch.from_numpy(whole.astype(np.float64)).reshape(-1, 1, 1)
    for index, (_, steps) in enumerate(pairs):
        sums = simulator.sums(node, steps).double() + shift
        integers[node.name][index] = simulator.requantize(node, sums)[0]
    return whole


def sum_errors(
    node: Conv, bias_scale: FloatArray, point: Point, real: Tensor, sums: Tensor
) -> tuple[Tensor, Tensor]:
    """How much a convolution's integer sums fall short, and where that counts; both (N, O, h, w).

    point    of the convolution's output
    real     the float network's sums, before the activation
    returns  real - sums in the unit of `real`, float64, and whether not both are clipped; 0 where they are
    """
    found = sums.double() * torch.from_numpy(bias_scale).double().reshape(-1, 1, 1)
    low, high = ((q - point.zero_point) * point.scale for q in quantized_bounds(node.activation, point))
    # What a clamp hides does no harm, and is large: most of a ReLU's inputs may lie far below zero.
    is_open = ((real > low) & (real < high)) | ((found > low) & (found < high))
    return (real.double() - found) * is_open, is_open


def largest_live(graph: Graph) -> int:
    """How many values of one picture are needed at the same time, at most."""
    live = largest = 0
    for node, done in with_last_reads(graph):
        live += int(np.prod(graph.shapes[node.name]))
        largest = max(largest, live)
        live -= sum(int(np.prod(graph.shapes[name])) for name in done)
    return largest


def with_last_reads(graph: Graph) -> Iterator[tuple[Node, tuple[str, ...]]]:
    """Every node, and the names of those whose values nobody reads after it."""
    last = {name: node.name for node in graph.nodes for name in (*node.inputs, node.name)}
    for node in graph.nodes:
        yield node, tuple(name for name, reader in last.items() if reader == node.name)


def float_value(node: Node, values: Mapping[str, Tensor], picture: Tensor) -> Tensor:
    """One node's output in float."""
    if isinstance(node, Input):
        return normalize(node, picture)
    if isinstance(node, Conv):
        x = values[node.inputs[0]]
        return activate(
            node.activation, convolve(node, x, torch.tensor(node.weight), torch.tensor(node.bias))
        )
    return transform(node, [values[name] for name in node.inputs])
