"""Memory of this process and of this machine, as the system tells it."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

_STATUS, _MEMINFO = Path("/proc/self/status"), Path("/proc/meminfo")
_LINES = {"now": "VmRSS:", "peak": "VmHWM:"}


def resident_mib(which: Literal["now", "peak"] = "now") -> float | None:
    """Resident memory, MiB: now, or the most since the process began. None where Linux is not."""
    return _mib(_STATUS, _LINES[which])


def available_mib() -> float | None:
    """What programs could still take on this machine without swapping, MiB. None where Linux is not."""
    return _mib(_MEMINFO, "MemAvailable:")


def _mib(path: Path, key: str) -> float | None:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    kib = next((int(line.split()[1]) for line in lines if line.startswith(key)), None)
    return None if kib is None else round(kib / 1024, 1)
