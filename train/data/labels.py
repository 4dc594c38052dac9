"""What a data set says about its pictures, before anyone chooses classes: what every format's reader gives.

M  boxes of one picture
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from fcos_edge.runtime import IntArray
from fcos_edge.train.data.licence import NO_RECORD, Licence

UNKNOWN_CLASS = -1
UNKNOWN_HW = (0, 0)

# Rows of a label file: left top right bottom, class, is_crowd, is_difficult.
Row = tuple[float, float, float, float, int, bool, bool]


@dataclass(frozen=True, eq=False)
class PictureLabels:
    """One picture's boxes as they are written: they may lie outside of it or have no area.

    boxes_xyxy    (M, 4) float64, picture pixels
    classes       (M,) int64, index into `Labels.classes`, or UNKNOWN_CLASS
    is_crowd      (M,) bool, one box around many
    is_difficult  (M,) bool
    size_hw       as the data set states it; UNKNOWN_HW where it does not
    area_scale    area in the original picture / area here
    licence       of the picture, as far as the data set has a record of it
    """

    path: Path
    image_id: int
    boxes_xyxy: npt.NDArray[np.float64]
    classes: IntArray
    is_crowd: npt.NDArray[np.bool_]
    is_difficult: npt.NDArray[np.bool_]
    size_hw: tuple[int, int] = UNKNOWN_HW
    area_scale: float = 1.0
    licence: Licence = NO_RECORD

    @classmethod
    def from_rows(
        cls,
        path: Path,
        image_id: int,
        rows: list[Row],
        size_hw: tuple[int, int] = UNKNOWN_HW,
        area_scale: float = 1.0,
        licence: Licence = NO_RECORD,
    ) -> PictureLabels:
        table = np.array(rows, np.float64).reshape(-1, 7)
        return cls(
            path, image_id, table[:, :4], table[:, 4].astype(np.int64), table[:, 5] > 0, table[:, 6] > 0,
            size_hw, area_scale, licence,
        )  # fmt: skip


FaultKind = Literal["bad_label", "unknown_class", "no_picture"]


@dataclass(frozen=True)
class Fault:
    """What a reader found and left out; `place` is the label file.

    bad_label      a row or file that cannot be read
    unknown_class  a box of a class that the data set does not define
    no_picture     a box of a picture that the data set does not have
    """

    kind: FaultKind
    place: Path
    detail: str


@dataclass(frozen=True, eq=False)
class Labels:
    """One split of a data set.

    source    the file or folder that messages name
    classes   all that the data set defines, in its order
    pictures  in its order
    document  the COCO file, where it is one
    """

    source: Path
    classes: tuple[str, ...]
    pictures: tuple[PictureLabels, ...]
    faults: tuple[Fault, ...] = ()
    document: dict[str, Any] | None = None


@dataclass(frozen=True)
class Format:
    """One way to lay out a data set.

    layout   what is looked for, in a few words
    splits   of the data set at a path, in no order; none where it is not of this format
    classes  of one of these splits, in the data set's order
    read     one of these splits; both raise DataError for what cannot be read
    """

    name: str
    layout: str
    splits: Callable[[Path], tuple[str, ...]]
    classes: Callable[[Path, str], tuple[str, ...]]
    read: Callable[[Path, str], Labels]
