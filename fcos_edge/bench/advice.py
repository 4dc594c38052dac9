"""What a bench found, in words, each with its likely cause."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from fcos_edge.bench.figures import LEAST_CALLS_P90, trend
from fcos_edge.bench.report import BenchReport, Gain, count_threads
from fcos_edge.heat import highest_temperature

# What is less is said. int8 is worth about twice the speed where the CPU has instructions for it.
LEAST_INT8_GAIN = 1.2
# Of twice the threads; of fewer more threads, in proportion.
_LEAST_THREAD_GAIN = 1.15
_MOST_TREND = 1.1
_SMALL_MS = 1.0
# Processes that compute beside ours, per core.
_BUSY_LOAD = 0.5
_MOST_NAMES = 2
# One round's ratio may be a neighbour's doing.
_LEAST_ROUNDS = 3


def remarks(report: BenchReport) -> Iterator[str]:
    """One line each, the most important first."""
    conditions = report.conditions
    yield from _int8(report)
    yield from _threads(report)
    yield from _slowing(report)
    if conditions["cores_limited_by"]:
        yield (
            f"this process may use {conditions['cores']} of {conditions['cores_total']} cores:"
            f" {conditions['cores_limited_by']}"
        )
    if _is_busy(conditions):
        yield (
            f"others were computing before this began (load {conditions['load_before']}, cores"
            f" {conditions['cores_total']}): ratios hold, milliseconds may be too long"
        )
    if "powersave" in conditions.get("governor", ""):
        yield "the governor is powersave, which may keep the clock low; measure with performance, too"
    if found := conditions.get("accelerators"):
        yield f"this machine has {', '.join(found)}, which nothing here used: these are figures of the CPU"
    few = [case for case in report.cases if case.latency and case.latency["whole"].n < LEAST_CALLS_P90]
    if few:
        yield (
            f"{len(few)} of {len(report.cases)} have fewer than {LEAST_CALLS_P90} calls and no p90; give more"
            " --seconds, or choose fewer of --threads, --precisions or --runtime"
        )


def _int8(report: BenchReport) -> Iterator[str]:
    """Where int8 is slower than fp32, or gains little; a line per package and cause."""
    found: dict[tuple[str, str], list[Gain]] = {}
    for gain in report.int8_gains:
        if gain.ratio.median < LEAST_INT8_GAIN and gain.ratio.rounds >= _LEAST_ROUNDS:
            key = gain.fast.variant.package, int8_cause(gain, report)
            found.setdefault(key, []).append(gain)
    for (package, cause), gains in found.items():
        is_slower = any(gain.ratio.median < 1 for gain in gains)
        speeds = ", ".join(
            f"{gain.ratio.median:.2f}x with {count_threads(gain.fast.threads)}" for gain in gains
        )
        what = "is slower than" if is_slower else "is hardly faster than"
        yield f"int8 {what} fp32 in {package} ({speeds}); likely because {cause}"


def int8_cause(gain: Gain, report: BenchReport) -> str:
    """Why int8 gains little: the first that fits."""
    conditions, package = report.conditions, gain.fast.variant.package
    gains_with_fewer = any(
        other.fast.variant == gain.fast.variant
        and other.fast.threads < gain.fast.threads
        and other.ratio.median >= LEAST_INT8_GAIN
        for other in report.int8_gains
    )
    if package == "tflite-runtime":
        lacking = "or compute int8 without XNNPACK" if _is_arm(conditions) else "and know no VNNI"
        return f"its kernels are of 2023 {lacking}; ai-edge-litert has newer ones, where there is a wheel"
    if conditions["has_vnni"] is False:
        return "this CPU has no VNNI, so int8 products take several instructions; fp32 may be better"
    if _is_arm(conditions) and package == "openvino":
        return "OpenVINO computes these int8 files in floats on Arm; TFLite and ONNX Runtime do not"
    if conditions["has_dotprod"] is False:
        return "this CPU has no dotprod instructions, so int8 products take several; fp32 may be better"
    if gains_with_fewer and _is_busy(conditions):
        return "other processes kept cores busy, and more threads wait for the slowest"
    if gains_with_fewer:
        return "so little work is left for each thread that they wait for each other; use fewer threads"
    if gain.slow.latency["inference"].p50_ms < _SMALL_MS:
        return "the network is so small that calling it takes as long as computing it"
    return (
        "memory, or what is not computed in int8, takes the time: layers kept in float and the conversions"
        " around them (fcos-edge inspect lists them)"
    )


def _threads(report: BenchReport) -> Iterator[str]:
    """Where more threads gain little; a line per step and cause."""
    found: dict[tuple[int, int, str], list[Gain]] = {}
    for gain in report.thread_gains:
        fewer, more = gain.slow.threads, gain.fast.threads
        # Twice the threads are to gain 15 %, half as many more 7.5 %.
        least = 1 + (_LEAST_THREAD_GAIN - 1) * min(1.0, more / fewer - 1)
        if gain.ratio.median < least and gain.ratio.rounds >= _LEAST_ROUNDS:
            found.setdefault((fewer, more, thread_cause(gain, report.conditions)), []).append(gain)
    for (fewer, more, cause), gains in found.items():
        ratios = [gain.ratio.median for gain in gains]
        of_step = [gain for gain in report.thread_gains if gain.fast.threads == more]
        names = ", ".join(gain.fast.variant.name for gain in gains)
        if len(gains) > _MOST_NAMES:
            names = f"{len(gains)} of {len(of_step)} artifacts"
        few_x, many_x = min(ratios), max(ratios)
        speeds = f"{few_x:.2f}x" if len(gains) == 1 else f"{few_x:.2f}x to {many_x:.2f}x"
        yield f"{more} threads gain nothing over {fewer} ({speeds}) for {names}; likely because {cause}"


def thread_cause(gain: Gain, conditions: Mapping[str, Any]) -> str:
    """Why more threads gain little: the first that fits."""
    threads, cores = gain.fast.threads, conditions["cores"]
    if threads > cores:
        reason = f" ({conditions['cores_limited_by']})" * bool(conditions["cores_limited_by"])
        return f"this process has no more cores than {cores}{reason}"
    if (physical := conditions.get("physical_cores", cores)) < threads:
        return f"these {cores} cores are hyperthreads of {physical}"
    if _is_busy(conditions):
        return f"other processes kept cores busy (load {conditions['load_before']} before)"
    if gain.slow.latency["inference"].p50_ms < _SMALL_MS:
        return "the network is too small to be shared"
    if _is_arm(conditions) and ", " in conditions["cpu"]:
        return f"its cores differ ({conditions['cpu']}), and the fast ones wait for the slow"
    return "the cores share their memory, or, in a virtual machine, are not cores of their own"


def _slowing(report: BenchReport) -> Iterator[str]:
    """The clock or the speed fell between the first and the last third."""
    clocks = [heat["clock_mhz"] for heat in report.heat if "clock_mhz" in heat]
    degrees = [found for heat in report.heat if (found := highest_temperature(heat)) is not None]
    clock_trend = trend(clocks)
    said = []
    if clock_trend is not None and clock_trend < 1 / _MOST_TREND:
        said.append(f"the clock fell to {clock_trend * 100:.0f} %")
    if report.speed_trend is not None and report.speed_trend > _MOST_TREND:
        said.append(f"calls took {(report.speed_trend - 1) * 100:.0f} % longer")
    slowed_by = list(dict.fromkeys(name for heat in report.heat for name in heat.get("slowed_by", ())))
    counts = [heat["throttle_count"] for heat in report.heat if "throttle_count" in heat]
    if said:
        yield (
            f"from the first third to the last {' and '.join(said)};"
            f" {_slowing_cause(said, clocks, degrees, slowed_by)}"
        )
    if slowed_by:
        yield f"the system says that it held the clock down: {', '.join(slowed_by)}"
    if counts and counts[-1] > counts[0]:
        yield f"cores were too hot {counts[-1] - counts[0]} times, and were slowed down"


def _slowing_cause(
    said: Sequence[str], clocks: Sequence[float], degrees: Sequence[float], slowed_by: Sequence[str]
) -> str:
    hotter = f" ({degrees[0]:.0f} to {max(degrees):.0f} deg C)" if degrees else ""
    if slowed_by or said[0].startswith("the clock"):
        return f"likely it throttles{hotter}: cool it better, or expect this when it runs on and on"
    if clocks and degrees:  # virtual machines tell of a clock that never changes
        return f"the clock did not fall{hotter}: likely others began to compute"
    return "it throttles, or others began to compute; the system tells nothing of it"


def _is_busy(conditions: Mapping[str, Any]) -> bool:
    load = conditions["load_before"]
    # It is counted over the whole machine, also from within a container.
    return load is not None and load > _BUSY_LOAD * conditions["cores_total"]


def _is_arm(conditions: Mapping[str, Any]) -> bool:
    return bool(conditions["machine"].lower().startswith(("arm", "aarch64")))
