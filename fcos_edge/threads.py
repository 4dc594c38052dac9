"""How many threads a runtime gets where the user does not say.

A runtime left alone takes every core of the host, also inside a container that may use one: slower than
one thread, and the neighbours suffer.
"""

from __future__ import annotations

import os
from pathlib import Path

_CGROUP_QUOTA = Path("/sys/fs/cgroup/cpu.max")


def default_threads() -> int:
    """The cores that this process may run on, and no more than its container's CPU quota."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota = _quota_cores(_CGROUP_QUOTA.read_text())
    except (OSError, ValueError):
        quota = None
    return max(1, cores if quota is None else min(cores, quota))


def _quota_cores(cpu_max: str) -> int | None:
    """Whole cores in a cgroup's `cpu.max` ("quota period", microseconds), None where it has no limit.

    Half a core more is one thread more: throttling it costs less than leaving it idle.
    """
    quota, period = cpu_max.split()
    return None if quota == "max" else round(int(quota) / int(period) + 1e-9)
