"""What the doctor's figures mean, in words.

ratio  fp32 time / int8 time of the tiny network, one thread
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from fcos_edge.doctor.packages import PROGRAM

if TYPE_CHECKING:
    from fcos_edge.doctor.report import DoctorReport
    from fcos_edge.doctor.trial import RuntimeReport, Speed

# Below, int8 is not worth what it costs in accuracy.
LEAST_RATIO = 1.1
# Rounds of one precision against itself have medians of 0.97 to 1.03.
_SLOWER = 0.95
_X86 = ("x86_64", "AMD64", "i686", "i386")
_ARM_64 = ("aarch64", "arm64")


def runtime_sentences(report: RuntimeReport, conditions: Mapping[str, Any]) -> list[str]:
    """What is wrong with a runtime, what int8 is worth in it, whether its sums saturate."""
    sentences = [f"{report.package}: {failure}" for failure in report.failures]
    if report.speed is not None:
        sentences.append(_speed_sentence(report, report.speed, conditions))
    if report.saturates and report.saturation_loss is not None:
        sentences.append(
            f"int8 saturates in {report.package}: large sums come out {report.saturation_loss:.0%} too small,"
            f" {_saturation_cause(conditions)}"
        )
    return sentences


def verdict(report: DoctorReport) -> list[str]:
    """One or two lines: what `load` takes here, and whether int8 is right."""
    if report.base_failure:
        return [f"nothing can run: {report.base_failure}; run: pip install --force-reinstall {PROGRAM}"]
    if report.choice is None:
        return [f"no runtime is installed; {_install_runtime(report)}"]
    best = report.used(report.best)
    if best is None:
        broken = ", ".join(runtime.package for runtime in report.runtimes)
        return [f"no installed runtime works ({broken}); install another or repair it, and run this again"]
    if report.choice != report.best:
        broken_used = report.used(report.choice)
        package = broken_used.package if broken_used else report.choice
        first = (
            f"`load` would take {package}, which is broken here; repair it, or say --runtime {report.best}"
        )
        return [first, _int8_verdict(report, best)]
    return [f"`load` takes {best.package} here; {_int8_verdict(report, best)}"]


def _int8_verdict(report: DoctorReport, best: RuntimeReport) -> str:
    speed = best.speed
    if speed is None:  # it works, so it was timed
        return "whether int8 is right was not found out"
    if speed.ratio >= LEAST_RATIO and not best.saturates:
        return "int8 is right in it"
    because = "saturates" if best.saturates else "gains nothing"
    others = sorted(
        (other.speed.int8_ms, other.name)
        for other in report.runtimes
        if other.works
        and other.is_used
        and other.name != best.name
        and not other.saturates
        # In whole, not only by its own fp32.
        and other.speed is not None
        and other.speed.ratio >= LEAST_RATIO
        and other.speed.int8_ms * LEAST_RATIO <= speed.fp32_ms
    )
    instead = f", or int8 in another: --runtime {others[0][1]}" if others else ""
    return f"int8 {because} in it: take --precision fp32{instead}"


def _speed_sentence(report: RuntimeReport, speed: Speed, conditions: Mapping[str, Any]) -> str:
    if speed.ratio >= LEAST_RATIO:
        return f"int8 is {speed.ratio:.1f} times as fast as fp32 in {report.package}"
    what = "is slower than fp32" if speed.ratio < _SLOWER else "gains nothing"
    return f"int8 {what} in {report.package} (ratio {speed.ratio:.2f}): {_slow_cause(report, conditions)}"


def _slow_cause(report: RuntimeReport, conditions: Mapping[str, Any]) -> str:
    machine = conditions["machine"]
    if report.name == "openvino" and machine not in _X86:
        return "OpenVINO computes these int8 files in float on Arm; use fp32, or TFLite"
    if conditions["has_vnni"] is False:
        return "this CPU has no VNNI, the instructions for int8; use fp32 or TFLite"
    if conditions["has_dotprod"] is False:
        return "this CPU has no dotprod, the instructions for int8"
    return "no cause is known; measure your own model"


def _saturation_cause(conditions: Mapping[str, Any]) -> str:
    if conditions["machine"] in _X86:
        return "as on x86 without VNNI, which adds two products in 16 bits; use fp32 here, or TFLite"
    return "which this kind of CPU should not do; use fp32 here"


def _install_runtime(report: DoctorReport) -> str:
    machine = report.conditions["machine"]
    suited = "openvino" if machine in _X86 else "tflite" if machine in _ARM_64 else "tflite-runtime"
    lines = {e.extra.name: e.extra.pip_line for e in report.extras if e.extra.is_runtime and not e.refusal}
    if not lines:
        return "none has wheels for this Python and machine: docs/install.md says which do"
    return f"run: {lines.get(suited, next(iter(lines.values())))}"


def pip_lines(report: DoctorReport) -> Iterator[str]:
    """What to run for each extra that is not complete, and what it is for."""
    for extra in report.extras:
        if extra.is_complete or extra.refusal:
            continue
        if extra.extra.is_runtime and report.best:
            continue  # one is enough
        yield f"{extra.extra.pip_line}  # {extra.extra.purpose}"
