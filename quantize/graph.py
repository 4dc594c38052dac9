"""The deploy graph: a folded network as a short list of plain nodes.

Everything after training reads this one structure: the calibrator, the integer simulator and the three
format writers. Batch normalization, level scales and shared weights are folded away; what is left are
convolutions, adds, nearest-neighbour resizes, largest-value pools and group normalizations, which depend on
the picture and cannot be folded; each with a unique name, in an order in which every node comes after its
inputs. A node's output is one quantization point of the record, under its name.

O, I     output and input channels
kh, kw   kernel height and width
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from fcos_edge.runtime import FloatArray

Activation = Literal["none", "relu", "relu6"]


@dataclass(frozen=True)
class Input:
    """The letterboxed picture, (N, H, W, 3) uint8 RGB, normalized: (pixel - mean) / std."""

    name: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    inputs: tuple[str, ...] = ()

    @property
    def uniform(self) -> tuple[float, int] | None:
        """(scale, zero point) where the picture *is* the quantized input, else None.

        That is so where all channels have one std and one mean that is an integer:
        (x - 127) / 128 is scale 1/128, zero point 127.
        """
        mean = self.mean[0]
        is_one = len(set(self.mean)) == len(set(self.std)) == 1
        if is_one and 0 <= mean <= 255 and mean == int(mean):
            return float(np.float32(1 / self.std[0])), int(mean)
        return None


@dataclass(frozen=True, eq=False)
class Conv:
    """A convolution with bias, then an activation.

    weight  (O, I / groups, kh, kw) float32
    bias    (O,) float32
    stride  the same in both directions
    pads    zeros added at top, left, bottom, right
    """

    name: str
    inputs: tuple[str, ...]
    weight: FloatArray
    bias: FloatArray
    stride: int
    pads: tuple[int, int, int, int]
    groups: int
    activation: Activation


@dataclass(frozen=True)
class Add:
    """The sum of two inputs of the same shape, then an activation."""

    name: str
    inputs: tuple[str, ...]
    activation: Activation


@dataclass(frozen=True)
class Resize:
    """Nearest-neighbour enlargement by a whole factor; its quantization is its input's."""

    name: str
    inputs: tuple[str, ...]
    factor: int


@dataclass(frozen=True)
class MaxPool:
    """The largest value of each square window; its quantization is its input's.

    pads  at top, left, bottom, right: places that no window counts
    """

    name: str
    inputs: tuple[str, ...]
    kernel: int
    stride: int
    pads: tuple[int, int, int, int]


@dataclass(frozen=True, eq=False)
class GroupNorm:
    """Group normalization (arXiv 1803.08494), then an activation; computed in float wherever it runs.

    y = (x - mean) / sqrt(variance + eps) * gamma + beta, with mean and variance (divided by the count) of one
    picture over each of `groups` runs of neighbouring channels.

    gamma, beta  (C,) float32
    """

    name: str
    inputs: tuple[str, ...]
    gamma: FloatArray
    beta: FloatArray
    groups: int
    eps: float
    activation: Activation


Node = Input | Conv | Add | Resize | MaxPool | GroupNorm
Selecting = Resize | MaxPool  # what they put out are values of their input: they compute nothing


@dataclass(frozen=True, eq=False)
class Graph:
    """A folded network.

    nodes      in topological order; the first is the only Input
    outputs    output name (`logits_p3`, ...) -> name of the node that makes it
    input_hw   pixels
    shapes     node name -> (channels, height, width) of its output
    origins    name of a node with weights -> paths of the modules that they are from: the convolution's,
               then those of the normalizations and scales that were folded in, in order; none where a
               convolution only carries an activation
    """

    nodes: tuple[Node, ...]
    outputs: Mapping[str, str]
    input_hw: tuple[int, int]
    shapes: Mapping[str, tuple[int, int, int]]
    origins: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
