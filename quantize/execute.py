"""A deploy graph run in PyTorch, in float32: what every artifact is compared with."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fcos_edge.quantize.graph import (
    Activation,
    Add,
    Conv,
    Graph,
    GroupNorm,
    Input,
    MaxPool,
    Node,
    Resize,
    Selecting,
)


class DeployNetwork(nn.Module):
    """Pictures (N, H, W, 3) uint8 RGB, letterboxed -> output name -> (N, h, w, C) float32.

    Sides other than the graph's `input_hw` are refused: the pads are folded for these.
    """

    def __init__(self, graph: Graph) -> None:
        super().__init__()
        self.graph = graph
        self._places = {node.name: index for index, node in enumerate(graph.nodes)}
        for index, node in enumerate(graph.nodes):
            if isinstance(node, Conv):
                self.register_buffer(f"weight_{index}", torch.tensor(node.weight), persistent=False)
                self.register_buffer(f"bias_{index}", torch.tensor(node.bias), persistent=False)

    def forward(self, pictures: Tensor) -> dict[str, Tensor]:
        maps = {node.name: value for node, value in self.run_nodes(pictures)}
        return {output: maps[name].permute(0, 2, 3, 1) for output, name in self.graph.outputs.items()}

    def run_nodes(self, pictures: Tensor) -> Iterator[tuple[Node, Tensor]]:
        """Every node with its output, (N, C, h, w) float32, in the graph's order."""
        check_pictures(self.graph, pictures)
        maps: dict[str, Tensor] = {}
        for node in self.graph.nodes:
            if isinstance(node, Input):
                value = normalize(node, pictures)
            else:
                value = self.run_node(node, [maps[name] for name in node.inputs])
            maps[node.name] = value
            yield node, value

    def run_node(self, node: Conv | Add | Resize | MaxPool | GroupNorm, inputs: Sequence[Tensor]) -> Tensor:
        """The output of one node, (N, C, h, w) float32; where it adds, an input may be of one picture."""
        if isinstance(node, Conv):
            index = self._places[node.name]
            weight, bias = self.get_buffer(f"weight_{index}"), self.get_buffer(f"bias_{index}")
            return activate(node.activation, convolve(node, inputs[0], weight, bias))
        return transform(node, inputs)


def transform(node: Add | Resize | MaxPool | GroupNorm, inputs: Sequence[Tensor]) -> Tensor:
    """The output, (N, C, h, w) float32, of a node that is no convolution."""
    if isinstance(node, Add):
        return activate(node.activation, inputs[0] + inputs[1])
    if isinstance(node, GroupNorm):
        return activate(node.activation, normalize_groups(node, inputs[0]))
    return select(node, inputs[0])


def check_pictures(graph: Graph, pictures: Tensor) -> None:
    """Raise ValueError unless `pictures` are (N, H, W, 3) uint8 of the graph's size."""
    wanted = (*graph.input_hw, 3)
    if pictures.dtype != torch.uint8 or pictures.ndim != 4 or tuple(pictures.shape[1:]) != wanted:
        found = f"{pictures.dtype} {tuple(pictures.shape)}"
        raise ValueError(f"pictures are {found}, expected uint8 (N, {wanted})")


def normalize(node: Input, pictures: Tensor) -> Tensor:
    """(N, H, W, 3) uint8 -> (N, 3, H, W) float32, (pixel - mean) / std."""
    mean, std = pictures.new_tensor([node.mean, node.std], dtype=torch.float32)
    normalized: Tensor = (pictures.float() - mean) / std
    return normalized.permute(0, 3, 1, 2).contiguous()


def convolve(node: Conv, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """The convolution without its activation; symmetric zeros are the convolution's own padding."""
    top, left, bottom, right = node.pads
    padding = (top, left)
    if (top, left) != (bottom, right):
        x, padding = F.pad(x, (left, right, top, bottom)), (0, 0)
    return F.conv2d(x, weight, bias, node.stride, padding, groups=node.groups)


def activate(activation: Activation, x: Tensor) -> Tensor:
    if activation == "none":
        return x
    return F.relu(x) if activation == "relu" else x.clamp(0.0, 6.0)


def normalize_groups(node: GroupNorm, x: Tensor) -> Tensor:
    """The normalization without its activation."""
    return F.group_norm(x, node.groups, torch.tensor(node.gamma), torch.tensor(node.beta), node.eps)


def select(node: Selecting, x: Tensor) -> Tensor:
    """Right for integers, too: no value comes out that did not go in."""
    if isinstance(node, Resize):
        return x.repeat_interleave(node.factor, 2).repeat_interleave(node.factor, 3)
    top, left, bottom, right = node.pads
    x = F.pad(x, (left, right, top, bottom), value=-torch.inf)
    return F.max_pool2d(x, node.kernel, node.stride)
