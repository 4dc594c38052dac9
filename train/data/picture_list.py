"""Pictures without labels, to write COCO results for.

    a folder of pictures      by name
    a text file               a path on each line, relative to its folder
    image_info_<name>.json    COCO's own lists: images and categories with their ids, no annotations; the
                              pictures lie in the folder beside `annotations/` that holds the first of them

Pictures of the first two have no ids. COCO names its files by them (`000000000042.jpg`), and so it is here
where every name is a number of its own; otherwise pictures are numbered from 1.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from fcos_edge.errors import DataError
from fcos_edge.sources import is_picture, list_pictures
from fcos_edge.train.data.dataset import LabelledPicture
from fcos_edge.train.data.formats import formats

_TEXT_SUFFIX = ".txt"
_COCO_PREFIX = "image_info_"
_MOST_DIGITS = 18  # of an id: below 2^63


@dataclass(frozen=True)
class PictureList:
    """Pictures without boxes, each with its id.

    image_ids    where those come from, in words
    category_of  ids of classes by name, where the list has them
    """

    pictures: tuple[LabelledPicture, ...]
    image_ids: str
    category_of: Mapping[str, int] = field(default_factory=dict)

    def category_ids(self, classes: Sequence[str], chosen: Sequence[str]) -> list[int]:
        """Ids of `chosen`: the list's, else their places among `classes`, all of the model's, from 1.

        Raises DataError where the list has ids, but not of all of them.
        """
        if not self.category_of:
            return [classes.index(name) + 1 for name in chosen]
        if missing := [name for name in chosen if name not in self.category_of]:
            raise DataError(f"the list has no category {missing[0]!r}; leave it out with --classes")
        return [self.category_of[name] for name in chosen]


def is_unlabelled(data: Path) -> bool:
    """Whether `data` is to be read here: no data set, but pictures or a list of them."""
    if data.is_dir():
        is_data_set = any(form.splits(data) for form in formats())
        return not is_data_set and any(is_picture(path) for path in data.iterdir())
    return data.is_file() and (data.suffix.lower() == _TEXT_SUFFIX or data.name.startswith(_COCO_PREFIX))


def read_picture_list(data: Path) -> PictureList:
    """The pictures that `data` names. Raises DataError where there is none, or a listed one is missing."""
    if data.name.startswith(_COCO_PREFIX) and data.is_file():
        return _read_image_info(data)
    paths = list_pictures(data) if data.is_dir() else _read_lines(data)
    numbers = numbers_in_names(paths)
    if numbers is None:
        return PictureList(_without_boxes(paths, range(1, len(paths) + 1)), "1, 2, 3, ... in their order")
    return PictureList(_without_boxes(paths, numbers), "the number in the file name")


def numbers_in_names(paths: Sequence[Path]) -> list[int] | None:
    """The number that each file is named with; None where one is not, or two are the same."""
    names = [path.stem for path in paths]
    if not all(name.isascii() and name.isdigit() and len(name) <= _MOST_DIGITS for name in names):
        return None
    numbers = [int(name) for name in names]
    return numbers if len(set(numbers)) == len(numbers) else None


def _without_boxes(paths: Sequence[Path], ids: Sequence[int]) -> tuple[LabelledPicture, ...]:
    no_boxes, no_labels = np.empty((0, 4), np.float32), np.empty(0, np.int64)
    return tuple(
        LabelledPicture(path, image_id, no_boxes, no_labels)
        for path, image_id in zip(paths, ids, strict=True)
    )


def _read_lines(file: Path) -> list[Path]:
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"{file}: cannot be read ({type(error).__name__}); give a text file with a path on each line"
        ) from None
    paths = []
    for number, line in enumerate(lines, 1):
        if not (name := line.strip()):
            continue
        path = file.parent / name
        if "\0" in name or not path.is_file():
            raise DataError(f"{file}, line {number}: {name!r} is no picture's path; mend the line")
        paths.append(path)
    if not paths:
        raise DataError(f"{file}: no pictures; write a path on each line")
    return paths


def _read_image_info(file: Path) -> PictureList:
    try:
        document = json.loads(file.read_bytes())
        names = [str(image["file_name"]) for image in document["images"]]
        ids = [image["id"] for image in document["images"]]
        category_of = {str(category["name"]): category["id"] for category in document["categories"]}
        if not all(isinstance(i, int) for i in (*ids, *category_of.values())) or len(set(ids)) < len(ids):
            raise ValueError("ids must be whole numbers, and different")
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        what = f"{type(error).__name__}: {error}"
        raise DataError(f"{file}: no COCO list of pictures ({what}); mend the file") from None
    if not names or not category_of:
        raise DataError(f"{file}: no images or no categories; give a list of pictures")
    root = file.parent.parent if file.parent.name == "annotations" else file.parent
    folders = [root, *sorted(path for path in root.iterdir() if path.is_dir())]
    folder = next((folder for folder in folders if (folder / names[0]).is_file()), None)
    if folder is None:
        raise DataError(f"{file}: no {names[0]} in the folders of {root}; put the pictures there")
    paths = [folder / name for name in names]
    if missing := [path for path in paths if not path.is_file()]:
        raise DataError(f"{missing[0]}: no such picture; add it, or take it out of {file.name}")
    return PictureList(_without_boxes(paths, ids), "the list's", category_of)
