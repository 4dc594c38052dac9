"""How hot a computer is, how fast its cores are clocked, and whether it slows down: boards do.

Whatever the system does not tell is left out; virtual machines mostly tell nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

_ROOT = Path("/")
_CPUS = "sys/devices/system/cpu"
# A zone whose sensor is off says -274 or the like.
_PLAUSIBLE_C = (-50.0, 150.0)
# Raspberry Pi's firmware: bit -> what it does now.
_RASPBERRY_PI = "sys/devices/platform/soc/soc:firmware/get_throttled"
_RASPBERRY_PI_BITS = {
    0: "under-voltage", 1: "clock capped", 2: "throttled", 3: "soft temperature limit",
}  # fmt: skip


def measure_heat(root: Path = _ROOT) -> dict[str, Any]:
    """Temperatures and clock now, as JSON values; {} where the system tells nothing.

    temperature_c   by the sensor's name, deg C
    clock_mhz       of the fastest core: who computes is there
    slowed_by       what holds the clock down now, in words; only where something does
    throttle_count  how often x86 cores were too hot since the start of the system
    """
    told: dict[str, Any] = {
        "temperature_c": dict(_temperatures(root)),
        "clock_mhz": _clock_mhz(root),
        "slowed_by": [*_raspberry_pi(root), *_cooling(root)],
        "throttle_count": _throttle_count(root),
    }
    return {name: value for name, value in told.items() if value not in (None, [], {})}


def highest_temperature(heat: Mapping[str, Any]) -> float | None:
    """Of all sensors of a `measure_heat`, deg C."""
    return max(heat.get("temperature_c", {}).values(), default=None)


def _temperatures(root: Path) -> Iterator[tuple[str, float]]:
    seen = set()
    for zone in sorted((root / "sys/class/thermal").glob("thermal_zone*")):
        text = _read(zone / "temp")
        try:
            degrees = int(text) / 1000
        except ValueError:
            continue
        if _PLAUSIBLE_C[0] <= degrees <= _PLAUSIBLE_C[1]:
            kind = _read(zone / "type") or zone.name
            name = kind if kind not in seen else f"{kind} {zone.name}"
            seen.add(name)
            yield name, round(degrees, 1)


def _clock_mhz(root: Path) -> float | None:
    paths = (root / _CPUS).glob("cpu[0-9]*/cpufreq/scaling_cur_freq")
    clocks_khz = [int(text) for text in map(_read, paths) if text.isdigit()]
    if clocks_khz:
        return round(max(clocks_khz) / 1000)
    lines = (line.partition(":") for line in _read(root / "proc/cpuinfo").splitlines())
    clocks_mhz = [float(value) for key, _, value in lines if key.strip() == "cpu MHz"]
    return round(max(clocks_mhz)) if clocks_mhz else None


def _raspberry_pi(root: Path) -> list[str]:
    try:
        bits = int(_read(root / _RASPBERRY_PI), 16)
    except ValueError:
        return []
    return [name for bit, name in _RASPBERRY_PI_BITS.items() if bits >> bit & 1]


def _cooling(root: Path) -> list[str]:
    """Linux holds the clock of hot cores down through `cooling devices`, on Arm."""
    found = []
    for device in sorted((root / "sys/class/thermal").glob("cooling_device*")):
        kind, state = _read(device / "type"), _read(device / "cur_state")
        if kind.startswith(("thermal-cpufreq", "cpufreq-")) and state.isdigit() and int(state):
            found.append(f"{kind} at step {state}")
    return found


def _throttle_count(root: Path) -> int | None:
    paths = (root / _CPUS).glob("cpu[0-9]*/thermal_throttle/*_throttle_count")
    counts = [int(text) for text in map(_read, paths) if text.isdigit()]
    return sum(counts) if counts else None


def _read(path: Path) -> str:
    """The file's text without spaces around it, "" where there is none or the kernel does not tell."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
