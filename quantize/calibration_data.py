"""What `export --data` names: pictures to calibrate on, and where it is a data set, pictures to measure on.

A folder of pictures is calibrated on. A data set (COCO, YOLO, VOC) is calibrated on its `train` pictures and
measured on its `val` ones; no picture may be both.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import overload

from fcos_edge.calibration_pictures import picture_sha256
from fcos_edge.errors import DataError
from fcos_edge.image import read_image_bgr
from fcos_edge.runtime import UInt8Array
from fcos_edge.sources import list_pictures, spread
from fcos_edge.train.data.formats import formats, read_labels
from fcos_edge.train.evaluation.evaluate import LabelledSplit, read_split

CALIBRATE_ON, MEASURE_ON = "train", "val"


class PictureFiles(Sequence[UInt8Array]):
    """Pictures, (h, w, 3) uint8 BGR each, read when they are asked for."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self.paths = tuple(paths)

    def __len__(self) -> int:
        return len(self.paths)

    @overload
    def __getitem__(self, index: int) -> UInt8Array: ...
    @overload
    def __getitem__(self, index: slice) -> PictureFiles: ...
    def __getitem__(self, index: int | slice) -> UInt8Array | PictureFiles:
        if isinstance(index, slice):
            return PictureFiles(self.paths[index])
        return read_image_bgr(self.paths[index])

    def __iter__(self) -> Iterator[UInt8Array]:
        return map(read_image_bgr, self.paths)


@dataclass(frozen=True)
class CalibrationData:
    """pictures   to calibrate on
    available  how many there were to choose from
    labelled   to measure on; None where there are no labels of the model's classes
    why_not    in words, where the data set's labels cannot be used
    """

    pictures: Sequence[UInt8Array]
    available: int
    labelled: LabelledSplit | None = None
    why_not: str = ""


def find_calibration_data(folder: Path, classes: Sequence[str], count: int) -> CalibrationData:
    """At most `count` pictures to calibrate on, evenly picked, and what is there to measure on.

    Raises DataError where `folder` has no pictures.
    """
    splits = _splits(folder)
    if not splits and not folder.is_dir():
        found = "is a file" if folder.exists() else "no such folder"
        raise DataError(f"--data {folder}: {found}; name a folder with pictures, or a data set")
    if CALIBRATE_ON in splits:
        paths: Sequence[Path] = [picture.path for picture in read_labels(folder, CALIBRATE_ON).pictures]
    else:
        paths = list_pictures(folder, is_recursive=True)
    labelled, why_not = None, ""
    if splits:
        try:
            labelled = read_split(folder, MEASURE_ON, classes)
        except DataError as error:
            why_not = str(error)
    return CalibrationData(PictureFiles(spread(paths, count)), len(paths), labelled, why_not)


def require_apart(labelled: LabelledSplit, calibrated_on: Collection[str]) -> None:
    """Raise DataError where a picture to measure on was calibrated on.

    calibrated_on  digests of decoded pictures, as in the record
    """
    known = set(calibrated_on)
    both = [p.path for p in labelled.pictures if picture_sha256(read_image_bgr(p.path)) in known]
    if both:
        raise DataError(
            f"{labelled.name}: {len(both)} of {len(labelled.pictures)} pictures to measure on were calibrated"
            f" on, {both[0].name} among them, which flatters int8; name other data, or --allow-overlap"
        )


def _splits(folder: Path) -> set[str]:
    return {split for form in formats() for split in form.splits(folder)} if folder.exists() else set()
