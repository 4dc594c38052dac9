"""The tiny models that the doctor runs, their input, and what they must put out.

`models/` holds two bundles; benchmarks/doctor_models.py makes them and says what is in them.

L  locations of all levels, the finest first, row by row
C  channels of a branch
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fcos_edge.bundle import read_manifest
from fcos_edge.runtime import FloatArray, UInt8Array, find_runtime
from fcos_edge.spec import BRANCHES

FOLDER = Path(__file__).parent / "models"
NETWORK, SATURATION = "network", "saturation"
_EXPECTED_NAME = "expected.npz"


@dataclass(frozen=True, eq=False)
class Expected:
    """Outputs of one model for `picture`, by branch.

    fp32    (L, C) float32, PyTorch's
    int8    (L, C) uint8, the integer simulator's
    points  (scale, zero point) per level: real value = (int8 - zero point) * scale
    """

    fp32: Mapping[str, FloatArray]
    int8: Mapping[str, UInt8Array]
    points: Mapping[str, tuple[tuple[float, int], ...]]


def picture(size_hw: tuple[int, int], *, is_bright: bool = False) -> UInt8Array:
    """(1, H, W, 3) uint8: waves of several lengths, or 240 to 255 everywhere.

    From integers alone, so that it is the same on every machine.
    """
    row, column, color = np.indices((*size_hw, 3))
    if is_bright:
        values = 240 + (row * 5 + column * 3) % 16
    else:
        values = (row * row // 37 + column * (color + 2) + (row * column // 53) * (2 - color)) % 256
    images: UInt8Array = values[None].astype(np.uint8)
    return images


def model_path(model: str, precision: str, runtime: str) -> Path:
    """The file of a model that a runtime likes best."""
    folder = FOLDER / model
    suffixes = list(find_runtime(runtime).READERS)
    artifacts = [a for a in read_manifest(folder).artifacts if a.precision == precision]
    readable = [folder / a.name for a in artifacts if Path(a.name).suffix in suffixes]
    return min(readable, key=lambda path: suffixes.index(path.suffix))


def save_expected(folder: Path, expected: Expected) -> None:
    """Write `expected.npz`; `load_expected` reads it."""
    arrays: dict[str, Any] = {}
    for branch in BRANCHES:
        arrays[f"fp32_{branch}"] = expected.fp32[branch]
        arrays[f"int8_{branch}"] = expected.int8[branch]
        # float64 holds every float32 scale and zero point exactly.
        arrays[f"points_{branch}"] = np.array(expected.points[branch], np.float64)
    # Pickle is off for reading, too.
    np.savez_compressed(folder / _EXPECTED_NAME, allow_pickle=False, **arrays)


def load_expected(folder: Path) -> Expected:
    """Read what `save_expected` wrote."""
    with np.load(folder / _EXPECTED_NAME, allow_pickle=False) as arrays:
        return Expected(
            fp32={branch: arrays[f"fp32_{branch}"] for branch in BRANCHES},
            int8={branch: arrays[f"int8_{branch}"] for branch in BRANCHES},
            points={branch: tuple(map(_point, arrays[f"points_{branch}"])) for branch in BRANCHES},
        )


def _point(pair: FloatArray) -> tuple[float, int]:
    return float(pair[0]), int(pair[1])
