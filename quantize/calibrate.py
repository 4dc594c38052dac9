"""Calibrate: choose the scale and zero point of every tensor from pictures.

Pictures go through the device's own letterbox and the float deploy graph; the ranges of all nodes'
outputs (`ranges.py`) become the record's points, the weights give their own scales, and the recipe's
refinements (`refinements/`) follow.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import numpy as np
import torch

from fcos_edge.calibration_pictures import picture_sha256
from fcos_edge.console import track
from fcos_edge.errors import CheckpointError, DataError, SpecError, UsageError
from fcos_edge.image import as_image_bgr
from fcos_edge.letterbox import Letterbox
from fcos_edge.quantize.add_scales import align_add_scales
from fcos_edge.quantize.execute import DeployNetwork
from fcos_edge.quantize.graph import Activation, Add, Conv, Graph, GroupNorm, Input, Node, Selecting
from fcos_edge.quantize.ranges import BINS, ESTIMATORS, NEED_COUNTS, Values
from fcos_edge.quantize.recipe import Recipe
from fcos_edge.quantize.record import MIDDLE, PLAIN_RECIPE, Point, Record, weight_scales
from fcos_edge.quantize.refinements import find_refinement
from fcos_edge.quantize.refinements.equalization import equalized
from fcos_edge.runtime import FloatArray, UInt8Array
from fcos_edge.sources import spread
from fcos_edge.spec import ModelSpec

LARGEST_MULTIPLIER = 128  # output steps per step of a sum; XNNPACK refuses 256 and more
FINEST_SCALE = 2.0**-20
COUNTED_PICTURES = 128  # millions of values a node; the shape of their distribution asks for no more
TIE_MARGIN = 1e-4  # runtimes quantize a float by x / s or x * (1 / s), which differ by about 1e-5 steps


def calibrate(
    graph: Graph,
    pictures: Iterable[UInt8Array],
    spec: ModelSpec,
    *,
    recipe: Recipe = PLAIN_RECIPE,
    float_nodes: tuple[str, ...] = (),
) -> Record:
    """Make the record of a deploy graph.

    pictures     (h, w, 3) uint8 BGR, of any sizes, as OpenCV decodes them
    float_nodes  convolutions and additions to keep in float

    Raises DataError without pictures, CheckpointError where the network puts out NaN or infinity.
    """
    if spec.input_hw != graph.input_hw:
        raise SpecError(f"calibration: the spec is for {spec.input_hw}, the network for {graph.input_hw}")
    inputs, digests = letterboxed(pictures, spec)
    return calibrate_inputs(graph, inputs, digests, recipe, float_nodes)


def calibrate_inputs(
    graph: Graph,
    inputs: UInt8Array,
    digests: tuple[str, ...] = (),
    recipe: Recipe = PLAIN_RECIPE,
    float_nodes: tuple[str, ...] = (),
) -> Record:
    """The same from letterboxed pictures, (N, H, W, 3) uint8 RGB, and the digests of their sources."""
    if "qat" in recipe.refinements:
        raise UsageError(
            f"recipe {recipe.name} is made with its weights; run fcos-edge train --qat CHECKPOINT"
        )
    factors = find_refinement("cle").channel_factors(graph) if "cle" in recipe.refinements else {}
    folded = equalized(graph, factors)
    values = _observe(folded, inputs, needs_counts=recipe.estimator in NEED_COUNTS)
    points = choose_points(folded, values, recipe)
    scales = {
        node.name: weight_scales(node, points[node.inputs[0]].scale, recipe)
        for node in folded.nodes
        if isinstance(node, Conv)
    }
    record = Record(points, scales, float_nodes, digests, recipe=recipe.name, channel_factors=factors)
    for name in recipe.refinements:
        if name != "cle":
            record = find_refinement(name).refine(graph, record, inputs)
    return record


def letterboxed(pictures: Iterable[UInt8Array], spec: ModelSpec) -> tuple[UInt8Array, tuple[str, ...]]:
    """All inputs, (N, H, W, 3) uint8 RGB, and the sorted digests of their pictures."""
    inputs, digests = [], []
    for picture in pictures:
        image_bgr = as_image_bgr(picture)
        height, width = image_bgr.shape[:2]
        inputs.append(Letterbox.from_spec(spec, (height, width)).apply(image_bgr))
        digests.append(picture_sha256(image_bgr))
    if not inputs:
        raise DataError("calibration: no pictures; name a folder with some (100 or more) with --data")
    return np.stack(inputs), tuple(sorted(digests))


def _observe(graph: Graph, inputs: UInt8Array, *, needs_counts: bool) -> dict[str, Values]:
    seen = {node.name: Values() for node in graph.nodes}
    network = DeployNetwork(graph).eval()
    for node, output in _outputs(network, inputs, "ranges"):
        low, high = map(float, output.aminmax())
        if not np.isfinite([low, high]).all():
            raise CheckpointError(f"{node.name} puts out {low} to {high}; the weights are broken")
        seen[node.name].add(low, high)
    if needs_counts:
        counted = inputs[spread(range(len(inputs)), COUNTED_PICTURES)]
        for node, output in _outputs(network, counted, "histograms"):
            values = seen[node.name]
            counts = torch.histc(output.flatten(), BINS, values.low, values.high).double().numpy()
            values.counts = values.counts + counts if len(values.counts) else counts
    return seen


@torch.inference_mode()
def _outputs(network: DeployNetwork, inputs: UInt8Array, what: str) -> Iterator[tuple[Node, torch.Tensor]]:
    for picture in track(inputs, f"calibrating: {what}", len(inputs)):
        # One by one: float sums may depend on the batch, and ranges must not depend on the order.
        yield from network.run_nodes(torch.from_numpy(picture[None]))


def choose_points(graph: Graph, values: Mapping[str, Values], recipe: Recipe) -> dict[str, Point]:
    """A point for every node; scales of an addition's inputs lie on its output's grid (`add_scales.py`)."""
    estimate = ESTIMATORS[recipe.estimator]
    points: dict[str, Point] = {}
    for node in graph.nodes:
        if isinstance(node, Selecting):
            points[node.name] = points[node.inputs[0]]
        elif isinstance(node, Input):
            points[node.name] = _input_point(node, recipe.is_symmetric)
        else:
            low, high = estimate(values[node.name])
            finest = finest_scale(node, points)
            points[node.name] = range_point(low, high, node.activation, finest, recipe.is_symmetric)
    return align_add_scales(graph, points)


def range_point(
    low: float,
    high: float,
    activation: Activation,
    finest_scale: float = FINEST_SCALE,
    is_symmetric: bool = False,
) -> Point:
    """The point whose 0..255 spans low..high, 0 included; what an activation cannot reach is left out.

    is_symmetric  zero in the middle, and 127 steps to the end that is further away
    """
    if activation != "none":
        low = 0.0
    if activation == "relu6":
        high = min(high, 6.0)
    low, high = min(low, 0.0), max(high, 0.0)
    steps = 255 - MIDDLE if is_symmetric else 255
    scale = np.float32(max((max(high, -low) if is_symmetric else high - low) / steps, finest_scale))
    while activation == "relu6" and scale * np.float32(steps) > 6:
        # ONNX Runtime drops the clip, and fuses the convolution, only if no integer means more than 6.
        scale = np.nextafter(scale, np.float32(0))
    if is_symmetric:
        return Point(float(scale), MIDDLE)
    return Point(float(scale), int(np.clip(np.rint(-low / float(scale)), 0, 255)))


def finest_scale(
    node: Conv | Add | GroupNorm, points: Mapping[str, Point], scales: FloatArray | None = None
) -> float:
    """Where a map was zero on all pictures, its steps would be finer than any runtime can scale to."""
    if isinstance(node, Add):
        return max(points[name].scale for name in node.inputs) / LARGEST_MULTIPLIER
    if isinstance(node, GroupNorm):
        return FINEST_SCALE  # floats are quantized, not scaled
    source = points[node.inputs[0]].scale
    largest = (weight_scales(node, source) if scales is None else scales).max()
    return source * float(largest) / LARGEST_MULTIPLIER


def _input_point(node: Input, is_symmetric: bool) -> Point:
    """Exact where the picture is the quantized input; else the range of all pixel values.

    The scale is widened until no pixel value lies on a rounding tie, since runtimes break it differently.
    """
    if node.uniform and not is_symmetric:
        return Point(*node.uniform)
    if node.uniform and node.uniform[1] in (MIDDLE - 1, MIDDLE):
        # A pixel is a step, none is rounded; with a mean of 127 white alone is a step too dark.
        return Point(node.uniform[0], MIDDLE)
    pixels = np.arange(256, dtype=np.float32)[:, None]
    normalized = (pixels - np.array(node.mean, np.float32)) / np.array(node.std, np.float32)
    low, high = min(float(normalized.min()), 0.0), max(float(normalized.max()), 0.0)
    scale = (high - low) / 255
    while True:
        point = range_point(low, low + scale * 255, "none", is_symmetric=is_symmetric)
        steps = normalized.astype(np.float64) / point.scale
        if (np.abs(steps - np.floor(steps) - 0.5) > TIE_MARGIN).all():
            return point
        scale *= 1 + 1e-4
