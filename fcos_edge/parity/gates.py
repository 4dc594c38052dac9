"""The gates of one artifact: each figure beside its limit (limits.py). Point estimates gate."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from fcos_edge.comparison import Check
from fcos_edge.parity.agreement import Agreement
from fcos_edge.parity.limits import Limits, RawLimits
from fcos_edge.parity.raw_differences import OutputDifference
from fcos_edge.spec import BRANCHES

Kind = Literal["at most", "at least"]
# Every name of a gate, in the order in which they are judged; those against a baseline come after.
GATES = (
    "runs", "golden", "conventions", "raw_outputs", "runtimes_agree", "matched", "count", "drift", "ap_drop",
    "class_drop", "miss_increase", "latency_ratio", "latency_ms",
)  # fmt: skip


@dataclass(frozen=True)
class Gate:
    """One judgement.

    name    one of GATES, or of those against a baseline
    check   the figure beside its limit
    why     it is not judged but only reported; "" where it is
    """

    name: str
    check: Check
    why: str = ""

    @property
    def is_judged(self) -> bool:
        return not self.why

    @property
    def passed(self) -> bool:
        return not self.is_judged or self.check.passed

    def to_dict(self) -> dict[str, Any]:
        return {
            "name": self.name,
            **self.check.to_dict(),
            "passed": self.passed,
            "is_judged": self.is_judged,
            "why": self.why,
        }


def fact_gate(name: str, what: str, failure: str) -> Gate:
    """Something that is so or not; `failure` says in words that it is not."""
    return Gate(name, Check(what, "failures", float(bool(failure)), 0, words=failure))


def conventions_gate(words: Sequence[str]) -> Gate:
    """words: what is not as the reference has it (conventions.changed_conventions)"""
    more = f", and {len(words) - 2} more" if len(words) > 2 else ""
    return fact_gate("conventions", "conventions", "; ".join(words[:2]) + more)


def raw_gate(
    raw: Sequence[OutputDifference], noise: Sequence[OutputDifference], precision: str, limits: Limits
) -> Iterator[Gate]:
    """One gate: the figure of all outputs and branches that is worst beside its limit.

    noise: of the reference under input noise of +-1; what that does, int8 may do
    """
    if not raw:
        return
    noisy = {figure.name: figure for figure in noise if precision == "int8"}
    agreement = limits.of(precision)
    checks: list[Check] = []
    for figure in raw:
        if figure.has_nan:
            yield fact_gate("raw_outputs", figure.name, "values that are no finite numbers")
            return
        wanted = agreement.branch if figure.name in BRANCHES else agreement.output
        checks += _raw_checks(figure, noisy.get(figure.name), wanted, limits.agreement_factor)
    yield Gate("raw_outputs", max(checks, key=_strain))


def _raw_checks(
    figure: OutputDifference, noisy: OutputDifference | None, wanted: RawLimits, factor: float
) -> Iterator[Check]:
    for what, value, of_noise, limit in (
        ("mean difference to the reference in its standard deviations", figure.relative,
         noisy and noisy.relative, wanted.relative),
        (f"shift of channel {figure.worst_shift.index} in its standard deviations",
         abs(figure.worst_shift.value), noisy and abs(noisy.worst_shift.value), wanted.shift),
        (f"mean difference of channel {figure.worst_difference.index} in its standard deviations",
         figure.worst_difference.value, noisy and noisy.worst_difference.value, wanted.difference),
    ):  # fmt: skip
        yield Check(figure.name, what, value, max(limit * factor, of_noise or 0.0))
    if not figure.is_flat:
        least = 1 - (1 - wanted.correlation) * factor
        least = least if noisy is None or noisy.is_flat else min(least, noisy.correlation)
        yield Check(figure.name, "correlation with the reference", figure.correlation, least, "at least")


def _strain(check: Check) -> float:
    """How near a figure is to its limit: above 1 it fails."""
    value, limit = check.value, check.limit
    if check.kind == "at least":
        value, limit = 1 - value, 1 - limit
    if math.isnan(value):
        return math.inf
    return value / limit if limit > 0 else math.inf * (value > 0) if value else 0.0


def agreement_gates(
    agreement: Agreement, noise: Agreement | None, classes: Sequence[str], precision: str, limits: Limits
) -> Iterator[Gate]:
    """Detections that find a partner, their number, and how their scores drift."""
    wanted, factor = limits.of(precision), limits.agreement_factor
    both = agreement.detections.both
    least = 1 - (1 - wanted.matched) * factor
    if precision == "int8" and noise is not None and noise.detections.both.rate is not None:
        least = min(least, noise.detections.both.rate - limits.noise_margin)
    if both.asked:
        least = min(least, 1 - limits.spare / both.asked)
    figure = f"part of {both.asked} detections, both sides, that have a partner"
    rate = 1.0 if both.rate is None else both.rate
    yield Gate("matched", Check("detections", figure, rate, least, "at least"))

    asked, found = agreement.detections.reference.asked, agreement.detections.found.asked
    ratio = max(asked, found) / max(min(asked, found), 1)
    why = "" if max(asked, found) >= limits.least_asked else f"{asked} detections are too few"
    figure = f"the larger / the smaller of {asked} detections of the reference and {found}"
    yield Gate("count", Check("detections", figure, ratio, 1 + (wanted.count - 1) * factor), why)

    drifts = {"detections": (agreement.pairs, agreement.drift.mean)}
    drifts |= {
        name: (one.pairs, one.mean_drift) for name, one in zip(classes, agreement.classes, strict=True)
    }
    judged = {
        name: abs(mean)
        for name, (pairs, mean) in drifts.items()
        if mean is not None and pairs >= limits.least_pairs
    }
    worst = max(judged, key=lambda name: judged[name], default="detections")
    why = "" if judged else f"{agreement.pairs} partners are too few"
    check = Check(worst, "mean score difference of partners", judged.get(worst, 0.0), wanted.drift * factor)
    yield Gate("drift", check, why)


def floors_gate(floors: float | None, nearest: str, limits: Limits) -> Iterator[Gate]:
    """int8 artifacts of one record against each other."""
    if floors is not None:
        figure = f"mean difference to {nearest} in one-bit floors"
        yield Gate("runtimes_agree", Check("logits", figure, floors, limits.max_floors))


def accuracy_gates(
    drops: Mapping[str, float],
    misses: Mapping[str, float],
    boxes: Mapping[str, int],
    limits: Limits,
    against: str = "the reference",
    prefix: str = "",
) -> Iterator[Gate]:
    """AP and miss rate.

    drops    class -> AP of the other side - AP here, 0..1, for classes that have boxes on both
    misses   class -> miss rate here - that of the other side
    boxes    class -> boxes to find
    against  whom: the reference, or an earlier report
    """
    total = sum(boxes[name] for name in drops)
    if not total:
        return
    limit = limits.max_ap_drop * max(1.0, math.sqrt(limits.least_boxes / total))
    drop = 100 * sum(drops[name] * boxes[name] for name in drops) / total
    figure = f"points of AP lost against {against}, classes weighted by their boxes"
    yield Gate(f"{prefix}ap_drop", Check(f"{total} boxes", figure, drop, limit))
    large = [name for name in drops if boxes[name] >= limits.least_boxes]
    why = "" if large else f"no class has {limits.least_boxes} boxes"
    figure = f"points of AP lost against {against}"
    yield _worst_class(f"{prefix}class_drop", figure, drops, large or drops, limits.max_class_drop, why)
    if missing := [name for name in large or drops if name in misses]:
        figure = f"points of the miss rate more than {against}"
        yield _worst_class(f"{prefix}miss_increase", figure, misses, missing, limits.max_miss_increase, why)


def latency_gates(ratio: float | None, whole_ms: float | None, limits: Limits) -> Iterator[Gate]:
    """ratio: int8 time / fp32 time in the same runtime, None where there are not both"""
    if ratio is not None:
        check = Check("latency", "int8 time / fp32 time in this runtime", ratio, limits.max_latency_ratio)
        yield Gate("latency_ratio", check)
    if whole_ms is not None and limits.max_latency_ms is not None:
        check = Check("latency", "median time of a picture in ms", whole_ms, limits.max_latency_ms)
        yield Gate("latency_ms", check)


def _worst_class(
    gate: str, figure: str, changes: Mapping[str, float], names: Iterable[str], limit: float, why: str
) -> Gate:
    worst = max(names, key=lambda name: (math.isnan(changes[name]), changes[name]))
    return Gate(gate, Check(worst, figure, 100 * changes[worst], limit), why)
