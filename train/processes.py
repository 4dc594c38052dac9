"""The processes that train together: those that torchrun started, or this one alone.

torchrun says who is who in the environment (RANK, WORLD_SIZE, LOCAL_RANK). They talk through NCCL where
each has a GPU of its own, else through gloo.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from fcos_edge.errors import UsageError

Value = TypeVar("Value")


@dataclass(frozen=True)
class Processes:
    """This process among those that train together.

    rank    0 for the one that writes files
    world   how many there are, on all machines
    device  where this one computes
    """

    rank: int = 0
    world: int = 1
    device: torch.device = torch.device("cpu")  # noqa: RUF009 (never changes)

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    def wait(self) -> None:
        """Until all processes are here."""
        if self.world > 1:
            dist.barrier(device_ids=[self.device.index] if self.device.type == "cuda" else None)

    def share(self, value: Value) -> Value:
        """What the first process has. Waits for it; any value that pickle takes."""
        values = [value]
        if self.world > 1:
            dist.broadcast_object_list(values, src=0)
        return values[0]

    def mean(self, values: Tensor) -> Tensor:
        """The mean of float32 `values` over all processes, on `device`."""
        values = values.detach().clone()
        if self.world > 1:
            dist.all_reduce(values)
            values /= self.world
        return values


@contextmanager
def joined() -> Iterator[Processes]:
    """Join the processes that torchrun started; leave them at the end.

    Raises UsageError where a machine has more processes than GPUs.
    """
    if "WORLD_SIZE" not in os.environ:
        yield Processes(device=torch.device("cuda:0" if torch.cuda.is_available() else "cpu"))
        return
    rank, world, local = (int(os.environ[name]) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"))
    device = torch.device("cpu")
    if gpus := torch.cuda.device_count() if torch.cuda.is_available() else 0:
        if local >= gpus:
            raise UsageError(
                f"process {local + 1} of this machine has {gpus} GPUs; give torchrun --nproc-per-node={gpus}"
            )
        device = torch.device("cuda", local)
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield Processes(rank, world, device)
    finally:
        dist.destroy_process_group()
