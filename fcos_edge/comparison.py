"""Compare one artifact's runs with the golden pictures, figure by figure.

Float artifacts are judged output by output against PyTorch; int8 ones output by output against the
simulator, and branch by branch (logits, ltrb, centerness; all levels) against PyTorch.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from fcos_edge.artifact import ArtifactInfo
from fcos_edge.budgets import Budgets, FloatBudget, Int8Budget
from fcos_edge.detections import Detections
from fcos_edge.golden import Golden, GoldenPicture
from fcos_edge.matching import count_unmatched, near_pairs, partner_pairs
from fcos_edge.runtime import FloatArray
from fcos_edge.spec import BRANCHES


@dataclass(frozen=True)
class Check:
    """One figure beside its limit.

    what    output, branch or picture that it is about
    figure  what was measured, in words
    """

    what: str
    figure: str
    value: float
    limit: float
    kind: Literal["at most", "at least"] = "at most"

    @property
    def passed(self) -> bool:
        """A NaN passes nothing."""
        return self.value <= self.limit if self.kind == "at most" else self.value >= self.limit

    @property
    def description(self) -> str:
        """`logits_p3: largest difference to PyTorch is 0.0123, allowed at most 0.001`."""
        return f"{self.what}: {self.figure} is {self.value:.4g}, allowed {self.kind} {self.limit:.4g}"

    def to_dict(self) -> dict[str, Any]:
        # JSON has no NaN and no infinity.
        value = self.value if math.isfinite(self.value) else None
        return {**asdict(self), "value": value, "passed": self.passed}


@dataclass(frozen=True, eq=False)
class Run:
    """What an artifact made of one golden picture.

    letterbox_difference  largest difference of its input to the stored one, grey levels
    outputs               output name -> (h, w, C) float32
    detections            above the candidate threshold
    """

    letterbox_difference: int
    outputs: Mapping[str, FloatArray]
    detections: Detections


class Comparison:
    """Collects the runs of one artifact; `checks` gives the figures of all of them."""

    def __init__(self, info: ArtifactInfo, golden: Golden, budgets: Budgets, is_exact: bool) -> None:
        self._info = info
        self._golden = golden
        self._budgets = budgets
        self._is_exact = is_exact
        self._runs: list[tuple[GoldenPicture, Run]] = []

    def add(self, picture: GoldenPicture, run: Run) -> None:
        self._runs.append((picture, run))

    # Infinity - infinity is NaN, which passes nothing: no warning has to say so once more.
    @np.errstate(invalid="ignore", over="ignore")
    def checks(self) -> tuple[Check, ...]:
        budgets = self._budgets
        checks = [
            Check(picture.source_name, "letterbox difference in grey levels", run.letterbox_difference,
                  budgets.letterbox)
            for picture, run in self._runs
        ]  # fmt: skip
        if self._info.precision == "int8":
            checks += self._simulator_checks(budgets.int8)
            checks += self._branch_checks(budgets.int8)
            checks.append(self._partner_check(budgets.int8))
        else:
            budget = budgets.fp32 if self._info.precision == "fp32" else budgets.fp16
            checks += self._output_checks(budget)
            checks += self._pair_checks(budget)
        return tuple(checks)

    def _output_checks(self, budget: FloatBudget) -> Iterator[Check]:
        for name in self._names():
            reference = np.stack([golden.fp32[name] for golden, _ in self._runs])
            found = np.stack([run.outputs[name] for _, run in self._runs])
            part = _largest(found - reference) / (_largest(reference) or 1.0)
            yield Check(name, "largest difference to PyTorch / largest value", part, budget.max_difference)

    def _pair_checks(self, budget: FloatBudget) -> Iterator[Check]:
        """Each detection clearly above its operating threshold has one partner, in both directions."""
        for golden, run in self._runs:
            certain, found_certain = (
                self._above(detections, budget.threshold_margin)
                for detections in (golden.candidates, run.detections)
            )
            for reference, found in ((certain, run.detections), (found_certain, golden.candidates)):
                pairs = near_pairs(reference, found, iou=budget.iou, score=budget.score)
                side = "PyTorch's" if reference is certain else "its"
                figure = f"number of {side} {len(reference)} detections without a partner"
                yield Check(golden.source_name, figure, count_unmatched(pairs), 0)

    def _simulator_checks(self, budget: Int8Budget) -> Iterator[Check]:
        points = {output.name: output for output in self._golden.outputs}
        difference, size = 0.0, 0
        for name in self._names():
            point = points[name]
            assert point.scale is not None
            assert point.zero_point is not None
            for golden, run in self._runs:
                integers = golden.int8[name].astype(np.float32)
                reference = (integers - np.float32(point.zero_point)) * np.float32(point.scale)
                distance = np.abs(run.outputs[name] - reference)
                if self._is_exact:
                    figure = f"largest difference to the simulator in steps on {golden.source_name}"
                    yield Check(name, figure, _largest(distance) / point.scale, 0)
                if name.startswith("logits"):
                    difference += float(distance.sum(dtype=np.float64))
                    size += distance.size
        step = float(np.mean([p.scale for name, p in points.items() if name.startswith("logits")]))
        floor = max(self._golden.one_bit_floor, budget.least_floor * step)
        limit = 0.0 if self._is_exact else budget.floors
        yield Check(
            "logits", "mean difference to the simulator in one-bit floors", difference / size / floor, limit
        )

    def _branch_checks(self, budget: Int8Budget) -> Iterator[Check]:
        points = {output.name: output for output in self._golden.outputs}
        for branch in BRANCHES:
            names = [name for name in self._names() if name.startswith(f"{branch}_")]
            pairs = [(golden.fp32[name], run.outputs[name]) for golden, run in self._runs for name in names]
            reference, found = (
                np.concatenate([part.ravel() for part in parts]).astype(np.float64)
                for parts in zip(*pairs, strict=True)
            )
            # What varies by less than one step, as in a network that is hardly trained, int8 cannot follow.
            step = float(np.mean([points[name].scale for name in names]))
            spread = float(reference.std())
            mean = float(np.abs(found - reference).mean()) / max(spread, step)
            figure = "mean difference to PyTorch / its standard deviation"
            yield Check(branch, figure, mean, budget.mean_difference)
            if spread > step:
                correlation = _correlation(reference, found)
                yield Check(branch, "correlation with PyTorch", correlation, budget.correlation, "at least")

    def _partner_check(self, budget: Int8Budget) -> Check:
        total = unmatched = 0
        for golden, run in self._runs:
            reference = self._above(golden.candidates, budget.threshold_margin)
            pairs = partner_pairs(
                reference, run.detections, iou=budget.partner_iou, score_ratio=budget.partner_score
            )
            total += len(reference)
            unmatched += count_unmatched(pairs)
        part = 1 - unmatched / total if total else 1.0
        figure = f"part of PyTorch's {total} detections that have a partner"
        return Check("detections", figure, part, budget.matched, "at least")

    def _above(self, detections: Detections, margin: float) -> Detections:
        return detections.filtered([t + margin for t in self._info.operating_thresholds])

    def _names(self) -> tuple[str, ...]:
        return tuple(self._runs[0][0].fp32)


def _largest(values: FloatArray) -> float:
    """Largest absolute value; NaN where one is NaN."""
    return float(np.abs(values).max())


def _correlation(reference: Any, found: Any) -> float:
    """Pearson's; of two constants 1."""
    a, b = reference - reference.mean(), found - found.mean()
    norm = math.sqrt(float(a @ a) * float(b @ b))
    if norm == 0:
        return 1.0 if float(a @ a) == float(b @ b) else 0.0
    return float(a @ b) / norm
