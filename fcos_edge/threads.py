"""How many threads a runtime gets where the user does not say, and whose turn it is on the cores.

A runtime left alone takes every core of the host, also inside a container that may use one: slower than
one thread, and the neighbours suffer. And the threads of networks that run at the same time with more threads
than there are cores wait for each other (benchmarks/sharing_cores.py).
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path

from fcos_edge.errors import UsageError

# "quota period" in microseconds; the older kind of cgroups has them in two files, and -1 for "max".
_CGROUP = Path("/sys/fs/cgroup")
_QUOTA_FILES = (("cpu.max",), ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us"))


# Some runtimes start as many as they are told, until the whole machine can start none any more.
MAX_THREADS = max(256, os.cpu_count() or 1)


def checked_threads(threads: int | None) -> int:
    """`threads`, or the default for None. Raises UsageError for what no machine can use."""
    default = default_threads()
    if threads is not None and not 1 <= threads <= MAX_THREADS:
        raise UsageError(f"threads is {threads}, expected 1 to {MAX_THREADS}; this process may use {default}")
    return threads or default


def default_threads() -> int:
    """The cores that this process may run on, and no more than its container's CPU quota."""
    quota = container_cores()
    # Half a core more is one thread more: throttling it costs less than leaving it idle.
    cores = affinity_cores() if quota is None else min(affinity_cores(), round(quota + 1e-9))
    return max(1, cores)


def affinity_cores() -> int:
    """The cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def container_cores() -> float | None:
    """The CPU quota of this process's container, in cores; None where there is none."""
    for names in _QUOTA_FILES:
        try:
            return _quota_cores(" ".join((_CGROUP / name).read_text() for name in names))
        except (OSError, ValueError, ZeroDivisionError):
            continue
    return None


class SharedCores:
    """The cores that this process may use, for the networks that it runs.

    Who comes waits until its threads fit beside those that run; more than there are count as all of them.
    """

    def __init__(self, cores: int | None = None) -> None:
        self._given = cores
        self._busy = 0
        self._entrance = threading.Lock()
        self._change = threading.Condition()

    @cached_property
    def cores(self) -> int:
        """How many; by default `default_threads` when first needed."""
        return self._given or default_threads()

    @contextmanager
    def taken(self, threads: int) -> Iterator[None]:
        """While the block runs, `threads` cores are taken; 0 waits for nobody."""
        threads = min(threads, self.cores)
        if threads == 0:
            yield
            return
        # Nobody overtakes who waits: else a network of many threads would wait for ever beside small ones.
        with self._entrance, self._change:
            while self._busy + threads > self.cores:
                self._change.wait()
            self._busy += threads
        try:
            yield
        finally:
            with self._change:
                self._busy -= threads
                self._change.notify()


SHARED_CORES = SharedCores()


def _quota_cores(cpu_max: str) -> float | None:
    """The cores of a cgroup's "quota period", microseconds, None where it has no limit."""
    quota, period = cpu_max.split()
    return None if quota in ("max", "-1") else int(quota) / int(period)
