"""The labelled pictures that `parity` measures on; what is wrong with them is said before anything runs."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fcos_edge.console import track
from fcos_edge.errors import DataError
from fcos_edge.image import read_image_bgr
from fcos_edge.parity.recording import PictureId

if TYPE_CHECKING:
    from fcos_edge.train.data.dataset import LabelledPicture
    from fcos_edge.train.evaluation.evaluate import LabelledSplit


def check_classes(
    data: Path, split: str, classes: Sequence[str], is_strict: bool, say: Callable[[str], None]
) -> None:
    """Compare the data's class names with the model's.

    They are matched by name, so that another order does no harm: it is said, and refused where `is_strict`.
    Raises DataError for a class that the data lacks.
    """
    from fcos_edge.train.data.formats import class_names

    names = class_names(data, split)
    if missing := [name for name in classes if name not in names]:
        raise DataError(
            f"{data}: has no class {missing[0]!r} of the model, it has {', '.join(names)}; rename it in the"
            " data, or measure some classes with --classes"
        )
    order = [name for name in names if name in classes]
    if order != list(classes):
        found, wanted = ", ".join(order), ", ".join(classes)
        if is_strict:
            raise DataError(
                f"{data}: its classes are in another order, {found}; the model's are {wanted}; leave out"
                " --strict to match them by name"
            )
        say(f"classes matched by name: the data has them as {found}; the model as {wanted}")


def read_truth(data: Path, split: str, classes: Sequence[str]) -> LabelledSplit:
    """Pictures and labels.

    Raises DataError for a split without pictures, labels or picture files, ImageError for a damaged one.
    """
    from fcos_edge.train.evaluation.evaluate import read_split

    labelled = read_split(data, split, classes)
    check_pictures(data, labelled.pictures)
    if not any((picture.labels >= 0).any() for picture in labelled.pictures):
        raise DataError(
            f"{data}: no box of {', '.join(classes)} in {split}; nothing to measure, give labelled pictures"
        )
    return labelled


def check_pictures(data: Path, pictures: Sequence[LabelledPicture]) -> None:
    """Raise DataError where files of the labelled pictures are missing, ImageError where one is damaged.

    All are decoded: else every artifact would fail for what is wrong with the data.
    """
    if missing := [picture.path for picture in pictures if not picture.path.is_file()]:
        raise DataError(
            f"{data}: {len(missing)} of {len(pictures)} labelled pictures are missing, as {missing[0]};"
            " copy the pictures too"
        )
    for picture in track(pictures, "checking pictures", len(pictures)):
        read_image_bgr(picture.path)


def identify(pictures: Sequence[LabelledPicture]) -> tuple[PictureId, ...]:
    """What a recording keeps of each picture."""
    return tuple(
        PictureId(picture.image_id, picture.path.name, hashlib.sha256(picture.path.read_bytes()).hexdigest())
        for picture in pictures
    )
