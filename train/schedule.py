"""Which pictures make up which step, on which process.

B  pictures of a step, of all processes together

Everything follows from the seed and the numbers of epoch, batch and picture, so a run may go on at any
step, with any number of loader workers, and sees what it would have seen.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from torch.utils.data import Sampler

from fcos_edge.errors import UsageError
from fcos_edge.train.balance import Factors, count_samples, draw_repeats, repeat_factors
from fcos_edge.train.config import TrainConfig
from fcos_edge.train.data.dataset import LabelledPicture

# Last word of a generator's seed, so that no two lots share one; a sample's own generator has three words.
# From _REPEAT_LOT on they are samples of a picture that the epoch has seen before.
_ORDER_LOT, _SIZE_LOT, _BALANCE_LOT, _REPEAT_LOT = 1, 2, 3, 4


class Draw(NamedTuple):
    """What decides one sample, together with the run's seed.

    picture   its number in the list
    epoch     counted from 0
    input_hw  of the view; of no use under `short_sides`, where each picture has a size of its own
    repeat    how often the epoch has had it before, under `config.balance`
    """

    picture: int
    epoch: int
    input_hw: tuple[int, int]
    repeat: int = 0

    def seed(self, of_run: int) -> tuple[int, ...]:
        """Of the sample's own generator."""
        words = (of_run, self.epoch, self.picture)
        return (*words, _REPEAT_LOT + self.repeat) if self.repeat else words


def samples_per_epoch(pictures: Sequence[LabelledPicture], config: TrainConfig) -> int:
    """Views that an epoch has: as many as pictures, or more under `config.balance`."""
    return count_samples(repeat_factors(pictures, config.balance)) if config.balance else len(pictures)


def steps_per_epoch(count: int, config: TrainConfig) -> int:
    """Of an epoch of `count` samples. The last incomplete batch is dropped, unless it is the only one."""
    return max(count // config.batch_size, 1)


def total_epochs(count: int, config: TrainConfig) -> int:
    """Epochs of `count` samples that the run touches; `config.iterations` may end within the last."""
    per_epoch = steps_per_epoch(count, config)
    return -(-config.steps(per_epoch) // per_epoch)


def epoch_batches(
    count: int,
    config: TrainConfig,
    epoch: int,
    sizes_hw_of_pictures: Sequence[tuple[int, int]] | None = None,
    factors: Factors | None = None,
) -> list[list[Draw]]:
    """The global batches of an epoch, in order.

    count:                 pictures
    sizes_hw_of_pictures:  under `config.short_sides` pictures of like orientation share a batch, which
                           saves padding; what is unknown, None or (0, 0), counts as wide
    factors:               (count,), how often each picture belongs into an epoch; None: once
    """
    samples = [(picture, 0) for picture in range(count)]
    if factors is not None:
        lot = np.random.default_rng((config.seed, epoch, 0, _BALANCE_LOT))
        repeats = draw_repeats(factors, lot).tolist()
        samples = [(picture, repeat) for picture in range(count) for repeat in range(repeats[picture])]
    order = np.random.default_rng((config.seed, epoch, 0, _ORDER_LOT)).permutation(len(samples)).tolist()
    if config.short_sides and sizes_hw_of_pictures is not None:
        is_tall = [
            sizes_hw_of_pictures[picture][0] > sizes_hw_of_pictures[picture][1] for picture, _ in samples
        ]
        chunks = _cut_by_kind(order, is_tall, config.batch_size)
    else:
        chunks = [order[i : i + config.batch_size] for i in range(0, len(order), config.batch_size)]
    batches = []
    for number, chunk in enumerate(chunks[: steps_per_epoch(len(samples), config)]):
        input_hw = batch_input_hw(config, epoch, number)
        batches.append([Draw(samples[i][0], epoch, input_hw, samples[i][1]) for i in chunk])
    return batches


def batch_input_hw(config: TrainConfig, epoch: int, number: int) -> tuple[int, int]:
    """Input size of an epoch's batch, pixels: by lot from `sizes_hw`, once the small epochs are over."""
    if epoch < config.small_epochs or not config.sizes_hw:
        return config.epoch_input_hw(epoch)
    generator = np.random.default_rng((config.seed, epoch, number, _SIZE_LOT))
    return config.sizes_hw[generator.integers(len(config.sizes_hw))]


def _cut_by_kind(order: list[int], is_tall: Sequence[bool], batch_size: int) -> list[list[int]]:
    """Batches of one orientation, in the order in which they fill; leftovers of both share the last."""
    open_batches: dict[bool, list[int]] = {False: [], True: []}
    batches = []
    for index in order:
        batch = open_batches[is_tall[index]]
        batch.append(index)
        if len(batch) == batch_size:
            batches.append(batch.copy())
            batch.clear()
    rest = open_batches[False] + open_batches[True]
    return [*batches, *(rest[i : i + batch_size] for i in range(0, len(rest), batch_size))]


class BatchSchedule(Sampler[list[Draw]]):
    """What one process loads, from one step up to another, across epochs: a loader's batch sampler.

    Each step gives `config.accumulate` micro-batches in turn. Micro-batch `a` of process `rank` is
    batch[a * world + rank :: accumulate * world]: all parts are equal, and together they are the global
    batch, whatever the number of processes.
    """

    def __init__(
        self,
        pictures: Sequence[LabelledPicture],
        config: TrainConfig,
        first_step: int,
        last_step: int,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        """Steps first_step .. last_step - 1, counted from 0 over the whole run.

        Raises UsageError where a batch cannot be cut into equal parts.
        """
        self.config = config
        self.first_step, self.last_step = first_step, last_step
        self.rank, self.world = rank, world
        self._sizes_hw = [picture.size_hw for picture in pictures]
        self._factors = repeat_factors(pictures, config.balance) if config.balance else None
        self._samples = samples_per_epoch(pictures, config)
        parts = config.accumulate * world
        batch = min(config.batch_size, self._samples)
        if batch % parts:
            raise UsageError(
                f"a batch of {batch} pictures cannot be cut into {config.accumulate} micro-batches for"
                f" {world} processes; wanted a multiple of {parts}, such as {-(-batch // parts) * parts}"
            )

    def __len__(self) -> int:
        return max(self.last_step - self.first_step, 0) * self.config.accumulate

    def __iter__(self) -> Iterator[list[Draw]]:
        steps = steps_per_epoch(self._samples, self.config)
        parts = self.config.accumulate * self.world
        batches: list[list[Draw]] = []
        for step in range(self.first_step, self.last_step):
            epoch, number = divmod(step, steps)
            if number == 0 or not batches:
                batches = epoch_batches(
                    len(self._sizes_hw), self.config, epoch, self._sizes_hw, self._factors
                )
            for micro in range(self.config.accumulate):
                yield batches[number][micro * self.world + self.rank :: parts]
