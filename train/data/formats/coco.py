"""COCO JSON: `{"images": [...], "annotations": [...], "categories": [...]}`, boxes as x, y, width, height.

    annotations/instances_<split>.json       COCO's own layout
    <split>/_annotations.coco.json           Roboflow's, the pictures beside it
    any JSON file                            named itself; `instances_val.json` is split `val`

A file's pictures lie in `<split>/`, `images/<split>/`, `images/` or its own folder; where that is named
`annotations`, first in those of the folder above. The first that holds any of the file's first pictures
counts; where none does (labels can be looked at without pictures) the very first.

An image's `license` is the id of an entry of `licenses`. A file with one entry, where no image names any,
is under that as a whole: an entry for no picture would have no meaning. Once an image names one, those that
name none have no record.

`difficult: 1` on an annotation is not COCO's own key: it marks what Pascal VOC calls so.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from fcos_edge.errors import DataError
from fcos_edge.train.data.labels import UNKNOWN_CLASS, UNKNOWN_HW, Fault, Format, Labels, PictureLabels, Row
from fcos_edge.train.data.licence import NO_RECORD, Licence

MAX_PIXEL = 1 << 24  # float32 holds whole numbers up to there

_PREFIX = "instances_"
_ROBOFLOW_FILE = "_annotations.coco.json"
_LOOKED_AT = 16  # pictures that a folder is known by


def splits(path: Path) -> tuple[str, ...]:
    if path.is_file():
        return (_split_of(path),) if path.suffix.lower() == ".json" else ()
    own = [_split_of(file) for file in (path / "annotations").glob(f"{_PREFIX}*.json")]
    roboflow = [file.parent.name for file in path.glob(f"*/{_ROBOFLOW_FILE}")]
    return tuple(own + roboflow + ["val"] * ("valid" in roboflow))


def annotation_file(path: Path, split: str) -> Path:
    """The COCO file of a split. Raises DataError where there is none."""
    if path.is_file():
        return path
    files = [path / "annotations" / f"{_PREFIX}{split}.json", path / split / _ROBOFLOW_FILE]
    if split == "val":
        files.append(path / "valid" / _ROBOFLOW_FILE)
    for file in files:
        if file.is_file():
            return file
    raise DataError(f"{path}: no annotations/{_PREFIX}{split}.json; give a COCO data set's folder")


def read_annotations(path: Path) -> dict[str, Any]:
    """Parse a COCO file. Raises DataError where it is none."""
    try:
        document = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(
            f"{path}: no COCO annotations ({type(error).__name__}); give a COCO JSON file"
        ) from None
    wanted = {"images", "annotations", "categories"}
    if not isinstance(document, dict) or not wanted <= set(document):
        raise DataError(f"{path}: expected the COCO keys images, annotations and categories")
    return document


def class_names(path: Path, split: str) -> tuple[str, ...]:
    return read(path, split).classes


def read(path: Path, split: str) -> Labels:
    """The labels of a split. Raises DataError where the file is missing or no COCO annotations."""
    file = annotation_file(path, split)
    document = read_annotations(file)
    try:
        return _read(file, document)
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
        what = f"{type(error).__name__}: {error}"
        raise DataError(f"{file}: not COCO annotations ({what}); mend the file") from None


def _read(file: Path, document: dict[str, Any]) -> Labels:
    ids = [image["id"] for image in document["images"]]
    if not all(isinstance(i, int) for i in ids) or len(set(ids)) != len(ids):
        raise ValueError("the ids of images must be different whole numbers")
    categories = _categories(file, document)
    place_of = {category["id"]: place for place, category in enumerate(categories)}
    folder = _picture_folder(file, document["images"])
    path_of = {image["id"]: folder / image["file_name"] for image in document["images"]}
    rows_of: dict[int, list[Row]] = {image_id: [] for image_id in ids}
    faults: list[Fault] = []
    for entry in document["annotations"]:
        x, y, width, height = read_bbox(entry)
        category, image_id = place_of.get(entry["category_id"], UNKNOWN_CLASS), entry["image_id"]
        if image_id not in rows_of:
            faults.append(Fault("no_picture", file, f"a box of image_id {image_id}, which no picture has"))
            continue
        if category == UNKNOWN_CLASS:
            what = f"a box on {path_of[image_id].name} of category_id {entry['category_id']}"
            faults.append(Fault("unknown_class", file, f"{what}, which no category has"))
        crowd, difficult = bool(entry.get("iscrowd")), bool(entry.get("difficult"))
        rows_of[image_id].append((x, y, x + width, y + height, category, crowd, difficult))
        if difficult and not crowd:  # evaluation knows crowds alone
            entry["iscrowd"] = 1
    pictures = []
    for image, licence in zip(document["images"], _licences(document), strict=True):
        size_hw = _size_hw(image, "height", "width")
        original_hw = _size_hw(image, "orig_height", "orig_width")
        scale = 1.0
        if UNKNOWN_HW not in (size_hw, original_hw):
            scale = (original_hw[0] * original_hw[1]) / (size_hw[0] * size_hw[1])
        pictures.append(
            PictureLabels.from_rows(
                path_of[image["id"]], image["id"], rows_of[image["id"]], size_hw, scale, licence
            )
        )
    names = tuple(category["name"] for category in categories)
    return Labels(file, names, tuple(pictures), tuple(faults), document)


def read_bbox(entry: dict[str, Any]) -> tuple[float, float, float, float]:
    """x, y, width, height of an annotation. Raises ValueError for what is no box in pixels."""
    if not isinstance(entry["bbox"], list):  # text of four digits would do for map()
        raise ValueError(f"bbox is {entry['bbox']}")
    x, y, width, height = map(float, entry["bbox"])
    if not all(abs(value) <= MAX_PIXEL for value in (x, y, width, height)):  # NaN is not either
        raise ValueError(f"bbox is {entry['bbox']}")
    return x, y, width, height


def _categories(file: Path, document: dict[str, Any]) -> list[dict[str, Any]]:
    categories = list(document["categories"])
    if file.name == _ROBOFLOW_FILE:
        # Roboflow adds the project as a category of its own, which all others stand below and no box has.
        used = {entry["category_id"] for entry in document["annotations"]}
        parents = {category.get("supercategory") for category in categories}
        categories = [
            category
            for category in categories
            if category["id"] in used or category["name"] not in parents or len(categories) == 1
        ]
    names, ids = [category["name"] for category in categories], [category["id"] for category in categories]
    if not names or not all(isinstance(name, str) for name in names) or len(set(names)) != len(names):
        raise DataError(
            f"{file}: not COCO annotations: categories must name one class or more, each once; mend the file"
        )
    if len(set(ids)) != len(ids):
        raise ValueError("the ids of categories must differ")
    return categories


def _licences(document: dict[str, Any]) -> list[Licence]:
    """The licence of every image. What is no proper record is none: most uses do not need it."""
    listed = document.get("licenses")
    entries = [entry for entry in listed if isinstance(entry, dict)] if isinstance(listed, list) else []
    named = [image.get("license") for image in document["images"]]
    if all(name in (None, "") for name in named):
        return [_licence(entries[0]) if len(entries) == 1 else NO_RECORD] * len(named)
    # Text, so that 1 is not True. An id with two meanings has none.
    meanings: dict[str, set[Licence]] = {}
    for entry in entries:
        meanings.setdefault(repr(entry.get("id")), set()).add(_licence(entry))
    defined = {name: meaning.pop() for name, meaning in meanings.items() if len(meaning) == 1}
    return [
        NO_RECORD if name in (None, "") else defined.get(repr(name), Licence(undefined_id=repr(name)[:40]))
        for name in named
    ]


def _licence(entry: dict[str, Any]) -> Licence:
    name, url = (entry.get(key) for key in ("name", "url"))
    return Licence(name if isinstance(name, str) else "", url if isinstance(url, str) else "")


def _picture_folder(file: Path, images: list[dict[str, Any]]) -> Path:
    here = file.parent
    if file.name == _ROBOFLOW_FILE:
        return here
    split = _split_of(file)
    roots = [here.parent, here] if here.name == "annotations" else [here]
    folders = [root / name for root in roots for name in (split, f"images/{split}", "images", ".")]
    for folder in folders:
        if any((folder / image["file_name"]).is_file() for image in images[:_LOOKED_AT]):
            return folder
    return folders[0]


def _split_of(file: Path) -> str:
    if file.name == _ROBOFLOW_FILE:
        return file.parent.name
    return file.stem.removeprefix(_PREFIX)


def _size_hw(image: dict[str, Any], height: str, width: str) -> tuple[int, int]:
    tall, wide = image.get(height), image.get(width)
    if isinstance(tall, int) and isinstance(wide, int) and 0 < tall <= MAX_PIXEL and 0 < wide <= MAX_PIXEL:
        return tall, wide
    return UNKNOWN_HW


FORMAT = Format(
    "COCO",
    f"annotations/{_PREFIX}<split>.json or <split>/{_ROBOFLOW_FILE} or a .json file",
    splits,
    class_names,
    read,
)
