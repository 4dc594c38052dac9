"""One step of training: forward, assignment, losses, backward, optimizer, average."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from fcos_edge.train.assign import assign, find_method
from fcos_edge.train.config import NetworkConfig, TrainConfig
from fcos_edge.train.distill import Lesson, Teacher, distill_loss, lesson_of
from fcos_edge.train.ema import Ema
from fcos_edge.train.loader import Batch
from fcos_edge.train.losses import Losses, detection_losses, mean_over_workers, normalizers
from fcos_edge.train.model import Fcos
from fcos_edge.train.optimizer import make_optimizer, set_learning_rate
from fcos_edge.train.predictions import Predictions, flatten_maps, in_pixels
from fcos_edge.train.processes import Processes
from fcos_edge.train.targets import Locations, Truth, make_locations

_AMP_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


class Training:
    """Network, average and optimizer of a run, and the steps that they have made.

    The network is trained in place; several processes hold the same weights.

    teacher  that it learns from, beside the labels
    """

    def __init__(
        self, config: TrainConfig, network: Fcos, processes: Processes, teacher: Teacher | None = None
    ) -> None:
        self.config = config
        self.processes = processes
        self.steps_done = 0
        if config.sync_norm and processes.device.type == "cuda":  # it raises on a CPU
            converted = nn.SyncBatchNorm.convert_sync_batchnorm(network)  # type: ignore[no-untyped-call]
            network = cast(Fcos, converted)
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        network.backbone.freeze(config.freeze_stages)
        if config.frozen_norm:
            network.backbone.freeze_norm()
        self.network = network
        self.teacher = teacher
        if teacher is not None:
            teacher.network.to(processes.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.optimizer = make_optimizer(config.optimizer, network)
        self._ema = Ema(network, config.optimizer.ema_decay)
        self._scaler = torch.amp.GradScaler(processes.device.type, enabled=config.precision == "fp16")
        self._model: nn.Module = network
        if processes.world > 1:
            ids = [processes.device.index] if processes.device.type == "cuda" else None
            self._model = DistributedDataParallel(network, device_ids=ids)
        if config.compile:
            self._model = cast(nn.Module, torch.compile(self._model))

    @property
    def average(self) -> Fcos:
        """The averaged network, in evaluation mode."""
        return cast(Fcos, self._ema.network)

    @property
    def loss_names(self) -> tuple[str, ...]:
        """Of the losses that `step` returns."""
        return Losses._fields if self.teacher is None else (*Losses._fields, "distill")

    def step(self, micro_batches: Sequence[Batch], rate: float) -> Tensor:
        """Learn from the batches, all together; returns the losses of this process, float32.

        They are those of `loss_names`; their mean over processes is the loss of the whole batch.
        """
        self.network.train()  # the backbone knows which of its parts stay as they are
        set_learning_rate(self.optimizer, rate)
        self.optimizer.zero_grad(set_to_none=True)
        sums = torch.zeros(len(self.loss_names), device=self.processes.device)
        shared = self._shared(micro_batches)
        lessons, taught = self._lessons(micro_batches)
        for index, batch in enumerate(micro_batches):
            is_last = index == len(micro_batches) - 1
            # Gradients of several processes meet once a step.
            wait: AbstractContextManager[Any] = nullcontext()
            if not is_last and isinstance(self._model, DistributedDataParallel):
                wait = self._model.no_sync()
            with wait:
                losses = self._losses(batch, shared, lessons[index], taught) / len(micro_batches)
                self._scaler.scale(losses.sum()).backward()  # type: ignore[no-untyped-call]
            sums += losses.detach()
        if self.config.optimizer.clip_norm:
            self._scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.network.parameters(), self.config.optimizer.clip_norm)
        self._scaler.step(self.optimizer)
        self._scaler.update()
        self._ema.update(self.network)
        self.steps_done += 1
        return sums

    def _shared(self, micro_batches: Sequence[Batch]) -> Tensor | None:
        """What the losses of several micro-batches are divided by, so that they make the step of one batch.

        None for a single one, and where the assignment looks at predictions, which are not there yet: then
        each micro-batch is divided by its own.
        """
        if len(micro_batches) == 1 or find_method(self.config.assign.method).is_looking:
            return None
        sums = torch.zeros(2, device=self.processes.device)
        for batch in micro_batches:
            targets = assign(None, self._truth(batch), self._locations(batch), self.config.assign)
            sums += normalizers(targets, self.config.loss)
        return mean_over_workers(sums) / len(micro_batches)

    def _truth(self, batch: Batch) -> Truth:
        return Truth(*(part.to(self.processes.device, non_blocking=True) for part in batch.truth))

    @torch.no_grad()
    def _lessons(self, micro_batches: Sequence[Batch]) -> tuple[list[Lesson | None], Tensor]:
        """What the teacher says of each micro-batch, and what that loss is divided by, a scalar."""
        sums = torch.zeros(1, device=self.processes.device)
        if self.teacher is None:
            return [None] * len(micro_batches), sums
        lessons: list[Lesson | None] = []
        for batch in micro_batches:
            lesson = lesson_of(self._predictions(self.teacher.network, self.teacher.config, batch))
            sums += lesson.weights.sum()
            lessons.append(lesson)
        return lessons, mean_over_workers(sums)[0] / len(micro_batches)

    def _predictions(self, model: nn.Module, network: NetworkConfig, batch: Batch) -> Predictions:
        """What a network says of a batch, distances in input pixels."""
        device = self.processes.device
        images = batch.images.to(device, non_blocking=True).float()
        dtype = _AMP_DTYPES.get(self.config.precision)
        with torch.autocast(device.type, dtype, enabled=dtype is not None):
            maps = model(images.contiguous(memory_format=torch.channels_last))
        return in_pixels(flatten_maps(maps, network.level_names), self._locations(batch), network)

    def _losses(self, batch: Batch, shared: Tensor | None, lesson: Lesson | None, taught: Tensor) -> Tensor:
        predictions = self._predictions(self._model, self.config.network, batch)
        targets = assign(predictions, self._truth(batch), self._locations(batch), self.config.assign)
        if shared is None:
            shared = mean_over_workers(normalizers(targets, self.config.loss))
        losses = [*detection_losses(predictions, targets, self.config.loss, shared)]
        if self.teacher is not None and lesson is not None:
            losses.append(distill_loss(predictions, lesson, self.teacher.terms, taught))
        return torch.stack(losses)

    def _locations(self, batch: Batch) -> Locations:
        height, width = batch.images.shape[2:]
        return self._locations_of((height, width))

    @lru_cache(maxsize=64)  # noqa: B019 (a run is one object)
    def _locations_of(self, input_hw: tuple[int, int]) -> Locations:
        return make_locations(
            input_hw, self.config.network.strides, self.config.assign, self.processes.device
        )

    def state(self) -> dict[str, Any]:
        """All that the next step depends on, besides the config."""
        return {
            "steps_done": self.steps_done, "network": self.network.state_dict(),
            "ema": self._ema.network.state_dict(), "ema_step": self._ema.step,
            "optimizer": self.optimizer.state_dict(), "scaler": self._scaler.state_dict(),
        }  # fmt: skip

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state` gave."""
        self.network.load_state_dict(state["network"])
        self._ema.network.load_state_dict(state["ema"])
        self._ema.step = state["ema_step"]
        self.optimizer.load_state_dict(state["optimizer"])
        self._scaler.load_state_dict(state["scaler"])
        self.steps_done = state["steps_done"]
