"""The boxes of a data set that are to be found, as exactly as they are written.

`read_pictures` gives float32, what training takes; a box that ends on a location needs all its digits here.

M  boxes of one picture
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fcos_edge.errors import DataError
from fcos_edge.runtime import IntArray
from fcos_edge.train.data.formats import place_of, read_labels, require_faultless
from fcos_edge.train.data.labels import UNKNOWN_HW, PictureLabels
from fcos_edge.train.data.licence import Use
from fcos_edge.train.data.licensed import LicenceCount, keep_licensed, require_some
from fcos_edge.train.data.picture_size import picture_hw

if TYPE_CHECKING:
    import numpy.typing as npt

    BoolArray = npt.NDArray[np.bool_]
    DoubleArray = npt.NDArray[np.float64]
else:
    BoolArray = DoubleArray = np.ndarray


@dataclass(frozen=True, eq=False)
class PictureBoxes:
    """One picture's boxes without crowds and difficult ones.

    boxes_xyxy  (M, 4) float64, picture pixels, x2 = x1 + width; may lie outside or have no area
    labels      (M,) int64, index into the classes
    """

    path: Path
    size_hw: tuple[int, int]
    boxes_xyxy: DoubleArray
    labels: IntArray


@dataclass(frozen=True, eq=False)
class DataBoxes:
    """A split's boxes.

    left_out  crowds and difficult ones of these classes
    licences  of all pictures, where these were chosen by them
    """

    classes: tuple[str, ...]
    pictures: tuple[PictureBoxes, ...]
    left_out: int
    licences: tuple[LicenceCount, ...] = ()


def read_boxes(
    path: Path, split: str, classes: Sequence[str] | None = None, licence: Use | None = None
) -> DataBoxes:
    """Boxes of the named classes, or of all. The pictures themselves are needed only for a size that the
    data set does not state.

    licence: only pictures whose record allows this use

    Raises DataError for what cannot be read, a class that is not there, a picture of unknown size, and
    where the licence leaves no picture.
    """
    labels = read_labels(path, split)
    require_faultless(labels)
    licences: tuple[LicenceCount, ...] = ()
    if licence is not None:
        labels, licences = keep_licensed(labels, licence)
        require_some([path], licences)
    names = labels.classes if classes is None else tuple(classes)
    label_of = np.full(len(labels.classes) + 1, -1)  # the last for UNKNOWN_CLASS
    for label, name in enumerate(names):
        label_of[place_of(name, labels)] = label
    left_out = sum(
        int(np.count_nonzero(_is_ignored(picture) & (label_of[picture.classes] >= 0)))
        for picture in labels.pictures
    )
    pictures = tuple(_choose(picture, label_of) for picture in labels.pictures)
    return DataBoxes(names, pictures, left_out, licences)


def _choose(picture: PictureLabels, label_of: IntArray) -> PictureBoxes:
    labels = label_of[picture.classes]
    is_wanted = (labels >= 0) & ~_is_ignored(picture)
    size_hw = picture_hw(picture.path) if picture.size_hw == UNKNOWN_HW else picture.size_hw
    if min(size_hw) < 1:
        raise DataError(
            f"{picture.path}: its size is not in the labels, and it cannot be read; add the picture, or"
            " its width and height to the labels"
        )
    return PictureBoxes(picture.path, size_hw, picture.boxes_xyxy[is_wanted], labels[is_wanted])


def _is_ignored(picture: PictureLabels) -> BoolArray:
    return np.asarray(picture.is_crowd | picture.is_difficult)
