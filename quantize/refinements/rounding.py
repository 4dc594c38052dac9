"""Adaptive rounding: which weights to round up and which down, so that a layer's output is kept.

Rounding to nearest is best for each weight, not for their sum: errors of two weights whose inputs go
together can cancel. With x the window that a convolution reads in the float network, x' the same in the
integer one, so far as it is rounded, and q the integers, the error of an output channel is

    mean of (w' x - s q' x')^2 = s^2 (q' M q - 2 q' t) + const,   M = mean of x' x'',  t = mean of x' w' x / s

over places and pictures, where each q is floor(w / s) or one more. Reading x' makes a layer repair what the
layers before it lost ("asymmetric reconstruction"). A ReLU's clipped places do not count for depthwise
kernels, which have an M for each channel.

Nagel et al. 2020, "Up or Down? Adaptive Rounding for Post-Training Quantization", pose this problem and relax
it to a gradient descent of 10,000 steps a layer. Here it is minimized as it stands, by coordinate descent:
flip a weight where that helps, until none does. One start is rounding to nearest; the other rounds one
weight after the other and lets the rest take up its error (Frantar et al. 2022, "GPTQ"). Each channel takes
the better end. So there is no learning rate and no schedule, and for kernels of nine weights the end is
nearly the best of all 512 answers.

K     weights of a kernel: I / groups * kh * kw
G     groups
O     output channels of a group
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from fcos_edge.console import track
from fcos_edge.quantize.execute import convolve
from fcos_edge.quantize.graph import Conv, Graph
from fcos_edge.quantize.recipe import parse_recipe
from fcos_edge.quantize.record import Record, conv_integers, quantized_bounds
from fcos_edge.quantize.refinements.bias_correction import (
    MEMORY,
    Maps,
    correct,
    float_value,
    largest_live,
    with_last_reads,
)
from fcos_edge.quantize.refinements.chosen_inputs import chosen_inputs
from fcos_edge.quantize.refinements.weight_search import windows
from fcos_edge.quantize.simulate import Simulator
from fcos_edge.runtime import UInt8Array

PICTURES = 16  # thousands of places each
# Pulls every weight towards its float value, as if this part of the inputs' power were noise: few places say
# little about combinations of inputs that hardly occur.
DAMPING = 0.01
# Larger kernels stay rounded to nearest. In the embedded network they are 93 % of the weights, 4 MB of a
# record, and hardly matter: with bias correction the logits are off by 0.0401 without this step, by 0.0372
# with it, by 0.0369 if it rounds all kernels.
LARGEST_KERNEL = 27
SWEEPS = 50  # ten are enough nearly everywhere


@torch.inference_mode()
def refine(graph: Graph, record: Record, inputs: UInt8Array) -> Record:
    """The record with the `rounded_weights` of small kernels; those that it already has are kept."""
    recipe = parse_recipe(record.recipe)
    is_corrected = "bc" in recipe.refinements
    simulator = Simulator(graph, record)
    graph = simulator.graph
    count = min(PICTURES, max(1, MEMORY // (2 * 4 * largest_live(graph))))
    pictures = [torch.from_numpy(picture[None]) for picture in chosen_inputs(inputs, count)]
    rounded = dict(record.rounded_weights)
    real: Maps = {}
    integers: Maps = {}
    for node, done in track(with_last_reads(graph), "rounding weights", len(graph.nodes)):
        real[node.name] = torch.empty((len(pictures), *graph.shapes[node.name]))
        integers[node.name] = torch.empty_like(real[node.name])
        is_integer = isinstance(node, Conv) and node.name not in record.float_nodes
        if isinstance(node, Conv) and is_integer and node.name not in rounded and is_rounded(node):
            best = Problem.of(node, simulator.record, real, integers, is_centered=is_corrected).best()
            rounded[node.name] = best.reshape(node.weight.shape).numpy().astype(np.int8)
            simulator.take_weight(node, rounded[node.name])
        if isinstance(node, Conv) and is_integer and is_corrected:
            # What bias correction will do, so that later layers read what they will read.
            correct(simulator, node, real, integers)
        else:
            for index, picture in enumerate(pictures):
                floats, steps = (
                    {name: maps[name][index : index + 1] for name in node.inputs} for maps in (real, integers)
                )
                real[node.name][index] = float_value(node, floats, picture)[0]
                integers[node.name][index] = simulator.compute(node, steps, picture)[0]
        for name in done:
            del real[name], integers[name]
    return replace(record, rounded_weights=rounded)


def is_rounded(node: Conv) -> bool:
    """Whether its rounding is chosen: stem, depthwise convolutions, pointwise ones of few inputs."""
    return bool(node.weight[0].size <= LARGEST_KERNEL)


class Problem:
    """Choose integers q, each `low` or `high`, with the least q' moment q - 2 q' target.

    exact      (G, O, K) float64, weights in steps of their scale, not rounded
    low, high  (G, O, K), floor(exact) and one more, within the limit
    moment     (G, K, K)
    target     (G, O, K)
    """

    def __init__(self, exact: Tensor, limit: int, moment: Tensor, target: Tensor) -> None:
        self.exact, self.limit, self.moment, self.target = exact, limit, moment, target
        self.low = exact.floor().clamp(-limit, limit)
        self.high = (exact.floor() + 1).clamp(-limit, limit)
        self.nearest = exact.round().clamp(-limit, limit)

    def damped(self) -> Problem:
        """The problem with every weight pulled towards `exact`."""
        # Where all inputs are zero, the pull alone decides.
        pull = (DAMPING * self.moment.diagonal(dim1=1, dim2=2).mean(1) + 1e-6)[:, None, None]
        moment = self.moment + pull * torch.eye(self.moment.shape[1], dtype=torch.float64)
        return Problem(self.exact, self.limit, moment, self.target + pull * self.exact)

    @classmethod
    def of(cls, node: Conv, record: Record, real: Maps, integers: Maps, *, is_centered: bool) -> Problem:
        """The problem of one convolution.

        is_centered  a mean error does not count, since bias correction takes it away
        """
        scale, bias_scale = (
            torch.from_numpy(s.astype(np.float64)).reshape(node.groups, -1, 1)
            for s in (record.weight_scales[node.name], conv_integers(node, record).bias_scale)
        )
        exact = torch.tensor(node.weight).double().reshape(*scale.shape[:2], -1) / scale
        weight = torch.tensor(node.weight)
        moment = torch.zeros(node.groups, exact.shape[2], exact.shape[2], dtype=torch.float64)
        target, total = torch.zeros_like(exact), torch.zeros(node.groups, 1, exact.shape[2]).double()
        total_target, places = torch.zeros_like(scale), torch.zeros_like(scale[:, :1])
        for index in range(len(real[node.inputs[0]])):
            x, steps = (maps[node.inputs[0]][index : index + 1] for maps in (real, integers))
            before = convolve(node, x, weight, None).reshape(*scale.shape[:2], -1)
            counted = _counted(node, record, before).double()
            wanted = before.double() / bias_scale * counted  # [G, O, P]
            # float64: a mean is subtracted below, and what is left must be of one sign.
            window = windows(node, steps).double() * counted  # [G, K, P]
            moment += window @ window.transpose(1, 2)
            target += wanted @ window.transpose(1, 2)
            total += window.sum(2)[:, None]
            total_target += wanted.sum(2, keepdim=True)
            places += counted.sum(2, keepdim=True)
        if is_centered:
            mean = total / places.clamp(min=1)
            moment -= mean.transpose(1, 2) * total
            target -= total_target * mean
        return cls(exact, parse_recipe(record.recipe).weight_limit, moment, target)

    def errors(self, integers: Tensor) -> Tensor:
        """What each channel loses, (G, O), up to a constant of the channel."""
        return (integers * (integers @ self.moment - 2 * self.target)).sum(2)

    def best(self) -> Tensor:
        """(G, O, K) integers; no channel is worse than rounded to nearest."""
        damped = self.damped()
        found, other = (damped.descended(start) for start in (self.nearest, damped.passed_on()))
        found = torch.where((damped.errors(other) < damped.errors(found))[..., None], other, found)
        is_worse = self.errors(found) > self.errors(self.nearest)
        return torch.where(is_worse[..., None], self.nearest, found)

    def descended(self, start: Tensor) -> Tensor:
        """Flip weights, in all channels at once, until no single flip helps."""
        found = start.clone()
        gradient = found @ self.moment - self.target
        size = self.moment.diagonal(dim1=1, dim2=2)
        for _ in range(SWEEPS):
            has_changed = False
            for k in range(found.shape[2]):
                low, high, now = (values[:, :, k] for values in (self.low, self.high, found))
                step = torch.where(now > low, low - now, high - now)
                change = 2 * step * gradient[:, :, k] + step**2 * size[:, None, k]
                # Not for what is only rounding of float64.
                step = step * (change < -1e-9 * size[:, None, k])
                if step.any():
                    has_changed = True
                    found[:, :, k] += step
                    gradient += step[:, :, None] * self.moment[:, None, k]
            if not has_changed:
                break
        return found

    def passed_on(self) -> Tensor:
        """Round one weight after the other; those that follow take up its error."""
        wanted = torch.linalg.solve(self.moment[:, None], self.target[..., None])[..., 0]
        factor = torch.linalg.cholesky(torch.linalg.inv(self.moment), upper=True)
        found = torch.empty_like(wanted)
        for k in range(found.shape[2]):
            rounded = wanted[:, :, k].round()
            found[:, :, k] = torch.minimum(torch.maximum(rounded, self.low[:, :, k]), self.high[:, :, k])
            lost = (wanted[:, :, k] - found[:, :, k]) / factor[:, None, k, k]
            wanted[:, :, k:] -= lost[:, :, None] * factor[:, None, k, k:]
        return found


def _counted(node: Conv, record: Record, sums: Tensor) -> Tensor:
    """Places that count: all, or of a depthwise convolution those that its activation lets through.

    sums  (G, O, P) in float, without bias; returns (G, 1, P), 0 or 1
    """
    if node.groups == 1 or sums.shape[1] > 1:
        return torch.ones_like(sums[:, :1])
    point = record.points[node.name]
    low, high = ((q - point.zero_point) * point.scale for q in quantized_bounds(node.activation, point))
    sums = sums + torch.tensor(node.bias).reshape(-1, 1, 1)
    return ((sums > low) & (sums < high)).float()
