"""How often each picture belongs into an epoch, so that rare classes are seen more often: repeat factor
sampling (LVIS, arXiv 1908.03195).

f(c)  share of the pictures that have class c
t     threshold: classes at least as frequent are left alone

r(c) = max(1, sqrt(t / f(c))); a picture's factor is the largest r(c) of its classes.

N  pictures
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from fcos_edge.runtime import IntArray
from fcos_edge.train.data.dataset import IGNORED, LabelledPicture

Factors = npt.NDArray[np.float64]


def repeat_factors(pictures: Sequence[LabelledPicture], threshold: float) -> Factors:
    """(N,), at least 1; 1 without boxes, and everywhere with the threshold 0."""
    classes = [set(picture.labels.tolist()) - {IGNORED} for picture in pictures]
    counts: dict[int, int] = {}
    for present in classes:
        for label in present:
            counts[label] = counts.get(label, 0) + 1
    of_class = {
        label: max(1.0, math.sqrt(threshold * len(pictures) / count)) for label, count in counts.items()
    }
    return np.array([max((of_class[label] for label in present), default=1.0) for present in classes])


def count_samples(factors: Factors) -> int:
    """Samples of every epoch: the sum of the factors, rounded."""
    return round(math.fsum(factors))  # exact before it is rounded, so the same on every machine


def draw_repeats(factors: Factors, generator: np.random.Generator) -> IntArray:
    """(N,) int64, how often each picture is in an epoch; together `count_samples`.

    Each has the whole part of its factor. What is left goes to the fractions by systematic sampling: they lie
    end to end in an order by lot, and points at equal distances from a start by lot say who is in again. The
    mean of many epochs is the factors, but for the rounding of their sum.
    """
    repeats = np.floor(factors).astype(np.int64)
    rest = count_samples(factors) - int(repeats.sum())
    order = generator.permutation(len(factors))
    ends = np.cumsum((factors - repeats)[order])
    if rest > 0:
        points = (np.arange(rest) + generator.uniform()) * (ends[-1] / rest)
        chosen = np.searchsorted(ends, points, side="right").clip(max=len(factors) - 1)
        np.add.at(repeats, order[chosen], 1)
    return repeats
