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
from fcos_edge.matching import DoubleArray, count_unmatched, near_pairs, partner_pairs
from fcos_edge.runtime import FloatArray
from fcos_edge.spec import BRANCHES

# Of a channel's standard deviation, as a part of the largest value of the output.
LEAST_SPREAD = 0.02
# Values whose mean may deviate twice as far as that of very many: cells that touch deviate together.
FEW_VALUES = 64

LARGEST = "largest difference to PyTorch / largest value"
FLOORS = "mean difference to the simulator in one-bit floors"


@dataclass(frozen=True)
class Check:
    """One figure beside its limit.

    what    output, branch or picture that it is about
    figure  what was measured, in words
    words   how a failure reads where the figure alone would not say it
    """

    what: str
    figure: str
    value: float
    limit: float
    kind: Literal["at most", "at least"] = "at most"
    words: str = ""

    @property
    def passed(self) -> bool:
        """A NaN passes nothing."""
        return self.value <= self.limit if self.kind == "at most" else self.value >= self.limit

    @property
    def description(self) -> str:
        """`logits_p3: largest difference to PyTorch is 0.0123, allowed at most 0.001`."""
        if self.words:
            return f"{self.what}: {self.words}"
        return f"{self.what}: {self.figure} is {self.value:.4g}, allowed {self.kind} {self.limit:.4g}"

    def to_dict(self) -> dict[str, Any]:
        # JSON has no NaN and no infinity.
        value = self.value if math.isfinite(self.value) else None
        return {**asdict(self), "value": value, "passed": self.passed, "description": self.description}


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


@dataclass(frozen=True)
class Partners:
    """How many detections were asked for a partner on the other side, and how many have one."""

    asked: int
    matched: int


@dataclass(frozen=True)
class _Asked:
    """The detections of one picture and side."""

    source_name: str
    side: str
    count: int
    unmatched: int


class Comparison:
    """Collects the runs of one artifact; `checks` gives the figures of all of them."""

    def __init__(self, info: ArtifactInfo, golden: Golden, budgets: Budgets, is_exact: bool) -> None:
        self._info = info
        self._golden = golden
        self._budgets = budgets
        self._is_exact = is_exact
        self._runs: list[tuple[GoldenPicture, Run]] = []
        self._int8 = budgets.of_int8(is_integer=golden.is_integer, is_trained=info.is_trained_in_int8)
        self._scales = {output.name: output.scale or 0.0 for output in golden.outputs}

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
            checks += self._step_checks() if self._is_exact else self._floor_checks(self._int8)
            checks += self._branch_checks(self._int8)
            checks.append(self._partner_check(self._int8))
        elif self._info.precision == "w8":
            checks += self._branch_checks(budgets.w8)
            checks.append(self._partner_check(budgets.w8))
        else:
            budget = budgets.fp32 if self._info.precision == "fp32" else budgets.fp16
            checks += self._output_checks(budget)
            checks += self._pair_checks()
        return tuple(checks)

    def outputs_in_words(self) -> str:
        """The raw outputs of `checks` in a few words."""
        if self._info.precision == "w8":
            worst = max(c.value for c in self._branch_checks(self._budgets.w8) if c.kind == "at most")
            return f"{worst:.2g} of {self._budgets.w8.mean_difference:g} to PyTorch"
        if self._info.precision != "int8":
            budget = self._budgets.fp32 if self._info.precision == "fp32" else self._budgets.fp16
            largest = max(c.value for c in self._output_checks(budget) if c.figure == LARGEST)
            return f"{largest:.2g} of {budget.max_difference:g} to PyTorch"
        if self._is_exact:
            steps = max(check.value for check in self._step_checks())
            return f"up to {steps:.4g} steps from the simulator" if steps else "equal to the simulator"
        floors = max(check.value for check in self._floor_checks(self._int8) if check.what in BRANCHES)
        return f"{floors:.3g} of {self._int8.floors:g} floors"

    def _output_checks(self, budget: FloatBudget) -> Iterator[Check]:
        for name in self._names():
            reference = np.stack([golden.fp32[name] for golden, _ in self._runs])
            found = np.stack([run.outputs[name] for _, run in self._runs])
            largest = _largest(reference) or 1.0
            part = _largest(found - reference) / largest
            yield Check(name, LARGEST, part, budget.max_difference)
            shifts = np.abs((found - reference).mean(axis=(0, 1, 2), dtype=np.float64))
            # A channel that hardly varies, as in a network that is not trained, is judged by the others.
            shifts /= np.maximum(reference.std(axis=(0, 1, 2), dtype=np.float64), LEAST_SPREAD * largest)
            worst = int(np.argmax(shifts))  # of a NaN, where there is one
            figure = f"mean shift of {self._channel(name, worst)} to PyTorch / its standard deviation"
            yield Check(name, figure, float(shifts[worst]), budget.shift)

    def _pair_checks(self) -> Iterator[Check]:
        """Each detection clearly above its operating threshold has one partner, in both directions."""
        for asked in self._asked:
            figure = f"number of {asked.side} {asked.count} detections without a partner"
            yield Check(asked.source_name, figure, asked.unmatched, 0)

    def _step_checks(self) -> Iterator[Check]:
        """An exact runtime: every integer is the simulator's."""
        for name in self._names():
            for golden, run in self._runs:
                figure = f"largest difference to the simulator in steps on {golden.source_name}"
                steps = _largest(run.outputs[name] - self._simulated(golden, name)) / self._scales[name]
                yield Check(name, figure, steps, 0)

    def _floor_checks(self, budget: Int8Budget) -> Iterator[Check]:
        """Another runtime: differences as large as those of a flipped bit, and not all to one side."""
        found = {name: self._differences(name) for name in self._names()}
        # A small network is not chaotic: there, rounding is all.
        floors = {
            name: max(floor, budget.least_floor * self._scales[name])
            for name, floor in self._golden.one_bit_floors.items()
        }
        for branch in BRANCHES:
            names = [name for name in self._names() if name.startswith(f"{branch}_")]
            total = sum(float(np.abs(found[name]).sum()) for name in names)
            allowed = sum(floors[name] * found[name].size for name in names)
            yield Check(branch, FLOORS, total / allowed, budget.floors)
        for name, differences in found.items():
            floor = floors[name]
            yield Check(name, FLOORS, float(np.abs(differences).mean()) / floor, budget.output_floors)
            shifts = np.abs(differences.mean(axis=0)) / floor
            worst = int(np.argmax(shifts))  # of a NaN, where there is one
            figure = f"mean shift of {self._channel(name, worst)} to the simulator in one-bit floors"
            limit = budget.shift_floors * (1 + math.sqrt(FEW_VALUES / len(differences)))
            yield Check(name, figure, float(shifts[worst]), limit)

    def _differences(self, name: str) -> DoubleArray:
        """(cells of all pictures, C) float64: this output minus the simulator's."""
        parts = [run.outputs[name] - self._simulated(golden, name) for golden, run in self._runs]
        differences: DoubleArray = np.concatenate(
            [part.reshape(-1, part.shape[2]) for part in parts], dtype=np.float64
        )
        return differences

    def _simulated(self, golden: GoldenPicture, name: str) -> FloatArray:
        (point,) = (output for output in self._golden.outputs if output.name == name)
        simulated: FloatArray = golden.int8[name].astype(np.float32)
        if point.zero_point is not None:
            simulated = (simulated - np.float32(point.zero_point)) * np.float32(point.scale)
        return simulated

    def _channel(self, name: str, index: int) -> str:
        """What a channel of an output stands for."""
        branch = name.split("_")[0]
        sides = ("left", "top", "right", "bottom")
        return {"logits": self._golden.spec.classes, "ltrb": sides}.get(branch, (branch,))[index]

    def _branch_checks(self, budget: Int8Budget) -> Iterator[Check]:
        for branch in BRANCHES:
            names = [name for name in self._names() if name.startswith(f"{branch}_")]
            pairs = [(golden.fp32[name], run.outputs[name]) for golden, run in self._runs for name in names]
            reference, found = (
                np.concatenate([part.ravel() for part in parts]).astype(np.float64)
                for parts in zip(*pairs, strict=True)
            )
            # What varies by less than one step, as in a network that is hardly trained, int8 cannot follow.
            step = float(np.mean([self._scales.get(name, 0.0) for name in names]))
            spread = float(reference.std())
            mean = float(np.abs(found - reference).mean()) / (max(spread, step) or 1.0)
            figure = "mean difference to PyTorch / its standard deviation"
            yield Check(branch, figure, mean, budget.mean_difference)
            if spread > step:
                correlation = _correlation(reference, found)
                yield Check(branch, "correlation with PyTorch", correlation, budget.correlation, "at least")

    def _partner_check(self, budget: Int8Budget) -> Check:
        """Both sides are asked: a detection too many is as wrong as one that is lost."""
        figures = self.partners()
        part = figures.matched / figures.asked if figures.asked else 1.0
        figure = f"part of {figures.asked} detections, PyTorch's and its, that have a partner"
        return Check("detections", figure, part, budget.matched, "at least")

    def partners(self) -> Partners:
        """Over all pictures and both sides."""
        count = sum(asked.count for asked in self._asked)
        return Partners(count, count - sum(asked.unmatched for asked in self._asked))

    @property
    def _asked(self) -> Iterator[_Asked]:
        """PyTorch's detections of each picture, then the artifact's."""
        budgets = self._budgets
        float_budget = budgets.fp32 if self._info.precision == "fp32" else budgets.fp16
        rounded = {"int8": self._int8, "w8": budgets.w8}.get(self._info.precision)
        margin = (rounded or float_budget).threshold_margin
        for golden, run in self._runs:
            sides = {"PyTorch's": golden.candidates, "its": run.detections}
            for (side, asking), others in zip(sides.items(), reversed(sides.values()), strict=True):
                certain = asking.filtered([t + margin for t in self._info.operating_thresholds])
                if rounded:
                    iou, ratio = rounded.partner_iou, rounded.partner_score
                    possible = partner_pairs(certain, others, iou=iou, score_ratio=ratio)
                else:
                    iou, score = float_budget.iou, float_budget.score
                    possible = near_pairs(certain, others, iou=iou, score=score)
                yield _Asked(golden.source_name, side, len(certain), count_unmatched(possible))

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
