"""The model that a verb was given, ready to run: a bundle, a model file or a checkpoint.

On a device it is a bundle or one of its files. A checkpoint runs in PyTorch, where that is installed.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from fcos_edge import embedded
from fcos_edge.bundle import MANIFEST_NAME
from fcos_edge.console import note
from fcos_edge.detector import Detector
from fcos_edge.errors import UsageError
from fcos_edge.loading import open_artifact
from fcos_edge.threads import checked_threads

CHECKPOINT_SUFFIX = ".safetensors"


def open_model(path: Path | None, args: argparse.Namespace) -> Detector:
    """The model at `path`, with the options of `arguments.add_model_options`; says on stderr what it took.

    Without a path: the bundle of the embedded detector's name in this folder, else that detector in PyTorch.
    Raises FcosEdgeError where there is none, or it cannot be used.
    """
    if path is None and Path(embedded.NAME, MANIFEST_NAME).is_file():
        path = Path(embedded.NAME)
    if path is None or path.suffix == CHECKPOINT_SUFFIX:
        return _open_checkpoint(path, args)
    loaded = open_artifact(path, args.runtime, args.precision, args.device, args.threads)
    note(f"model: {loaded.description}")
    return loaded.detector()


def _open_checkpoint(path: Path | None, args: argparse.Namespace) -> Detector:
    reason = f"there is no bundle {embedded.NAME} in this folder"
    if path is not None:
        reason = f"{path.name} is a checkpoint, which runs in PyTorch"
    for name in ("runtime", "precision", "device"):
        if getattr(args, name) is not None:
            raise UsageError(f"--{name}: {reason}; make a bundle with fcos-edge export --int8, and give that")
    try:
        from fcos_edge.train.torch_runtime import open_checkpoint
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("fcos_edge"):
            raise
        raise UsageError(
            f"{reason}, and {error.name} is not installed; give a bundle, or make one on a workstation:"
            " pip install 'fcos-edge[export]' && fcos-edge export --int8"
        ) from None
    threads = checked_threads(args.threads)
    name = f"the embedded {embedded.NAME}" if path is None else path.name
    note(f"model: {name} (fp32) in PyTorch, {threads} {'thread' if threads == 1 else 'threads'}")
    return open_checkpoint(embedded.CHECKPOINT if path is None else path, threads)
