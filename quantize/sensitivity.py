"""Sensitivity: how much the quantization of one layer alone harms what the network finds.

Everything else stays in float, so that harms can be compared: in an integer network one changed bit
upsets all that comes after it, and differences of single layers drown in that. Only what lies downstream of
a layer is computed again.

A candidate is a location that has a box with an area, and a class whose probability in float reaches the
candidate threshold. Its score s (as the spec says, 0..1) and its box are compared before and after:

    score change   sum of s |s' - s| / sum of s      over the candidates of all pictures
    box loss       sum of s (1 - IoU) / sum of s
    harm           score change + box loss

Weighted by s, because average precision looks at the best scores first.

V  variants of a layer's output, computed together: quantized weights and output, weights alone, output alone
M  candidates of one level
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fcos_edge.console import track
from fcos_edge.quantize.count import layer_costs
from fcos_edge.quantize.execute import DeployNetwork, activate, convolve
from fcos_edge.quantize.graph import Add, Conv, Graph, Node
from fcos_edge.quantize.record import Record, conv_integers, quantized_bounds
from fcos_edge.quantize.refinements.equalization import equalized
from fcos_edge.runtime import UInt8Array
from fcos_edge.sensitivity_table import SensitivityRow, SensitivityTable
from fcos_edge.sources import spread
from fcos_edge.spec import ModelSpec
from fcos_edge.train.overlap import LEAST_AREA, iou

PICTURES = 8
# Multiply-adds: some minutes on two cores. The default network takes 1e12 for eight pictures, the paper's at
# 800 pixels 2e13 for one.
MOST_WORK = 5e12
VARIANTS = 3
# A picture in which the network is sure of nothing tells by its best candidates.
LEAST_CANDIDATES = 100


def affordable_pictures(graph: Graph) -> int:
    """How many pictures can be measured in reasonable time, up to PICTURES; 0: the network is too large."""
    costs = {cost.name: cost.multiply_adds for cost in layer_costs(graph)}
    layers = [node.name for node in graph.nodes if isinstance(node, Conv | Add)]
    below = sum(costs[node.name] for name in layers for node in _downstream(graph, name))
    return int(min(PICTURES, MOST_WORK // max(VARIANTS * below, 1)))


@torch.inference_mode()
def measure_sensitivity(
    graph: Graph, record: Record, inputs: UInt8Array, spec: ModelSpec, pictures: int = PICTURES
) -> SensitivityTable:
    """The harm of every convolution and addition, measured on some of the inputs, evenly chosen.

    graph   as it was folded; the record's channel factors are applied here
    inputs  (N, H, W, 3) uint8 RGB, letterboxed, N > 0

    Layers that the record keeps in float are measured as if they were not.
    """
    graph = equalized(graph, record.channel_factors)
    network = DeployNetwork(graph).eval()
    layers = [node for node in graph.nodes if isinstance(node, Conv | Add)]
    downstream = {layer.name: _downstream(graph, layer.name) for layer in layers}
    weights = {layer.name: _quantized_weights(layer, record) for layer in layers if isinstance(layer, Conv)}
    sums = {layer.name: torch.zeros(2, 3) for layer in layers}  # score change and box loss of each variant
    total = 0.0
    chosen = spread(range(len(inputs)), pictures)
    for place in track(chosen, "measuring each layer's harm", len(chosen)):
        values = {
            node.name: value for node, value in network.run_nodes(torch.from_numpy(inputs[place][None]))
        }
        levels = _find_candidates({name: values[node] for name, node in graph.outputs.items()}, spec)
        total += sum(float(level.score.sum()) for level in levels)
        for layer in layers:
            changed = {layer.name: _variants(layer, record, values, weights.get(layer.name))}
            for node in downstream[layer.name]:
                found = [changed.get(name, values[name]) for name in node.inputs]
                changed[node.name] = network.run_node(node, found)  # type: ignore[arg-type]  # no Input
            for level in levels:
                sums[layer.name] += level.change(graph, changed, spec)
    return SensitivityTable(record.recipe, len(chosen), _rows(graph, record, sums, max(total, 1e-30)))


def _rows(
    graph: Graph, record: Record, sums: Mapping[str, Tensor], total: float
) -> tuple[SensitivityRow, ...]:
    outputs = set(graph.outputs.values())
    rows = []
    for node, cost in zip(graph.nodes, layer_costs(graph), strict=True):
        if isinstance(node, Conv | Add):
            # Rounded: 1e-10 is left of harms that are none.
            (score, *_), (box, *_) = means = (sums[node.name].double() / total).round(decimals=8).tolist()
            both, weights, activation = (score + box for score, box in zip(*means, strict=True))
            rows.append(SensitivityRow(
                node.name, _kind(node, graph, outputs), cost.parameters, cost.multiply_adds,
                both, score, box, weights, activation, node.name in record.float_nodes,
            ))  # fmt: skip
    return tuple(rows)


def _kind(node: Conv | Add, graph: Graph, outputs: set[str]) -> str:
    if isinstance(node, Add):
        return "add"
    if node.name in outputs:
        return "output"
    if node.inputs[0] == graph.nodes[0].name:
        return "stem"
    if node.groups > 1 and node.weight.shape[1] == 1:
        return "depthwise"
    if node.groups == 1 and node.weight.shape[2:] == (1, 1):
        return "linear" if node.activation == "none" else "pointwise"
    return "dense"


def _downstream(graph: Graph, name: str) -> list[Node]:
    """All that reads a node, or reads what reads it, in the graph's order."""
    reached, nodes = {name}, []
    for node in graph.nodes:
        if reached & set(node.inputs):
            reached.add(node.name)
            nodes.append(node)
    return nodes


def _quantized_weights(conv: Conv, record: Record) -> tuple[Tensor, Tensor]:
    """Weights and biases as the integers mean them."""
    integers = conv_integers(conv, record)
    weight = integers.weight * integers.weight_scale[:, None, None, None]
    bias = (integers.bias.astype(np.float64) * integers.bias_scale).astype(np.float32)
    return torch.from_numpy(weight.astype(np.float32)), torch.from_numpy(bias)


def _variants(
    layer: Conv | Add, record: Record, values: Mapping[str, Tensor], weights: tuple[Tensor, Tensor] | None
) -> Tensor:
    """(V, C, h, w): the output of a layer, quantized in three ways."""
    plain = values[layer.name]
    coarse = plain
    if weights is not None:
        assert isinstance(layer, Conv)
        coarse = activate(layer.activation, convolve(layer, values[layer.inputs[0]], *weights))
    both, activation = (_rounded(layer, record, value) for value in (coarse, plain))
    return torch.cat((both, coarse, activation))


def _rounded(layer: Conv | Add, record: Record, value: Tensor) -> Tensor:
    """On the grid of the layer's point, still real."""
    point = record.points[layer.name]
    low, high = quantized_bounds(layer.activation, point)
    steps = (value / point.scale).round_().clamp_(low - point.zero_point, high - point.zero_point)
    return steps * point.scale


@dataclass(frozen=True, eq=False)
class _Level:
    """Candidates of one level.

    name            `p3`, ...
    location, label (M,) int64, row by row of the level
    probability     (M,) of the class
    quality         (M,) center-ness, a probability
    score           (M,)
    ltrb            (M, 4) distances, not negative
    """

    name: str
    location: Tensor
    label: Tensor
    probability: Tensor
    quality: Tensor
    score: Tensor
    ltrb: Tensor

    def change(self, graph: Graph, changed: Mapping[str, Tensor], spec: ModelSpec) -> Tensor:
        """(2, V): sums of s |s' - s| and of s (1 - IoU); 0 where this level's outputs are untouched.

        changed  node name -> (V, C, h, w)
        """
        sums = torch.zeros(2, 3)
        logits, quality, ltrb = (
            changed.get(graph.outputs[f"{branch}_{self.name}"]) for branch in ("logits", "centerness", "ltrb")
        )
        if not len(self.score):
            return sums
        if logits is not None or quality is not None:
            found = self.probability, self.quality
            if logits is not None:
                found = logits.flatten(2)[:, self.label, self.location].sigmoid(), found[1]
            if quality is not None:
                found = found[0], quality.flatten(1)[:, self.location].sigmoid()
            change = (_score(*found, spec) - self.score).abs()
            sums[0] = (self.score * change).sum(dim=-1)  # no V where only an unused center-ness changes
        if ltrb is not None:
            boxes = _distances(ltrb.flatten(2)[:, :, self.location].transpose(1, 2), spec)
            sums[1] = (self.score * (1 - iou(boxes, self.ltrb.expand_as(boxes)))).sum(dim=1)
        return sums


def _find_candidates(outputs: Mapping[str, Tensor], spec: ModelSpec) -> list[_Level]:
    """outputs: name -> (1, C, h, w)"""
    logits = [outputs[f"logits_{name}"][0].flatten(1) for name in spec.level_names]  # [C, h * w]
    every = torch.cat([level.flatten() for level in logits]).sigmoid()
    best = every.topk(min(LEAST_CANDIDATES, len(every))).values[-1]
    least = min(float(best), spec.candidate_threshold)
    levels = []
    for name, level in zip(spec.level_names, logits, strict=True):
        every_ltrb = _distances(outputs[f"ltrb_{name}"][0].flatten(1), spec)  # [4, h * w]
        has_area = (every_ltrb[0] + every_ltrb[2]) * (every_ltrb[1] + every_ltrb[3]) > LEAST_AREA
        label, location = ((level.sigmoid() >= least) & has_area).nonzero(as_tuple=True)
        probability = level[label, location].sigmoid()
        quality = outputs[f"centerness_{name}"].flatten()[location].sigmoid()
        score = _score(probability, quality, spec)
        ltrb = every_ltrb[:, location].T
        levels.append(_Level(name, location, label, probability, quality, score, ltrb))
    return levels


def _score(probability: Tensor, quality: Tensor, spec: ModelSpec) -> Tensor:
    if spec.score == "class":
        return probability
    product = probability * quality
    return product.sqrt() if spec.score == "sqrt" else product


def _distances(ltrb: Tensor, spec: ModelSpec) -> Tensor:
    """In any unit: an IoU has none."""
    return ltrb.exp() if spec.distance == "exp" else ltrb.relu()
