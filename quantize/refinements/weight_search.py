"""Weight search: the weight scales of least squared output error, instead of the largest |weight| / 127.

Among many scales one puts the weights of a kernel near its grid, where they are few, as depthwise ones are,
or makes the errors of many cancel; one scale for all of a tensor may cut its largest weights. With x the
window that a convolution reads, and M = mean of x x' over places and pictures, the error of a channel is

    mean of (w' x - s q' x)^2 = d' M d,   d = w - s q,  q = clip(round(w / s))

M is that of the quantized inputs. Where bias correction follows, it takes the mean error away; M is then
the covariance, and only what varies from place to place counts.

K     weights of a kernel: I / groups * kh * kw
G     groups
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from fcos_edge.console import track
from fcos_edge.quantize.graph import Conv, Graph
from fcos_edge.quantize.recipe import Recipe, parse_recipe
from fcos_edge.quantize.record import Record, weight_scale_floors
from fcos_edge.quantize.refinements.chosen_inputs import chosen_inputs
from fcos_edge.quantize.simulate import Simulator
from fcos_edge.runtime import FloatArray, UInt8Array

Float64Array = npt.NDArray[np.float64]

PICTURES = 8  # thousands of places each; the same scales lose least on others
# Candidates, as parts of the scale at which the largest weight is the last integer; the last is that scale.
# Most of what is won lies just above it, and the more are tried the better: with the few weights of a small
# kernel many are worth their time (error left: 0.38 of the plain scale's with 300, 0.51 with 100).
FEW_WEIGHTS = 32
OF_SMALL_KERNELS = np.append(np.linspace(0.95, 1.3, 351), 1.0)
OF_OTHERS = np.append(np.concatenate([np.linspace(0.6, 0.98, 20), np.linspace(0.985, 1.08, 48)]), 1.0)
LARGEST_KERNEL = 640  # larger kernels are judged by the diagonal of M: it is what dominates, and cheap


def refine(graph: Graph, record: Record, inputs: UInt8Array) -> Record:
    """The record with the weight scales that lose least; one whose rounding was learned keeps its scales."""
    recipe = parse_recipe(record.recipe)
    simulator = Simulator(graph, record)
    moments = input_moments(
        simulator, chosen_inputs(inputs, PICTURES), is_centered="bc" in recipe.refinements
    )
    scales = dict(record.weight_scales)
    for node in simulator.graph.nodes:
        if isinstance(node, Conv) and node.name not in record.rounded_weights:
            floors = weight_scale_floors(node, record.points[node.inputs[0]].scale)
            scales[node.name] = best_scales(node, scales[node.name], floors, moments[node.name], recipe)
    return replace(record, weight_scales=scales)


def best_scales(
    conv: Conv, scales: FloatArray, floors: Float64Array, moment: Float64Array, recipe: Recipe
) -> FloatArray:
    """The best candidates for `scales`, (O,) float32, none below its floor; `scales` where none is better.

    moment  (G, K, K), or (G, K) the diagonal alone
    """
    parts = OF_SMALL_KERNELS if conv.weight[0].size <= FEW_WEIGHTS else OF_OTHERS
    candidates = np.maximum(scales.astype(np.float64) * parts[:, None], floors).astype(np.float32)
    if not recipe.is_per_channel:
        candidates = np.repeat(candidates.max(axis=1, keepdims=True), candidates.shape[1], axis=1)
    candidates[-1] = scales
    errors = np.stack([output_errors(conv, one, moment, recipe.weight_limit) for one in candidates])
    if not recipe.is_per_channel:
        errors = np.repeat(errors.sum(axis=1, keepdims=True), errors.shape[1], axis=1)
    best = errors.argmin(axis=0)
    # Not worth a change that float noise decides, as in channels that are dead.
    best[errors.min(axis=0) >= errors[-1] * (1 - 1e-9)] = len(candidates) - 1
    found: FloatArray = candidates[best, np.arange(candidates.shape[1])]
    return found


def output_errors(conv: Conv, scales: FloatArray, moment: Float64Array, limit: int) -> Float64Array:
    """Mean squared error of each output channel, (O,), in the unit of `moment`."""
    weight = conv.weight.astype(np.float64)
    scale = scales.astype(np.float64)[:, None, None, None]
    lost = weight - np.clip(np.rint(weight / scale), -limit, limit) * scale
    lost = lost.reshape(conv.groups, len(scales) // conv.groups, -1)  # [G, O / G, K]
    products = lost @ moment if moment.ndim == 3 else lost * moment[:, None]
    errors: Float64Array = (products * lost).sum(axis=2).reshape(-1)
    return errors


@torch.inference_mode()
def input_moments(
    simulator: Simulator, pictures: UInt8Array, *, is_centered: bool
) -> dict[str, Float64Array]:
    """M of every convolution, (G, K, K) or, of large kernels, its diagonal (G, K); in steps squared."""
    sums: dict[str, Float64Array] = {}
    squares: dict[str, Float64Array] = {}
    counts: dict[str, int] = {}
    for picture in track(pictures, "searching weight scales", len(pictures)):
        values: dict[str, Tensor] = {}
        for node, value in simulator.run_nodes(picture[None]):
            values[node.name] = value
            if isinstance(node, Conv):
                x = windows(node, values[node.inputs[0]])
                total, square = x.sum(2, dtype=torch.float64), _products(x)
                sums[node.name] = sums.get(node.name, 0) + total.numpy()
                squares[node.name] = squares.get(node.name, 0) + square.double().numpy()
                counts[node.name] = counts.get(node.name, 0) + x.shape[2]
    return {name: _moment(squares[name], sums[name], counts[name], is_centered) for name in sums}


def windows(conv: Conv, x: Tensor) -> Tensor:
    """What the kernels of a convolution see of one picture's input (1, I, h, w), as (G, K, places)."""
    top, left, bottom, right = conv.pads
    columns = F.unfold(F.pad(x, (left, right, top, bottom)), conv.weight.shape[2:], stride=conv.stride)
    return columns.reshape(conv.groups, -1, columns.shape[2])


def _products(x: Tensor) -> Tensor:
    return x @ x.transpose(1, 2) if x.shape[1] <= LARGEST_KERNEL else x.square().sum(2)


def _moment(square: Float64Array, total: Float64Array, count: int, is_centered: bool) -> Float64Array:
    mean = total / count * is_centered
    outer = mean[:, :, None] * mean[:, None, :] if square.ndim == 3 else mean**2
    return square / count - outer
