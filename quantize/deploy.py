"""Fold a trained network into a deploy graph.

The network is traced symbolically (torch.fx), so that a new backbone needs no code here as long as it is
made of these layers: Normalize at the input, Conv2d, Conv2dSame, BatchNorm2d, ReLU, ReLU6, Scale, nearest
upsampling, addition, GroupNorm, MaxPool2d, Identity and Dropout. What becomes of them:

BatchNorm2d, Scale   folded into the convolution before them; a convolution that several levels share
                     becomes one node per call, each with its own level's statistics
ReLU, ReLU6          the activation of the convolution, addition or GroupNorm before them; where others
                     read that value too, or it is none of these, a 1x1 depthwise convolution with weight 1
                     carries it
Conv2dSame           explicit pads for this `input_hw`; a mean is never folded across them
Identity, Dropout    nothing

Folding is done in float64 and stored as float32.
"""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import fx, nn

from fcos_edge.errors import CheckpointError
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
)
from fcos_edge.train.layers import (
    CenternessOfDistances,
    Conv2dSame,
    Normalize,
    Scale,
    Upsample2x,
    same_padding,
)

Shape = tuple[int, int, int]
_ADDITIONS = (operator.add, operator.iadd, torch.add)
# Parts of networks that can be trained here: what to train instead.
_REFUSED: dict[type[nn.Module], str] = {
    CenternessOfDistances: 'it is for comparison only; train with quality_from "branch"',
}


def deploy(network: nn.Module, input_hw: tuple[int, int]) -> Graph:
    """Fold `network` for pictures of `input_hw` pixels.

    The network maps (N, 3, H, W) RGB pixels 0..255 to a dict of output name -> (N, C, h, w). It is left as
    it is; batch normalization is taken as in eval mode.

    Raises CheckpointError where it has a layer that has no place in a deploy graph.
    """
    try:
        traced = _Tracer().trace(network)
    except Exception as error:  # tracing runs the network's own code, which may raise anything
        raise CheckpointError(f"{type(network).__name__} cannot be traced: {_one_line(error)}") from error
    folder = _Folder(dict(network.named_modules()), input_hw)
    for step in traced.nodes:
        folder.visit(step)
    return folder.graph()


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return (
            type(m) in _Folder.LAYERS
            or type(m) in _REFUSED
            or super().is_leaf_module(m, module_qualified_name)
        )


@dataclass
class _Draft:
    """A node that may still take a normalization or an activation from the steps after it.

    node          its name is given last, when it is known which output it makes
    weight, bias  of a convolution, float64
    path          of the module that made it
    level_path    of the normalization folded into it: differs from call to call of a shared convolution
    origin        paths of the convolution, and of what is folded into it
    is_shared     its value, before what is folded next, is read by others too
    """

    node: Node
    shape: Shape
    inputs: tuple[_Draft, ...]
    path: str
    weight: npt.NDArray[np.float64] | None = None
    bias: npt.NDArray[np.float64] | None = None
    level_path: str = ""
    origin: tuple[str, ...] = ()
    is_shared: bool = False

    @property
    def activation(self) -> Activation | None:
        """None for a node that has no place for one."""
        return self.node.activation if isinstance(self.node, Conv | Add | GroupNorm) else None

    def multiply(self, factor: npt.NDArray[np.float64], shift: npt.NDArray[np.float64]) -> None:
        """output = output * factor + shift, per channel (C,)."""
        assert self.weight is not None
        assert self.bias is not None
        self.weight = self.weight * factor.reshape(-1, 1, 1, 1)
        self.bias = self.bias * factor + shift


class _Folder:
    """Visits the steps of a trace in order, and collects drafts."""

    def __init__(self, modules: dict[str, nn.Module], input_hw: tuple[int, int]) -> None:
        self.modules = modules
        self.input_hw = input_hw
        self.drafts: list[_Draft] = []
        self.values: dict[fx.Node, _Draft] = {}
        self.outputs: dict[str, _Draft] = {}

    def visit(self, step: fx.Node) -> None:
        if step.op == "placeholder":
            return
        if step.op == "output":
            self._output(step.args[0])
            return
        if step.op == "call_module":
            module = self.modules[str(step.target)]
            fold = self.LAYERS.get(type(module))
            if fold is not None and len(step.args) == 1 and not step.kwargs:
                self.values[step] = fold(self, step, module)
                return
            what = f"layer {step.target} ({type(module).__name__})"
            if advice := _REFUSED.get(type(module)):
                raise CheckpointError(f"{what} has no place in a deploy graph: {advice}")
        elif step.target in _ADDITIONS and not step.kwargs and all(a in self.values for a in step.args):
            self.values[step] = self._add(step)
            return
        else:
            operation = getattr(step.target, "__name__", step.target)
            what = f"{operation} ({step.op}) in {_module_path(step) or 'the network'}"
        raise CheckpointError(f"{what} has no place in a deploy graph; see quantize/deploy.py for what has")

    def graph(self) -> Graph:
        names = self._names()
        nodes = []
        for draft in self.drafts:
            inputs = tuple(names[id(source)] for source in draft.inputs)
            node = replace(draft.node, name=names[id(draft)], inputs=inputs)
            if isinstance(node, Conv) and draft.weight is not None and draft.bias is not None:
                weight, bias = draft.weight.astype(np.float32), draft.bias.astype(np.float32)
                node = replace(node, weight=weight, bias=bias)
            nodes.append(node)
        outputs = {output: names[id(draft)] for output, draft in self.outputs.items()}
        shapes = {names[id(draft)]: draft.shape for draft in self.drafts}
        origins = {names[id(d)]: d.origin for d in self.drafts if isinstance(d.node, Conv | GroupNorm)}
        return Graph(tuple(nodes), outputs, self.input_hw, shapes, origins)

    def _names(self) -> dict[int, str]:
        """A name for each draft: its module's path, and for shared modules what tells the calls apart."""
        calls = Counter(draft.path for draft in self.drafts)
        output_of = {id(draft): output for output, draft in self.outputs.items()}
        taken: Counter[str] = Counter()
        names = {}
        for draft in self.drafts:
            name = draft.path
            if calls[name] > 1 and id(draft) in output_of:
                name = f"{name}.{output_of[id(draft)]}"
            elif calls[name] > 1:
                name = draft.level_path or name
            taken[name] += 1
            names[id(draft)] = name if taken[name] == 1 else f"{name}.{taken[name]}"
        return names

    def _append(self, draft: _Draft) -> _Draft:
        self.drafts.append(draft)
        return draft

    def _source(self, step: fx.Node) -> _Draft:
        source = step.args[0]
        if source not in self.values:
            raise CheckpointError(f"layer {step.target} reads the picture; expected Normalize first")
        return self.values[cast(fx.Node, source)]

    def _normalize(self, step: fx.Node, module: nn.Module) -> _Draft:
        source = step.args[0]
        if self.drafts or not isinstance(source, fx.Node) or source.op != "placeholder":
            raise CheckpointError(f"layer {step.target} normalizes; expected that once, on the picture")
        assert isinstance(module, Normalize)
        red, green, blue = module.mean.flatten().tolist()
        std_red, std_green, std_blue = module.std.flatten().tolist()
        node = Input("", (red, green, blue), (std_red, std_green, std_blue))
        return self._append(_Draft(node, (3, *self.input_hw), (), "input"))

    def _conv(self, step: fx.Node, module: nn.Module) -> _Draft:
        assert isinstance(module, nn.Conv2d)
        source = self._source(step)
        _, height, width = source.shape
        (kernel_h, kernel_w), (stride, stride_w) = module.kernel_size, module.stride
        is_plain = module.padding_mode == "zeros" and not isinstance(module.padding, str)
        if not is_plain or stride != stride_w or module.dilation != (1, 1):
            raise CheckpointError(
                f"layer {step.target}: only zero padding, dilation 1 and equal strides can be deployed"
            )
        if isinstance(module, Conv2dSame):
            top, bottom = same_padding(height, kernel_h, stride)
            left, right = same_padding(width, kernel_w, stride)
        else:
            top, left = cast(tuple[int, int], module.padding)
            bottom, right = top, left
        out_h = (height + top + bottom - kernel_h) // stride + 1
        out_w = (width + left + right - kernel_w) // stride + 1
        weight = _float64(module.weight)
        bias = np.zeros(len(weight)) if module.bias is None else _float64(module.bias)
        empty = np.zeros(0, np.float32)
        node = Conv("", (), empty, empty, stride, (top, left, bottom, right), module.groups, "none")
        shape = (len(weight), out_h, out_w)
        path = str(step.target)
        return self._append(_Draft(node, shape, (source,), path, weight, bias, origin=(path,)))

    def _batch_norm(self, step: fx.Node, module: nn.Module) -> _Draft:
        assert isinstance(module, nn.BatchNorm2d)
        conv = self._private_conv(step)
        if module.running_mean is None or module.running_var is None:
            raise CheckpointError(f"layer {step.target} keeps no running statistics; it cannot be folded")
        factor = 1 / np.sqrt(_float64(module.running_var) + module.eps)
        if module.affine:
            factor = factor * _float64(module.weight)
        shift = -_float64(module.running_mean) * factor
        conv.multiply(factor, shift + _float64(module.bias) if module.affine else shift)
        conv.level_path = str(step.target)
        conv.origin += (conv.level_path,)
        return conv

    def _scale(self, step: fx.Node, module: nn.Module) -> _Draft:
        assert isinstance(module, Scale)
        conv = self._private_conv(step)
        conv.multiply(_float64(module.factor), np.zeros(()))
        conv.origin += (str(step.target),)
        return conv

    def _private_conv(self, step: fx.Node) -> _Draft:
        """The convolution that a factor can be folded into, since nobody else reads its value."""
        source = self._source(step)
        if source.weight is None or source.activation != "none" or _is_shared(step, source):
            raise CheckpointError(f"layer {step.target} does not follow a convolution that only it reads")
        return source

    def _activate(self, step: fx.Node, module: nn.Module) -> _Draft:
        source = self._source(step)
        activation: Activation = "relu6" if isinstance(module, nn.ReLU6) else "relu"
        if source.activation == "none" and not _is_shared(step, source):
            assert isinstance(source.node, Conv | Add | GroupNorm)
            source.node = replace(source.node, activation=activation)
            return source
        channels = source.shape[0]
        empty = np.zeros(0, np.float32)
        node = Conv("", (), empty, empty, 1, (0, 0, 0, 0), channels, activation)
        weight, bias = np.ones((channels, 1, 1, 1)), np.zeros(channels)
        return self._append(_Draft(node, source.shape, (source,), str(step.target), weight, bias))

    def _resize(self, step: fx.Node, module: nn.Module) -> _Draft:
        source = self._source(step)
        factor = 2.0 if isinstance(module, Upsample2x) else getattr(module, "scale_factor", None)
        if getattr(module, "mode", "nearest") != "nearest" or factor not in range(2, 9):
            raise CheckpointError(f"layer {step.target}: only nearest upsampling by 2..8 can be deployed")
        whole = int(cast(float, factor))
        channels, height, width = source.shape
        shape = (channels, height * whole, width * whole)
        return self._append(_Draft(Resize("", (), whole), shape, (source,), str(step.target)))

    def _max_pool(self, step: fx.Node, module: nn.Module) -> _Draft:
        assert isinstance(module, nn.MaxPool2d)
        source = self._source(step)
        kernel, stride, pad = module.kernel_size, module.stride, module.padding
        is_square = isinstance(kernel, int) and isinstance(stride, int) and isinstance(pad, int)
        if not is_square or module.dilation != 1 or module.ceil_mode or module.return_indices:
            raise CheckpointError(
                f"layer {step.target}: only square pools with dilation 1, rounded down, can be deployed"
            )
        assert isinstance(kernel, int)
        assert isinstance(stride, int)
        assert isinstance(pad, int)
        channels, height, width = source.shape
        out_h, out_w = ((side + 2 * pad - kernel) // stride + 1 for side in (height, width))
        node = MaxPool("", (), kernel, stride, (pad,) * 4)
        return self._append(_Draft(node, (channels, out_h, out_w), (source,), str(step.target)))

    def _group_norm(self, step: fx.Node, module: nn.Module) -> _Draft:
        assert isinstance(module, nn.GroupNorm)
        source = self._source(step)
        gamma, beta = np.ones(module.num_channels), np.zeros(module.num_channels)
        if module.affine:
            gamma, beta = _float64(module.weight), _float64(module.bias)
        node = GroupNorm(
            "", (), gamma.astype(np.float32), beta.astype(np.float32), module.num_groups, module.eps, "none"
        )
        path = str(step.target)
        return self._append(_Draft(node, source.shape, (source,), path, origin=(path,)))

    def _nothing(self, step: fx.Node, module: nn.Module) -> _Draft:
        source = self._source(step)
        source.is_shared |= _is_shared(step, source)
        return source

    def _add(self, step: fx.Node) -> _Draft:
        first, second = (self.values[cast(fx.Node, arg)] for arg in step.args)
        path = ".".join(filter(None, [_module_path(step), "add"]))
        if first.shape != second.shape:
            raise CheckpointError(f"{path} adds {first.shape} and {second.shape}; expected equal shapes")
        return self._append(_Draft(Add("", (), "none"), first.shape, (first, second), path))

    def _output(self, value: Any) -> None:
        if not isinstance(value, dict) or not value or not all(v in self.values for v in value.values()):
            raise CheckpointError("the network returns no dict of output name -> map")
        self.outputs = {str(name): self.values[step] for name, step in value.items()}

    LAYERS: ClassVar[dict[type[nn.Module], Callable[[_Folder, fx.Node, Any], _Draft]]] = {
        Normalize: _normalize, Conv2dSame: _conv, nn.Conv2d: _conv, nn.BatchNorm2d: _batch_norm,
        nn.SyncBatchNorm: _batch_norm, Scale: _scale, nn.ReLU: _activate, nn.ReLU6: _activate,
        nn.GroupNorm: _group_norm, nn.MaxPool2d: _max_pool,
        Upsample2x: _resize, nn.Upsample: _resize, nn.UpsamplingNearest2d: _resize,
        nn.Identity: _nothing, nn.Dropout: _nothing, nn.Dropout2d: _nothing,
    }  # fmt: skip


def _is_shared(step: fx.Node, source: _Draft) -> bool:
    return source.is_shared or len(cast(fx.Node, step.args[0]).users) > 1


def _module_path(step: fx.Node) -> str:
    """Path of the module whose forward made this step; "" for the network itself."""
    stack = step.meta.get("nn_module_stack") or {}
    return str(next(reversed(stack.values()))[0]) if stack else ""


def _float64(value: torch.Tensor) -> npt.NDArray[np.float64]:
    return cast(npt.NDArray[np.float64], value.detach().cpu().double().numpy())


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
