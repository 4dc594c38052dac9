"""Several processes follow the loss curve of one: gloo, on this machine."""

from __future__ import annotations

import json
import socket
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch.multiprocessing.spawn import spawn

from fcos_edge.errors import UsageError
from fcos_edge.train.config import AssignConfig, NetworkConfig, OptimizerConfig, TrainConfig
from fcos_edge.train.data.dataset import LabelledPicture
from fcos_edge.train.data.formats import read_pictures
from fcos_edge.train.loop import train
from fcos_edge.train.model import Fcos
from fcos_edge.train.processes import Processes
from fcos_edge.train.schedule import BatchSchedule
from tests.coco_sets import CLASSES, make_coco_set

STEPS = 20
# Plain convolutions have no batch normalization, and the backbone's is frozen: nothing in the network
# depends on how a batch is cut. Frozen from random numbers, the backbone still tells pictures apart.
FROZEN = TrainConfig(
    NetworkConfig(
        len(CLASSES), fpn_channels=32, tower_depth=1, strides=(8, 16, 32), convs="plain", head_norm="none"
    ),
    input_hw=(64, 64), assign=AssignConfig(ranges=((0, 32), (32, 64), (64, float("inf")))),
    epochs=STEPS // 2, batch_size=4, freeze_stages=1,
    optimizer=OptimizerConfig(name="sgd", learning_rate=0.05, warmup_steps=5),
)  # fmt: skip
GROUPS = replace(FROZEN, network=replace(FROZEN.network, head_norm="group"))
LIVE = replace(
    FROZEN,
    network=replace(FROZEN.network, convs="separable", head_norm="batch"),
    frozen_norm=False,
)


def _pictures(folder: Path) -> list[LabelledPicture]:
    """Eight pictures with boxes on the first three alone."""
    pictures = read_pictures(folder, "train", CLASSES)
    nothing = (np.zeros((0, 4), np.float32), np.zeros(0, np.int64))
    return [
        picture if i < 3 else replace(picture, boxes_xyxy=nothing[0], labels=nothing[1])
        for i, picture in enumerate(pictures)
    ]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_coco_set(tmp_path_factory.mktemp("shapes"), "train", 8)


def _curve(config: TrainConfig, folder: Path, out: Path, processes: Processes) -> list[list[float]]:
    """The three losses of each step."""
    torch.manual_seed(processes.rank)  # the first process says how they begin
    torch.set_num_threads(1)
    found: list[list[float]] = []
    network = Fcos(config.network)
    train(
        config, network, _pictures(folder), out, processes=processes, loader_workers=0,
        on_step=lambda _, losses: found.append(losses.tolist()),
    )  # fmt: skip
    return found


def _process(rank: int, world: int, port: int, config: TrainConfig, folder: Path, out: Path) -> None:
    dist.init_process_group("gloo", f"tcp://127.0.0.1:{port}", rank=rank, world_size=world)
    curve = _curve(config, folder, out, Processes(rank, world))
    (out / f"curve{rank}.json").write_text(json.dumps(curve))
    dist.destroy_process_group()


def _curves_of_processes(config: TrainConfig, folder: Path, out: Path) -> list[list[float]]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    spawn(_process, (2, port, config, folder, out), nprocs=2)  # type: ignore[no-untyped-call]
    curves = [json.loads((out / f"curve{rank}.json").read_text()) for rank in range(2)]
    assert curves[0] == curves[1]  # all know the loss of the whole batch
    curve: list[list[float]] = curves[0]
    return curve


@pytest.mark.slow
@pytest.mark.parametrize(("config", "most"), [(FROZEN, 1e-4), (GROUPS, 1e-4), (LIVE, 0.5)])
def test_train__two_processes_follow_the_curve_of_one(
    config: TrainConfig, most: float, folder: Path, tmp_path: Path
) -> None:
    pictures = _pictures(folder)
    positives = []
    for rank in range(2):
        schedule = BatchSchedule(pictures, config, 0, STEPS, rank, 2)
        positives.append([sum(len(pictures[draw.picture].labels) for draw in draws) for draws in schedule])
    assert (0, True) in [(min(pair), max(pair) > 0) for pair in zip(*positives, strict=True)]

    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    one = np.array(_curve(config, folder, tmp_path / "one", Processes()))
    two = np.array(_curves_of_processes(config, folder, tmp_path / "two"))
    assert one.shape == two.shape == (STEPS, 3)
    assert one[-5:].sum() < one[:5].sum()  # it learns
    worst = float(np.abs(one - two).max())
    print(f"{config.network.head_norm} norm: losses differ by {worst:.2g} at most")
    # Batch statistics of half a batch are others: there only the order of magnitude is asked for.
    assert worst <= most


def test_train__a_batch_that_cannot_be_cut(folder: Path, tmp_path: Path) -> None:
    config = replace(FROZEN, batch_size=3)
    with pytest.raises(UsageError, match="a batch of 3 pictures cannot be cut"):
        train(config, Fcos(config.network), _pictures(folder), tmp_path, processes=Processes(0, 2))
