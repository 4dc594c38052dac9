"""Values counted in bins of equal width on a logarithmic axis."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from fcos_edge.runtime import IntArray
from fcos_edge.train.analyze.boxes import DoubleArray

BINS_PER_OCTAVE = 4


class Bins(NamedTuple):
    """(B + 1,) float64 edges, the first and the last a power of two, and (B,) int64 counts between them."""

    edges: DoubleArray
    counts: IntArray

    def to_dict(self) -> dict[str, Any]:
        return {"edges": self.edges.round(4).tolist(), "counts": self.counts.tolist()}


def count_in_octaves(values: DoubleArray) -> Bins:
    """Whole octaves around all of (M,) positive values; one empty octave from 1 without values."""
    octaves = np.log2(values) if len(values) else np.zeros(1)
    first, last = math.floor(octaves.min()), math.floor(octaves.max()) + 1
    edges = 2.0 ** np.linspace(first, last, (last - first) * BINS_PER_OCTAVE + 1)
    return Bins(edges, np.histogram(values, edges)[0])
