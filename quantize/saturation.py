"""The simulator's other mode: int8 on x86 without VNNI, where sums of two products saturate.

There, uint8 by int8 products (U8S8) are multiplied by `vpmaddubsw`: it adds the products of two
neighbouring inputs in int16 and saturates, before they go to int32. A pair reaches 2 * 255 * 127 = 64770; the
limit is 32767. With 7-bit weights it reaches 2 * 255 * 63 = 32130, and nothing saturates.

    sum   int32: sum over pairs of clamp(q_x0 q_w0 + q_x1 q_w1, -32768, 32767) - z_x * (sum of q_w) + q_bias

Neighbours are input channels 0 and 1, 2 and 3, ... of one place of the window. Where their number is odd,
ONNX Runtime (MLAS) pairs the last one with the first of the next place, as they lie along K; OpenVINO
(oneDNN) leaves it alone. Padding is z_x, not zero. Depthwise convolutions have kernels that widen first
and do not saturate, and so has all of XNNPACK (TFLite).

ONNX Runtime 1.31 on an emulated Haswell (`qemu-x86_64 -cpu Haswell`) computes the same integers, in every
output of the embedded network and in single convolutions of every kind. Its SSE4.1 kernels, for CPUs older
than AVX2, do not saturate.

O, I     output channels, input channels of a group
kh, kw   kernel height and width
K        kh * kw * I, in the order (kh, kw, I)
P        locations of the output
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from fcos_edge.console import track
from fcos_edge.quantize.graph import Conv, Graph
from fcos_edge.quantize.record import Int8Array, Record, conv_integers
from fcos_edge.quantize.simulate import Simulator
from fcos_edge.runtime import UInt8Array

RUNTIMES = ("onnxruntime", "openvino")
INT16_RANGE = (-(1 << 15), (1 << 15) - 1)
LARGEST_INPUT = 255
# Pair sums computed at once: 16 MB.
CHUNK = 1 << 22


@dataclass(frozen=True)
class Overflow:
    """A convolution with pair sums that saturate.

    name         of the convolution
    share        of its pair sums that saturate
    count        how many these are
    largest_sum  the largest |pair sum| before it is clamped
    """

    name: str
    share: float
    count: int
    largest_sum: int


def overflowing_layers(
    graph: Graph, record: Record, inputs: UInt8Array, *, runtime: str = RUNTIMES[0]
) -> tuple[Overflow, ...]:
    """The convolutions that saturate on x86 without VNNI, largest share first.

    inputs   (N, H, W, 3) uint8 RGB, letterboxed
    runtime  one of RUNTIMES; they differ where the number of input channels is odd
    """
    simulator = SaturatingSimulator(graph, record, runtime)
    for picture in track(inputs, "looking for overflows", len(inputs)):
        simulator.run(picture[None])
    rows = [
        Overflow(name, count.saturated / count.sums, count.saturated, count.largest)
        for name, count in simulator.counts.items()
        if count.saturated
    ]
    return tuple(sorted(rows, key=lambda row: (-row.share, row.name)))


def what_cpus_for(overflows: Sequence[Overflow]) -> str:
    """Which CPUs an int8 file is meant for, in words; overflows are what saturated on some pictures."""
    if not overflows:
        return "every CPU: no sum of two products overflows int16"
    worst = overflows[0]
    return (
        f"Arm, TFLite and x86 with VNNI; on x86 without it {len(overflows)} convolutions saturate in ONNX"
        f" Runtime and OpenVINO, worst {worst.name} in {worst.share:.1%} of its sums: --weights-7bit"
    )


@dataclass
class _Count:
    sums: int = 0
    saturated: int = 0
    largest: int = 0


@dataclass(frozen=True)
class _Pairs:
    """The pairs of one convolution whose sum can saturate at all, M of them.

    channel        (M,) int64, output channel
    first, second  (M,) int64, rows of the unfolded input, (groups * I * kh * kw) in PyTorch's order
    weights        (2, M, 1) float32; where there is no second, its weight is 0
    per_location   how many pair sums there are at each location, those that cannot saturate included
    """

    channel: Tensor
    first: Tensor
    second: Tensor
    weights: Tensor
    per_location: int


class SaturatingSimulator(Simulator):
    """The same as `Simulator`, for x86 without VNNI; `counts` gathers what saturated in all runs."""

    def __init__(self, graph: Graph, record: Record, runtime: str = RUNTIMES[0]) -> None:
        if runtime not in RUNTIMES:
            raise ValueError(f"runtime is {runtime!r}, expected {' or '.join(RUNTIMES)}")
        super().__init__(graph, record)
        convs = [node for node in self.graph.nodes if isinstance(node, Conv) and node.name in self._factors]
        self._pairs = {
            node.name: _find_pairs(node, conv_integers(node, record).weight, runtime == "openvino")
            for node in convs
        }
        self.counts = {node.name: _Count() for node in convs}

    def sums(self, node: Conv, x: Tensor) -> Tensor:
        total = super().sums(node, x)
        pairs, count = self._pairs[node.name], self.counts[node.name]
        batch, _, height, width = total.shape
        count.sums += pairs.per_location * batch * height * width
        if not len(pairs.channel):
            return total
        rows = _unfold(node, x) + self.record.points[node.inputs[0]].zero_point  # [N, rows, P]
        step = max(1, CHUNK // (batch * height * width))
        excess = torch.zeros(batch, total.shape[1], height * width, dtype=torch.float64)
        for start in range(0, len(pairs.channel), step):
            part = slice(start, start + step)
            pair_sums = rows[:, pairs.first[part]] * pairs.weights[0, part]
            pair_sums += rows[:, pairs.second[part]] * pairs.weights[1, part]
            beyond = pair_sums - pair_sums.clamp(*INT16_RANGE)
            excess.index_add_(1, pairs.channel[part], beyond.double())
            count.saturated += int(torch.count_nonzero(beyond))
            count.largest = max(count.largest, int(pair_sums.abs().max()))
        return total - excess.reshape(total.shape)


def _find_pairs(node: Conv, weight: Int8Array, pads_channels: bool) -> _Pairs:
    """pads_channels: to an even number at each place of the window, instead of once at the end of K."""
    out, channels, height, width = weight.shape
    if channels == 1 and node.groups == out:
        return _Pairs(*(torch.zeros(0, dtype=torch.int64),) * 3, torch.zeros(2, 0, 1), 0)
    # What PyTorch unfolds in the order (I, kh, kw) is multiplied in the order (kh, kw, I).
    rows = np.arange(channels * height * width).reshape(channels, height, width).transpose(1, 2, 0)
    flat = weight.transpose(0, 2, 3, 1).astype(np.int64)
    if pads_channels:
        rows, flat = _even(rows), _even(flat)
    rows, flat = _even(rows.reshape(-1)), _even(flat.reshape(out, -1))
    pairs = flat.reshape(out, -1, 2)
    highest = LARGEST_INPUT * np.maximum(pairs, 0).sum(axis=2)
    lowest = LARGEST_INPUT * np.minimum(pairs, 0).sum(axis=2)
    channel, index = np.nonzero((lowest < INT16_RANGE[0]) | (highest > INT16_RANGE[1]))
    group = channel // (out // node.groups) * channels * height * width
    first, second = (torch.from_numpy(rows[2 * index + side] + group) for side in (0, 1))
    weights = torch.from_numpy(pairs[channel, index].T.astype(np.float32)[:, :, None])
    return _Pairs(torch.from_numpy(channel), first, second, weights, out * pairs.shape[1])


def _even(values: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """With a zero behind the last axis where its length is odd."""
    return np.pad(values, [(0, 0)] * (values.ndim - 1) + [(0, values.shape[-1] % 2)])


def _unfold(node: Conv, x: Tensor) -> Tensor:
    """(N, C, h, w) -> (N, C * kh * kw, P): every window of the padded input, still as q - zero_point."""
    top, left, bottom, right = node.pads
    kernel = node.weight.shape[2:]
    x = F.pad(x, (left, right, top, bottom))
    if kernel == (1, 1):
        return x[:, :, :: node.stride, :: node.stride].flatten(2)
    return F.unfold(x, kernel, stride=node.stride)
