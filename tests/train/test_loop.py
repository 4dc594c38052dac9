"""The loop on four tiny pictures: it learns, it goes on, and it is repeatable."""

from __future__ import annotations

import json
import resource
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fcos_edge.errors import CheckpointError, DataError, ImageError, UsageError
from fcos_edge.train.config import AssignConfig, NetworkConfig, OptimizerConfig, TrainConfig
from fcos_edge.train.dataset import LabelledPicture
from fcos_edge.train.formats import read_pictures
from fcos_edge.train.loop import train
from fcos_edge.train.model import Fcos
from fcos_edge.train.state import STATE_FILE
from fcos_edge.train.tracking import METRICS_FILE, Tracker
from tests.coco_sets import CLASSES, make_coco_set

CONFIG = TrainConfig(
    NetworkConfig(len(CLASSES), fpn_channels=16, tower_depth=1, strides=(8, 16, 32)), input_hw=(64, 64),
    assign=AssignConfig(ranges=((0, 32), (32, 64), (64, float("inf")))), epochs=2, batch_size=2,
    optimizer=OptimizerConfig(learning_rate=5e-3, reference_batch=1, warmup_steps=2), freeze_stages=3,
)  # fmt: skip


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[LabelledPicture]:
    return read_pictures(make_coco_set(tmp_path_factory.mktemp("shapes"), "train", 4), "train", CLASSES)


def _train(
    config: TrainConfig,
    pictures: list[LabelledPicture],
    out: Path,
    after_epoch: Callable[[int, Fcos, Tracker | None], dict[str, Any]] | None = None,
    seed: int = 0,
    **more: Any,
) -> Fcos:
    torch.manual_seed(seed)
    out.mkdir(exist_ok=True)
    network = Fcos(config.network)
    return train(config, network, pictures, out, after_epoch=after_epoch, loader_workers=0, **more)


def _rows(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / METRICS_FILE).read_text().splitlines()]


def _assert_same(a: Fcos, b: Fcos) -> None:
    other = b.state_dict()
    assert all(torch.equal(value, other[name]) for name, value in a.state_dict().items())


def test_train__a_few_steps_lower_the_loss(pictures: list[LabelledPicture], tmp_path: Path) -> None:
    average = _train(replace(CONFIG, epochs=12, batch_size=1), pictures, tmp_path)
    rows = _rows(tmp_path)
    assert [row["epoch"] for row in rows] == list(range(1, 13))
    losses = [sum(row[f"loss_{name}"] for name in ("classes", "boxes", "centerness")) for row in rows]
    # 48 steps from a random backbone: 0.72 of the first was measured; views are random, so the last three.
    assert np.mean(losses[-3:]) < 0.85 * losses[0]
    assert not average.training


def test_train__same_seed_gives_the_same_weights_and_resume_goes_on(
    pictures: list[LabelledPicture], tmp_path: Path
) -> None:
    straight = _train(CONFIG, pictures, tmp_path / "straight")

    def interrupt(epoch: int, *_: Any) -> dict[str, Any]:
        if epoch == 2:
            raise KeyboardInterrupt
        return {"looked": epoch}

    with pytest.raises(KeyboardInterrupt):
        _train(CONFIG, pictures, tmp_path / "resumed", interrupt)
    # Its own start does not matter: network, average, optimizer and step come from the state.
    resumed = _train(CONFIG, pictures, tmp_path / "resumed", seed=99)
    _assert_same(straight, resumed)
    assert [row["epoch"] for row in _rows(tmp_path / "resumed")] == [1, 2]
    assert _rows(tmp_path / "resumed")[0]["looked"] == 1
    # Nothing is left to do, and nothing is done.
    before = (tmp_path / "resumed" / STATE_FILE).read_bytes()
    _assert_same(straight, _train(CONFIG, pictures, tmp_path / "resumed", seed=98))
    assert (tmp_path / "resumed" / STATE_FILE).read_bytes() == before
    assert not list((tmp_path / "resumed").glob(".*"))

    with pytest.raises(CheckpointError, match=r"state of a run with another config; choose another --out"):
        _train(replace(CONFIG, seed=1), pictures, tmp_path / "resumed")


@pytest.mark.parametrize("content", [b"", b"no state", b"PK\x03\x04"])
def test_train__broken_state(pictures: list[LabelledPicture], tmp_path: Path, content: bytes) -> None:
    (tmp_path / STATE_FILE).write_bytes(content)
    with pytest.raises(CheckpointError, match=r"state\.pt: not the state of a run"):
        _train(CONFIG, pictures, tmp_path)
    assert (tmp_path / STATE_FILE).read_bytes() == content


def test_train__without_pictures(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no pictures to train on"):
        _train(CONFIG, [], tmp_path)


def test_train__missing_picture(tmp_path: Path) -> None:
    picture = LabelledPicture(tmp_path / "no.png", 1, np.zeros((0, 4), np.float32), np.zeros(0, np.int64))
    with pytest.raises(ImageError, match=r"^[^\n]*no\.png[^\n]*$"):
        _train(CONFIG, [picture], tmp_path)


def test_train__pictures_without_boxes(pictures: list[LabelledPicture], tmp_path: Path) -> None:
    empty = [
        replace(p, boxes_xyxy=np.zeros((0, 4), np.float32), labels=np.zeros(0, np.int64))
        for p in pictures[:2]
    ]
    average = _train(replace(CONFIG, epochs=1), empty, tmp_path)
    assert all(torch.isfinite(parameter).all() for parameter in average.parameters())


def test_train__full_disk_is_one_line_and_keeps_the_last_state(
    pictures: list[LabelledPicture], tmp_path: Path
) -> None:
    def after_epoch(epoch: int, *_: Any) -> dict[str, Any]:
        if epoch == 2:  # the state takes more
            resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, hard))
        return {}

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        with pytest.raises(
            UsageError, match=rf"{STATE_FILE}: cannot be written \(File too large\); make room"
        ):
            _train(CONFIG, pictures, tmp_path, after_epoch)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert sorted(path.name for path in tmp_path.iterdir()) == [METRICS_FILE, STATE_FILE]
    # With room, the run goes on from the first epoch.
    _train(CONFIG, pictures, tmp_path)
    assert [row["epoch"] for row in _rows(tmp_path)] == [1, 2]
