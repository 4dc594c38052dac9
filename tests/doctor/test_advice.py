"""Figures of other machines, in words."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fcos_edge.doctor.advice import pip_lines, runtime_sentences, verdict
from fcos_edge.doctor.packages import EXTRAS, ExtraReport
from fcos_edge.doctor.report import DoctorReport
from fcos_edge.doctor.trial import RuntimeReport, Speed

VNNI = {"machine": "x86_64", "has_vnni": True, "has_dotprod": None}
OLD_X86 = {"machine": "x86_64", "has_vnni": False, "has_dotprod": None}
ARM = {"machine": "aarch64", "has_vnni": None, "has_dotprod": True}
OLD_ARM = {"machine": "aarch64", "has_vnni": None, "has_dotprod": False}
MISSING = tuple(ExtraReport(extra, {}, ("something",)) for extra in EXTRAS)


def runtime(
    name: str = "openvino", ratio: float = 2.0, loss: float = 0.0, fp32_ms: float = 2.0, failure: str = ""
) -> RuntimeReport:
    speed = Speed(fp32_ms, fp32_ms / ratio, ratio, (ratio, ratio), 10, 4)
    if failure:
        return RuntimeReport(name, name, "1.0", True, failures=(failure,))
    return RuntimeReport(name, name, "1.0", True, ("CPU",), 0.0, 0.0, loss, speed)


def report(
    *runtimes: RuntimeReport, choice: str | None = None, best: str | None = None, machine: str = "x86_64"
) -> DoctorReport:
    return DoctorReport({"machine": machine}, (), {}, MISSING, "", runtimes, choice, best)


@pytest.mark.parametrize(("found", "conditions", "said"), [
    (runtime(ratio=2.13), VNNI, ["int8 is 2.1 times as fast as fp32 in openvino"]),
    (runtime(ratio=1.02), OLD_X86, [
        "int8 gains nothing in openvino (ratio 1.02): this CPU has no VNNI, the instructions for int8;"
        " use fp32 or TFLite",
    ]),
    (runtime(ratio=0.9), OLD_ARM, [
        "int8 is slower than fp32 in openvino (ratio 0.90): OpenVINO computes these int8 files in float on"
        " Arm; use fp32, or TFLite",
    ]),
    (runtime("tflite", 1.0), OLD_ARM, [
        "int8 gains nothing in tflite (ratio 1.00): this CPU has no dotprod, the instructions for int8",
    ]),
    (runtime("tflite", 1.0), ARM, [
        "int8 gains nothing in tflite (ratio 1.00): no cause is known; measure your own model",
    ]),
    (runtime(ratio=1.5, loss=0.48), OLD_X86, [
        "int8 is 1.5 times as fast as fp32 in openvino",
        "int8 saturates in openvino: large sums come out 48% too small, as on x86 without VNNI, which adds"
        " two products in 16 bits; use fp32 here, or TFLite",
    ]),
    (runtime(loss=0.5), ARM, [
        "int8 is 2.0 times as fast as fp32 in openvino",
        "int8 saturates in openvino: large sums come out 50% too small, which this kind of CPU should not do;"
        " use fp32 here",
    ]),
    (runtime(failure="fp32: crashed with SIGILL"), ARM, ["openvino: fp32: crashed with SIGILL"]),
])  # fmt: skip
def test_sentences(found: RuntimeReport, conditions: dict[str, object], said: list[str]) -> None:
    assert runtime_sentences(found, conditions) == said


GOOD, OTHER = runtime(), runtime("tflite", fp32_ms=2.2)
BROKEN = runtime(failure="fp32: crashed with SIGILL")
SATURATES = runtime(ratio=1.4, loss=0.48)


@pytest.mark.parametrize(("found", "said"), [
    (report(GOOD, OTHER, choice="openvino", best="openvino"),
     ["`load` takes openvino here; int8 is right in it"]),
    (report(SATURATES, choice="openvino", best="openvino"),
     ["`load` takes openvino here; int8 saturates in it: take --precision fp32"]),
    (report(SATURATES, OTHER, choice="openvino", best="openvino"),
     ["`load` takes openvino here; int8 saturates in it: take --precision fp32, or int8 in another: --runtime"
      " tflite"]),
    # Of several, the fastest.
    (report(runtime(ratio=0.9), OTHER, runtime("onnxruntime"), choice="openvino", best="openvino"),
     ["`load` takes openvino here; int8 gains nothing in it: take --precision fp32, or int8 in another:"
      " --runtime onnxruntime"]),
    # The other gains against its own fp32, which is slow.
    (report(runtime(ratio=1.0), runtime("tflite", fp32_ms=9.0), choice="openvino", best="openvino"),
     ["`load` takes openvino here; int8 gains nothing in it: take --precision fp32"]),
    (report(BROKEN, OTHER, choice="openvino", best="tflite"),
     ["`load` would take openvino, which is broken here; repair it, or say --runtime tflite",
      "int8 is right in it"]),
    (report(BROKEN, choice="openvino"),
     ["no installed runtime works (openvino); install another or repair it, and run this again"]),
    (report(), ["no runtime is installed; run: pip install 'fcos-edge[openvino]'"]),
    (report(machine="aarch64"), ["no runtime is installed; run: pip install 'fcos-edge[tflite]'"]),
    (replace(report(), base_failure="ImportError: libGL.so.1"),
     ["nothing can run: ImportError: libGL.so.1; run: pip install --force-reinstall fcos-edge"]),
    (replace(report(), extras=tuple(replace(extra, refusal="no wheel") for extra in MISSING)),
     ["no runtime is installed; none has wheels for this Python and machine: docs/install.md says which do"]),
])  # fmt: skip
def test_verdict__is_one_or_two_lines(found: DoctorReport, said: list[str]) -> None:
    assert verdict(found) == said


@pytest.mark.parametrize(("found", "passed"), [
    (report(GOOD, OTHER, choice="openvino", best="openvino"), True),
    (report(SATURATES, choice="openvino", best="openvino"), True),  # a fact, no fault
    (report(BROKEN, OTHER, choice="openvino", best="tflite"), False),
    (report(), False),
    (replace(report(GOOD), base_failure="x"), False),
])  # fmt: skip
def test_passed__needs_a_runtime_and_no_broken_one(found: DoctorReport, passed: bool) -> None:
    assert found.passed is passed


def test_pip_lines__runtimes_only_where_none_works() -> None:
    names = ["parity", "train", "export"]
    works = report(GOOD, choice="openvino", best="openvino")
    assert [line.split("'")[1] for line in pip_lines(works) if "'" in line] == [
        f"fcos-edge[{name}]" for name in names
    ]
    assert "pip install 'fcos-edge[tflite]'  # a device, best on Arm" in list(pip_lines(report()))
