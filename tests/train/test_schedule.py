"""Which pictures make up which step: every picture once an epoch, the same for any number of processes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fcos_edge.errors import UsageError
from fcos_edge.train.config import NetworkConfig, OptimizerConfig, TrainConfig
from fcos_edge.train.data.dataset import LabelledPicture
from fcos_edge.train.schedule import (
    BatchSchedule,
    Draw,
    epoch_batches,
    samples_per_epoch,
    steps_per_epoch,
    total_epochs,
)

CONFIG = TrainConfig(NetworkConfig(1), batch_size=4, epochs=3)
BALANCED = replace(CONFIG, balance=0.9)
MANY_SIZES = replace(CONFIG, sizes_hw=((64, 64), (96, 64), (128, 128)))


def _pictures(count: int, sizes_hw: list[tuple[int, int]] | None = None) -> list[LabelledPicture]:
    empty, none = np.zeros((0, 4), np.float32), np.zeros(0, np.int64)
    sizes_hw = sizes_hw or [(0, 0)] * count
    return [LabelledPicture(Path(f"{i}.png"), i, empty, none, sizes_hw[i]) for i in range(count)]


def _labelled(count: int) -> list[LabelledPicture]:
    """Class 0 in every picture, class 1 in every seventh: at 0.9 its factor is 2.2 to 2.5."""
    box = np.array([[0, 0, 9, 9]] * 2, np.float32)
    return [
        replace(picture, boxes_xyxy=box, labels=np.array([0, int(i % 7 == 3)]))
        for i, picture in enumerate(_pictures(count, [(60, 90), (90, 60)] * (count // 2)))
    ]


def _indices(batches: list[list[Draw]]) -> list[int]:
    return [draw.picture for batch in batches for draw in batch]


@pytest.mark.parametrize(
    ("count", "steps", "last_batch"),
    [
        (12, 3, 4),
        (15, 3, 4),  # three pictures wait for another epoch
        (4, 1, 4),
        (3, 1, 3),  # incomplete, but the only one
        (1, 1, 1),
    ],
)
def test_epoch_batches__table(count: int, steps: int, last_batch: int) -> None:
    batches = epoch_batches(count, CONFIG, 0)
    assert steps_per_epoch(count, CONFIG) == len(batches) == steps
    assert len(batches[-1]) == last_batch
    found = _indices(batches)
    assert len(set(found)) == len(found) == min(count, steps * 4)
    assert set(found) <= set(range(count))


def test_epoch_batches__order_follows_from_seed_and_epoch() -> None:
    orders = [
        _indices(epoch_batches(40, replace(CONFIG, seed=seed), epoch))
        for seed, epoch in ((0, 0), (0, 0), (0, 1), (1, 0))
    ]
    assert orders[0] == orders[1]
    assert orders[0] != sorted(orders[0])
    assert orders[0] != orders[2] != orders[3] != orders[0]
    assert {draw.epoch for batch in epoch_batches(40, CONFIG, 7) for draw in batch} == {7}


def test_epoch_batches__one_size_a_batch_by_lot() -> None:
    batches = epoch_batches(400, MANY_SIZES, 1)
    sizes = [{draw.input_hw for draw in batch} for batch in batches]
    assert all(len(found) == 1 for found in sizes)
    counts = [sizes.count({size}) for size in MANY_SIZES.sizes_hw]
    assert sum(counts) == 100
    assert min(counts) > 20  # 33 each; 20 is 2.8 standard deviations away
    other = [batch[0].input_hw for batch in epoch_batches(400, MANY_SIZES, 2)]
    assert other != [batch[0].input_hw for batch in batches]


def test_epoch_batches__small_epochs_come_first() -> None:
    for config, later in ((CONFIG, {CONFIG.input_hw}), (MANY_SIZES, set(MANY_SIZES.sizes_hw))):
        config = replace(config, small_hw=(32, 32), small_epochs=2)
        sizes = [{batch[0].input_hw for batch in epoch_batches(400, config, epoch)} for epoch in range(3)]
        assert sizes == [{(32, 32)}, {(32, 32)}, later]


@pytest.mark.parametrize("count", [3, 4, 40, 43])
@pytest.mark.parametrize("tall_share", [0.0, 0.3, 0.5, 1.0])
def test_epoch_batches__short_sides_group_by_orientation(count: int, tall_share: float) -> None:
    config = replace(CONFIG, short_sides=(64,))
    generator = np.random.default_rng(count)
    sizes_hw = [(90, 60) if generator.uniform() < tall_share else (60, 90) for _ in range(count)]
    sizes_hw[0] = (0, 0)
    for epoch in range(3):
        batches = epoch_batches(count, config, epoch, sizes_hw)
        assert len(batches) == steps_per_epoch(count, config)
        assert all(len(batch) == min(4, count) for batch in batches)
        found = _indices(batches)
        assert len(set(found)) == len(found)
        kinds = [{sizes_hw[draw.picture] == (90, 60) for draw in batch} for batch in batches]
        assert all(len(kind) == 1 for kind in kinds[:-1])  # leftovers of both share the last
    assert batches != epoch_batches(count, config, 0, sizes_hw) or count < 5
    # Without them, orientation does not matter.
    assert epoch_batches(count, CONFIG, 0, sizes_hw) == epoch_batches(count, CONFIG, 0)


@pytest.mark.parametrize(("accumulate", "world"), [(1, 1), (2, 1), (1, 2), (2, 2), (1, 4), (4, 1)])
def test_batch_schedule__parts_are_the_global_batch(accumulate: int, world: int) -> None:
    config = replace(MANY_SIZES, accumulate=accumulate)
    pictures = _pictures(22)
    parts = [list(BatchSchedule(pictures, config, 3, 14, rank, world)) for rank in range(world)]
    wanted = [batch for epoch in range(3) for batch in epoch_batches(22, MANY_SIZES, epoch)][3:14]
    assert {len(part) for part in parts} == {11 * accumulate}
    for number, batch in enumerate(wanted):
        steps = [part[number * accumulate : (number + 1) * accumulate] for part in parts]
        assert {len(micro) for step in steps for micro in step} == {4 // accumulate // world}
        assert sorted(draw for step in steps for micro in step for draw in micro) == sorted(batch)


@pytest.mark.parametrize(
    "config",
    [
        MANY_SIZES,
        replace(CONFIG, short_sides=(64, 80), accumulate=2),
        BALANCED,
        replace(BALANCED, short_sides=(64, 80), accumulate=2),
    ],
)
def test_batch_schedule__goes_on_at_any_step(config: TrainConfig) -> None:
    pictures = _labelled(22)
    straight = list(BatchSchedule(pictures, config, 0, 15))
    for first in range(16):
        rest = BatchSchedule(pictures, config, first, 15)
        assert list(rest) == straight[first * config.accumulate :]
        assert len(rest) == len(straight) - first * config.accumulate


@pytest.mark.parametrize(
    ("count", "accumulate", "world", "message"),
    [
        (40, 3, 1, "a batch of 4 pictures cannot be cut into 3 micro-batches for 1 processes; wanted a"
                   " multiple of 3, such as 6"),
        (40, 1, 8, "4 pictures cannot be cut into 1 micro-batches for 8 processes"),
        (3, 2, 1, "a batch of 3 pictures"),  # there are no more
    ],
)  # fmt: skip
def test_batch_schedule__unequal_parts(count: int, accumulate: int, world: int, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        BatchSchedule(_pictures(count), replace(CONFIG, accumulate=accumulate), 0, 1, 0, world)


def test_batch_schedule__balanced_epochs_have_more_steps_and_every_repeat_its_own_seed() -> None:
    """28 pictures, four of which have the rare class: 24 + 4 x sqrt(0.9 x 7) = 34.04 samples."""
    pictures = _labelled(28)
    assert samples_per_epoch(pictures, BALANCED) == 34
    assert samples_per_epoch(pictures, CONFIG) == 28
    config = replace(BALANCED, batch_size=2)
    batches = list(BatchSchedule(pictures, config, 0, 3 * 17))
    epochs = [[draw for batch in batches[17 * i : 17 * (i + 1)] for draw in batch] for i in range(3)]
    chosen = []
    for number, draws in enumerate(epochs):
        assert {draw.epoch for draw in draws} == {number}
        counts = np.bincount([draw.picture for draw in draws], minlength=28)
        assert counts.sum() == 34
        assert set(counts[3::7].tolist()) == {2, 3}
        assert (np.delete(counts, [3, 10, 17, 24]) == 1).all()
        for picture in (3, 10):
            repeats = sorted(draw.repeat for draw in draws if draw.picture == picture)
            assert repeats == list(range(counts[picture]))
        chosen.append(counts.tolist())
    assert chosen[0] != chosen[1] or chosen[1] != chosen[2]  # the fractions are by lot
    seeds = [draw.seed(5) for draws in epochs for draw in draws]
    assert len({np.random.default_rng(seed).integers(1 << 62) for seed in seeds}) == 3 * 34
    assert seeds[0][0] == 5
    # Without repeats a sample is what it was before there were any.
    assert Draw(9, 2, (64, 64)).seed(5) == (5, 2, 9)


@pytest.mark.parametrize(("accumulate", "world"), [(1, 1), (2, 1), (1, 2), (2, 2)])
def test_batch_schedule__balanced_parts_are_the_global_batch(accumulate: int, world: int) -> None:
    config, pictures = replace(BALANCED, accumulate=accumulate), _labelled(28)
    whole = list(BatchSchedule(pictures, BALANCED, 0, 16))
    parts = [list(BatchSchedule(pictures, config, 0, 16, rank, world)) for rank in range(world)]
    for number, batch in enumerate(whole):
        steps = [part[number * accumulate : (number + 1) * accumulate] for part in parts]
        assert sorted(draw for step in steps for micro in step for draw in micro) == sorted(batch)


def test_total_epochs__counts_the_one_that_iterations_end_in() -> None:
    assert total_epochs(10, CONFIG) == 3
    # 11 steps of 16 pictures are 44 of 4; an epoch of 10 pictures has 2.
    by_steps = replace(CONFIG, iterations=11, optimizer=OptimizerConfig(reference_batch=16))
    assert total_epochs(10, by_steps) == 22
    assert total_epochs(12, by_steps) == 15
