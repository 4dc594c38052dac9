"""A backbone's ImageNet weights from a file: `.safetensors`, or a `.pth` without pickled code.

Taken are the tensors by name, each exactly once: a file of another network of the same family, of which
part would fit, is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from fcos_edge.errors import CheckpointError

OWN_PREFIX = "backbone."  # in a checkpoint of a whole detector


def read_weights(path: Path, network_name: str) -> dict[str, Tensor]:
    """The tensors of a file by name; of a detector's checkpoint those of its backbone.

    Raises CheckpointError where the file is missing, or no such file.
    """
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file; give a file of {network_name}'s ImageNet weights")
    content: object
    try:
        if path.suffix == ".safetensors":
            content = load_file(path)
        else:
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # both raise many kinds for a broken file
        raise CheckpointError(
            f"{path}: no weights of {network_name} ({type(error).__name__}); give a .pth or .safetensors file"
        ) from None
    if not isinstance(content, Mapping) or not all(isinstance(v, Tensor) for v in content.values()):
        raise CheckpointError(
            f"{path}: holds other things than tensors by name; give a file of {network_name}'s state dict"
        )
    own = {k.removeprefix(OWN_PREFIX): v for k, v in content.items() if str(k).startswith(OWN_PREFIX)}
    return own or {str(k): v for k, v in content.items()}


def load_weights(
    network: nn.Module, weights: Mapping[str, Tensor], origin: str, unused: tuple[str, ...] = ()
) -> None:
    """Copy `weights` into `network`; every tensor of it must be there.

    origin  what messages begin with
    unused  beginnings of names that the network is built without (the classifier)

    Raises CheckpointError, and changes nothing, where a tensor is missing, misshapen or left over.
    """
    wanted = {name: value.shape for name, value in network.state_dict().items() if not _is_count(name)}
    for name, shape in wanted.items():
        if name not in weights:
            raise CheckpointError(f"{origin}: {name} is missing; give the weights of that very network")
        if weights[name].shape != shape:
            raise CheckpointError(
                f"{origin}: {name} has shape {tuple(weights[name].shape)}, expected {tuple(shape)};"
                " give the weights of that very network"
            )
    for name in weights:
        if name not in wanted and not name.startswith(unused) and not _is_count(name):
            raise CheckpointError(
                f"{origin}: {name[:80]!r} belongs to another network; give the weights of that very network"
            )
    network.load_state_dict({name: weights[name] for name in wanted}, strict=False)


def _is_count(name: str) -> bool:
    """Batch normalization's count of steps: older files lack it, and nothing here reads it."""
    return name.endswith("num_batches_tracked")
