"""Labelled pictures: what every reader gives, and all of training and evaluation takes.

M  boxes of one picture
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fcos_edge.errors import DataError
from fcos_edge.runtime import FloatArray, IntArray

# Labels that are no class. They stand here, where no torch is: evaluation on a device reads data sets too.
BACKGROUND = -1
IGNORED = -2


@dataclass(frozen=True, eq=False)
class LabelledPicture:
    """One picture's file and boxes.

    boxes_xyxy  (M, 4) float32, picture pixels
    labels      (M,) int64, index into the classes, or IGNORED
    size_hw     picture pixels; (0, 0): not known before the picture is read
    area_scale  area in the original picture / area here: COCO's small, medium and large are of originals
    """

    path: Path
    image_id: int
    boxes_xyxy: FloatArray
    labels: IntArray
    size_hw: tuple[int, int] = (0, 0)
    area_scale: float = 1.0


def hold_out(
    pictures: Sequence[LabelledPicture], count: int, seed: int = 0
) -> tuple[list[LabelledPicture], list[LabelledPicture]]:
    """Split off `count` pictures by lot: (the rest, those held out), both in the given order."""
    if not 0 <= count < len(pictures):
        raise DataError(f"cannot hold out {count} of {len(pictures)} pictures; hold out fewer")
    chosen = set(np.random.default_rng(seed).permutation(len(pictures))[:count].tolist())
    rest = [picture for i, picture in enumerate(pictures) if i not in chosen]
    return rest, [pictures[i] for i in sorted(chosen)]
