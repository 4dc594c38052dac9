"""Range estimators: from what a node put out to the range that its 256 integers span.

minmax      the smallest and largest value seen
percentile  all but the outermost 1 in 100,000 values on each side
mse         the range with the least squared error of its 256 steps
average     the mean over the pictures of each one's smallest and largest value: where a moving average ends
            up, whatever the order of the pictures

Outputs have no rule of their own. On the embedded network, mse cuts the highest logits of P3 by a fifth of
the range; with min/max for the outputs alone, the error of logits above 0.05 stays what it is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

BINS = 2048
OUTLIERS = 1e-5
MSE_SHRINKS = 1 - np.linspace(0, 0.8, 81)  # candidate range ends, as a part of the largest seen


@dataclass
class Values:
    """What one node put out over all pictures.

    low, high    the smallest and largest value, 0 included
    lows, highs  the same of each picture
    counts       (BINS,) how many values fell into each part of low..high; empty where no one needs them
    """

    low: float = 0.0
    high: float = 0.0
    lows: list[float] = field(default_factory=list)
    highs: list[float] = field(default_factory=list)
    counts: npt.NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))

    def add(self, low: float, high: float) -> None:
        """Take note of one picture's smallest and largest value."""
        self.low, self.high = min(self.low, low), max(self.high, high)
        self.lows.append(low)
        self.highs.append(high)

    @property
    def centers(self) -> npt.NDArray[np.float64]:
        edges = np.linspace(self.low, self.high, len(self.counts) + 1)
        return (edges[:-1] + edges[1:]) / 2


def minmax_range(values: Values) -> tuple[float, float]:
    return values.low, values.high


def average_range(values: Values) -> tuple[float, float]:
    # Sorted: a sum of floats depends on the order.
    return float(np.mean(np.sort(values.lows))), float(np.mean(np.sort(values.highs)))


def percentile_range(values: Values) -> tuple[float, float]:
    below = np.cumsum(values.counts) / values.counts.sum()
    centers = values.centers
    low = centers[np.searchsorted(below, OUTLIERS)]
    high = centers[np.searchsorted(below, 1 - OUTLIERS)]
    return min(0.0, float(low)), max(0.0, float(high))


def mse_range(values: Values) -> tuple[float, float]:
    """Shrink first the upper end, then the lower one."""

    def error(low: float, high: float) -> float:
        scale = max(high - low, 1e-30) / 255
        quantized = np.clip(np.rint((values.centers - low) / scale), 0, 255) * scale + low
        return float((values.counts * (quantized - values.centers) ** 2).sum())

    high = min(values.high * MSE_SHRINKS, key=lambda end: error(values.low, float(end)))
    low = min(values.low * MSE_SHRINKS, key=lambda end: error(float(end), float(high)))
    return float(low), float(high)


ESTIMATORS: dict[str, Callable[[Values], tuple[float, float]]] = {
    "minmax": minmax_range,
    "percentile": percentile_range,
    "mse": mse_range,
    "average": average_range,
}
NEED_COUNTS = ("percentile", "mse")
