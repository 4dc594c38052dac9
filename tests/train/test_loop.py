"""The loop on four tiny pictures: it learns, it goes on, and it is repeatable."""

from __future__ import annotations

import json
import resource
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import pytest
import torch

from fcos_edge.errors import CheckpointError, DataError, ImageError, TrainingError, UsageError
from fcos_edge.train.config import AssignConfig, NetworkConfig, OptimizerConfig, TrainConfig
from fcos_edge.train.data.dataset import LabelledPicture
from fcos_edge.train.data.formats import read_pictures
from fcos_edge.train.loop import train
from fcos_edge.train.model import Fcos
from fcos_edge.train.run_files import METRICS_FILE, STATE_FILE
from fcos_edge.train.tracking import Tracker
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


def test_train__balanced_epochs_are_longer(pictures: list[LabelledPicture], tmp_path: Path) -> None:
    """Class 1 in one of four pictures: factors are sqrt(4/3) thrice and 2, 5.46 samples an epoch."""
    labelled = [
        replace(picture, labels=np.full_like(picture.labels, number == 3))
        for number, picture in enumerate(pictures)
    ]
    _train(replace(CONFIG, batch_size=1, balance=1.0), labelled, tmp_path)
    assert [(row["epoch"], row["step"]) for row in _rows(tmp_path)] == [(1, 5), (2, 10)]


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


def _interrupt_at(step: int, number: signal.Signals) -> Callable[[int, torch.Tensor], None]:
    def on_step(done: int, _: torch.Tensor) -> None:
        if done == step:
            signal.raise_signal(number)

    return on_step


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_train__a_signal_is_heeded_after_the_step(
    pictures: list[LabelledPicture], tmp_path: Path, number: signal.Signals
) -> None:
    straight = _train(CONFIG, pictures, tmp_path / "straight")

    def interrupt(received: int, _: object) -> None:
        assert received == number
        raise KeyboardInterrupt

    before = signal.signal(number, interrupt)
    try:
        with pytest.raises(KeyboardInterrupt):
            _train(CONFIG, pictures, tmp_path / "x", on_step=_interrupt_at(3, number))
    finally:
        signal.signal(number, before)
    # The signal comes in while step 3 ends, and is heeded after step 4, the end of the second epoch of two.
    assert torch.load(tmp_path / "x" / STATE_FILE, weights_only=True)["steps_done"] == 4
    _assert_same(straight, _train(CONFIG, pictures, tmp_path / "x"))


@pytest.fixture
def _sigint_is_heeded() -> Iterator[None]:
    """What a shell starts in the background ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("_sigint_is_heeded")
def test_train__a_signal_within_an_epoch(pictures: list[LabelledPicture], tmp_path: Path) -> None:
    straight = _train(replace(CONFIG, batch_size=1), pictures, tmp_path / "straight")
    with pytest.raises(KeyboardInterrupt):
        _train(
            replace(CONFIG, batch_size=1), pictures, tmp_path / "x",
            on_step=_interrupt_at(1, signal.SIGINT),
        )  # fmt: skip
    assert torch.load(tmp_path / "x" / STATE_FILE, weights_only=True)["steps_done"] == 2
    assert not (tmp_path / "x" / METRICS_FILE).exists()
    _assert_same(straight, _train(replace(CONFIG, batch_size=1), pictures, tmp_path / "x"))
    # The rows are those of whole epochs, also of the one that was interrupted.
    for row, wanted in zip(_rows(tmp_path / "x"), _rows(tmp_path / "straight"), strict=True):
        assert {**row, "seconds": 0} == {**wanted, "seconds": 0}


def test_train__a_loss_that_is_no_number_names_its_pictures(
    pictures: list[LabelledPicture], tmp_path: Path
) -> None:
    # Weights overflow: a learning rate beyond all measure.
    optimizer = replace(CONFIG.optimizer, name="sgd", learning_rate=1e18, clip_norm=0.0)
    line = r"the loss is no number .* on train\d\.png, train\d\.png; lower"
    with pytest.raises(TrainingError, match=line) as error:
        _train(replace(CONFIG, optimizer=optimizer, epochs=5), pictures, tmp_path)
    assert len(str(error.value).splitlines()) == 1
    # What was kept is from before.
    if (tmp_path / STATE_FILE).exists():
        state = torch.load(tmp_path / STATE_FILE, weights_only=True)
        assert all(torch.isfinite(v).all() for v in state["loss_sums"])


@pytest.mark.parametrize("method", ["fcos", "atss"])
def test_train__micro_batches_make_the_same_step(
    pictures: list[LabelledPicture], tmp_path: Path, method: str
) -> None:
    # Nothing in this network depends on how a batch is cut.
    config = replace(
        CONFIG, network=replace(CONFIG.network, convs="plain", head_norm="none"), batch_size=4, epochs=3,
        assign=replace(CONFIG.assign, method=method),
    )  # fmt: skip
    curves: list[list[torch.Tensor]] = []
    for accumulate in (1, 4):
        curves.append([])
        _train(
            replace(config, accumulate=accumulate), pictures, tmp_path / str(accumulate),
            on_step=lambda _, losses: curves[-1].append(losses),
        )  # fmt: skip
    # Sums in another order: float32 rounding.
    torch.testing.assert_close(torch.stack(curves[0]), torch.stack(curves[1]), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_train__mixed_precision_follows_float(
    pictures: list[LabelledPicture], tmp_path: Path, precision: Literal["bf16", "fp16"]
) -> None:
    losses: dict[str, list[torch.Tensor]] = {"fp32": [], precision: []}
    averages = {}
    for name in ("fp32", precision):
        averages[name] = _train(
            replace(CONFIG, precision=name), pictures, tmp_path / name,
            on_step=lambda _, found, into=losses[name]: into.append(found),
        )  # fmt: skip
    # bfloat16 has eight bits: 0.4 % a rounding, and some dozen of them one after the other.
    wanted, found = torch.stack(losses["fp32"]), torch.stack(losses[precision])
    torch.testing.assert_close(found, wanted, rtol=0.05, atol=0.01)
    assert not all(map(torch.equal, losses["fp32"], losses[precision]))  # it did compute otherwise
    assert {p.dtype for p in averages[precision].parameters()} == {torch.float32}


def test_train__without_average_the_weights_themselves_are_returned(
    pictures: list[LabelledPicture], tmp_path: Path
) -> None:
    config = replace(CONFIG, optimizer=replace(CONFIG.optimizer, ema_decay=0.0))
    torch.manual_seed(0)
    network = Fcos(config.network)
    _assert_same(train(config, network, pictures, tmp_path, loader_workers=0), network)


def test_train__writes_for_tensorboard(pictures: list[LabelledPicture], tmp_path: Path) -> None:
    event_accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")

    def after_epoch(epoch: int, average: Fcos, tracker: Tracker | None) -> dict[str, Any]:
        assert tracker is not None
        tracker.pictures(epoch, [np.full((8, 12, 3), (10, 20, 30), np.uint8)])
        return {"held_out": {"AP": 0.5}}

    _train(CONFIG, pictures, tmp_path, after_epoch, board=True)
    events = event_accumulator.EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [(e.step, e.value) for e in events.Scalars("epoch/held_out/AP")] == [(2, 0.5), (4, 0.5)]
    assert [e.step for e in events.Scalars("train/boxes")] == [4]
    encoded = np.frombuffer(events.Images("held out/0")[0].encoded_image_string, np.uint8)
    picture = cv2.imdecode(encoded, cv2.IMREAD_COLOR)
    assert picture is not None
    assert picture.shape == (8, 12, 3)
    assert picture[0, 0].tolist() == [10, 20, 30]


def test_train__batch_statistics_of_all_processes_are_for_gpus(
    pictures: list[LabelledPicture], tmp_path: Path
) -> None:
    # SyncBatchNorm raises on a CPU; there the option changes nothing.
    plain = _train(CONFIG, pictures, tmp_path / "plain")
    _assert_same(plain, _train(replace(CONFIG, sync_norm=True), pictures, tmp_path / "sync"))
