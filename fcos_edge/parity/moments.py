"""Sums over two networks' values that can be joined, and from which means and correlations come.

Sums are float64, and those of squares are taken around the mean of each part and joined by the formula of
Chan, Golub and LeVeque (Stanford CS-79-773, 1979): nearly equal values far from 0 lose no digits.

K  parts, or channels
M  values of one channel
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np

from fcos_edge.matching import BoolArray, DoubleArray


@dataclass(frozen=True, eq=False)
class Moments:
    """Sums of any number of channels or parts, float64 arrays of one shape.

    count                   values on either side
    mean, found_mean        of the reference, and of what is compared with it
    squares, found_squares  sums of (value - mean)^2
    products                sum of (value - mean) of the reference * (value - mean) found
    difference              sum of found - reference
    abs_difference          sum of its absolute values
    max_difference          largest absolute value
    max_reference           largest absolute value of the reference
    has_nan                 1 where something found is not finite though the reference is, else 0
    """

    count: DoubleArray
    mean: DoubleArray
    found_mean: DoubleArray
    squares: DoubleArray
    found_squares: DoubleArray
    products: DoubleArray
    difference: DoubleArray
    abs_difference: DoubleArray
    max_difference: DoubleArray
    max_reference: DoubleArray
    has_nan: DoubleArray

    def at(self, index: int) -> Moments:
        """The part at `index` of the first axis."""
        return Moments(*(getattr(self, one.name)[index] for one in fields(self)))

    @property
    def spread(self) -> DoubleArray:
        """Standard deviation of the reference."""
        return np.asarray(np.sqrt(self.squares / np.maximum(self.count, 1)))

    @property
    def correlation(self) -> float:
        """Pearson's, -1..1, of one part; of two constants 1, of a constant and something else 0."""
        ours, theirs = float(self.squares), float(self.found_squares)
        if ours == 0 or theirs == 0:
            return 1.0 if ours == theirs else 0.0
        # Two roots: the product of two large sums would overflow. Rounding may go past 1.
        return float(np.clip(float(self.products) / (math.sqrt(ours) * math.sqrt(theirs)), -1, 1))


@np.errstate(invalid="ignore", over="ignore")  # what is not finite has its flag
def moments_of(reference: DoubleArray, found: DoubleArray) -> Moments:
    """Moments of each row, (K,); reference and found: (K, M) float64, M >= 1.

    Where the reference is NaN or infinite, both sides are left out.
    """
    is_left_out = ~np.isfinite(reference)
    has_nan = np.asarray((~np.isfinite(found) & ~is_left_out).any(axis=1), np.float64)
    if is_left_out.any():
        reference, found = (np.where(is_left_out, 0, rows) for rows in (reference, found))
    difference = found - reference
    size = np.abs(difference)
    mean, ours = _centred(reference, is_left_out)
    found_mean, theirs = _centred(found, is_left_out)
    return Moments(
        count=np.asarray((~is_left_out).sum(axis=1), np.float64),
        mean=mean,
        found_mean=found_mean,
        squares=np.einsum("km,km->k", ours, ours),
        found_squares=np.einsum("km,km->k", theirs, theirs),
        products=np.einsum("km,km->k", ours, theirs),
        difference=difference.sum(axis=1),
        abs_difference=size.sum(axis=1),
        max_difference=size.max(axis=1),
        max_reference=np.abs(reference).max(axis=1),
        has_nan=has_nan,
    )


def _centred(rows: DoubleArray, is_left_out: BoolArray) -> tuple[DoubleArray, DoubleArray]:
    """Mean of each row, (K,), and the rows without it, (K, M); what is left out becomes 0."""
    is_some_left_out = bool(is_left_out.any())
    # The first value is taken off before the rest of the mean, so that a constant has no squares at all.
    first = rows[np.arange(len(rows)), is_left_out.argmin(axis=1)]
    centred = rows - first[:, None]
    if is_some_left_out:
        centred[is_left_out] = 0
    rest = centred.sum(axis=1) / np.maximum((~is_left_out).sum(axis=1), 1)
    centred -= rest[:, None]
    if is_some_left_out:
        centred[is_left_out] = 0
    return first + rest, centred


def stack(parts: Sequence[Moments]) -> Moments:
    """Parts of one shape along a new first axis."""
    return Moments(*(np.stack([getattr(part, one.name) for part in parts]) for one in fields(Moments)))


@np.errstate(invalid="ignore", over="ignore")
def join(parts: Moments) -> Moments:
    """All parts along the first axis as one."""
    mean, ours = _joined_mean(parts.mean, parts.count)
    found_mean, theirs = _joined_mean(parts.found_mean, parts.count)
    return Moments(
        count=parts.count.sum(axis=0),
        mean=mean,
        found_mean=found_mean,
        squares=(parts.squares + parts.count * ours**2).sum(axis=0),
        found_squares=(parts.found_squares + parts.count * theirs**2).sum(axis=0),
        products=(parts.products + parts.count * ours * theirs).sum(axis=0),
        difference=parts.difference.sum(axis=0),
        abs_difference=parts.abs_difference.sum(axis=0),
        max_difference=parts.max_difference.max(axis=0),
        max_reference=parts.max_reference.max(axis=0),
        has_nan=parts.has_nan.max(axis=0),
    )


def _joined_mean(means: DoubleArray, counts: DoubleArray) -> tuple[DoubleArray, DoubleArray]:
    """The mean of all parts, and how far each part's mean is from it."""
    weights = counts / np.maximum(counts.sum(axis=0), 1)
    # From the first part on, so that equal means join to exactly the same one.
    joined = means[0] + (weights * (means - means[0])).sum(axis=0)
    return joined, means - joined
