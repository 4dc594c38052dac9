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
from typing import TYPE_CHECKING, Any

import numpy as np

from fcos_edge.runtime import Branch, FloatArray, IntArray

if TYPE_CHECKING:
    import numpy.typing as npt

Quantization = tuple[tuple[float, int], ...]  # (scale, zero_point) per level
# From this many logits on, finding the survivors takes longer than comparing all.
_MANY = 1 << 16
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


def find_above(logits: Branch, picture: int, bound: float, level_starts: Sequence[int]) -> IntArray:
    """Where the logits of one picture are larger than `bound`; NaN is not.

    logits:       (N, L, C) float32, or int8/uint8 with quantization
    level_starts: first location of each level, then L
    returns:      (M,) int64, location * C + label, ascending
    """
    values = logits.values[picture]  # [L, C]
    if values.size < _MANY and not logits.quantization:
        above: IntArray = (values > bound).reshape(-1).nonzero()[0]
        return above
    is_above = np.zeros(-(-values.size // 8) * 8, np.bool_)  # a multiple of a word's eight bytes
    is_above_here = is_above[: values.size].reshape(values.shape)
    if logits.quantization:
        firsts = _first_integers_above(tuple(logits.quantization), values.dtype, bound)
        for first, start, stop in zip(firsts, level_starts[:-1], level_starts[1:], strict=True):
            if first is not None:
                np.greater_equal(values[start:stop], first, out=is_above_here[start:stop])
    else:
        np.greater(values, bound, out=is_above_here)
    return _positions(is_above)


def gather(
    values: npt.NDArray[Any],
    quantization: Sequence[tuple[float, int]],
    rows: IntArray,
    level: IntArray | None,
) -> FloatArray:
    """`values[rows]` as real numbers: float32(q - zero_point) * float32(scale) where quantized.

    values:       (R, ...), one picture of a branch
    quantization: that branch's; empty where it is float32
    rows:         (M,) int64
    level:        (M,) int64, level of each; None only where the branch is float32
    returns:      (M, ...) float32, a new array
    """
    found: FloatArray = values.take(rows, axis=0)
    if not quantization:
        return found
    scales, zero_points = _scales_and_zero_points(tuple(quantization))
    per_row = (level, *(None,) * (found.ndim - 1))  # [M, 1, ...], against the last axes
    return np.asarray((found - zero_points[per_row]) * scales[per_row])


def _positions(is_above: npt.NDArray[np.bool_]) -> IntArray:
    """Where (S,) is true, ascending; S is a multiple of 8."""
    if is_above.size < _MANY:
        return is_above.nonzero()[0]
    # Nearly all words are empty, and there are eight times fewer of them.
    (words,) = (is_above.view(np.uint64) != 0).nonzero()
    (found,) = is_above.reshape(-1, 8).take(words, axis=0).reshape(-1).nonzero()
    return np.asarray(words[found >> 3] * 8 + (found & 7))


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
