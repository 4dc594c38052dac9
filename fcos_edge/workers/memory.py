"""Memory of this process, as the system tells it."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

_STATUS = Path("/proc/self/status")
_LINES = {"now": "VmRSS:", "peak": "VmHWM:"}


def resident_mib(which: Literal["now", "peak"] = "now") -> float | None:
    """Resident memory, MiB: now, or the most since the process began. None where Linux is not."""
    try:
        lines = _STATUS.read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    kib = next((int(line.split()[1]) for line in lines if line.startswith(_LINES[which])), None)
    return None if kib is None else round(kib / 1024, 1)
