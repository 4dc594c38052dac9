"""Try one runtime on the tiny models, in a process of its own, and judge what it says.

loss  how much smaller int8 sums come out than they are, as a part of them: a CPU that adds two products
      of uint8 and int8 in 16 bits loses what exceeds 32767
"""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import Any

from fcos_edge.doctor.packages import installed_version, runtime_package
from fcos_edge.runtime import find_runtime, installed_package, runtime_names
from fcos_edge.workers.process import LostWorkerError, Worker, WorkerError

_PROBE = "fcos_edge.doctor.probe"
# Of the largest value. All three runtimes have 1e-6 here, a float16 computation 1e-3.
MOST_FP32_DIFFERENCE = 1e-4
# Steps. OpenVINO has 2.1, since it fuses convolutions with sums and does not round between them; the others
# have 0, and outputs that are all alike would have 20 and more.
MOST_INT8_STEPS = 5.0
# Saturation takes half of the sums here, and rounding half a step of 216.
LEAST_LOSS = 0.05


@dataclass(frozen=True)
class Speed:
    """fp32 against int8, one thread, the tiny network.

    fp32_ms, int8_ms  medians
    ratio             the median of fp32 time / int8 time over the rounds, in which both take turns
    ratio_quartiles   of the same
    rounds            how many; each has `calls_per_round` calls of both
    """

    fp32_ms: float
    int8_ms: float
    ratio: float
    ratio_quartiles: tuple[float, float]
    rounds: int
    calls_per_round: int

    @property
    def calls(self) -> int:
        return self.rounds * self.calls_per_round


@dataclass(frozen=True)
class RuntimeReport:
    """What became of one runtime's package.

    name             the file in `runtimes/`: `tflite`
    package          as pip names it: `ai-edge-litert`
    version          "" where nothing tells it
    is_used          `load` takes this package; else another one of the same runtime comes first
    fp32_difference  the largest, of the largest value; None where it did not run
    int8_steps       the mean difference of the worst branch, in steps; None where it did not run
    saturation_loss  None where it was not found out
    speed            None where one of the precisions does not run
    failures         in words, one per step that went wrong
    """

    name: str
    package: str
    version: str
    is_used: bool
    devices: tuple[str, ...] = ()
    fp32_difference: float | None = None
    int8_steps: float | None = None
    saturation_loss: float | None = None
    speed: Speed | None = None
    failures: tuple[str, ...] = ()
    seconds: float = 0.0

    @property
    def works(self) -> bool:
        return not self.failures

    @property
    def saturates(self) -> bool | None:
        return None if self.saturation_loss is None else self.saturation_loss >= LEAST_LOSS

    def to_dict(self) -> dict[str, Any]:
        speed = None if self.speed is None else {**asdict(self.speed), "calls": self.speed.calls}
        return {**asdict(self), "speed": speed, "works": self.works, "saturates": self.saturates}


@dataclass
class _Findings:
    """What is known so far.

    failures  what went wrong -> in which steps
    values    fields of RuntimeReport
    """

    failures: dict[str, list[str]] = field(default_factory=dict)
    values: dict[str, Any] = field(default_factory=dict)

    def fail(self, step: str, what: object) -> None:
        self.failures.setdefault(str(what), []).append(step)

    def in_words(self) -> tuple[str, ...]:
        return tuple(f"{', '.join(steps)}: {what}" for what, steps in self.failures.items())


def try_runtimes(timeout_s: float, timing_s: float) -> tuple[RuntimeReport, ...]:
    """Every installed package of every runtime, one after the other, so that none slows another.

    timeout_s  of each step of each; timing_s: spent on the speed of each
    """
    return tuple(
        try_package(name, module, timeout_s, timing_s)
        for name in runtime_names()
        for module in find_runtime(name).PACKAGES
        if installed_version(runtime_package(module)) is not None
    )


def try_package(name: str, module: str, timeout_s: float, timing_s: float) -> RuntimeReport:
    """One package of the runtime `name`, as imported."""
    wanted = runtime_package(module)
    version = installed_version(wanted) or ""
    is_used = installed_package(find_runtime(name)) == module
    found = _Findings()
    begin = time.monotonic()
    with Worker(timeout_s=timeout_s, module=_PROBE) as worker, suppress(LostWorkerError):
        _ask(worker, name, module, timing_s, found)
    told = found.values.pop("version", "")
    return RuntimeReport(
        name, wanted.names[0], version or told, is_used,
        **found.values, failures=found.in_words(), seconds=round(time.monotonic() - begin, 2),
    )  # fmt: skip


def _ask(worker: Worker, name: str, module: str, timing_s: float, found: _Findings) -> None:
    """Fill `found`. Raises LostWorkerError, once that is noted, where nobody is left to ask."""
    _call(worker, found, "start", "choose", runtime=name, package=module)
    if answer := _call(worker, found, "fp32", "run", precision="fp32"):
        difference = found.values["fp32_difference"] = answer["difference"]
        if not difference <= MOST_FP32_DIFFERENCE:
            found.fail("fp32", f"wrong outputs, off by {difference:.3g} of the largest value")
    if answer := _call(worker, found, "int8", "run", precision="int8"):
        difference = found.values["int8_steps"] = answer["difference"]
        if not difference <= MOST_INT8_STEPS:
            found.fail("int8", f"wrong outputs, off by {difference:.3g} steps in the mean")
    if "int8_steps" in found.values and (answer := _call(worker, found, "int8, large sums", "saturate")):
        found.values["saturation_loss"] = answer["loss"]
        if not answer["control"] <= MOST_INT8_STEPS:
            found.fail("int8", f"wrong sums, off by {answer['control']:.3g} steps")
    if not found.failures and (answer := _call(worker, found, "timing", "time", seconds=timing_s)):
        found.values["speed"] = Speed(**{**answer, "ratio_quartiles": tuple(answer["ratio_quartiles"])})
    # Not of what could not be imported: that has been said.
    if found.values and (answer := _call(worker, found, "devices", "describe")):
        found.values |= {"devices": tuple(answer["devices"]), "version": answer["version"]}


def _call(worker: Worker, found: _Findings, step: str, op: str, **arguments: Any) -> dict[str, Any]:
    """The answer, {} where the step failed, which is noted. Raises LostWorkerError."""
    try:
        return worker.call(op, **arguments)
    except WorkerError as error:
        found.fail(step, error)
        if isinstance(error, LostWorkerError):
            raise
        return {}
