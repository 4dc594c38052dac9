"""The PyTorch side of a bundle: the network that it was exported from, and its integer simulator."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fcos_edge import embedded
from fcos_edge.bundle import RECORD_NAME, read_manifest
from fcos_edge.errors import ArtifactError, CheckpointError
from fcos_edge.loading import read_document
from fcos_edge.quantize.deploy import deploy
from fcos_edge.quantize.graph import Graph
from fcos_edge.quantize.record import Record
from fcos_edge.quantize.simulate import Simulator
from fcos_edge.runtime import FloatArray, IntArray, UInt8Array
from fcos_edge.spec import BRANCHES, ModelSpec
from fcos_edge.train.checkpoint import load_checkpoint


@dataclass(frozen=True)
class LevelPoint:
    """How one level of a branch is quantized; `start` and `stop` are its locations."""

    start: int
    stop: int
    scale: np.float32
    zero_point: int


class Reference:
    """The simulator, with its outputs as the runtimes' wrappers arrange theirs.

    points: branch -> its levels, P3 first
    """

    def __init__(self, graph: Graph, record: Record, spec: ModelSpec) -> None:
        self.spec = spec
        self._simulator = Simulator(graph, record)
        self.points: dict[str, list[LevelPoint]] = {branch: [] for branch in BRANCHES}
        start = 0
        for level, (height, width) in zip(spec.level_names, spec.level_hw, strict=True):
            stop = start + height * width
            for branch in BRANCHES:
                point = record.points[graph.outputs[f"{branch}_{level}"]]
                self.points[branch].append(LevelPoint(start, stop, np.float32(point.scale), point.zero_point))
            start = stop

    def integers(self, images: UInt8Array) -> dict[str, IntArray]:
        """Branch -> (N, L, C) of q - zero_point, C = 1 for center-ness."""
        outputs = self._simulator.run(images)
        flat: dict[str, IntArray] = {}
        for branch, points in self.points.items():
            levels = []
            for level, point in zip(self.spec.level_names, points, strict=True):
                maps = outputs[f"{branch}_{level}"].astype(np.int64) - point.zero_point
                levels.append(maps.reshape(len(maps), -1, maps.shape[-1]))
            flat[branch] = np.concatenate(levels, axis=1)
        return flat

    def dequantize(self, branch: str, integers: IntArray) -> FloatArray:
        """(N, L, C) float32: what a DequantizeLinear makes of them."""
        real = integers.astype(np.float32)
        for point in self.points[branch]:
            real[:, point.start : point.stop] *= point.scale
        return real


def open_reference(bundle: Path, checkpoint: Path | None) -> Reference:
    """The simulator of a bundle's record on the checkpoint that it was exported from (None: the embedded).

    Raises FcosEdgeError where bundle and record do not belong together.
    """
    manifest = read_manifest(bundle)
    record = _read_record(bundle)
    for artifact in manifest.artifacts:
        if artifact.precision == "int8":
            _, info = read_document(bundle / artifact.name)
            if info.record_sha256 != record.sha256:
                raise ArtifactError(
                    f"{bundle}: {artifact.name} is not made of {RECORD_NAME}; export it again"
                )
    loaded = load_checkpoint(checkpoint or embedded.CHECKPOINT)
    if len(loaded.spec.classes) != len(manifest.spec.classes):
        raise CheckpointError(f"{bundle}: not exported from this checkpoint; give the right --checkpoint")
    return Reference(deploy(loaded.network, manifest.spec.input_hw), record, manifest.spec)


def _read_record(bundle: Path) -> Record:
    path = bundle / RECORD_NAME
    try:
        return Record.from_dict(json.loads(path.read_bytes()))
    except (OSError, ValueError) as error:
        reason = type(error).__name__
        raise ArtifactError(f"{path}: no calibration record ({reason}); export the bundle again") from None
