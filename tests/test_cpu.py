"""What /proc/cpuinfo says about a CPU, and where it says nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from fcos_edge.cpu import cpu_features, detect_cpu

HASWELL = "flags\t\t: fpu sse4_1 avx avx2 fma f16c\n"
ICE_LAKE = "flags\t\t: fpu avx2 fma avx512f avx512_vnni\n"
SAPPHIRE_RAPIDS = "flags\t\t: avx2 avx512f avx512_bf16 avx512_vnni avx_vnni amx_bf16 amx_int8\n"
CORTEX_A72 = "Features\t: fp asimd evtstrm crc32\n"
CORTEX_A76 = "Features\t: fp asimd asimdhp asimddp\n"
NEOVERSE_V1 = "Features\t: asimd asimdhp asimddp sve i8mm bf16\n"


@pytest.mark.parametrize(("cpuinfo", "machine", "features", "saturates", "description"), [
    (HASWELL, "x86_64", ("SSE4.1", "AVX", "AVX2", "FMA", "F16C"), True, "x86_64 without VNNI"),
    (ICE_LAKE, "x86_64", ("AVX2", "FMA", "AVX512F", "AVX512-VNNI"), False, "x86_64 with VNNI"),
    (SAPPHIRE_RAPIDS, "x86_64", (
        "AVX2", "AVX512F", "AVX512-BF16", "AVX-VNNI", "AVX512-VNNI", "AMX-BF16", "AMX-INT8",
    ), False, "x86_64 with VNNI"),
    (CORTEX_A72, "aarch64", ("NEON",), False, "aarch64 without dotprod"),
    (CORTEX_A76, "aarch64", ("NEON", "fp16", "dotprod"), False, "aarch64 with dotprod"),
    (NEOVERSE_V1, "aarch64", (
        "NEON", "fp16", "dotprod", "i8mm", "bf16", "SVE",
    ), False, "aarch64 with dotprod"),
    ("Features : neon vfpv4 asimd\n", "armv8l", ("NEON",), False, "armv8l without dotprod"),
    # What one core lacks, no thread can count on.
    (CORTEX_A76 + CORTEX_A72, "aarch64", ("NEON",), False, "aarch64 without dotprod"),
    ("processor : 0\n", "x86_64", (), False, "x86_64"),
])  # fmt: skip
def test_cpu__is_read_from_cpuinfo(
    cpuinfo: str, machine: str, features: tuple[str, ...], saturates: bool, description: str, tmp_path: Path
) -> None:
    path = tmp_path / "cpuinfo"
    path.write_text(cpuinfo)
    assert cpu_features(path) == features
    cpu = detect_cpu(path, machine)
    assert (cpu.saturates_int8, cpu.description) == (saturates, description)


def test_cpu__unknown_where_nothing_tells(tmp_path: Path) -> None:
    assert cpu_features(tmp_path / "none") == ()
    assert detect_cpu(tmp_path / "none", "x86_64").has_vnni is None
