"""What to say about int8 where products of uint8 and int8 saturate: x86 without VNNI (cpu.py)."""

from __future__ import annotations

import os

from fcos_edge.cpu import Cpu

_X86 = ("x86_64", "AMD64", "i686", "i386")
# XNNPACK, inside ai-edge-litert and tflite-runtime, widens before it adds and does not saturate on any CPU.
_SATURATING = ("onnxruntime", "openvino")
# oneDNN, inside OpenVINO, takes no newer instructions than this variable names.
_ISA_VARIABLE = "ONEDNN_MAX_CPU_ISA"
_ISAS_WITHOUT_VNNI = ("SSE41", "AVX", "AVX2", "AVX512_CORE")


def saturation_note(cpu: Cpu, runtime: str, *, has_failed: bool) -> str:
    """One line for an int8 file in `runtime` on this computer; "" where nothing saturates.

    has_failed  the file was found to differ: then the line says that this is the likely cause
    """
    if runtime not in _SATURATING or cpu.machine not in _X86:
        return ""
    isa = os.environ.get(_ISA_VARIABLE, "").upper()
    cause = ", the likely cause" if has_failed else ""
    if cpu.saturates_int8:
        why = "this x86 CPU has no VNNI:"
    elif runtime == "openvino" and isa in _ISAS_WITHOUT_VNNI:
        why = f"{_ISA_VARIABLE}={isa} leaves VNNI out:"
    elif has_failed and cpu.has_vnni is None:
        why, cause = "this system does not say whether the CPU has VNNI; without it", ", a likely cause"
    else:
        return ""
    return (
        f"{why} int8 products saturate in this runtime{cause}; use TFLite or fp32 here, or export with"
        " --weights-7bit"
    )
