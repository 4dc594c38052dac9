"""The integer simulator behind the device's `Runtime` protocol: what a recipe is worth, before any file."""

from __future__ import annotations

import numpy as np

from fcos_edge.quantize.graph import Graph
from fcos_edge.quantize.record import Record
from fcos_edge.quantize.simulate import Simulator, dequantize
from fcos_edge.raw_outputs import join_outputs
from fcos_edge.runtime import Branch, RawOutputs, UInt8Array
from fcos_edge.spec import ModelSpec


class SimulatedRuntime:
    """Runs a graph in integers, one picture after the other; outputs are dequantized.

    simulator  `SaturatingSimulator` for x86 without VNNI (`saturation.py`)
    """

    def __init__(
        self, graph: Graph, record: Record, spec: ModelSpec, simulator: type[Simulator] = Simulator
    ) -> None:
        self._simulator = simulator(graph, record)
        self._spec = spec

    def run(self, images: UInt8Array) -> RawOutputs:
        """images: (N, H, W, 3) uint8, RGB, letterboxed."""
        pictures = [self._run_one(images[index : index + 1]) for index in range(len(images))]
        return RawOutputs(*(Branch(np.concatenate(parts)) for parts in zip(*pictures, strict=True)))

    def _run_one(self, image: UInt8Array) -> list[np.ndarray]:
        simulator = self._simulator
        real = dequantize(simulator.graph, simulator.record, simulator.run(image))
        raw = join_outputs({name: value[0] for name, value in real.items()}, self._spec)
        return [branch.values for branch in raw]

    def close(self) -> None:
        """Nothing is held but memory."""
