"""Everything that the doctor found out, and the order in which it looks.

Numpy is imported here by no module's top level: where it is broken, that is a finding.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fcos_edge.conditions import measure_conditions
from fcos_edge.cpu import cpu_features
from fcos_edge.doctor.base import try_base
from fcos_edge.doctor.packages import ExtraReport, report_extras
from fcos_edge.heat import measure_heat

if TYPE_CHECKING:
    from fcos_edge.doctor.trial import RuntimeReport

SCHEMA = "fcos-edge.doctor/1"


@dataclass(frozen=True)
class DoctorReport:
    """One machine.

    conditions    of `conditions.measure_conditions`
    features      of the CPU, for networks
    heat          of `heat.measure_heat`, before anything ran
    base_failure  what is wrong with NumPy or OpenCV, or ""; then nothing else was tried
    choice        the runtime that `load` takes from a bundle with all formats, None where none is installed
    best          the same of those that work
    """

    conditions: Mapping[str, Any]
    features: tuple[str, ...]
    heat: Mapping[str, Any]
    extras: tuple[ExtraReport, ...]
    base_failure: str
    runtimes: tuple[RuntimeReport, ...] = ()
    choice: str | None = None
    best: str | None = None

    @property
    def passed(self) -> bool:
        """At least one runtime is installed, and all that are installed work."""
        return not self.base_failure and bool(self.runtimes) and all(r.works for r in self.runtimes)

    def used(self, name: str | None) -> RuntimeReport | None:
        """The package that `load` takes for the runtime `name`."""
        return next((report for report in self.runtimes if report.name == name and report.is_used), None)

    def to_dict(self) -> dict[str, Any]:
        return {
            "schema": SCHEMA,
            "passed": self.passed,
            "conditions": dict(self.conditions),
            "features": list(self.features),
            "heat": dict(self.heat),
            "extras": [extra.to_dict() for extra in self.extras],
            "base_failure": self.base_failure,
            "runtimes": [runtime.to_dict() for runtime in self.runtimes],
            "choice": self.choice,
            "best": self.best,
        }


def examine(timeout_s: float, timing_s: float) -> DoctorReport:
    """Look at this machine.

    timeout_s  of each step of each runtime, and of NumPy and OpenCV
    timing_s   spent on the speed of each runtime
    """
    conditions = measure_conditions(threads=1)
    heat = measure_heat()
    extras = report_extras()
    base_failure = try_base(timeout_s)
    if base_failure:
        return DoctorReport(conditions, cpu_features(), heat, extras, base_failure)
    from fcos_edge.doctor.trial import try_runtimes

    runtimes = try_runtimes(timeout_s, timing_s)
    used = [report for report in runtimes if report.is_used]
    choice = _choose(tuple(report.name for report in used))
    best = _choose(tuple(report.name for report in used if report.works))
    return DoctorReport(conditions, cpu_features(), heat, extras, "", runtimes, choice, best)


def _choose(names: tuple[str, ...]) -> str | None:
    """What `load` takes of some installed runtimes, from a bundle with all formats."""
    from fcos_edge.doctor import samples
    from fcos_edge.loading import choose_from_bundle
    from fcos_edge.runtime import find_runtime

    if not names:
        return None
    # The one of our two bundles that has a file of each format.
    runtimes = {name: find_runtime(name) for name in names}
    return choose_from_bundle(samples.FOLDER / samples.SATURATION, runtimes, None)[1]
