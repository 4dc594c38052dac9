"""What is said in words, of made-up figures."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from fcos_edge.bench.advice import remarks
from fcos_edge.bench.figures import Latency, Ratio
from fcos_edge.bench.report import BenchReport, CaseReport, Gain
from fcos_edge.workers.variants import Variant

X86: dict[str, Any] = {
    "cpu": "Some x86", "machine": "x86_64", "has_vnni": True, "has_dotprod": None, "cores": 4,
    "cores_total": 4, "cores_limited_by": "", "load_before": 0.1, "physical_cores": 4,
}  # fmt: skip
ARM = {**X86, "cpu": "4 x Cortex-A76", "machine": "aarch64", "has_vnni": None, "has_dotprod": True}


def case(
    package: str = "onnxruntime", precision: str = "fp32", threads: int = 1, ms: float = 20
) -> CaseReport:
    variant = Variant(f"model.{precision}.onnx", precision, package, package)
    latency = {stage: Latency.of([ms] * 20) for stage in ("letterbox", "inference", "postprocess", "whole")}
    return CaseReport(variant, threads, 1000, latency=latency)


def int8_gain(ratio: float, package: str = "onnxruntime", threads: int = 1, ms: float = 20) -> Gain:
    slow, fast = case(package, "fp32", threads, ms), case(package, "int8", threads, ms / ratio)
    return Gain(slow, fast, Ratio(ratio, ratio, ratio, 9))


def thread_gain(ratio: float, fewer: int, more: int, ms: float = 20) -> Gain:
    slow, fast = case(threads=fewer, ms=ms), case(threads=more, ms=ms / ratio)
    return Gain(slow, fast, Ratio(ratio, ratio, ratio, 9))


def report(conditions: dict[str, Any], **values: Any) -> BenchReport:
    return BenchReport("bundle", conditions, ("a.png",), 60, 60.0, 10, 9, (), **values)


@pytest.mark.parametrize(("gain", "conditions", "said"), [
    (int8_gain(2.0), X86, None),
    (int8_gain(1.2), X86, None),
    (int8_gain(1.1), X86, "int8 is hardly faster than fp32 in onnxruntime (1.10x with 1 thread); likely"
     " because memory, or what is not computed in int8"),
    (int8_gain(0.9), X86, "int8 is slower than fp32 in onnxruntime (0.90x with 1 thread)"),
    (int8_gain(0.9), X86 | {"has_vnni": False}, "this CPU has no VNNI"),
    (int8_gain(0.9), ARM, "memory, or what is not computed in int8"),
    (int8_gain(0.9), ARM | {"has_dotprod": False}, "this CPU has no dotprod"),
    # What does not tell its flags is not said to lack them.
    (int8_gain(0.9), ARM | {"has_dotprod": None}, "memory"),
    (int8_gain(1.0, "openvino"), ARM, "OpenVINO computes these int8 files in floats on Arm"),
    (int8_gain(0.2, "tflite-runtime"), X86, "its kernels are of 2023 and know no VNNI"),
    (int8_gain(0.2, "tflite-runtime"), ARM, "its kernels are of 2023 or compute int8 without XNNPACK"),
    (int8_gain(1.1, ms=0.5), X86, "the network is so small"),
])  # fmt: skip
def test_int8__slower_or_hardly_faster_has_a_cause(
    gain: Gain, conditions: dict[str, Any], said: str | None
) -> None:
    lines = list(remarks(report(conditions, int8_gains=(gain,))))
    assert len(lines) == (said is not None)
    if said is not None:
        assert said in lines[0]


@pytest.mark.parametrize(
    ("load", "said"), [(0.1, "use fewer threads"), (3.5, "other processes kept cores busy")]
)
def test_int8__gain_that_threads_take_away(load: float, said: str) -> None:
    gains = (int8_gain(2.0, threads=1), int8_gain(1.1, threads=4))
    lines = list(remarks(report(X86 | {"load_before": load}, int8_gains=gains)))
    assert "1.10x with 4 threads" in lines[0]
    assert said in lines[0]


@pytest.mark.parametrize(("gain", "conditions", "said"), [
    (thread_gain(1.8, 1, 2), X86, None),
    (thread_gain(1.15, 1, 2), X86, None),
    (thread_gain(1.1, 1, 2), X86, "2 threads gain nothing over 1 (1.10x) for model.fp32.onnx in onnxruntime"),
    (thread_gain(1.1, 4, 6), X86 | {"cores": 6, "physical_cores": 6}, None),  # half as many more
    (thread_gain(1.05, 4, 6), X86 | {"cores": 6, "physical_cores": 6}, "6 threads gain nothing over 4"),
    (thread_gain(1.0, 1, 2), X86 | {"cores": 1, "cores_limited_by": "the container's quota is 1"},
     "this process has no more cores than 1 (the container's quota is 1)"),
    (thread_gain(1.0, 4, 8), X86, "this process has no more cores than 4"),
    (thread_gain(1.0, 2, 4), X86 | {"physical_cores": 2}, "these 4 cores are hyperthreads of 2"),
    (thread_gain(1.0, 1, 2), X86 | {"physical_cores": 2}, "share their memory"),
    (thread_gain(1.0, 1, 2), X86 | {"load_before": 3.0}, "other processes kept cores busy (load 3.0 before)"),
    (thread_gain(1.0, 1, 2, ms=0.5), X86, "too small to be shared"),
    (thread_gain(1.0, 2, 4), ARM | {"cpu": "2 x Cortex-A55, 2 x Cortex-A76"}, "its cores differ"),
])  # fmt: skip
def test_threads__that_gain_nothing_have_a_cause(
    gain: Gain, conditions: dict[str, Any], said: str | None
) -> None:
    lines = [line for line in remarks(report(conditions, thread_gains=(gain,))) if "threads gain" in line]
    assert len(lines) == (said is not None)
    if said is not None:
        assert said in lines[0]


def test_gains__of_few_rounds_are_not_judged() -> None:
    slow = Ratio(0.5, 0.5, 0.5, 2)
    gains = {
        "int8_gains": (replace(int8_gain(0.5), ratio=slow),),
        "thread_gains": (replace(thread_gain(0.5, 1, 2), ratio=slow),),
    }
    assert not list(remarks(report(X86, **gains)))


def test_threads__many_artifacts_are_counted() -> None:
    gains = tuple(
        replace(gain, fast=replace(gain.fast, variant=replace(gain.fast.variant, file=name)))
        for name in "abcd"
        for gain in [thread_gain(1.0 if name != "d" else 2.0, 1, 2)]
    )
    (line,) = remarks(report(X86, thread_gains=gains))
    assert "(1.00x to 1.00x) for 3 of 4 artifacts" in line


@pytest.mark.parametrize(("heat", "speed_trend", "said"), [
    ([{"clock_mhz": 1800}] * 9, 1.05, []),
    ([{"clock_mhz": 1800}] * 3 + [{"clock_mhz": 1500}] * 6, 1.2,
     ["the clock fell to 83 % and calls took 20 % longer; likely it throttles:"]),
    ([{"clock_mhz": 1800, "temperature_c": {"cpu": 50.0}}] * 3
     + [{"clock_mhz": 1500, "temperature_c": {"cpu": 80.0}}] * 6, None,
     ["the clock fell to 83 %; likely it throttles (50 to 80 deg C)"]),
    ([{"clock_mhz": 1800, "temperature_c": {"cpu": 50.0}}] * 9, 1.2,
     ["calls took 20 % longer; the clock did not fall (50 to 50 deg C): likely others began"]),
    # A virtual machine.
    ([{}] * 9, 1.2, ["calls took 20 % longer; it throttles, or others began to compute"]),
    ([{}] * 8 + [{"slowed_by": ["under-voltage"]}], 1.0, ["held the clock down: under-voltage"]),
    ([{"throttle_count": 5}] * 8 + [{"throttle_count": 7}], 1.0, ["cores were too hot 2 times"]),
    ([{"throttle_count": 5}] * 9, 1.0, []),  # of earlier days
])  # fmt: skip
def test_slowing__is_said_with_what_the_system_tells(
    heat: list[dict[str, Any]], speed_trend: float | None, said: list[str]
) -> None:
    lines = list(remarks(report(X86, heat=tuple(heat), speed_trend=speed_trend)))
    assert len(lines) == len(said)
    for line, words in zip(lines, said, strict=True):
        assert words in line


@pytest.mark.parametrize(("more", "said"), [
    ({"cores": 2, "cores_limited_by": "the container's quota is 1.5"},
     "this process may use 2 of 4 cores: the container's quota is 1.5"),
    ({"load_before": 2.1}, "others were computing before this began (load 2.1, cores 4)"),
    ({"load_before": None}, None),
    # Eight cores share that load, of which this process may use two.
    ({"load_before": 3.0, "cores_total": 8, "cores": 2}, None),
    ({"governor": "powersave"}, "the governor is powersave"),
    ({"governor": "schedutil"}, None),
    ({"accelerators": ["Coral Edge TPU (/dev/apex_0)"]}, "this machine has Coral Edge TPU (/dev/apex_0)"),
])  # fmt: skip
def test_conditions__that_matter_are_said(more: dict[str, Any], said: str | None) -> None:
    lines = list(remarks(report(X86 | more)))
    assert len(lines) == (said is not None)
    assert said is None or said in lines[0]


def test_few_calls__are_said() -> None:
    few = replace(case(), latency={"whole": Latency.of([1.0] * 19)})
    (line,) = remarks(replace(report(X86), cases=(few, case())))
    assert line.startswith("1 of 2 have fewer than 20 calls")
