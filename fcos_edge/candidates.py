"""Read raw outputs where they stand: find the logits above a threshold, dequantize survivors only.

Most logits of a picture are background, so the sigmoid is never taken of all of them: the threshold is
turned into a logit instead, and for integer outputs into an integer, once.

L  locations of all levels
C  classes
M  survivors
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from fcos_edge.runtime import Branch, FloatArray, IntArray

Quantization = tuple[tuple[float, int], ...]  # (scale, zero_point) per level
INTEGER_DTYPES = (np.dtype(np.int8), np.dtype(np.uint8))


def logit_bound(probability: float) -> float:
    """The b, a float32, with sigmoid(x) > probability exactly where x > b, for every float32 x.

    probability: 0 <= probability < 1; 0 gives -inf
    """
    if probability <= 0:
        return -math.inf
    logit = math.log(probability) - math.log1p(-probability)
    bound = np.float32(logit)
    # Rounded down: rounded up, the logit between the exact bound and its rounding would be lost.
    return float(bound if float(bound) <= logit else np.nextafter(bound, np.float32(-math.inf)))


def find_above(
    logits: Branch, picture: int, bound: float, level_starts: Sequence[int]
) -> tuple[IntArray, IntArray]:
    """Locations and labels of the logits of one picture that are larger than `bound`; NaN is not.

    logits:       (N, L, C) float32, or int8/uint8 with quantization
    level_starts: first location of each level, then L
    returns:      (M,) and (M,) int64, ascending by location, then label
    """
    values = logits.values[picture]  # [L, C]
    if logits.quantization:
        is_above = np.empty(values.shape, np.bool_)
        firsts = _first_integers_above(tuple(logits.quantization), values.dtype, bound)
        for first, start, stop in zip(firsts, level_starts[:-1], level_starts[1:], strict=True):
            if first is None:
                is_above[start:stop] = False
            else:
                np.greater_equal(values[start:stop], first, out=is_above[start:stop])
    else:
        is_above = values > bound
    flat = np.flatnonzero(is_above)
    location = flat // values.shape[1]
    return location, flat - location * values.shape[1]


def gather(branch: Branch, index: tuple[Any, ...], level: IntArray) -> FloatArray:
    """`branch.values[index]` as real numbers: float32(q - zero_point) * float32(scale) where quantized.

    level:   (M,) int64, level of each survivor
    returns: (M, ...) float32
    """
    values = branch.values[index]
    if not branch.quantization:
        return np.asarray(values, np.float32)
    scales, zero_points = _scales_and_zero_points(tuple(branch.quantization))
    per_survivor = (level, *(None,) * (values.ndim - 1))  # [M, 1, ...], against the last axes
    return np.asarray((values - zero_points[per_survivor]) * scales[per_survivor])


@lru_cache(maxsize=64)
def _scales_and_zero_points(quantization: Quantization) -> tuple[FloatArray, FloatArray]:
    scales, zero_points = zip(*quantization, strict=True)
    return np.array(scales, np.float32), np.array(zero_points, np.float32)


@lru_cache(maxsize=64)
def _first_integers_above(
    quantization: Quantization, dtype: np.dtype[Any], bound: float
) -> tuple[np.integer[Any] | None, ...]:
    """Per level the smallest integer that dequantizes to more than `bound`; None where there is none.

    Looked up among all 256 values instead of computed: it agrees with `gather` to the last bit, and a
    bound outside the range cannot wrap around to the other end of it.
    """
    limits = np.iinfo(dtype)
    integers = np.arange(limits.min, limits.max + 1).astype(np.float32)
    scales, zero_points = _scales_and_zero_points(quantization)
    firsts: list[np.integer[Any] | None] = []
    for scale, zero_point in zip(scales, zero_points, strict=True):
        real = (integers - zero_point) * scale  # ascending, since scales are positive
        position = int(np.searchsorted(real, np.float32(bound), side="right"))
        firsts.append(dtype.type(limits.min + position) if position < len(integers) else None)
    return tuple(firsts)
