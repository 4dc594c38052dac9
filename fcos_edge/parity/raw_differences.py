"""How far the raw outputs of one network are from those of another, per output and per branch.

    reference, found (n, L, C) --add--> moments per level and channel --figures--> OutputDifference

Outputs are named as everywhere (`logits_p3`, ...); a branch over all levels has the branch's name (`logits`).

n  pictures of a block
L  locations of all levels, P3 first, row by row
C  channels of a branch: classes (logits), 4 (ltrb), 1 (centerness)
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from fcos_edge.matching import DoubleArray
from fcos_edge.parity.moments import Moments, join, moments_of, stack
from fcos_edge.runtime import FloatArray
from fcos_edge.spec import BRANCHES, ModelSpec

# What hardly varies cannot be judged by its own spread: whatever rounds it goes by its range.
# Of the branch's spread. A class that is nowhere in the data, or a level without boxes, shares its int8 step
# with channels that do vary.
SPREAD_FLOOR = 0.25
# Of the branch's largest absolute value, four steps of an int8 range. A network that is hardly trained gives
# every location nearly the same logits; the rounding of a float16 bias is more than their spread.
RANGE_FLOOR = 1 / 64


@dataclass(frozen=True)
class WorstChannel:
    """The channel of an output that is farthest off.

    index  label of the class (logits); 0..3 for left, top, right, bottom (ltrb); 0 (centerness)
    value  in spreads of that channel, see `OutputDifference`
    """

    index: int
    value: float


@dataclass(frozen=True)
class OutputDifference:
    """One output, or one branch over all levels: difference = found - reference.

    Real values as the network gives them, logit units for logits and center-ness, the spec's distance unit
    for ltrb. Where the spec's distance is "relu", ltrb is measured after the activation: all negative raw
    values mean the distance 0, and what differs among them moves no box.

    name              `logits_p3`, ..., or `logits`, ...
    count             values compared; those that the reference has as NaN or infinity are left out
    mean              signed
    mean_abs          of the absolute values
    max_abs           largest absolute value
    reference_max     largest absolute value of the reference
    spread            standard deviation of the reference
    relative          mean_abs / spread, floored
    correlation       Pearson's; of two constants 1, of a constant and something else 0
    worst_shift       channel with the largest |mean| in units of its spread, floored; the value is signed
    worst_difference  channel with the largest mean_abs in units of its spread, floored
    is_flat           the spread is below that floor, so that the correlation says nothing
    has_nan           something found is not finite where the reference is; figures are then NaN or infinite

    floored: a spread counts at least as SPREAD_FLOOR of that of the branch over all levels and channels, and
    as RANGE_FLOOR of the branch's largest absolute value. Of a branch that is 0 everywhere, any difference is
    infinite.
    """

    name: str
    count: int
    mean: float
    mean_abs: float
    max_abs: float
    reference_max: float
    spread: float
    relative: float
    correlation: float
    worst_shift: WorstChannel
    worst_difference: WorstChannel
    is_flat: bool
    has_nan: bool

    def to_dict(self) -> dict[str, Any]:
        """JSON values: None for what is no finite number."""
        return {
            name: {key: finite(one) for key, one in value.items()}
            if isinstance(value, dict)
            else finite(value)
            for name, value in asdict(self).items()
        }


class RawDifferences:
    """Collects blocks of pictures in constant memory; large blocks are faster than single pictures."""

    def __init__(self, spec: ModelSpec) -> None:
        self._spec = spec
        self._starts = [0, *np.cumsum([height * width for height, width in spec.level_hw]).tolist()]
        self._channels = {"logits": len(spec.classes), "ltrb": 4, "centerness": 1}
        self._moments: dict[str, Moments] = {}  # branch -> [levels, C]

    def add(self, reference: Mapping[str, FloatArray], found: Mapping[str, FloatArray]) -> None:
        """Add n pictures: branch name -> (n, L, C) float32, real values before the activation.

        Raises ValueError for another shape.
        """
        pictures = len(reference[BRANCHES[0]])
        for branch in BRANCHES:
            shape = (pictures, self._starts[-1], self._channels[branch])
            for values in (reference[branch], found[branch]):
                if values.shape != shape:
                    raise ValueError(f"{branch}: found shape {values.shape}, wanted {shape}")
        if not pictures:
            return
        for branch in BRANCHES:
            levels = [
                moments_of(*(self._rows(branch, side[branch][:, start:stop]) for side in (reference, found)))
                for start, stop in pairwise(self._starts)
            ]
            block = stack(levels)  # [levels, C]
            if branch in self._moments:
                block = join(stack([self._moments[branch], block]))
            self._moments[branch] = block

    def figures(self) -> tuple[OutputDifference, ...]:
        """One per output in the spec's order, then one per branch; empty before the first picture."""
        if not self._moments:
            return ()
        found = {figure.name: figure for figure in self._figures()}
        return tuple(found[name] for name in (*self._spec.output_names, *BRANCHES))

    def _figures(self) -> Iterator[OutputDifference]:
        for branch, moments in self._moments.items():
            per_channel = join(moments)  # [C]
            total = join(per_channel)
            floor = max(SPREAD_FLOOR * float(total.spread), RANGE_FLOOR * float(total.max_reference))
            yield _difference(branch, per_channel, floor)
            for level, name in enumerate(self._spec.level_names):
                yield _difference(f"{branch}_{name}", moments.at(level), floor)

    def _rows(self, branch: str, values: FloatArray) -> DoubleArray:
        """(n, l, C) of one level -> (C, n * l) float64: sums along rows are several times as fast."""
        rows = np.array(values.transpose(2, 0, 1), np.float64, order="C").reshape(values.shape[2], -1)
        if branch == "ltrb" and self._spec.distance == "relu":
            np.maximum(rows, 0, out=rows)
        return rows


@np.errstate(invalid="ignore")
def _difference(name: str, channels: Moments, floor: float) -> OutputDifference:
    """channels: [C]; floor: what a spread counts as at least"""
    total = join(channels)
    count = np.maximum(channels.count, 1)
    spread = np.maximum(channels.spread, floor)
    mean_abs = float(total.abs_difference / max(float(total.count), 1))
    return OutputDifference(
        name=name,
        count=int(total.count),
        mean=float(total.difference / max(float(total.count), 1)),
        mean_abs=mean_abs,
        max_abs=float(total.max_difference),
        reference_max=float(total.max_reference),
        spread=float(total.spread),
        relative=float(_in_spreads(np.array([mean_abs]), np.maximum(total.spread, floor))[0]),
        correlation=total.correlation,
        worst_shift=_worst(_in_spreads(channels.difference / count, spread)),
        worst_difference=_worst(_in_spreads(channels.abs_difference / count, spread)),
        is_flat=bool(total.spread < floor),
        has_nan=bool(total.has_nan),
    )


@np.errstate(divide="ignore")
def _in_spreads(differences: DoubleArray, spread: DoubleArray) -> DoubleArray:
    """No difference is 0 spreads, of whatever size."""
    return np.asarray(np.divide(differences, spread, where=differences != 0, out=np.zeros_like(differences)))


def _worst(values: DoubleArray) -> WorstChannel:
    index = int(np.abs(values).argmax())  # the first NaN, where there is one
    return WorstChannel(index, float(values[index]))


def finite(value: Any) -> Any:
    """`value`, None for what is no finite number: JSON has no NaN."""
    return None if isinstance(value, float) and not math.isfinite(value) else value
