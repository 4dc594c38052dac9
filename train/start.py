"""A run that begins with the weights of a whole detector: backbone, neck and head.

The weights are those of a checkpoint, which holds a run's average. Its network has to be the run's own, but
for the classes: where these differ, the layer that tells them apart is drawn anew.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from fcos_edge.bundle import sha256_of
from fcos_edge.errors import CheckpointError, UsageError
from fcos_edge.train.checkpoint import Checkpoint, load_checkpoint
from fcos_edge.train.config import CheckpointFile, NetworkConfig
from fcos_edge.train.model import Fcos

OF_CLASSES = "head.logits."
# One weight fits any number of classes and both activations of the backbone.
_FREE = ("num_classes", "activation")


def checkpoint_file_of(path: Path) -> CheckpointFile:
    """What tells the file at `path` from any other. Raises CheckpointError where there is no checkpoint."""
    load_checkpoint(path)
    return CheckpointFile(str(path.resolve()), sha256_of(path))


def described(file: CheckpointFile) -> dict[str, Any]:
    """For the checkpoint that comes out: what it began with, and where that one is from. No places."""
    path = Path(file.checkpoint)
    provenance = dict(load_same(path, file.sha256).spec.provenance)
    return {"file": path.name, "sha256": file.sha256, "provenance": provenance}


def load_same(path: Path, sha256: str) -> Checkpoint:
    """Read the checkpoint that a run began with.

    Raises CheckpointError where there is no such file, or another one by now.
    """
    checkpoint = load_checkpoint(path)
    if sha256_of(path) != sha256:
        raise CheckpointError(f"{path}: is another checkpoint than the run began with; begin a new run")
    return checkpoint


def check_start(start: CheckpointFile, config: NetworkConfig) -> None:
    """Raise UsageError where the checkpoint's weights do not fit the network."""
    path = Path(start.checkpoint)
    own = load_same(path, start.sha256).network_config.to_dict()
    for name, value in config.to_dict().items():
        if value != own[name] and name not in _FREE:
            raise UsageError(
                f"--start {path.name}: its {name} is {own[name]}, the run's {value}; give another checkpoint,"
                f" or --preset or --set network.{name}"
            )


def begin_with(
    network: Fcos, classes: tuple[str, ...], start: CheckpointFile, say: Callable[[str], None]
) -> None:
    """Copy the checkpoint's weights into `network`, which fits (`check_start`), and say what was not copied.

    classes  of the run
    """
    path = Path(start.checkpoint)
    checkpoint = load_same(path, start.sha256)
    weights = checkpoint.network.state_dict()
    if classes != checkpoint.spec.classes:
        say(
            f"{path.name} has other classes ({', '.join(checkpoint.spec.classes)}): the layer that tells"
            " classes apart is drawn anew, all others begin with its weights"
        )
        weights = {name: value for name, value in weights.items() if not name.startswith(OF_CLASSES)}
    network.load_state_dict(weights, strict=False)
