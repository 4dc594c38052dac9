"""Raw outputs as real numbers, in memory and on their way from one process to another.

P  pictures    L  locations of all levels, P3 first, row by row    C  channels of a branch
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np

from fcos_edge.runtime import Branch, FloatArray, RawOutputs
from fcos_edge.spec import BRANCHES, ModelSpec


def real_values(raw: RawOutputs, spec: ModelSpec) -> dict[str, FloatArray]:
    """Branch -> (N, L, C) float32; integers are dequantized. A copy: the next run overwrites the buffers."""
    starts = np.cumsum([0, *(height * width for height, width in spec.level_hw)]).tolist()
    return {name: _real(branch, starts) for name, branch in zip(BRANCHES, raw, strict=True)}


def save_values(path: Path, pictures: Sequence[Mapping[str, FloatArray]]) -> None:
    """Write the values of P pictures, each (1, L, C); `load_values` reads them back."""
    joined = {name: np.concatenate([picture[name] for picture in pictures]) for name in BRANCHES}
    with path.open("wb") as file:
        for name in BRANCHES:
            np.save(file, joined[name], allow_pickle=False)


def load_values(path: Path) -> dict[str, FloatArray]:
    """Branch -> (P, L, C) float32."""
    with path.open("rb") as file:
        return {name: np.load(file, allow_pickle=False) for name in BRANCHES}


def _real(branch: Branch, level_starts: Sequence[int]) -> FloatArray:
    values = branch.values.reshape(*branch.values.shape[:2], -1).astype(np.float32)
    if branch.quantization:
        levels = zip(pairwise(level_starts), branch.quantization, strict=True)
        for (start, stop), (scale, zero_point) in levels:
            values[:, start:stop] -= np.float32(zero_point)
            values[:, start:stop] *= np.float32(scale)
    return values
