"""How far the raw outputs of one network are from those of another, per output and per branch.

    reference, found (n, L, C) --add--> moments per level and channel --figures--> OutputDifference

Outputs are named as everywhere (`logits_p3`, ...); a branch over all levels has the branch's name (`logits`).

n  pictures of a block
L  locations of all levels, P3 first, row by row
C  channels of a branch: classes (logits), 4 (ltrb), 1 (centerness)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fcos_edge.runtime import FloatArray
from fcos_edge.spec import ModelSpec


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
    correlation       Pearson's; of two constants 1, of one constant 0
    worst_shift       channel with the largest |signed mean| in units of its spread, floored; value is signed
    worst_difference  channel with the largest mean_abs in units of its spread, floored
    has_nan           something found is not finite where the reference is; the figures are then NaN

    floored: a spread counts at least as `SPREAD_FLOOR` of that of the branch over all levels and channels.
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
    has_nan: bool

    def to_dict(self) -> dict[str, Any]:
        """JSON values: None for what is no finite number."""
        raise NotImplementedError


class RawDifferences:
    """Collects blocks of pictures in constant memory."""

    def __init__(self, spec: ModelSpec) -> None:
        raise NotImplementedError

    def add(self, reference: Mapping[str, FloatArray], found: Mapping[str, FloatArray]) -> None:
        """Add n pictures: branch name -> (n, L, C) float32, real values before the activation.

        Raises ValueError for another shape.
        """
        raise NotImplementedError

    def figures(self) -> tuple[OutputDifference, ...]:
        """One per output in the spec's order, then one per branch; empty before the first picture."""
        raise NotImplementedError
