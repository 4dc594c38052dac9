"""The float twin of the integer simulator: the folded network with fake quantization, and gradients.

At every point of a record a value is rounded to its 256 steps and stays float,

    fake(x) = (clamp(round(x / s) + z, low, high) - z) * s,    halves to even,

and the weights that are rounded so are computed from the trained network's own parameters, batch
normalization folded in with statistics that stand still. The gradient passes the rounding as if it were
not there (the straight-through estimator, arXiv 1308.3432), and does not pass the clamp. Where ranges are
learned, a scale has the gradient of LSQ (arXiv 1902.08153),

    d fake / d s = round(x / s) - x / s inside the clamp,  (clamped q) - z outside,

divided by sqrt(values * steps). What is trained is the logarithm of its ratio to the calibrated scale: the
optimizer's steps have one size for weights and scales, while scales lie between 1e-4 and 1e-1
(arXiv 1903.08066, section 3).

Float sums depend on their order, so the twin is the simulator but for values on a rounding tie.
"""

from __future__ import annotations

import math
from typing import Any, cast

import torch
from torch import Tensor, nn

from fcos_edge.quantize.execute import activate, convolve, select
from fcos_edge.quantize.float_values import float_values, is_computed_in_float
from fcos_edge.quantize.graph import Add, Conv, Graph, GroupNorm, Input, Node
from fcos_edge.quantize.recipe import parse_recipe
from fcos_edge.quantize.record import (
    BIAS_LIMIT,
    WEAKEST_CHANNEL,
    WEIGHT_LIMIT,
    Record,
    check_record,
    quantized_bounds,
)
from fcos_edge.quantize.refinements.equalization import equalized
from fcos_edge.train.layers import Scale
from fcos_edge.train.model import Fcos

# A weight of 0.05 that moves by a learning rate of 1e-4 moves by 0.2 %; a scale by 0.1 %.
LOG_GAIN = 10.0


class FakeQuantizedFcos(Fcos):
    """Pictures (N, 3, H, W) float32, RGB, 0..255 -> raw maps by output name, NCHW, as int8 gives them.

    It shares the modules of `network`, and so all its parameters and their names. Statistics of batch
    normalization never move, in training mode neither.

    network     gets trained
    graph       of the network, for the one `input_hw` that pictures may have
    record      where to quantize; its corrections and learned roundings are for other weights and not used
    is_learned  the scales of activations and weights are parameters, too; else points stay, and the scales
                of weights follow from the weights as `record.weight_scales` has it

    Raises CheckpointError where the record does not fit the graph.
    """

    def __init__(self, network: Fcos, graph: Graph, record: Record, *, is_learned: bool = False) -> None:
        nn.Module.__init__(self)
        self.normalize, self.backbone = network.normalize, network.backbone
        self.fpn, self.head = network.fpn, network.head
        check_record(equalized(graph, record.channel_factors), record)
        self.graph = graph
        self.initial = record
        self.is_learned = is_learned
        self._limit = parse_recipe(record.recipe).weight_limit
        self._is_per_channel = parse_recipe(record.recipe).is_per_channel
        self._float_values = float_values(graph, record)
        points = [
            n for n in graph.nodes
            if isinstance(n, Conv | Add | GroupNorm) and n.name not in self._float_values
        ]  # fmt: skip
        self._learned_points = points if is_learned else []
        self._learned_convs = [
            n
            for n in graph.nodes
            if is_learned and isinstance(n, Conv) and not is_computed_in_float(n, record)
        ]
        if is_learned:
            self._add_scales(record)

    def _add_scales(self, record: Record) -> None:
        names = [node.name for node in self._learned_points]
        self.log_point_scales = nn.Parameter(torch.zeros(len(names)))
        first = torch.tensor([record.points[name].scale for name in names])
        largest = torch.tensor([_largest_scale(node, record) for node in self._learned_points])
        self.register_buffer("_first_points", first, persistent=False)
        self.register_buffer("_largest_points", largest, persistent=False)
        weights = [
            torch.tensor(record.weight_scales[n.name][slice(None if self._is_per_channel else 1)])
            for n in self._learned_convs
        ]
        self._counts = [len(scales) for scales in weights]
        self.log_weight_scales = nn.Parameter(torch.zeros(sum(self._counts)))
        self.register_buffer("_first_weights", torch.cat(weights), persistent=False)

    def point_scales(self) -> dict[str, Tensor]:
        """The learned scale of each node that has one, () float32, > 0."""
        if not self.is_learned:
            return {}
        first, largest = self.get_buffer("_first_points"), self.get_buffer("_largest_points")
        scales = torch.minimum(first * (LOG_GAIN * self.log_point_scales).exp(), largest)
        return {n.name: scale for n, scale in zip(self._learned_points, scales.unbind(), strict=True)}

    def weight_scales(self) -> dict[str, Tensor]:
        """The learned scales of each convolution that has them, (O,) or (1,) float32, > 0."""
        if not self.is_learned:
            return {}
        scales = self.get_buffer("_first_weights") * (LOG_GAIN * self.log_weight_scales).exp()
        parts = scales.split(self._counts)  # type: ignore[no-untyped-call]
        return {n.name: part for n, part in zip(self._learned_convs, parts, strict=True)}

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        if tuple(images.shape[2:]) != self.graph.input_hw:
            found, wanted = "x".join(map(str, images.shape[2:])), "x".join(map(str, self.graph.input_hw))
            raise ValueError(f"pictures are {found}, expected {wanted}")
        scales, weight_scales = self.point_scales(), self.weight_scales()
        values: dict[str, Tensor] = {}
        for node in self.graph.nodes:
            if isinstance(node, Input):
                value = self._at_point(node, self.normalize(images), scales)
            elif isinstance(node, Conv):
                weight, bias = self._folded(node)
                if not is_computed_in_float(node, self.initial):
                    source = scales.get(node.inputs[0], self.initial.points[node.inputs[0]].scale)
                    weight, bias = self._quantized(weight, bias, source, weight_scales.get(node.name))
                value = self._at_point(node, convolve(node, values[node.inputs[0]], weight, bias), scales)
            elif isinstance(node, GroupNorm):
                value = self._at_point(node, self._normalized(node, values[node.inputs[0]]), scales)
            elif isinstance(node, Add):
                value = self._at_point(node, values[node.inputs[0]] + values[node.inputs[1]], scales)
            else:
                value = select(node, values[node.inputs[0]])
                if node.inputs[0] in scales:
                    scales[node.name] = scales[node.inputs[0]]
            values[node.name] = value
        return {output: values[name] for output, name in self.graph.outputs.items()}

    def _folded(self, node: Conv) -> tuple[Tensor, Tensor]:
        """Weight and bias in float, from the parameters of the modules that they come from."""
        weight, bias = _folded(self, node, self.graph.origins[node.name])
        own = self.initial.channel_factors.get(node.name)
        source = self.initial.channel_factors.get(node.inputs[0])
        if source is not None:  # depthwise: input channel and output channel are one
            divisor = torch.as_tensor(source, device=weight.device)
            weight = weight / divisor.reshape((-1, 1, 1, 1) if node.groups > 1 else (1, -1, 1, 1))
        if own is not None:
            factor = torch.as_tensor(own, device=weight.device)
            weight, bias = weight * factor.reshape(-1, 1, 1, 1), bias * factor
        return weight, bias

    def _normalized(self, node: GroupNorm, x: Tensor) -> Tensor:
        (path,) = self.graph.origins[node.name]
        module = self.get_submodule(path)
        assert isinstance(module, nn.GroupNorm)
        return cast(Tensor, module(x))

    def _quantized(
        self, weight: Tensor, bias: Tensor, source_scale: Tensor | float, learned: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        limit = self._limit
        floors = _scale_floors(weight.detach(), bias.detach(), source_scale)
        if learned is not None:
            scale = torch.maximum(learned, floors if self._is_per_channel else floors.max()[None])
            factor = _gradient_factor(weight.numel() // len(scale), limit)
            weight = with_learned_scale(weight, scale.reshape(-1, 1, 1, 1), 0, (-limit, limit), factor)
        else:
            largest = weight.detach().abs().flatten(1).amax(1)
            scale = torch.maximum(largest / limit, floors)
            scale = scale if self._is_per_channel else scale.max()[None]
            steps = scale.reshape(-1, 1, 1, 1)
            # No weight is beyond the last step, so that nothing is clamped.
            weight = weight + (torch.round(weight.detach() / steps) * steps - weight.detach())
        with torch.no_grad():
            bias_scale = scale * source_scale
            rounding = torch.round(bias / bias_scale) * bias_scale - bias
        return weight, bias + rounding

    def _at_point(
        self, node: Input | Conv | Add | GroupNorm, value: Tensor, scales: dict[str, Tensor]
    ) -> Tensor:
        """The activation, and rounding: both are one clamp. What stays float is only activated."""
        if node.name in self._float_values and not isinstance(node, Input):
            return activate(node.activation, value)
        point = self.initial.points[node.name]
        low, high = quantized_bounds("none" if isinstance(node, Input) else node.activation, point)
        scale = scales.get(node.name)
        if scale is None:
            return with_fixed_scale(value, point.scale, point.zero_point, (low, high))
        if not isinstance(node, Input) and node.activation == "relu6":
            high = 255  # `_largest_scale` sees to it that it means 6 at most
        factor = _gradient_factor(value[0].numel(), 255)
        return with_learned_scale(value, scale, point.zero_point, (low, high), factor)


def with_fixed_scale(x: Tensor, scale: float, zero_point: int, ends: tuple[int, int]) -> Tensor:
    """fake(x); `ends` are low and high. The gradient passes where x rounds to an integer within them."""
    return cast(Tensor, _FixedScale.apply(x, scale, zero_point, *ends))  # type: ignore[no-untyped-call]


def with_learned_scale(
    x: Tensor, scale: Tensor, zero_point: int, ends: tuple[int, int], factor: float = 1.0
) -> Tensor:
    """The same with a gradient, times `factor`, for the scale too, which broadcasts against x."""
    return cast(Tensor, _LearnedScale.apply(x, scale, zero_point, *ends, factor))  # type: ignore[no-untyped-call]


class _FixedScale(torch.autograd.Function):
    # torch.fake_quantize_per_tensor_affine takes ten times as long on a CPU.

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: float, zero_point: int, low: int, high: int) -> Tensor:
        ctx.save_for_backward(x)
        ctx.ends = ((low - zero_point - 0.5) * scale, (high - zero_point + 0.5) * scale)
        return (x / scale).round_().clamp_(low - zero_point, high - zero_point).mul_(scale)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (x,) = ctx.saved_tensors
        return torch.ops.aten.hardtanh_backward(grads[0], x, *ctx.ends), None, None, None, None


class _LearnedScale(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, scale: Tensor, zero_point: int, low: int, high: int, factor: float
    ) -> Tensor:
        out = (x / scale).round_().clamp_(low - zero_point, high - zero_point).mul_(scale)
        ctx.save_for_backward(x, out, scale)
        ctx.ends = (low - zero_point - 0.5, high - zero_point + 0.5)
        ctx.factor = factor
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, out, scale = ctx.saved_tensors
        low, high = ctx.ends
        grad_x = grads[0] * ((x >= low * scale) & (x <= high * scale))
        # out / scale is q - z: less x / scale where the gradient passed.
        steps = (grads[0] * out).sum_to_size(scale.shape) - (grad_x * x).sum_to_size(scale.shape)
        return grad_x, steps / scale * ctx.factor, None, None, None, None


def _folded(network: nn.Module, node: Conv, origin: tuple[str, ...]) -> tuple[Tensor, Tensor]:
    weight: Tensor | None = None
    bias: Tensor | None = None
    for path in origin:
        module = network.get_submodule(path)
        if isinstance(module, nn.Conv2d):
            weight = module.weight
            bias = weight.new_zeros(len(weight)) if module.bias is None else module.bias
            continue
        assert weight is not None
        assert bias is not None
        if isinstance(module, Scale):
            weight, bias = weight * module.factor, bias * module.factor
            continue
        assert isinstance(module, nn.BatchNorm2d | nn.SyncBatchNorm)
        assert module.running_mean is not None
        assert module.running_var is not None
        factor = torch.rsqrt(module.running_var + module.eps)
        if module.affine:
            factor = factor * module.weight
        weight, bias = weight * factor.reshape(-1, 1, 1, 1), (bias - module.running_mean) * factor
        if module.affine:
            bias = bias + module.bias
    if weight is None or bias is None:  # it only carries an activation
        device = next(network.parameters()).device
        return torch.tensor(node.weight, device=device), torch.tensor(node.bias, device=device)
    return weight, bias


def _scale_floors(weight: Tensor, bias: Tensor, source_scale: Tensor | float) -> Tensor:
    """`record.weight_scale_floors` of tensors, (O,)."""
    strongest = weight.abs().amax()
    floor = bias.abs() / (source_scale * BIAS_LIMIT)
    return torch.maximum(floor.detach(), strongest / WEIGHT_LIMIT * WEAKEST_CHANNEL)


def _largest_scale(node: Node, record: Record) -> float:
    """With it the largest integer of a ReLU6 means 6: runtimes then need no clip."""
    if isinstance(node, Conv | Add | GroupNorm) and node.activation == "relu6":
        return 6.0 / (255 - record.points[node.name].zero_point)
    return math.inf


def _gradient_factor(values: int, steps: int) -> float:
    return 1 / math.sqrt(values * steps)
