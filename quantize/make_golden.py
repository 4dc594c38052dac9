"""Make the golden pictures of a bundle: PyTorch and the integer simulator on pictures that ship with us."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from fcos_edge import golden as golden_module
from fcos_edge.artifact import OutputInfo
from fcos_edge.golden import LICENSE_NAME, REFERENCE, Golden, GoldenPicture
from fcos_edge.image import read_image_bgr
from fcos_edge.letterbox import Letterbox
from fcos_edge.postprocess import PostProcessor
from fcos_edge.quantize.float_values import is_computed_in_float
from fcos_edge.quantize.graph import Graph
from fcos_edge.quantize.record import Record
from fcos_edge.quantize.simulate import OutputArray, Simulator, dequantize
from fcos_edge.raw_outputs import join_outputs
from fcos_edge.runtime import FloatArray, UInt8Array
from fcos_edge.spec import ModelSpec

PICTURES = Path(golden_module.__file__).with_name("golden_pictures")
# Where the lowest bit is flipped for the one-bit floor: parts of height and width, and a channel. Two, so
# that one that happens to change little does not decide.
FLIPS = ((0.5, 0.5, 1), (0.3, 0.4, 0))


def golden_sources() -> tuple[Path, ...]:
    """The source pictures that ship with the package."""
    return tuple(sorted(PICTURES.glob("*.png")))


def golden_license() -> str:
    return (PICTURES / LICENSE_NAME).read_text(encoding="utf-8")


@contextmanager
def _one_thread() -> Iterator[None]:
    """As fast as two on pictures of this size, and many times faster where other programs are busy: OpenMP's
    threads wait for each other spinning. The order of float sums is always the same, too."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@_one_thread()
def make_golden(
    network: nn.Module,
    graph: Graph,
    record: Record | None,
    spec: ModelSpec,
    operating_thresholds: tuple[float, ...],
    sources: tuple[Path, ...],
) -> Golden:
    """Run the network as it was trained, not folded: so that folding is verified too.

    network  (N, 3, H, W) RGB pixels 0..255 -> dict of output name -> (N, C, h, w); left as it is
    record   None where no int8 artifact is wanted
    """
    network = copy.deepcopy(network).eval()
    postprocess = PostProcessor(spec)
    simulator = Simulator(graph, record) if record else None
    pictures, floors = [], []
    for source in sources:
        image_bgr = read_image_bgr(source)
        letterbox = Letterbox.from_spec(spec, (image_bgr.shape[0], image_bgr.shape[1]))
        images = letterbox.apply(image_bgr)[None]
        fp32 = _run_torch(network, images, spec)
        int8: dict[str, OutputArray] = {}
        if simulator:
            integers = simulator.run(images)
            int8 = {name: integers[name][0] for name in spec.output_names}
            floors += [_changes(simulator, images, integers, flip) for flip in FLIPS]
        candidates = postprocess(join_outputs(fp32, spec), [letterbox])[0]
        operating = candidates.filtered(operating_thresholds)
        pictures.append(GoldenPicture(source.name, images, fp32, int8, candidates, operating))
    conventions = (replace(spec, provenance={}), {REFERENCE: operating_thresholds})
    if record is None or simulator is None:
        return Golden(tuple(pictures), *conventions)
    outputs = tuple(_output_info(name, graph.outputs[name], simulator) for name in spec.output_names)
    means = {name: float(np.mean([change[name] for change in floors])) for name in spec.output_names}
    is_integer = not any(is_computed_in_float(node, record) for node in graph.nodes)
    return Golden(tuple(pictures), *conventions, outputs, record.sha256, means, is_integer)


def _output_info(name: str, node: str, simulator: Simulator) -> OutputInfo:
    point = simulator.record.points[node]
    return OutputInfo(name, point.scale, None if node in simulator.float_values else point.zero_point)


@torch.inference_mode()
def _run_torch(network: nn.Module, images: UInt8Array, spec: ModelSpec) -> dict[str, FloatArray]:
    maps = network(torch.from_numpy(images).permute(0, 3, 1, 2).float())
    return {name: maps[name][0].permute(1, 2, 0).contiguous().numpy() for name in spec.output_names}


def _changes(
    simulator: Simulator,
    images: UInt8Array,
    integers: Mapping[str, OutputArray],
    flip: tuple[float, float, int],
) -> dict[str, float]:
    """Mean absolute change of each output when the lowest bit of one input value flips."""
    row, column, channel = flip
    flipped = images.copy()
    flipped[0, int(row * images.shape[1]), int(column * images.shape[2]), channel] ^= 1
    before, after = (
        dequantize(simulator.graph, simulator.record, values) for values in (integers, simulator.run(flipped))
    )
    return {name: float(np.abs(after[name] - before[name]).mean(dtype=np.float64)) for name in before}
