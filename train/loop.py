"""The training loop: batches in, steps, the average of the weights out; it can be interrupted at any moment.

A step's batch, its views and its learning rate follow from the config and the step's number alone. So a run
that goes on from its state, in as many processes as there are then, does what it would have done anyway: bit
for bit in one process on a CPU.
"""

from __future__ import annotations

import math
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from fcos_edge.errors import DataError, TrainingError
from fcos_edge.train.config import TrainConfig
from fcos_edge.train.data.dataset import LabelledPicture
from fcos_edge.train.distill import Teacher
from fcos_edge.train.loader import Batch, TrainingPictures, batches, make_loader
from fcos_edge.train.model import Fcos
from fcos_edge.train.optimizer import learning_rate
from fcos_edge.train.processes import Processes
from fcos_edge.train.schedule import BatchSchedule, samples_per_epoch, steps_per_epoch
from fcos_edge.train.state import read_state, write_state
from fcos_edge.train.step import Training
from fcos_edge.train.tracking import Tracker

AfterEpoch = Callable[[int, Fcos, Tracker | None], Mapping[str, Any]]
# Ctrl-C once is heeded when the step is done; whoever presses it a third time does not want to wait.
MOST_INTERRUPTS = 3


def train(
    config: TrainConfig,
    network: Fcos,
    pictures: Sequence[LabelledPicture],
    out_dir: Path,
    *,
    processes: Processes | None = None,
    after_epoch: AfterEpoch | None = None,
    loader_workers: int = 1,
    cache_bytes: int = 0,
    save_every: int = 500,
    board: bool = False,
    on_step: Callable[[int, Tensor], None] | None = None,
    teacher: Teacher | None = None,
) -> Fcos:
    """Train `network` in place and return the averaged copy.

    out_dir      gets `metrics.jsonl` and the state from which an interrupted run goes on
    after_epoch  called in every process with the epoch's number (from 1), the average, and the tracker of the
                 first process; the numbers that it returns there join the epoch's row
    save_every   steps between two states; one is written after every epoch, too
    board        write for TensorBoard
    on_step      called with the steps done and the losses, (3,) float32, with a teacher (4,)
    teacher      that it learns from, beside the labels

    Raises DataError without pictures, CheckpointError where `out_dir` holds another run's state,
    TrainingError where a loss is no number, and KeyboardInterrupt, once the state has been written, after
    SIGINT or SIGTERM.
    """
    if not pictures:
        raise DataError("no pictures to train on; give a data set with pictures")
    processes = processes or Processes(device=next(network.parameters()).device)
    per_epoch = steps_per_epoch(samples_per_epoch(pictures, config), config)
    steps = config.steps(per_epoch)
    state = read_state(out_dir, config)
    first = 0 if state is None else state["steps_done"]
    schedule = BatchSchedule(pictures, config, first, steps, processes.rank, processes.world)
    training = Training(config, network, processes, teacher)
    names = training.loss_names
    sums = torch.zeros(len(names), device=processes.device)
    if state is not None:
        training.load_state(state)
        sums += state["loss_sums"].to(processes.device)
    loader = make_loader(TrainingPictures(pictures, config, cache_bytes), schedule, loader_workers)
    with ExitStack() as stack:
        tracker = None
        if processes.is_first:
            tracker = stack.enter_context(Tracker(out_dir, steps, first, board=board))
        interrupts = stack.enter_context(_Interrupts())
        watch = _Watch(pictures, names, processes, tracker, on_step)
        source = stack.enter_context(closing(batches(loader)))  # its workers end with it
        began = time.monotonic()
        is_stopped = False
        while training.steps_done < steps and not is_stopped:
            micro_batches = [next(source) for _ in range(config.accumulate)]
            rate = learning_rate(config.optimizer, config.batch_size, training.steps_done, steps)
            losses = training.step(micro_batches, rate)
            done = training.steps_done
            report = processes.mean(torch.cat([losses, interrupts.flag(processes.device)]))
            sums += report[:-1]
            is_stopped = watch.look(_Report(done, rate, losses, report, micro_batches))
            is_epoch = done % per_epoch == 0 or done == steps
            is_kept = is_epoch or is_stopped or done % save_every == 0
            if is_kept:
                is_stopped |= watch.look_at_all()  # nothing is kept of weights that are no numbers
            if is_epoch:
                epoch = -(-done // per_epoch)
                mean = (sums / ((done - 1) % per_epoch + 1)).tolist()
                sums.zero_()
                row: dict[str, Any] = {
                    "epoch": epoch, "step": done, "input_hw": micro_batches[-1].images.shape[2:],
                    "seconds": round(time.monotonic() - began, 1), "learning_rate": rate,
                    **{f"loss_{name}": value for name, value in zip(names, mean, strict=True)},
                }  # fmt: skip
                if after_epoch is not None:
                    row.update(after_epoch(epoch, training.average, tracker))
                if tracker is not None:
                    tracker.epoch(row)
            if is_kept and processes.is_first:
                write_state(out_dir, config, {**training.state(), "loss_sums": sums.cpu()})
            if is_epoch:
                began = time.monotonic()
        processes.wait()  # the others must not end while the first one writes
    if is_stopped or interrupts.received:
        interrupts.raise_again()
        raise KeyboardInterrupt  # the signal was another process's
    return training.average


class _Report(NamedTuple):
    """A step that is done, maybe not yet computed.

    rate    learning rate
    losses  of this process
    shared  mean over processes: the losses, and above 0 where one of them was interrupted
    """

    steps_done: int
    rate: float
    losses: Tensor
    shared: Tensor
    micro_batches: Sequence[Batch]


class _Watch:
    """Looks at the losses of steps: on a GPU one step late, so that it never waits for the next."""

    def __init__(
        self, pictures: Sequence[LabelledPicture], names: Sequence[str], processes: Processes,
        tracker: Tracker | None, on_step: Callable[[int, Tensor], None] | None,
    ) -> None:  # fmt: skip
        self.pictures = pictures
        self.names = names  # of the losses
        self.tracker = tracker
        self.on_step = on_step
        self.late = 1 if processes.device.type == "cuda" else 0
        self.waiting: deque[_Report] = deque()

    def look(self, report: _Report) -> bool:
        """Whether to stop. Raises TrainingError where a loss is no number."""
        self.waiting.append(report)
        return self._look(self.waiting.popleft()) if len(self.waiting) > self.late else False

    def look_at_all(self) -> bool:
        """As `look`, of all that are waiting."""
        is_stopped = False
        while self.waiting:
            is_stopped |= self._look(self.waiting.popleft())
        return is_stopped

    def _look(self, report: _Report) -> bool:
        *losses, interrupted = report.shared.tolist()
        if not all(map(math.isfinite, losses)):
            raise TrainingError(self._complaint(report))
        if self.on_step is not None:
            self.on_step(report.steps_done, report.shared[:-1])
        if self.tracker is not None:
            scalars = dict(zip(self.names, losses, strict=True))
            self.tracker.step(report.steps_done, {**scalars, "learning_rate": report.rate})
        return bool(interrupted)

    def _complaint(self, report: _Report) -> str:
        own = dict(zip(self.names, report.losses.tolist(), strict=True))
        where = "in another process"
        if not all(map(math.isfinite, own.values())):
            indices = [i for batch in report.micro_batches for i in batch.indices.tolist()]
            where = "on " + ", ".join(self.pictures[i].path.name for i in indices)
        values = ", ".join(f"{name} {value:.3g}" for name, value in own.items())
        return (
            f"step {report.steps_done}: the loss is no number ({values}) {where}; lower the learning rate, or"
            " mend these pictures' labels (the state before it is kept)"
        )


class _Interrupts:
    """SIGINT and SIGTERM are noted, and heeded when the step is done."""

    def __init__(self) -> None:
        self.received: list[int] = []
        self._before: dict[int, Any] = {}

    def __enter__(self) -> _Interrupts:
        if threading.current_thread() is threading.main_thread():  # no other may set handlers
            for number in (signal.SIGINT, signal.SIGTERM):
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def flag(self, device: torch.device) -> Tensor:
        """(1,) float32, 1 after an interrupt."""
        return torch.full((1,), float(bool(self.received)), device=device)

    def raise_again(self) -> None:
        """Deliver the signal to whoever handled it before."""
        if self.received:
            signal.raise_signal(self.received[0])

    def _note(self, number: int, frame: object) -> None:
        self.received.append(number)
        if len(self.received) == MOST_INTERRUPTS:
            raise KeyboardInterrupt
