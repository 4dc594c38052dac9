"""What all is compared with: the checkpoint in PyTorch where that is possible, else a float artifact."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fcos_edge import embedded
from fcos_edge.bundle import Manifest, check_files, sha256_of
from fcos_edge.errors import ArtifactError, CheckpointError, UsageError
from fcos_edge.workers.variants import TORCH, Variant, files_of

_FIRST = ("onnxruntime", "openvino", "ai-edge-litert")  # of float artifacts, where PyTorch is not


@dataclass(frozen=True)
class Reference:
    """variant, the file that it runs, and why it is this one, in words."""

    variant: Variant
    path: Path
    why: str


def find_reference(
    folder: Path, manifest: Manifest, variants: Sequence[Variant], checkpoint: Path | None
) -> Reference:
    """The reference of the bundle at `folder`.

    checkpoint  that the bundle was exported from; None: the embedded one, where the bundle was made from it

    variants    all that can run here

    Raises CheckpointError where the checkpoint is another one, ArtifactError where every float artifact is
    damaged, UsageError where nothing here can be the reference.
    """
    wanted = manifest.spec.provenance.get("checkpoint_sha256")
    path = checkpoint or embedded.CHECKPOINT
    if checkpoint is not None and not checkpoint.is_file():
        raise CheckpointError(f"{checkpoint}: no such file; give the checkpoint that was exported")
    is_same = path.is_file() and sha256_of(path) == wanted
    if checkpoint is not None and not is_same:
        raise CheckpointError(
            f"{checkpoint}: is not the checkpoint that {folder} was exported from; give that one, or none"
        )
    has_torch = importlib.util.find_spec(TORCH) is not None
    if checkpoint is not None and not has_torch:
        raise UsageError("--checkpoint: runs in PyTorch, which is not installed; leave it out, or install it")
    if is_same and has_torch:
        return Reference(Variant(path.name, "fp32", TORCH, TORCH), path, "the checkpoint in PyTorch")
    why = "PyTorch is not installed" if not has_torch else "no --checkpoint was given"
    rank = {package: place for place, package in enumerate(_FIRST)}
    floats = [variant for variant in variants if variant.precision == "fp32"]
    if not floats:
        raise UsageError(
            f"{folder}: nothing to compare with: {why}, and no fp32 artifact runs here; give --checkpoint on"
            " a workstation, or collect here with --collect"
        )
    floats.sort(key=lambda variant: rank.get(variant.package, len(rank)))
    best = _first_whole(folder, manifest, floats)
    return Reference(best, folder / best.file, f"{best.name}, since {why}")


def _first_whole(folder: Path, manifest: Manifest, variants: Sequence[Variant]) -> Variant:
    """A damaged file is that artifact's failure; nothing else is to be judged by it."""
    errors = []
    for variant in variants:
        try:
            check_files(folder, files_of(manifest, variant))
        except ArtifactError as error:
            errors.append(error)
        else:
            return variant
    raise errors[0]
