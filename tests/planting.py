"""How a fault gets into a bundle of the embedded detector, the way that real bugs come in.

A fault in the network goes into the deploy graph or the record, and our own writers put it into every format
and precision that it is for. A fault in the conventions goes into the manifest and the document of every
model file. Whatever a bundle says about itself is right again: hashes in the manifest, and the record's in
int8 files. golden/ and calibration.json stay as they were exported, so only behaviour gives a fault away.

Where a bundle has some of the files only, these get the fault.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import onnx

from fcos_edge import embedded
from fcos_edge.artifact import DOCUMENT_KEY, ArtifactInfo, dump_document
from fcos_edge.bundle import Manifest, describe_file, read_manifest, write_manifest
from fcos_edge.loading import read_document
from fcos_edge.quantize.deploy import deploy
from fcos_edge.quantize.formats import load_writer
from fcos_edge.quantize.graph import Graph
from fcos_edge.quantize.record import Point, Record
from fcos_edge.spec import ModelSpec
from fcos_edge.trailer import append_trailer
from fcos_edge.train.checkpoint import load_checkpoint

ALL = ("fp32", "fp16", "int8")
FLOAT = ("fp32", "fp16")
INT8 = ("int8",)


@dataclass(frozen=True)
class Fault:
    """`plant` changes a bundle in place.

    changes     what is wrong afterwards
    plant       (bundle) -> None
    precisions  of the files that it changes
    is_spec     it is in the conventions, of all files alike; else in the networks
    """

    changes: str
    plant: Callable[[Path], None]
    precisions: tuple[str, ...] = ALL
    is_spec: bool = False


@dataclass(frozen=True)
class Network:
    """What the writers serialize."""

    graph: Graph
    record: Record

    def node(self, name: str) -> Any:
        return next(node for node in self.graph.nodes if node.name == name)

    def changed(self, name: str, **changes: Any) -> Network:
        """Another value for some fields of one node."""
        nodes = tuple(replace(node, **changes) if node.name == name else node for node in self.graph.nodes)
        return replace(self, graph=replace(self.graph, nodes=nodes))

    def with_point(self, name: str, point: Point) -> Network:
        return replace(self, record=replace(self.record, points={**self.record.points, name: point}))

    def with_weight_scales(self, name: str, scales: Any) -> Network:
        weight_scales = {**self.record.weight_scales, name: scales.astype(np.float32)}
        return replace(self, record=replace(self.record, weight_scales=weight_scales))


Change = Callable[[Network], Network]


@dataclass(frozen=True, eq=False)
class _PassedOff(Record):
    """A record that goes by another one's hash."""

    told_sha256: str = ""

    @property
    def sha256(self) -> str:
        return self.told_sha256


@cache
def embedded_network() -> Network:
    checkpoint = load_checkpoint(embedded.CHECKPOINT)
    record = Record.from_dict(dict(checkpoint.record or {}))
    told = _PassedOff(**vars(record), told_sha256=record.sha256)
    return Network(deploy(checkpoint.network, checkpoint.spec.input_hw), told)


def describe_again(bundle: Path, spec: ModelSpec | None = None) -> None:
    """Give the manifest the hashes of the files as they are now, and another spec if there is one."""
    manifest = read_manifest(bundle)
    artifacts = tuple(
        replace(artifact, files=tuple(describe_file(bundle / file.name) for file in artifact.files))
        for artifact in manifest.artifacts
    )
    write_manifest(bundle, Manifest(spec or manifest.spec, artifacts))


def write_document(path: Path, spec: ModelSpec, info: ArtifactInfo) -> None:
    """Another document in a model file; the network stays as it is."""
    text = dump_document(spec, info)
    if path.suffix == ".onnx":
        model = onnx.load(path)
        onnx.helper.set_model_props(model, {DOCUMENT_KEY: text})
        onnx.save(model, path)
    elif path.suffix == ".tflite":
        path.write_bytes(append_trailer(path.read_bytes(), text))
    else:
        tree = ElementTree.parse(path)
        entry = tree.find(f"rt_info/{DOCUMENT_KEY}")
        assert entry is not None
        entry.set("value", text)
        tree.write(path)


def in_network(*changes: Change, precisions: tuple[str, ...] = ALL, say: str) -> Fault:
    def plant(bundle: Path) -> None:
        network = embedded_network()
        for change in changes:
            network = change(network)
        for artifact in read_manifest(bundle).artifacts:
            if artifact.precision in precisions:
                spec, info = read_document(bundle / artifact.name)
                load_writer(artifact.format).write(
                    bundle, network.graph, network.record, spec, artifact.precision, info.operating_thresholds
                )
        describe_again(bundle)

    return Fault(say, plant, precisions)


def in_spec(say: str, **changes: Any) -> Fault:
    def plant(bundle: Path) -> None:
        manifest = read_manifest(bundle)
        for artifact in manifest.artifacts:
            spec, info = read_document(bundle / artifact.name)
            write_document(bundle / artifact.name, replace(spec, **changes), info)
        describe_again(bundle, replace(manifest.spec, **changes))

    return Fault(say, plant, is_spec=True)


def in_thresholds(say: str, change: Callable[[Any], Any]) -> Fault:
    def plant(bundle: Path) -> None:
        for artifact in read_manifest(bundle).artifacts:
            spec, info = read_document(bundle / artifact.name)
            thresholds = tuple(map(float, change(np.array(info.operating_thresholds))))
            write_document(bundle / artifact.name, spec, replace(info, operating_thresholds=thresholds))
        describe_again(bundle)

    return Fault(say, plant, is_spec=True)
