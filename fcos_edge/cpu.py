"""What this computer's CPU can do for int8, as far as it says so.

VNNI     x86 instructions that multiply uint8 by int8 and add up in 32 bits. Without them, x86 adds two
         products in 16 bits first, which saturates: 2 * 255 * 127 is 64770, the limit 32767
dotprod  the Arm instructions for the same; Arm's older ones widen before they add and do not saturate
"""

from __future__ import annotations

import platform
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_CPUINFO = Path("/proc/cpuinfo")
# x86's names, then Arm's.
_IDENTIFYING = ("vendor_id", "model name", "flags", "CPU implementer", "CPU part", "Features")
_X86 = ("x86_64", "AMD64", "i686", "i386")
_VNNI_FLAGS = {"avx512_vnni", "avx_vnni"}
_DOTPROD_FLAGS = {"asimddp"}
# What networks are computed with, as /proc/cpuinfo calls it -> as makers do.
_FEATURES = {
    "sse4_1": "SSE4.1", "avx": "AVX", "avx2": "AVX2", "fma": "FMA", "f16c": "F16C", "avx512f": "AVX512F",
    "avx512_bf16": "AVX512-BF16", "avx512_fp16": "AVX512-FP16", "avx_vnni": "AVX-VNNI",
    "avx_vnni_int8": "AVX-VNNI-INT8", "avx512_vnni": "AVX512-VNNI", "amx_bf16": "AMX-BF16",
    "amx_int8": "AMX-INT8", "neon": "NEON", "asimd": "NEON", "asimdhp": "fp16", "asimddp": "dotprod",
    "i8mm": "i8mm", "bf16": "bf16", "sve": "SVE", "sve2": "SVE2",
}  # fmt: skip


@dataclass(frozen=True)
class Cpu:
    """has_vnni and has_dotprod are None where the system does not tell."""

    machine: str
    has_vnni: bool | None
    has_dotprod: bool | None

    @property
    def saturates_int8(self) -> bool:
        """It is known that uint8 by int8 products saturate in runtimes that use the x86 instructions."""
        return self.has_vnni is False

    @property
    def description(self) -> str:
        """`x86_64 with VNNI`."""
        name, has_it = ("VNNI", self.has_vnni) if self.machine in _X86 else ("dotprod", self.has_dotprod)
        if has_it is None:
            return self.machine
        return f"{self.machine} {'with' if has_it else 'without'} {name}"


def detect_cpu(cpuinfo: Path = _CPUINFO, machine: str | None = None) -> Cpu:
    """This computer's CPU; Linux tells more than others."""
    machine = machine or platform.machine()
    try:
        flags = parse_flags(cpuinfo.read_text(encoding="utf-8", errors="replace"))
    except OSError:
        flags = frozenset()
    if not flags:
        return Cpu(machine, None, None)
    is_x86 = machine in _X86
    return Cpu(
        machine,
        has_vnni=bool(flags & _VNNI_FLAGS) if is_x86 else None,
        has_dotprod=None if is_x86 else bool(flags & _DOTPROD_FLAGS),
    )


def cpu_features(cpuinfo: Path = _CPUINFO) -> tuple[str, ...]:
    """The instructions that matter to networks: `AVX2`, `AVX512-VNNI`; () where the system does not tell."""
    try:
        flags = parse_flags(cpuinfo.read_text(encoding="utf-8", errors="replace"))
    except OSError:
        flags = frozenset()
    return tuple(dict.fromkeys(name for flag, name in _FEATURES.items() if flag in flags))


def cpu_identity(cpuinfo: Path = _CPUINFO) -> str:
    """What tells this kind of CPU from others: what was compiled for one does not run on every other."""
    lines = set()
    with suppress(OSError):
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            key, _, value = line.partition(":")
            if key.strip() in _IDENTIFYING:
                lines.add(f"{key.strip()}:{value.strip()}")
    return "\n".join([platform.machine(), *sorted(lines)])


def parse_flags(cpuinfo: str) -> frozenset[str]:
    """The flags that every core has: x86 calls the line `flags`, Arm `Features`."""
    lines = [line.split(":", 1) for line in cpuinfo.splitlines() if ":" in line]
    cores = [frozenset(value.split()) for key, value in lines if key.strip() in ("flags", "Features")]
    return frozenset.intersection(*cores) if cores else frozenset()
