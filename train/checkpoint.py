"""Checkpoints: one `.safetensors` file with weights and a JSON header. No pickle is ever read.

Matrices and kernels are stored as float16, everything with one dimension (biases, normalization) as
float32: it costs little and batch statistics do not fit float16's range. "fp32 reference" means these
weights, widened.
"""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from fcos_edge.errors import CheckpointError, FcosEdgeError
from fcos_edge.spec import ModelSpec, check_keys, check_version, is_json_object, shown
from fcos_edge.train.config import NetworkConfig
from fcos_edge.train.model import Fcos
from fcos_edge.writing import naming

HEADER_KEY = "fcos_edge"
HEADER_VERSION = (1, 0)
# What `Checkpoint.config` holds beside the settings of the run.
BESIDE_SETTINGS = ("made_with", "made_from", "began_with", "taught_by", "averaged_from")
_AGAIN = "train or download it again"


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A trained network and all that is known of it.

    operating_thresholds  per class, on the final score
    metrics               measured accuracy, free-form JSON
    config                the resolved training config, free-form JSON
    record                calibration record as JSON, or None before calibration
    sensitivity           how much each layer's quantization harms, as JSON, or None where nobody measured
    """

    network: Fcos
    network_config: NetworkConfig
    spec: ModelSpec
    operating_thresholds: tuple[float, ...]
    metrics: Mapping[str, Any] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    record: Mapping[str, Any] | None = None
    sensitivity: Mapping[str, Any] | None = None


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint; an existing file is replaced only by a complete new one.

    Raises UsageError where the disk is full, or may not be written to.
    """
    header = {
        "version": "{}.{}".format(*HEADER_VERSION),
        "network": checkpoint.network_config.to_dict(),
        "spec": checkpoint.spec.to_dict(),
        "operating_thresholds": list(checkpoint.operating_thresholds),
        "metrics": dict(checkpoint.metrics),
        "config": dict(checkpoint.config),
        "record": None if checkpoint.record is None else dict(checkpoint.record),
        "sensitivity": None if checkpoint.sensitivity is None else dict(checkpoint.sensitivity),
    }
    weights = stored_weights(checkpoint.network)
    text = json.dumps(header, sort_keys=True, allow_nan=False)
    part = path.with_name(f".{path.name}.part")
    try:
        with naming(path, "choose another place"):
            part.write_bytes(save(weights, {HEADER_KEY: text}))
            os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def stored_weights(network: Fcos) -> dict[str, torch.Tensor]:
    """The tensors of a checkpoint file, by name, on the CPU."""
    return {
        name: (value.half() if value.ndim > 1 else value).contiguous().cpu()
        for name, value in network.state_dict().items()
        if _is_stored(name)
    }


def as_stored(network: Fcos) -> Fcos:
    """A copy on the CPU with the weights that a checkpoint of `network` has: what is to be measured."""
    copied = copy.deepcopy(network).cpu().eval()
    weights = {name: value.float() for name, value in stored_weights(network).items()}
    copied.load_state_dict(weights, strict=False)
    return copied


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint; the network is in evaluation mode, its weights float32.

    Raises CheckpointError where the file is missing, no checkpoint of ours, or does not fit its header.
    """
    header = _read_header(path)
    try:
        check_version(f"{path}", header.pop("version", None), HEADER_VERSION)
        header.setdefault("sensitivity", None)  # earlier checkpoints have none
        check_keys(f"{path}", header, {
            "network", "spec", "operating_thresholds", "metrics", "config", "record", "sensitivity",
        })  # fmt: skip
        spec = ModelSpec.from_dict(header["spec"])
        network_config = NetworkConfig.from_dict(header["network"])
        _check_header(header, spec, network_config)
        weights = _read_weights(path)
        # First without memory: a damaged header may claim a network of any size.
        with torch.device("meta"):
            _check_shapes(Fcos(network_config), weights)
        network = Fcos(network_config)
    except FcosEdgeError as error:
        raise CheckpointError(f"{path}: {str(error).removeprefix(f'{path}: ')}") from None
    except (AttributeError, TypeError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"{path}: the header is damaged ({type(error).__name__})") from None
    network.load_state_dict({name: value.float() for name, value in weights.items()}, strict=False)
    return Checkpoint(
        network.eval(), network_config, spec, tuple(map(float, header["operating_thresholds"])),
        header["metrics"], header["config"], header["record"], header["sensitivity"],
    )  # fmt: skip


def _check_header(header: Mapping[str, Any], spec: ModelSpec, network: NetworkConfig) -> None:
    """Raise CheckpointError where its parts do not fit each other."""
    for name, of_network, of_spec in (
        ("number of classes", network.num_classes, len(spec.classes)),
        ("strides", network.strides, spec.strides),
        ("distance", network.distance, spec.distance),
        ("distance unit", network.distance_unit, spec.distance_unit),
        ("mean", network.mean, spec.mean),
        ("std", network.std, spec.std),
    ):
        if of_network != of_spec:
            raise CheckpointError(f"{name} is {of_network} in the network, {of_spec} in its spec; {_AGAIN}")
    thresholds = header["operating_thresholds"]
    is_list = isinstance(thresholds, list) and len(thresholds) == len(spec.classes)
    if not is_list or not all(
        isinstance(v, int | float) and not isinstance(v, bool) and 0 <= v <= 1 for v in thresholds
    ):
        raise CheckpointError(
            f"operating_thresholds must be {len(spec.classes)} numbers from 0 to 1, one a class; {_AGAIN}"
        )
    for key in ("metrics", "config", "record", "sensitivity"):
        is_absent = key in ("record", "sensitivity") and header[key] is None
        if not is_absent and not is_json_object(header[key]):
            raise CheckpointError(
                f"{key} is {shown(header[key])}, expected a JSON object, at most 64 levels deep; {_AGAIN}"
            )


def _check_shapes(network: Fcos, weights: Mapping[str, torch.Tensor]) -> None:
    """Raise CheckpointError unless `weights` has each tensor of the network and no other."""
    wanted = {name: value.shape for name, value in network.state_dict().items() if _is_stored(name)}
    for name, shape in wanted.items():
        if name not in weights or weights[name].shape != shape:
            found = tuple(weights[name].shape) if name in weights else "nothing"
            raise CheckpointError(f"{name} is {found}, expected {tuple(shape)}; {_AGAIN}")
        if weights[name].dtype not in (torch.float16, torch.float32):
            raise CheckpointError(f"{name} is {weights[name].dtype}, expected float16 or float32; {_AGAIN}")
    if extra := sorted(set(weights) - set(wanted)):
        raise CheckpointError(f"{shown(extra[0])} belongs to no layer of the network in its header; {_AGAIN}")


def _is_stored(name: str) -> bool:
    return not name.endswith("num_batches_tracked")


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """The safetensors file at `path`, of which nothing is read yet but what its tensors are."""
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file; give a .safetensors checkpoint")
    try:
        path.open("rb").close()  # safetensors calls every file that it cannot open missing
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror}); give another checkpoint") from None
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except (SafetensorError, OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:100]
        raise CheckpointError(
            f"{path}: no safetensors file ({reason}); give a .safetensors checkpoint"
        ) from None


def _read_weights(path: Path) -> dict[str, torch.Tensor]:
    with _opened(path) as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no iterator)


def _read_header(path: Path) -> dict[str, Any]:
    with _opened(path) as file:
        text = (file.metadata() or {}).get(HEADER_KEY)
    if text is None:
        raise CheckpointError(
            f"{path}: safetensors without an fcos-edge header; give a checkpoint of fcos-edge"
        )
    try:
        header = json.loads(text)
    except (ValueError, RecursionError):
        header = None
    if not isinstance(header, dict):
        raise CheckpointError(f"{path}: the header is damaged; train or download it again")
    return header
