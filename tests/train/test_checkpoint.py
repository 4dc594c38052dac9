"""Checkpoints: a round trip, and CheckpointError for every file that is none."""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from fcos_edge.errors import CheckpointError
from fcos_edge.spec import ModelSpec
from fcos_edge.train.checkpoint import HEADER_KEY, Checkpoint, as_stored, load_checkpoint, save_checkpoint
from fcos_edge.train.config import NetworkConfig
from fcos_edge.train.model import Fcos

Header = dict[str, Any]


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    torch.manual_seed(0)
    config = NetworkConfig(2, fpn_channels=8, tower_depth=1)
    spec = ModelSpec("small", ("a", "b"), (64, 96), config.mean, config.std, provenance={"data": ["x"]})
    network = Fcos(config).eval()
    network.get_buffer("fpn.laterals.0.1.running_var").fill_(70_000.0)
    return Checkpoint(
        network, config, spec, (0.25, 0.5), metrics={"AP": 0.1}, config={"epochs": 3}, record={"points": {}}
    )


@pytest.fixture(scope="module")
def saved(checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("checkpoints") / "small.safetensors"
    save_checkpoint(path, checkpoint)
    return path


def test_checkpoint__round_trip(checkpoint: Checkpoint, saved: Path) -> None:
    loaded = load_checkpoint(saved)
    for name in ("network_config", "spec", "operating_thresholds", "metrics", "config", "record"):
        assert getattr(loaded, name) == getattr(checkpoint, name), name
    assert not loaded.network.training
    state = loaded.network.state_dict()
    for name, value in checkpoint.network.state_dict().items():
        if value.is_floating_point():
            assert state[name].dtype == torch.float32
            # Matrices and kernels as float16, vectors to the bit: 70,000 would be infinite.
            assert torch.equal(state[name], value.half().float() if value.ndim > 1 else value), name


def test_checkpoint__weights_are_stored_as_float16(saved: Path) -> None:
    with safe_open(saved, framework="pt") as file:
        for name in file.keys():  # noqa: SIM118 (no iterator)
            tensor = file.get_tensor(name)
            assert tensor.dtype == (torch.float16 if tensor.ndim > 1 else torch.float32), name
            assert "num_batches_tracked" not in name


def test_checkpoint__without_record(checkpoint: Checkpoint, tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "x.safetensors", replace(checkpoint, record=None))
    assert load_checkpoint(tmp_path / "x.safetensors").record is None


def test_as_stored__is_what_a_loaded_checkpoint_has(checkpoint: Checkpoint, saved: Path) -> None:
    before = {name: value.clone() for name, value in checkpoint.network.state_dict().items()}
    stored, loaded = as_stored(checkpoint.network).state_dict(), load_checkpoint(saved).network.state_dict()
    for name, value in loaded.items():
        assert torch.equal(stored[name], value), name
    assert all(torch.equal(value, before[name]) for name, value in checkpoint.network.state_dict().items())


def test_save_checkpoint__same_checkpoint_gives_the_same_bytes(
    checkpoint: Checkpoint, saved: Path, tmp_path: Path
) -> None:
    save_checkpoint(tmp_path / "again.safetensors", checkpoint)
    assert (tmp_path / "again.safetensors").read_bytes() == saved.read_bytes()


def test_save_checkpoint__failure_leaves_the_old_file(
    checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(b"old")
    with pytest.raises(ValueError, match="JSON"):
        save_checkpoint(path, replace(checkpoint, metrics={"AP": float("nan")}))

    def full_disk(*_: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(os, "replace", full_disk)
    with pytest.raises(OSError, match="no space left"):
        save_checkpoint(path, checkpoint)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


class Harmful:
    """Unpickling it would write a file."""

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str, str]]:
        return open, ("unpickled", "w")


@pytest.mark.parametrize(
    "content",
    [
        b"", b"{}", b"\x00" * 100, b"\xff" * 100, pickle.dumps(Harmful()),
        (8).to_bytes(8, "little") + b"{}      ",  # safetensors without anything
        (2**40).to_bytes(8, "little") + b"{}",  # a header longer than the file
    ],
)  # fmt: skip
def test_load_checkpoint__other_files(
    tmp_path: Path, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"x\.safetensors: (no safetensors file|safetensors without)"):
        load_checkpoint(path)
    assert not (tmp_path / "unpickled").exists()


def test_load_checkpoint__pickle_of_torch_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    torch.save({"weight": torch.zeros(3)}, path)
    with pytest.raises(CheckpointError, match="no safetensors file"):
        load_checkpoint(path)


def test_load_checkpoint__no_file(tmp_path: Path) -> None:
    for path in (tmp_path / "x.safetensors", tmp_path):
        with pytest.raises(CheckpointError, match=r"no such file; give a \.safetensors checkpoint"):
            load_checkpoint(path)


@pytest.mark.parametrize("cut", [1, 1000, 50_000])
def test_load_checkpoint__cut_short(saved: Path, tmp_path: Path, cut: int) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(saved.read_bytes()[:-cut])
    with pytest.raises(CheckpointError, match="no safetensors file"):
        load_checkpoint(path)


def _rewrite(
    saved: Path, path: Path, change: Callable[[Header, dict[str, torch.Tensor]], object] | str
) -> None:
    """A copy of `saved` with another header (or header text) or other weights."""
    with safe_open(saved, framework="pt") as file:
        weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no iterator)
        header = json.loads(file.metadata()[HEADER_KEY])
    if isinstance(change, str):
        text = change
    else:
        change(header, weights)
        text = json.dumps(header)
    save_file(weights, path, {HEADER_KEY: text})


@pytest.mark.parametrize("text", ["", "{", "5", "null", "[]", "[" * 100_000, '"text"', "{}"])
def test_load_checkpoint__header_is_no_object(saved: Path, tmp_path: Path, text: str) -> None:
    _rewrite(saved, tmp_path / "x.safetensors", text)
    with pytest.raises(CheckpointError, match=r"x\.safetensors: "):
        load_checkpoint(tmp_path / "x.safetensors")


def _set(*keys: str, value: object) -> Callable[[Header, dict[str, torch.Tensor]], object]:
    def change(header: Header, _: dict[str, torch.Tensor]) -> None:
        place = header
        for key in keys[:-1]:
            place = place[key]
        place[keys[-1]] = value

    return change


NONSENSE: list[tuple[Callable[[Header, dict[str, torch.Tensor]], object], str]] = [
    (_set("version", value="2.0"), "install the fcos-edge release that wrote it"),
    (_set("version", value=1), "version is 1"),
    (_set("more", value=1), "unknown key 'more'"),
    (lambda header, _: header.pop("spec"), "key 'spec' is missing"),
    (_set("spec", value=[]), "expected a JSON object"),
    (_set("spec", "classes", value=["a"]), "number of classes is 2 in the network, 1 in its spec"),
    (_set("spec", "strides", value=[8, 16, 32]), "strides is"),
    (_set("spec", "mean", value=[0, 0, 0]), "mean is"),
    (_set("network", value=[]), "the header is damaged"),
    (_set("network", value="resnet"), "network config: unknown key"),
    (_set("network", value=None), "the header is damaged"),
    (_set("network", value={}), "num_classes is missing"),
    (_set("network", "layers", value=5), "network config: unknown key 'layers'"),
    (_set("network", "backbone", value="vgg"), "backbone 'vgg' is not known"),
    (_set("network", "backbone", value=5), "backbone is 5, expected a name"),
    (_set("network", "backbone", value="a\nb"), "backbone 'a\\nb' is not known"),
    (_set("network", "backbone", value="x" * 5000), "backbone is 'xxx"),
    (_set("network", "y" * 5000, value=5), "network config: unknown key 'yyy"),
    (_set("network", "num_classes", value=0), "num_classes is 0, expected a whole number from 1"),
    (_set("network", "num_classes", value=10**30), "num_classes is 1000"),
    (_set("network", "num_classes", value=2.0), "num_classes is 2.0"),
    (_set("network", "num_classes", value=True), "num_classes is True"),
    (_set("network", "fpn_channels", value=-1), "fpn_channels is -1"),
    (_set("network", "fpn_channels", value=8192), "expected"),  # 30 GB, if it were built
    (_set("network", "fpn_channels", value="8"), "fpn_channels is '8', expected"),
    (_set("network", "tower_depth", value=10**9), "tower_depth is 1000000000"),
    (_set("network", "tower_depth", value=2), "is nothing, expected"),
    (_set("network", "strides", value=[8, 16]), "strides is (8, 16)"),
    (_set("network", "strides", value=[[8], 16, 32]), "strides is"),
    (_set("network", "strides", value=8), "strides is 8"),
    (_set("network", "std", value=[0, 1, 1]), "std is (0, 1, 1), expected three positive numbers"),
    (_set("network", "mean", value=[float("nan"), 1, 1]), "mean is (nan, 1, 1), expected three numbers"),
    (_set("network", "mean", value=[10**400, 1, 1]), "expected three numbers"),  # no float
    (_set("network", "mean", value=["1", 1, 1]), "expected three numbers"),
    (_set("operating_thresholds", value=[0.5]), "operating_thresholds must be 2 numbers from 0 to 1"),
    (_set("operating_thresholds", value=[0.5, None]), "operating_thresholds must be"),
    (_set("operating_thresholds", value=[0.5, float("nan")]), "operating_thresholds must be"),
    (_set("operating_thresholds", value=[0.5, 2]), "operating_thresholds must be"),
    (_set("operating_thresholds", value="ab"), "operating_thresholds must be"),
    (_set("metrics", value=None), "metrics is None, expected a JSON object"),
    # `inspect --json` could not write it.
    (_set("metrics", value={"AP": float("nan")}), "metrics is {'AP': nan}, expected a JSON object"),
    (_set("metrics", value={"AP": [[1e400]]}), "metrics is {'AP': [[inf]]}"),
    (_set("config", value=[]), "config is [], expected a JSON object"),
    (_set("record", value=[]), "record is [], expected a JSON object"),
    (lambda _, weights: weights.pop("head.logits.bias"), "head.logits.bias is nothing, expected (2,)"),
    (lambda _, weights: weights.update(extra=torch.zeros(1)), "'extra' belongs to no layer"),
    (lambda _, weights: weights.update({"a\nb": torch.zeros(1)}), "'a\\nb' belongs to no layer"),
    (
        lambda _, weights: weights.update({"head.logits.bias": torch.zeros(2, dtype=torch.complex64)}),
        "head.logits.bias is torch.complex64, expected float16 or float32",
    ),
    (
        lambda _, weights: weights.update({"head.logits.bias": torch.zeros(3)}),
        "head.logits.bias is (3,), expected (2,)",
    ),
]


@pytest.mark.parametrize(("change", "message"), NONSENSE, ids=range(len(NONSENSE)))
def test_load_checkpoint__nonsense(
    saved: Path, tmp_path: Path, change: Callable[[Header, dict[str, torch.Tensor]], object], message: str
) -> None:
    path = tmp_path / "x.safetensors"
    _rewrite(saved, path, change)
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(path)
    assert message in str(caught.value)
    assert str(caught.value).startswith(f"{path}: ")
    assert str(caught.value).count(str(path)) == 1
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300 + len(str(path))
