"""The faults that `verify` and `parity` must find, each for a bundle of the embedded detector.

    FAULTS["bgr for rgb"].plant(copy_of_a_bundle)

planting.py says how they get in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from fcos_edge.quantize.graph import Conv
from fcos_edge.quantize.record import Point
from tests.planting import FLOAT, INT8, Change, Fault, Network, in_network, in_spec, in_thresholds

CLASS = 0  # person, which the golden pictures show
LEVEL = "p4"
BACKBONE_LAYER = "backbone.stages.3.1.layers.3"  # depthwise 3x3
FPN_LAYER = "fpn.laterals.1.0"
HEAD_LAYER = "head.class_tower.1.pointwise_bn.p4"


def _last(branch: str, level: str) -> str:
    return f"head.{branch}.{branch}_{level}"


def _edit(name: str, weight: Callable[[Any], Any], bias: Callable[[Any], Any] = lambda bias: bias) -> Change:
    def change(network: Network) -> Network:
        conv = network.node(name)
        weights, biases = np.asarray(weight(conv.weight)), np.asarray(bias(conv.bias))
        return network.changed(name, weight=weights.astype(np.float32), bias=biases.astype(np.float32))

    return change


def _set(name: str, **changes: Any) -> Change:
    return lambda network: network.changed(name, **changes)


def _shift_class(by: float, levels: Iterable[str]) -> tuple[Change, ...]:
    def shifted(bias: Any) -> Any:
        return bias + by * np.eye(len(bias))[CLASS]

    return tuple(_edit(_last("logits", level), lambda weight: weight, shifted) for level in levels)


def _reorder(name: str, order: Callable[[int], Any]) -> Change:
    """Output channels in another order, with their scales."""

    def change(network: Network) -> Network:
        index = order(len(network.node(name).bias))
        scales = network.record.weight_scales[name][index]
        taken = _edit(name, lambda weight: weight[index], lambda bias: bias[index])
        return taken(network).with_weight_scales(name, scales)

    return change


def _exchange_heads(first: str, second: str) -> Change:
    """Every convolution of one level's head gets the weights of the other's, and its own scales."""

    def change(network: Network) -> Network:
        convs = {node.name: node for node in network.graph.nodes if isinstance(node, Conv)}
        for name, conv in convs.items():
            if name.startswith("head.") and name.endswith(first):
                other = convs[name.removesuffix(first) + second]
                network = network.changed(name, weight=other.weight, bias=other.bias)
                network = network.changed(other.name, weight=conv.weight, bias=conv.bias)
        return network

    return change


def _scale_weights(name: str, factor: float) -> Change:
    """The file's integers stay, the scales of a layer's weights and biases change."""

    def change(network: Network) -> Network:
        scaled = _edit(name, lambda weight: weight * factor, lambda bias: bias * factor)
        return scaled(network).with_weight_scales(name, network.record.weight_scales[name] * factor)

    return change


def _scale_activation(name: str, factor: float) -> Change:
    """The file's integers stay, the scale of a layer's output changes; its readers' biases with it."""

    def change(network: Network) -> Network:
        point = network.record.points[name]
        network = network.with_point(name, Point(float(np.float32(point.scale * factor)), point.zero_point))
        for node in network.graph.nodes:
            if name in node.inputs:
                assert isinstance(node, Conv)
                network = network.changed(node.name, bias=node.bias * np.float32(factor))
        return network

    return change


def _scale_output(output: str, factor: float) -> Change:
    """The integers of an output stay, its scale changes, in the file and in what the file says."""

    def change(network: Network) -> Network:
        name = network.graph.outputs[output]
        point = network.record.points[name]
        network = _scale_weights(name, factor)(network)
        return network.with_point(name, Point(float(np.float32(point.scale * factor)), point.zero_point))

    return change


def _per_tensor(name: str) -> Change:
    """One weight scale for all channels of a layer."""

    def change(network: Network) -> Network:
        scales = network.record.weight_scales[name]
        return network.with_weight_scales(name, np.full_like(scales, scales.max()))

    return change


def _normalize(mean: float, std: float) -> Change:
    def change(network: Network) -> Network:
        network = network.changed("input", mean=(mean,) * 3, std=(std,) * 3)
        return network.with_point("input", Point(float(np.float32(1 / std)), int(mean)))

    return change


def _round_to_bits(bits: int) -> Callable[[Any], Any]:
    def rounded(weight: Any) -> Any:
        step = np.abs(weight).max(axis=(1, 2, 3), keepdims=True) / (2 ** (bits - 1) - 1)
        return np.rint(weight / step) * step

    return rounded


def _kill_channel(name: str, channel: int) -> Change:
    def dead(values: Any) -> Any:
        values = values.copy()
        values[channel] = 0
        return values

    return _edit(name, dead, dead)


def _zero(values: Any) -> Any:
    return np.zeros_like(values)


LEVELS = ("p3", "p4", "p5", "p6", "p7")

FAULTS: dict[str, Fault] = {
    # The network ---------------------------------------------------------------------------------------
    "bgr for rgb": in_network(
        _edit("backbone.stem.0", lambda weight: weight[:, ::-1]), say="the first convolution reads BGR"
    ),
    "mean off by one": in_network(_normalize(128, 128), say="the input's zero point is 128, not 127"),
    "std off by one": in_network(_normalize(127, 127), say="the input's scale is 1/127, not 1/128"),
    "stem padded before": in_network(
        _set("backbone.stem.0", pads=(1, 1, 0, 0)), say="the stem's padding is top left, not bottom right"
    ),
    "kernel transposed": in_network(
        _edit(BACKBONE_LAYER, lambda weight: weight.swapaxes(2, 3)),
        say="rows and columns of a depthwise kernel are exchanged",
    ),
    # In int8 the range of the layer ends where ReLU6 does.
    "activation left out": in_network(
        _set(BACKBONE_LAYER, activation="none"), precisions=FLOAT, say="a ReLU6 is missing"
    ),
    "bias left out": in_network(_edit(FPN_LAYER, lambda weight: weight, _zero), say="a layer has no bias"),
    "dead channel": in_network(_kill_channel(FPN_LAYER, 7), say="one channel of a layer is always 0"),
    "weights zeroed": in_network(_edit(BACKBONE_LAYER, _zero), say="a layer's weights are 0"),
    "head weights zeroed": in_network(_edit(HEAD_LAYER, _zero), say="weights of a level's head are 0"),
    "weights of 4 bits": in_network(
        _edit(HEAD_LAYER, _round_to_bits(4)), precisions=FLOAT, say="a layer's weights are rounded to 4 bits"
    ),
    "class bias down": in_network(*_shift_class(-0.5, LEVELS), say="person's logits are 0.5 lower"),
    "class bias up": in_network(*_shift_class(0.3, LEVELS), say="person's logits are 0.3 higher"),
    "class bias of a level": in_network(
        *_shift_class(0.5, (LEVEL,)), say="person's logits are 0.5 higher at p4"
    ),
    "classes of a level rotated": in_network(
        _reorder(_last("logits", LEVEL), lambda count: np.roll(np.arange(count), 1)),
        say="each class of p4 is told by the next one's logits",
    ),
    "left and right of a level swapped": in_network(
        _reorder(_last("ltrb", LEVEL), lambda count: np.array([2, 1, 0, 3])), say="ltrb of p4 is rtlb"
    ),
    "levels swapped": in_network(_exchange_heads("p3", "p4"), say="p3 is read by p4's head, p4 by p3's"),
    "level shifted by a cell": in_network(
        *(_set(f"head.{tower}_tower.2.depthwise_bn.p4", pads=(1, 2, 1, 0)) for tower in ("class", "box")),
        say="the outputs of p4 lie one column to the right",
    ),
    "level scale left out": in_network(
        _edit(_last("ltrb", "p5"), lambda weight: weight * 1.1, lambda bias: bias * 1.1),
        say="the distances of p5 are a tenth too long",
    ),
    "weight scale doubled": in_network(
        _scale_weights(HEAD_LAYER, 2), precisions=INT8, say="the weight scales of a layer are doubled"
    ),
    "weight scale halved": in_network(
        _scale_weights(BACKBONE_LAYER, 0.5), precisions=INT8, say="the weight scales of a layer are half"
    ),
    "activation scale doubled": in_network(
        _scale_activation(HEAD_LAYER, 2), precisions=INT8, say="the scale of a layer's output is doubled"
    ),
    "activation scale halved": in_network(
        _scale_activation(HEAD_LAYER, 0.5), precisions=INT8, say="the scale of a layer's output is half"
    ),
    "output scale doubled": in_network(
        _scale_output("ltrb_p5", 2), precisions=INT8, say="ltrb_p5 means twice as much, and says so"
    ),
    "weights per tensor": in_network(
        _per_tensor(BACKBONE_LAYER), precisions=INT8, say="a layer has one weight scale for all channels"
    ),
    # The conventions -----------------------------------------------------------------------------------
    "stretch for letterbox": in_spec("pictures are stretched", resize="stretch"),
    "padding black": in_spec("the padding is black, not grey", pad_color_rgb=(0, 0, 0)),
    "padding around": in_spec("the picture lies in the centre", pad_position="centre"),
    "nearest pixel": in_spec("the resize takes the nearest pixel", interpolation="nearest"),
    "normalization": in_spec("mean and std are 0 and 255", mean=(0.0,) * 3, std=(255.0,) * 3),
    "class names exchanged": in_spec(
        "bicycle is called person",
        classes=("bicycle", "person", "car", "motorcycle", "bus", "cat", "dog", "horse"),
    ),
    "location offset": in_spec("locations lie half a stride too far left and up", location_offset=0.0),
    "exp for relu": in_spec("distances are exp(ltrb)", distance="exp"),
    "pixels for strides": in_spec("distances are in pixels", distance_unit="pixel"),
    "no center-ness": in_spec("scores are the class probability", score="class"),
    "no root": in_spec("scores are the product without its root", score="product"),
    "threshold on the score": in_spec("candidates are chosen by their score", threshold_on="score"),
    "candidate threshold": in_spec("candidates need 0.1, not 0.05", candidate_threshold=0.1),
    "nms iou": in_spec("boxes may overlap by 0.65, not 0.6", nms_iou=0.65),
    "nms across classes": in_spec("boxes of other classes are suppressed", nms_per_class=False),
    "fewer candidates of a level": in_spec("a level keeps 20 candidates", pre_nms_topk_per_level=20),
    "fewer detections": in_spec("a picture keeps 10 detections", max_detections=10),
    "operating threshold": in_thresholds(
        "person needs 0.1 more", lambda thresholds: thresholds + 0.1 * np.eye(len(thresholds))[CLASS]
    ),
}  # fmt: skip
