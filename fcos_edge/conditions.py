"""Where and when a measurement is taken: a figure without its conditions is a rumour.

Whatever the system does not tell is left out. Everything is read from files below `root`, which is `/`.
"""

from __future__ import annotations

import os
import platform
import subprocess
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from fcos_edge import __version__
from fcos_edge.cpu import cpu_features, detect_cpu
from fcos_edge.threads import affinity_cores, container_cores, default_threads

ROOT = Path("/")
_PACKAGES = (
    "numpy", "opencv-python-headless", "onnxruntime", "openvino", "ai-edge-litert", "tflite-runtime", "torch",
    "faster-coco-eval",
)  # fmt: skip
# What multiplies 8-bit integers faster than floats.
_INT8_INSTRUCTIONS = ("AVX512-VNNI", "AVX-VNNI", "AVX-VNNI-INT8", "AMX-INT8", "dotprod", "i8mm")
# Arm's cores have numbers here; names as in the register MIDR_EL1 of their manuals.
_ARM_PARTS = {
    0xC07: "Cortex-A7", 0xC09: "Cortex-A9", 0xC0F: "Cortex-A15", 0xD03: "Cortex-A53", 0xD04: "Cortex-A35",
    0xD05: "Cortex-A55", 0xD07: "Cortex-A57", 0xD08: "Cortex-A72", 0xD09: "Cortex-A73", 0xD0A: "Cortex-A75",
    0xD0B: "Cortex-A76", 0xD0C: "Neoverse-N1", 0xD0D: "Cortex-A77", 0xD40: "Neoverse-V1",
    0xD41: "Cortex-A78", 0xD42: "Cortex-A78AE", 0xD49: "Neoverse-N2", 0xD4F: "Neoverse-V2",
}  # fmt: skip
# Devices of accelerators that no runtime uses by itself -> whose they are.
_ACCELERATORS = {
    "apex_*": "Coral Edge TPU", "ethosu*": "Arm Ethos-U", "galcore": "VeriSilicon NPU", "hailo*": "Hailo",
    "rknpu*": "Rockchip NPU", "accel/accel*": "NPU", "nvhost-gpu": "NVIDIA Jetson GPU",
    "nvidia0": "NVIDIA GPU",
}  # fmt: skip
_CGROUP_MEMORY = ("memory.max", "memory/memory.limit_in_bytes")
_NO_LIMIT_BYTES = 1 << 50  # the older kind of cgroups has a huge number for "none"


def measure_conditions(threads: int, root: Path = ROOT) -> dict[str, Any]:
    """What a figure depends on, as JSON values.

    threads: that the measurement uses, or the most of several
    """
    cpuinfo = root / "proc/cpuinfo"
    cpu, features = detect_cpu(cpuinfo), cpu_features(cpuinfo)
    told = {
        "board": _read(root / "proc/device-tree/model").rstrip("\0 \n"),
        "physical_cores": _physical_cores(root),
        "governor": _governor(root),
        "memory_mib": _memory_mib(root),
        "container_cores": container_cores(),
        "container_memory_mib": _container_memory_mib(root),
        "accelerators": accelerators(root),
        "commit": _commit(),
    }
    return {
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "cpu": cpu_name(_read(cpuinfo)),
        "machine": cpu.machine,
        "has_vnni": cpu.has_vnni,
        "has_dotprod": cpu.has_dotprod,
        "int8_instructions": [name for name in _INT8_INSTRUCTIONS if name in features],
        "cores": default_threads(),
        "cores_total": os.cpu_count() or 1,
        "cores_limited_by": _limited_by(),
        # Above the cores, somebody else was computing too, and times mean little.
        "load_before": load_average(),
        "system": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        "threads": threads,
        "versions": {"fcos-edge": __version__, **_versions()},
        **{name: value for name, value in told.items() if value},
    }


def describe_conditions(conditions: Mapping[str, Any]) -> list[str]:
    """The same for people, a few lines."""
    cores, total = conditions["cores"], conditions["cores_total"]
    limit = f" ({conditions['cores_limited_by']})" * bool(conditions["cores_limited_by"])
    int8 = ", ".join(conditions["int8_instructions"]) or "no instructions for int8 that it tells of"
    of_cpu = [
        conditions.get("board", ""), f"{conditions['cpu']}, {conditions['machine']}", f"int8: {int8}",
        f"{cores} of {total} cores{limit}",
        f"governor {conditions['governor']}" if "governor" in conditions else "",
        f"{conditions['memory_mib'] / 1024:.1f} GiB" if "memory_mib" in conditions else "",
        f"load {conditions['load_before']} before" if conditions["load_before"] is not None else "",
    ]  # fmt: skip
    versions = ", ".join(f"{name} {value}" for name, value in conditions["versions"].items())
    commit = f", commit {conditions['commit']}" if "commit" in conditions else ""
    return [
        "; ".join(filter(None, of_cpu)),
        f"{conditions['date']}; {conditions['system']}; {versions}{commit}",
    ]


def cpu_name(cpuinfo: str) -> str:
    """The processor as `cpuinfo` calls it; Arm's cores by their numbers: `4 x Cortex-A76`."""
    values: dict[str, list[str]] = {}
    for line in cpuinfo.splitlines():
        key, _, value = line.partition(":")
        values.setdefault(key.strip(), []).append(value.strip())
    if parts := values.get("CPU part"):
        names = Counter(_arm_name(part) for part in parts)
        return ", ".join(f"{count} x {name}" for name, count in names.items())
    names_x86 = values.get("model name", [])
    return names_x86[0] if names_x86 else platform.processor() or platform.machine()


def load_average() -> float | None:
    """Processes that want to compute, over the last minute; None where the system does not count them."""
    return round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None


def accelerators(root: Path = ROOT) -> list[str]:
    """Accelerators that this computer seems to have, by their devices: `Coral Edge TPU (/dev/apex_0)`."""
    found = []
    for pattern, name in _ACCELERATORS.items():
        for path in sorted((root / "dev").glob(pattern))[:1]:
            found.append(f"{name} (/{path.relative_to(root).as_posix()})")
    return found


def _arm_name(part: str) -> str:
    try:
        return _ARM_PARTS.get(int(part, 16), f"Arm core {part}")
    except ValueError:
        return "Arm core"


def _limited_by() -> str:
    """Why this process may not use all cores, or ""."""
    quota, total = container_cores(), os.cpu_count() or 1
    if quota is not None and quota < affinity_cores():
        return f"the container's quota is {quota:g}"
    return "the others are kept from it by affinity" if affinity_cores() < total else ""


def _physical_cores(root: Path) -> int | None:
    """Cores that this process may use, two hyperthreads of one counted once."""
    usable = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()
    siblings = {
        _read(root / f"sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list") for cpu in usable
    }
    return None if "" in siblings or not siblings else len(siblings)


def _governor(root: Path) -> str:
    """`performance`, or several where cores differ."""
    paths = (root / "sys/devices/system/cpu").glob("cpu[0-9]*/cpufreq/scaling_governor")
    return ", ".join(sorted({_read(path).strip() for path in paths} - {""}))


def _memory_mib(root: Path) -> int | None:
    for line in _read(root / "proc/meminfo").splitlines():
        if line.startswith("MemTotal:"):
            return round(int(line.split()[1]) / 1024)
    return None


def _container_memory_mib(root: Path) -> int | None:
    for name in _CGROUP_MEMORY:
        text = _read(root / "sys/fs/cgroup" / name).strip()
        if text.isdigit() and int(text) < _NO_LIMIT_BYTES:
            return round(int(text) / (1 << 20))
    return None


def _versions() -> dict[str, str]:
    return dict(_installed_versions())


def _installed_versions() -> Iterator[tuple[str, str]]:
    for package in _PACKAGES:
        try:
            yield package, version(package)
        except PackageNotFoundError:
            continue


def _commit() -> str:
    """The commit of the checkout that this runs from, and whether tracked files differ; "" elsewhere."""
    folder = Path(__file__).resolve().parent.parent
    if not (folder / ".git").exists():
        return ""
    head = _git(folder, "rev-parse", "--short=12", "HEAD")
    changed = head and _git(folder, "status", "--porcelain", "--untracked-files=no")
    return f"{head} with local changes" if changed else head


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), *arguments]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def _read(path: Path) -> str:
    """The file's text, "" where there is none or the kernel does not tell."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
