"""Pictures to batches: what a sample depends on, how views are stacked, and workers that fail."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from fcos_edge.errors import ImageError, TrainingError
from fcos_edge.train.config import FLIP_ONLY, AugmentConfig, NetworkConfig, TrainConfig
from fcos_edge.train.data.dataset import LabelledPicture
from fcos_edge.train.data.formats import read_pictures
from fcos_edge.train.loader import Batch, Sample, TrainingPictures, batches, collate, make_loader
from fcos_edge.train.schedule import BatchSchedule, Draw
from fcos_edge.train.targets import BACKGROUND, IGNORED
from tests.coco_sets import CLASSES, SIDE, make_coco_set

CONFIG = TrainConfig(NetworkConfig(len(CLASSES)), input_hw=(64, 64), batch_size=2, epochs=3)
# All that is drawn by lot, in one: which pictures come again, sizes, mosaic, pasted objects, colours.
VARIED = replace(
    CONFIG, sizes_hw=((64, 64), (32, 64), (96, 96)), augment=AugmentConfig(mosaic=0.5, paste=1.5),
    balance=0.9,
)  # fmt: skip
PAPER = replace(CONFIG, short_sides=(40, 56, 72), max_long_side=90, augment=FLIP_ONLY)
NO_BOXES = torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[LabelledPicture]:
    return read_pictures(make_coco_set(tmp_path_factory.mktemp("shapes"), "train", 7), "train", CLASSES)


def _batches(
    pictures: list[LabelledPicture], config: TrainConfig, workers: int, first: int = 0, cache_bytes: int = 0
) -> list[Batch]:
    data = TrainingPictures(pictures, config, cache_bytes)
    return list(batches(make_loader(data, BatchSchedule(pictures, config, first, 9), workers)))


def _assert_same(found: list[Batch], wanted: list[Batch]) -> None:
    assert len(found) == len(wanted) > 0
    for a, b in zip(found, wanted, strict=True):
        assert torch.equal(a.images, b.images)
        assert torch.equal(a.truth.boxes_xyxy, b.truth.boxes_xyxy)
        assert torch.equal(a.truth.labels, b.truth.labels)
        assert torch.equal(a.indices, b.indices)


@pytest.mark.parametrize("config", [VARIED, PAPER], ids=["varied", "paper"])
def test_batches__same_for_any_workers_cache_and_start(
    pictures: list[LabelledPicture], config: TrainConfig
) -> None:
    wanted = _batches(pictures, config, workers=0)
    assert len({batch.images.shape for batch in wanted}) > 1
    for workers, first, cache_bytes in ((1, 0, 0), (3, 0, 0), (0, 4, 0), (2, 5, 0), (0, 0, 1 << 30),
                                        (2, 0, 3 * 3 * SIDE * SIDE)):  # fmt: skip
        found = _batches(pictures, config, workers, first, cache_bytes)
        _assert_same(found, wanted[first:])


def test_training_pictures__depend_on_seed_and_draw_alone(
    pictures: list[LabelledPicture],
) -> None:
    def sample(
        seed: int, epoch: int, index: int, input_hw: tuple[int, int] = (32, 64), repeat: int = 0
    ) -> Sample:
        draw = Draw(index, epoch, input_hw, repeat)
        return TrainingPictures([pictures[0]] * 2, replace(VARIED, seed=seed))[draw]

    first = sample(0, 0, 0)
    assert first.image.shape == (32, 64, 3)
    assert first.image.dtype == torch.uint8
    assert torch.equal(first.image, sample(0, 0, 0).image)
    for other in (sample(1, 0, 0), sample(0, 1, 0), sample(0, 0, 1), sample(0, 0, 0, (64, 32)),
                  sample(0, 0, 0, repeat=1)):  # fmt: skip
        assert not torch.equal(first.image, other.image)


@pytest.mark.parametrize("augment", [replace(FLIP_ONLY, mosaic=1.0), replace(FLIP_ONLY, paste=8.0)])
def test_training_pictures__mixtures_end_before_the_plain_epochs(
    pictures: list[LabelledPicture], augment: AugmentConfig
) -> None:
    config = replace(CONFIG, epochs=5, augment=replace(augment, plain_epochs=2))
    alone = TrainingPictures(pictures, replace(config, augment=FLIP_ONLY))
    data = TrainingPictures(pictures, config)
    is_plain = [
        all(torch.equal(data[draw].image, alone[draw].image) for draw in draws)
        for draws in ([Draw(index, epoch, (64, 64)) for index in range(3)] for epoch in range(5))
    ]
    assert is_plain == [False, False, False, True, True]


@pytest.mark.parametrize("config", [CONFIG, PAPER], ids=["affine", "paper"])
def test_training_pictures__pasted_objects_are_of_other_pictures(
    pictures: list[LabelledPicture], config: TrainConfig
) -> None:
    busy = replace(config, augment=replace(config.augment, paste=4.0))
    draws = [Draw(index, 0, (64, 64)) for index in range(7)]
    alone, data = TrainingPictures(pictures, config), TrainingPictures(pictures, busy)
    more = [len(data[draw].labels) - len(alone[draw].labels) for draw in draws]
    assert sum(more) > 3
    # What is not covered is the view as it was.
    same = [(data[draw].image == alone[draw].image).all(dim=-1).float().mean() for draw in draws]
    assert min(same) > 0.3
    lone, lone_busy = (TrainingPictures(pictures[:1], each) for each in (config, busy))
    assert torch.equal(lone[draws[0]].image, lone_busy[draws[0]].image)


def test_training_pictures__mosaic_shows_boxes_of_other_pictures(pictures: list[LabelledPicture]) -> None:
    data = TrainingPictures(pictures, replace(CONFIG, augment=AugmentConfig(mosaic=1.0)))
    counts = [len(data[Draw(index, 0, (64, 64))].labels) for index in range(7)]
    assert max(counts) > 4  # each picture has two
    assert max(counts) <= 8


def test_training_pictures__are_rgb(tmp_path: Path) -> None:
    path = tmp_path / "blue.png"
    image = np.zeros((32, 32, 3), np.uint8)
    image[..., 0] = 200
    cv2.imwrite(str(path), image)
    picture = LabelledPicture(path, 1, np.zeros((0, 4), np.float32), np.zeros(0, np.int64))
    data = TrainingPictures([picture], replace(CONFIG, augment=FLIP_ONLY))
    batch = collate([data[Draw(0, 0, (32, 32))]])
    assert batch.images[0, :, 16, 16].tolist() == [0, 0, 200]


def test_collate__pads_boxes() -> None:
    image = torch.zeros(32, 64, 3, dtype=torch.uint8)
    box = torch.tensor([[1.0, 2, 3, 4]])
    none = Sample(image, *NO_BOXES, 5)
    batch = collate([
        Sample(image, box, torch.tensor([IGNORED]), 4), none,
        Sample(image, box.repeat(2, 1), torch.tensor([4, 5]), 9),
    ])  # fmt: skip
    assert batch.images.shape == (3, 3, 32, 64)
    assert batch.truth.labels.tolist() == [[IGNORED, BACKGROUND], [BACKGROUND, BACKGROUND], [4, 5]]
    assert batch.truth.boxes_xyxy[0].tolist() == [[1, 2, 3, 4], [0, 0, 0, 0]]
    assert batch.indices.tolist() == [4, 5, 9]
    assert collate([none, none]).truth.boxes_xyxy.shape == (2, 0, 4)


@pytest.mark.parametrize(
    ("sizes_hw", "wanted_hw"),
    [
        ([(32, 64), (32, 64)], (32, 64)),  # nothing to pad
        ([(33, 64), (33, 64)], (64, 64)),  # alike, but no multiple of 32
        ([(20, 90), (50, 40)], (64, 96)),  # the largest of each side
        ([(800, 1067)], (800, 1088)),
    ],
)
def test_collate__pads_views_to_a_multiple_of_32(
    sizes_hw: list[tuple[int, int]], wanted_hw: tuple[int, int]
) -> None:
    generator = torch.Generator().manual_seed(0)
    views = [torch.randint(0, 256, (*hw, 3), dtype=torch.uint8, generator=generator) for hw in sizes_hw]
    images = collate([Sample(view, *NO_BOXES, 0) for view in views], (1, 2, 3)).images
    assert images.shape == (len(views), 3, *wanted_hw)
    assert images.dtype == torch.uint8
    assert images.is_contiguous(memory_format=torch.channels_last)
    for image, view in zip(images, views, strict=True):
        wanted = torch.tensor([1, 2, 3], dtype=torch.uint8).repeat(*wanted_hw, 1)
        wanted[: view.shape[0], : view.shape[1]] = view
        assert torch.equal(image.permute(1, 2, 0), wanted)


@pytest.mark.parametrize("workers", [0, 2])
def test_batches__broken_picture_is_one_line(
    pictures: list[LabelledPicture], tmp_path: Path, workers: int
) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no picture")
    some = [*pictures[:3], replace(pictures[3], path=broken)]
    with pytest.raises(ImageError, match=r"^[^\n]*broken\.png: not a picture[^\n]*$"):
        _batches(some, CONFIG, workers)
    with pytest.raises(ImageError, match=r"^[^\n]*broken\.png: not a picture[^\n]*$"):
        TrainingPictures(some, CONFIG, cache_bytes=1 << 30)


@pytest.mark.parametrize("workers", [0, 1])
def test_batches__our_own_mistakes_keep_their_traceback(
    pictures: list[LabelledPicture], workers: int
) -> None:
    wrong = [replace(pictures[0], boxes_xyxy=np.zeros((1, 3), np.float32))] * 2
    with pytest.raises(ValueError, match="reshape"):
        _batches(wrong, CONFIG, workers)


@pytest.fixture
def endless(pictures: list[LabelledPicture]) -> Iterator[Iterator[Batch]]:
    """Batches that two workers go on making."""
    schedule = BatchSchedule(pictures, CONFIG, 0, 1_000_000)
    source = batches(make_loader(TrainingPictures(pictures, CONFIG), schedule, 2))
    yield source
    source.close()
    assert not multiprocessing.active_children()


@pytest.mark.slow  # torch looks for dead workers every five seconds
def test_batches__killed_worker_is_one_line(endless: Iterator[Batch]) -> None:
    before = signal.getsignal(signal.SIGCHLD)
    next(endless)
    assert signal.getsignal(signal.SIGCHLD) is before  # so the loop is not stopped at any line
    worker = multiprocessing.active_children()[0]
    assert worker.pid is not None
    os.kill(worker.pid, signal.SIGKILL)
    with pytest.raises(
        TrainingError, match=r"^a loader worker died \(process \d+, SIGKILL\)[^\n]*fewer workers[^\n]*$"
    ):
        list(itertools.islice(endless, 100))  # what was ready comes first


def test_batches__ctrl_c_leaves_workers_alone(
    endless: Iterator[Batch], capfd: pytest.CaptureFixture[str]
) -> None:
    next(endless)
    for worker in multiprocessing.active_children():
        assert worker.pid is not None
        os.kill(worker.pid, signal.SIGINT)
    for _ in range(10):
        next(endless)
    assert capfd.readouterr().err == ""


def test_batches__workers_end_when_terminated_whatever_the_parent_does(
    pictures: list[LabelledPicture],
) -> None:
    before = signal.signal(signal.SIGTERM, lambda *_: None)
    try:
        schedule = BatchSchedule(pictures, CONFIG, 0, 1_000_000)
        source = batches(make_loader(TrainingPictures(pictures, CONFIG), schedule, 1))
        next(source)
        (worker,) = multiprocessing.active_children()
        worker.terminate()
        worker.join(10)
        assert worker.exitcode == -signal.SIGTERM
    finally:
        signal.signal(signal.SIGTERM, before)


def test_make_loader__leaves_the_global_random_state_alone(pictures: list[LabelledPicture]) -> None:
    before = torch.get_rng_state()
    for workers in (0, 1):
        _batches(pictures, CONFIG, workers)
    assert torch.equal(torch.get_rng_state(), before)
