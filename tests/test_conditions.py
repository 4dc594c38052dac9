"""What a measurement says of its machine, read from made-up folders in the place of / ."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from fcos_edge import threads
from fcos_edge.conditions import accelerators, cpu_name, describe_conditions, measure_conditions

X86_CPUINFO = "model name\t: AMD EPYC\nflags\t\t: fpu avx2 {flags}\n"
PI_CPUINFO = "processor\t: {core}\nFeatures\t: fp asimd asimddp\nCPU part\t: 0xd0b\n\n"


def write_files(root: Path, files: Mapping[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_measure_conditions__says_what_a_figure_depends_on(tmp_path: Path) -> None:
    root = write_files(tmp_path, {
        "proc/cpuinfo": X86_CPUINFO.format(flags="avx512_vnni amx_int8"),
        "proc/meminfo": "MemTotal:       8388608 kB\nMemFree: 1 kB\n",
        "proc/device-tree/model": "Some Board\0",
        "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "powersave\n",
        "sys/devices/system/cpu/cpu1/cpufreq/scaling_governor": "performance\n",
        "sys/fs/cgroup/memory.max": "1073741824\n",
    })  # fmt: skip
    told = measure_conditions(3, root)
    assert json.loads(json.dumps(told, allow_nan=False)) == told
    assert (told["cpu"], told["board"], told["memory_mib"]) == ("AMD EPYC", "Some Board", 8192)
    assert (told["governor"], told["container_memory_mib"]) == ("performance, powersave", 1024)
    assert told["int8_instructions"] == ["AVX512-VNNI", "AMX-INT8"]
    assert (told["threads"], told["cores"]) == (3, threads.default_threads())
    assert {"fcos-edge", "numpy"} <= set(told["versions"])
    for part in ("Some Board", "AMD EPYC", "AVX512-VNNI, AMX-INT8", "governor performance", "8.0 GiB"):
        assert part in " ".join(describe_conditions(told))


def test_measure_conditions__what_is_not_told_is_left_out(tmp_path: Path) -> None:
    told = measure_conditions(1, tmp_path)
    assert not {"board", "governor", "memory_mib", "container_memory_mib", "physical_cores"} & set(told)
    assert told["int8_instructions"] == []
    assert all(describe_conditions(told))


@pytest.mark.parametrize(("usable", "cpu_max", "cores", "reason"), [
    (4, None, 4, ""),
    (4, "max 100000", 4, ""),
    (2, None, 2, "affinity"),
    (4, "150000 100000", 2, "quota is 1.5"),
    (1, "150000 100000", 1, "affinity"),  # the tighter of two limits
])  # fmt: skip
def test_measure_conditions__says_why_cores_are_missing(
    usable: int, cpu_max: str | None, cores: int, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if cpu_max is not None:
        (tmp_path / "cpu.max").write_text(cpu_max)
    monkeypatch.setattr(threads, "_CGROUP", tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(usable)), raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    told = measure_conditions(1)
    assert (told["cores"], told["cores_total"]) == (cores, 4)
    assert reason in told["cores_limited_by"]
    assert bool(reason) == bool(told["cores_limited_by"])


def test_measure_conditions__hyperthreads_are_one_core(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1, 2, 3}, raising=False)
    root = write_files(tmp_path, {
        f"sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list": f"{cpu % 2},{cpu % 2 + 2}\n"
        for cpu in range(4)
    })  # fmt: skip
    assert measure_conditions(1, root)["physical_cores"] == 2


@pytest.mark.parametrize(("cpuinfo", "expected"), [
    (X86_CPUINFO.format(flags=""), "AMD EPYC"),
    ("".join(PI_CPUINFO.format(core=core) for core in range(4)), "4 x Cortex-A76"),
    ("CPU part : 0xd05\nCPU part : 0xd05\nCPU part : 0xd0b\n", "2 x Cortex-A55, 1 x Cortex-A76"),
    ("CPU part : 0x123\n", "1 x Arm core 0x123"),
    ("CPU part : what\n", "1 x Arm core"),
])  # fmt: skip
def test_cpu_name__arm_cores_have_numbers(cpuinfo: str, expected: str) -> None:
    assert cpu_name(cpuinfo) == expected


def test_accelerators__by_their_devices(tmp_path: Path) -> None:
    write_files(tmp_path, {"dev/apex_0": "", "dev/accel/accel0": "", "dev/null": ""})
    assert accelerators(tmp_path) == ["Coral Edge TPU (/dev/apex_0)", "NPU (/dev/accel/accel0)"]
