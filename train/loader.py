"""Labelled pictures to batches: each picture in its random view, and a loader with workers.

B  pictures of a batch
M  boxes of a picture, padded to the most of the batch
"""

from __future__ import annotations

import functools
import multiprocessing.connection
import signal
import sys
import threading
import warnings
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from fcos_edge.errors import FcosEdgeError, TrainingError
from fcos_edge.train.config import AugmentConfig, TrainConfig
from fcos_edge.train.data.dataset import LabelledPicture
from fcos_edge.train.data.picture_cache import PictureCache
from fcos_edge.train.schedule import BatchSchedule, Draw, samples_per_epoch, total_epochs
from fcos_edge.train.targets import BACKGROUND, Truth
from fcos_edge.train.views.augment import Labelled, affine_view
from fcos_edge.train.views.mosaic import mosaic_view
from fcos_edge.train.views.paste import cut_out, draw_objects, list_objects, paste
from fcos_edge.train.views.short_side import short_side_view

# Backbone and neck halve five times without a remainder; the levels above round up.
_SIDE_MULTIPLE = 32
_PARENTS_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Sample(NamedTuple):
    """One picture's view.

    image       (H, W, 3) uint8 RGB
    boxes_xyxy  (M, 4) float32, pixels of the view
    labels      (M,) int64
    picture     its number in the list
    """

    image: Tensor
    boxes_xyxy: Tensor
    labels: Tensor
    picture: int


class Batch(NamedTuple):
    """What the loop takes.

    images   (B, 3, H, W) uint8 RGB, channels_last in memory
    truth    boxes and labels
    indices  (B,) int64, which pictures they are
    """

    images: Tensor
    truth: Truth
    indices: Tensor


class TrainingPictures(Dataset[Sample]):
    """Pictures in random views. A sample follows from the seed and its draw alone."""

    def __init__(
        self, pictures: Sequence[LabelledPicture], config: TrainConfig, cache_bytes: int = 0
    ) -> None:
        """Raises ImageError for a picture that belongs in the cache and cannot be read.

        cache_bytes: decoded pictures are kept in memory up to this many bytes
        """
        self.pictures = pictures
        self.config = config
        self.cache = PictureCache([picture.path for picture in pictures], cache_bytes)
        epochs = total_epochs(samples_per_epoch(pictures, config), config)
        self._first_plain_epoch = epochs - config.augment.plain_epochs
        self._objects = list_objects(pictures) if config.augment.paste else []

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, draw: Draw) -> Sample:
        """Raises ImageError for a picture that cannot be read."""
        view = self._view(draw, np.random.default_rng(draw.seed(self.config.seed)))
        image, boxes_xyxy, labels = map(torch.from_numpy, view)
        return Sample(image, boxes_xyxy, labels, draw.picture)

    def _view(self, draw: Draw, generator: np.random.Generator) -> Labelled:
        config, augment = self.config, self.config.augment
        picture, others = self._read(draw.picture), []
        # Without mosaic or pasting in its settings, a run draws no lot for it.
        is_plain = draw.epoch >= self._first_plain_epoch
        if config.short_sides:
            short_side = config.short_sides[generator.integers(len(config.short_sides))]
            view = short_side_view(picture, short_side, config.max_long_side, augment, generator)
        elif augment.mosaic and not is_plain and generator.uniform() < augment.mosaic:
            others = generator.integers(len(self.pictures), size=3).tolist()
            view = mosaic_view([picture, *map(self._read, others)], draw.input_hw, augment, generator)
        else:
            view = affine_view(picture, draw.input_hw, augment, generator)
        if augment.paste and not is_plain:
            view = self._with_objects(view, {draw.picture, *others}, generator)
        return view

    def _with_objects(self, view: Labelled, own: set[int], generator: np.random.Generator) -> Labelled:
        """The view with objects of pictures that are not its own."""
        augment = self.config.augment
        pieces = [
            cut_out(self._read(number), box, view.image.shape[:2], augment, generator)
            for number, box in draw_objects(self._objects, augment.paste, generator)
            if number not in own
        ]
        return paste(view, pieces, augment.min_visible, generator)

    def _read(self, index: int) -> Labelled:
        picture = self.pictures[index]
        return Labelled(self.cache.read(index), picture.boxes_xyxy, picture.labels)


def collate(
    samples: Sequence[Sample], pad_color_rgb: tuple[int, int, int] = AugmentConfig.pad_color
) -> Batch:
    """Stack views and pad boxes.

    Sides are those of the largest view, rounded up to a multiple of 32; views lie at the top left.
    """
    sizes_hw = [sample.image.shape[:2] for sample in samples]
    height, width = (
        -(-max(sides) // _SIDE_MULTIPLE) * _SIDE_MULTIPLE for sides in zip(*sizes_hw, strict=True)
    )
    if set(sizes_hw) == {(height, width)}:
        images = torch.stack([sample.image for sample in samples])
    else:
        images = torch.tensor(pad_color_rgb, dtype=torch.uint8).repeat(len(samples), height, width, 1)
        for image, sample in zip(images, samples, strict=True):
            image[: sample.image.shape[0], : sample.image.shape[1]] = sample.image
    most = max(len(sample.labels) for sample in samples)
    boxes_xyxy = torch.zeros(len(samples), most, 4)
    labels = torch.full((len(samples), most), BACKGROUND, dtype=torch.int64)
    for i, sample in enumerate(samples):
        boxes_xyxy[i, : len(sample.labels)] = sample.boxes_xyxy
        labels[i, : len(sample.labels)] = sample.labels
    indices = torch.tensor([sample.picture for sample in samples])
    return Batch(images.permute(0, 3, 1, 2), Truth(boxes_xyxy, labels), indices)


def make_loader(dataset: TrainingPictures, schedule: BatchSchedule, workers: int) -> DataLoader[Sample]:
    """A loader of the schedule's batches, in its order, to be iterated once with `batches`.

    workers: processes that make samples; 0: made by the caller, when asked for
    """
    config = dataset.config
    with _as_many_workers_as_asked():
        return DataLoader(
            dataset,
            batch_sampler=schedule,
            num_workers=workers,
            collate_fn=functools.partial(collate, pad_color_rgb=config.augment.pad_color),
            pin_memory=torch.cuda.is_available(),
            worker_init_fn=_start_worker,
            # Forked workers share the cache's memory. Python 3.14 does not fork by itself.
            multiprocessing_context="fork" if workers and sys.platform == "linux" else None,
            # Of its own: the loader takes the workers' seeds from it, and leaves the global state alone.
            generator=torch.Generator().manual_seed(config.seed),
        )


def batches(loader: DataLoader[Sample]) -> Generator[Batch, None, None]:
    """The loader's batches; the workers end with the iterator, so close it (`contextlib.closing`).

    Errors are one line: about a picture as it was raised, without a worker's traceback; TrainingError where
    a worker died.
    """
    source = _start(loader)
    try:
        yield from source
    except FcosEdgeError as error:
        kind = type(error)
        *_, last_line = str(error).rstrip().splitlines()
        raise kind(last_line.removeprefix(f"{kind.__module__}.{kind.__qualname__}: ")) from None
    except Exception:
        # What a dead worker leaves behind fails in many ways: a closed socket, half a message, a time-out.
        if not (dead := _dead_workers(source)):
            raise
        raise TrainingError(
            f"a loader worker died ({dead}), killed from outside or for want of memory; run the same again to"
            " go on from the last state, with fewer workers if it recurs"
        ) from None
    finally:
        # Left to the garbage collector, it waits five seconds for each worker: their queues went first.
        if hasattr(source, "_shutdown_workers"):
            source._shutdown_workers()


def _dead_workers(source: Iterator[Any]) -> str:
    """Process numbers and ends of workers that are gone, or going; empty where all live."""
    workers = {worker.sentinel: worker for worker in getattr(source, "_workers", [])}
    ends = []
    for sentinel in multiprocessing.connection.wait(workers, timeout=1.0) if workers else ():
        worker = workers[sentinel]
        worker.join()  # its pipes close a moment before it ends
        code = worker.exitcode
        end = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        ends.append(f"process {worker.pid}, {end}")
    return ", ".join(ends)


def _start(loader: DataLoader[Sample]) -> Iterator[Any]:
    """Start the workers, and leave the signal of a process' end as it was.

    torch makes a dead worker an exception at whatever line the loop stands, even while it writes a file.
    Without that, the loader finds it within five seconds of waiting for its batch.
    """
    with _as_many_workers_as_asked(), _signals_later():
        if not hasattr(signal, "SIGCHLD") or threading.current_thread() is not threading.main_thread():
            return iter(loader)
        before = signal.getsignal(signal.SIGCHLD)
        try:
            return iter(loader)
        finally:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL if before is None else before)


@contextmanager
def _signals_later() -> Iterator[None]:
    """Hold back what would end a worker, or reach the parent's handler in it, before it is set up."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _PARENTS_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _as_many_workers_as_asked() -> Iterator[None]:
    """More workers than cores is the user's choice; torch has a long warning."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "This DataLoader will create")
        yield


def _start_worker(_: int) -> None:
    # One picture at a time: workers are the parallelism.
    cv2.setNumThreads(0)
    # Ctrl-C reaches the whole group: the parent ends its workers, and they say nothing.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # The parent may only note it; a worker that its parent ends must end.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _PARENTS_SIGNALS)
