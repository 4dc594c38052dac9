"""What is said about int8 on x86 without VNNI."""

from __future__ import annotations

import pytest

from fcos_edge.cpu import Cpu
from fcos_edge.saturation import saturation_note

WITH = Cpu("x86_64", has_vnni=True, has_dotprod=None)
WITHOUT = Cpu("x86_64", has_vnni=False, has_dotprod=None)
UNKNOWN = Cpu("AMD64", has_vnni=None, has_dotprod=None)
ARM = Cpu("aarch64", has_vnni=None, has_dotprod=False)


@pytest.mark.parametrize(
    ("cpu", "runtime", "isa", "has_failed", "said"),
    [
        (
            WITHOUT,
            "onnxruntime",
            "",
            False,
            "this x86 CPU has no VNNI: int8 products saturate in this",
        ),
        (
            WITHOUT,
            "openvino",
            "",
            True,
            "saturate in this runtime, the likely cause; use TFLite or fp32 here, or",
        ),
        (WITHOUT, "tflite", "", True, ""),  # XNNPACK widens first
        (WITH, "openvino", "", True, ""),
        # OpenVINO told to leave VNNI out
        (WITH, "openvino", "AVX2", True, "ONEDNN_MAX_CPU_ISA=AVX2 leaves VNNI out: int8 products saturate"),
        (WITH, "openvino", "avx512_core", False, "ONEDNN_MAX_CPU_ISA=AVX512_CORE leaves VNNI out"),
        (WITH, "openvino", "AVX512_CORE_VNNI", True, ""),
        (WITH, "onnxruntime", "AVX2", True, ""),  # does not read it
        # A system that tells nothing: only where there is something to explain
        (
            UNKNOWN,
            "onnxruntime",
            "",
            True,
            "a likely cause; use TFLite or fp32 here, or",
        ),
        (UNKNOWN, "onnxruntime", "", False, ""),
        (ARM, "onnxruntime", "", True, ""),
    ],
)
def test_note(
    monkeypatch: pytest.MonkeyPatch, cpu: Cpu, runtime: str, isa: str, has_failed: bool, said: str
) -> None:
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", isa)
    found = saturation_note(cpu, runtime, has_failed=has_failed)
    assert said in found
    assert bool(said) == bool(found)
