"""Beginning with a whole detector's weights: what is taken, what is drawn anew, what is refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from fcos_edge.errors import CheckpointError, UsageError
from fcos_edge.train.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from fcos_edge.train.config import NetworkConfig
from fcos_edge.train.model import Fcos
from fcos_edge.train.start import OF_CLASSES, begin_with, check_start, checkpoint_file_of, described
from tests.small_checkpoint import small_checkpoint


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("stored") / "small.safetensors"
    save_checkpoint(path, small_checkpoint())
    return path


@pytest.mark.parametrize(
    ("classes", "is_drawn_anew"),
    [
        (("a", "b"), False),
        (("b", "a"), True),  # another order
        (("a", "c"), True),  # as many
        (("a",), True),
    ],
)
def test_begin_with__all_weights_but_those_of_other_classes(
    stored: Path, classes: tuple[str, ...], is_drawn_anew: bool
) -> None:
    began = load_checkpoint(stored)
    torch.manual_seed(1)
    network = Fcos(replace(began.network_config, num_classes=len(classes)))
    before = {name: value.clone() for name, value in network.state_dict().items()}
    said: list[str] = []
    begin_with(network, classes, checkpoint_file_of(stored), said.append)
    for name, value in network.state_dict().items():
        wanted = before if is_drawn_anew and name.startswith(OF_CLASSES) else began.network.state_dict()
        assert torch.equal(value, wanted[name]), name
    if is_drawn_anew:
        (line,) = said
        assert line.startswith(
            "small.safetensors has other classes (a, b): the layer that tells classes apart"
        )
    else:
        assert said == []


def test_check_start__weights_fit_other_classes_and_both_activations(stored: Path) -> None:
    config = load_checkpoint(stored).network_config
    check_start(checkpoint_file_of(stored), replace(config, num_classes=5, activation="relu"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda c: replace(c, backbone="efficientnet_lite1"),
            "its backbone is efficientnet_lite0, the run's",
        ),
        (
            lambda c: replace(c, fpn_channels=16),
            "its fpn_channels is 8, the run's 16; give another checkpoint",
        ),
        (lambda c: replace(c, tower_depth=2), "its tower_depth is 1, the run's 2"),
        (lambda c: replace(c, neck="pan"), "its neck is fpn, the run's pan"),
        # The same shapes, and other distances.
        (lambda c: replace(c, distance="exp"), "or --preset or --set network.distance"),
        (lambda c: replace(c, strides=(8, 16, 32)), "its strides is"),
    ],
)
def test_check_start__another_network(
    stored: Path, change: Callable[[NetworkConfig], NetworkConfig], message: str
) -> None:
    with pytest.raises(UsageError, match=r"^--start small\.safetensors: [^\n]*$") as error:
        check_start(checkpoint_file_of(stored), change(load_checkpoint(stored).network_config))
    assert message in str(error.value)


def test_begin_with__another_file_by_now(stored: Path, tmp_path: Path) -> None:
    path = tmp_path / "small.safetensors"
    save_checkpoint(path, small_checkpoint())
    start = checkpoint_file_of(path)
    changed: Checkpoint = replace(small_checkpoint(), metrics={"AP": 0.2})
    save_checkpoint(path, changed)
    with pytest.raises(
        CheckpointError, match="is another checkpoint than the run began with; begin a new run"
    ):
        begin_with(changed.network, ("a", "b"), start, lambda _: None)


def test_described__names_no_place(stored: Path) -> None:
    start = checkpoint_file_of(stored)
    assert described(start) == {
        "file": "small.safetensors",
        "sha256": start.sha256,
        "provenance": {"data": ["x"]},
    }


def test_checkpoint_file_of__no_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no such file"):
        checkpoint_file_of(tmp_path / "none")
