"""The networks of a bundle, each in the runtime that its format is for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fcos_edge.bundle import read_manifest
from fcos_edge.console import note
from fcos_edge.loading import LoadedArtifact, open_artifact
from fcos_edge.runtime import find_runtime, installed_package

# OpenVINO reads ONNX files too; here each format is measured in its own runtime.
RUNTIME_OF = {"onnx": "onnxruntime", "openvino": "openvino", "tflite": "tflite"}


def open_networks(
    bundle: Path, precisions: Sequence[str], threads: int
) -> dict[tuple[str, str], LoadedArtifact]:
    """(runtime name, precision) -> network, in the manifest's order; what is not installed is left out.

    Raises FcosEdgeError where the bundle cannot be read.
    """
    networks = {}
    for artifact in read_manifest(bundle).artifacts:
        runtime = RUNTIME_OF[artifact.format]
        if artifact.precision not in precisions:
            continue
        if installed_package(find_runtime(runtime)) is None:
            note(f"{artifact.name}: {runtime} is not installed, left out")
            continue
        networks[runtime, str(artifact.precision)] = open_artifact(
            bundle, runtime, artifact.precision, threads=threads
        )
    return networks
