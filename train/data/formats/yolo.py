"""YOLO folders: a `data.yaml`, pictures, and beside each a text file of boxes relative to its size.

    path: .                 the data set's root, from the YAML file's folder or the working folder
    train: images/train     a folder (with all below it), a text file of pictures, or a list of these
    val: [a.txt, more]      also as `valid`
    names: [cat, dog]       or {0: cat, 1: dog}

A picture's labels lie where the last folder `images` of its path is replaced by `labels`, else beside it;
none means a picture without boxes. A row is `class cx cy w h`, all relative to the picture as it is shown;
`class x y x y x y ...` is a polygon, of which the bounding box is taken; with `kpt_shape` key points may
follow a box.

The layout is Ultralytics' (docs.ultralytics.com/datasets/detect), read as it is documented there.
"""

from __future__ import annotations

import math
import reprlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fcos_edge.errors import DataError
from fcos_edge.sources import list_pictures
from fcos_edge.train.data.labels import UNKNOWN_CLASS, UNKNOWN_HW, Fault, Format, Labels, PictureLabels, Row
from fcos_edge.train.data.picture_size import picture_hw

_YAML_NAMES = ("data.yaml", "data.yml", "dataset.yaml")
_SPLITS = ("train", "val", "valid", "test")
# Writers round; what is further out is in pixels, or damaged.
_LEAST, _MOST = -0.01, 1.01


def splits(path: Path) -> tuple[str, ...]:
    file = _yaml_file(path)
    if file is None:
        return ()
    document = _read_yaml(file)
    found = [name for name in _SPLITS if document.get(name)]
    return tuple(found + ["val"] * ("valid" in found and "val" not in found))


def class_names(path: Path, split: str) -> tuple[str, ...]:
    file = _existing_yaml(path)
    return _class_names(file, _read_yaml(file))


def read(path: Path, split: str) -> Labels:
    """The labels of a split. Raises DataError for a `data.yaml` that cannot be used; bad rows are faults."""
    file = _existing_yaml(path)
    document = _read_yaml(file)
    names = _class_names(file, document)
    key_points = _key_point_values(file, document)
    files = list(_pictures(file, document, split))
    label_files = [_label_file(picture) for picture in files]
    if files and not any(label_file.is_file() for label_file in label_files):
        raise DataError(f"{file}: no picture of {split} has labels; looked for {label_files[0]} and others")
    pictures: list[PictureLabels] = []
    faults: list[Fault] = []
    for image_id, (picture, label_file) in enumerate(zip(files, label_files, strict=True), 1):
        size_hw = picture_hw(picture)
        rows: list[Row] = []
        for number, text in enumerate(_lines(label_file, faults), 1):
            if not text.strip() or size_hw == UNKNOWN_HW:
                continue  # relative to what cannot be known
            try:
                place, (left, top, right, bottom) = _parse_row(text, key_points)
            except ValueError as error:
                faults.append(Fault("bad_label", label_file, f"line {number}: {error}"))
                continue
            if not 0 <= place < len(names):
                detail = f"line {number}: class {place}, {file.name} names 0 to {len(names) - 1}"
                faults.append(Fault("unknown_class", label_file, detail))
                place = UNKNOWN_CLASS
            height, width = size_hw
            rows.append((left * width, top * height, right * width, bottom * height, place, False, False))
        pictures.append(PictureLabels.from_rows(picture, image_id, rows, size_hw))
    return Labels(file, names, tuple(pictures), tuple(faults))


def _parse_row(text: str, key_points: int) -> tuple[int, tuple[float, float, float, float]]:
    """Class and left, top, right, bottom, relative. Raises ValueError for what is no row."""
    words = text.split()
    try:
        values = [float(word) for word in words]
    except ValueError:
        raise ValueError(f"{text.strip()[:40]!r} is not numbers") from None
    if len(values) == 5 + key_points:
        values = values[:5]
    if len(values) < 5 or len(values) % 2 == 0:
        raise ValueError(f"{len(values)} numbers, expected a class and cx cy w h, or a polygon of x y pairs")
    if not values[0].is_integer():
        raise ValueError(f"class {words[0]} is not a whole number")
    if outside := [value for value in values[1:] if not _LEAST <= value <= _MOST]:  # NaN is, too
        raise ValueError(f"coordinate {outside[0]:g}, expected 0 to 1, relative to the picture's size")
    if len(values) == 5:
        x, y, width, height = values[1:]
        return int(values[0]), (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
    xs, ys = values[1::2], values[2::2]
    return int(values[0]), (min(xs), min(ys), max(xs), max(ys))


def _lines(label_file: Path, faults: list[Fault]) -> list[str]:
    try:
        return label_file.read_text(encoding="utf-8-sig").splitlines()
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as error:
        faults.append(Fault("bad_label", label_file, f"cannot be read as text ({type(error).__name__})"))
        return []


def _label_file(picture: Path) -> Path:
    parts = list(picture.parts)
    for place in range(len(parts) - 2, -1, -1):
        if parts[place] == "images":
            parts[place] = "labels"
            break
    return Path(*parts).with_suffix(".txt")


def _pictures(file: Path, document: dict[str, Any], split: str) -> Iterator[Path]:
    key = "valid" if split == "val" and "val" not in document else split
    value = document.get(key)
    entries = value if isinstance(value, list) else [value]
    for entry in entries:
        if not isinstance(entry, str) or not entry:
            found, wanted = reprlib.repr(value), "a folder, a text file or a list of these"
            raise DataError(f"{file}: {key} is {found}, expected {wanted}; mend the file")
        place = _locate(file, document, entry)
        if place.is_dir():
            yield from list_pictures(place, is_recursive=True)
        else:
            yield from _listed_pictures(place)


def _listed_pictures(list_file: Path) -> Iterator[Path]:
    """A picture a line, from the list's folder or, where it is not there, from the working folder."""
    try:
        lines = list_file.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, ValueError) as error:
        reason = type(error).__name__
        raise DataError(f"{list_file}: not a list of pictures ({reason}); give a text file") from None
    for line in filter(None, map(str.strip, lines)):
        beside = list_file.parent / line
        yield beside if beside.exists() or not Path(line).exists() else Path(line)


def _locate(file: Path, document: dict[str, Any], entry: str) -> Path:
    stated = document.get("path") or "."
    if not isinstance(stated, str):
        raise DataError(f"{file}: path is {reprlib.repr(stated)}, expected a folder; mend the file")
    # Last the file's own folder: data sets move, and their `path` stays behind.
    roots = [file.parent / stated, Path(stated), file.parent]
    # Roboflow writes `../train/images` and means `train/images`.
    names = [entry] + [entry.removeprefix("../")] * entry.startswith("../")
    candidates = [root / name for name in names for root in roots]
    for candidate in candidates:
        if candidate.exists():
            return candidate
    raise DataError(f"{file}: no {entry}; looked for {candidates[0]} and {candidates[2]}")


def _class_names(file: Path, document: dict[str, Any]) -> tuple[str, ...]:
    names = document.get("names")
    if isinstance(names, dict) and sorted(map(str, names)) == sorted(map(str, range(len(names)))):
        in_order = {int(place): name for place, name in names.items()}
        names = [in_order[place] for place in range(len(in_order))]
    if not isinstance(names, list) or not names:
        raise DataError(f"{file}: names must be a list of classes, or a table 0: name, 1: name, ...")
    # Before any str(): a few lines of YAML can refer to each other until their text has no end.
    if any(isinstance(name, dict | list | None) for name in names):
        raise DataError(f"{file}: names holds {reprlib.repr(names)}, expected words; mend the file")
    texts = tuple(map(str, names))  # `no`, 1: YAML's own types
    if len(set(texts)) != len(texts):
        raise DataError(f"{file}: names must name each class once; mend the file")
    return texts


def _key_point_values(file: Path, document: dict[str, Any]) -> int:
    """Numbers that follow a box where the data set is of poses."""
    shape = document.get("kpt_shape", [0, 0])
    if (
        isinstance(shape, list)
        and len(shape) == 2
        and all(isinstance(side, int) and side >= 0 for side in shape)
    ):
        return math.prod(shape)
    raise DataError(f"{file}: kpt_shape is {reprlib.repr(shape)}, expected two whole numbers; mend the file")


def _yaml_file(path: Path) -> Path | None:
    if path.is_file():
        return path if path.suffix.lower() in (".yaml", ".yml") else None
    return next((path / name for name in _YAML_NAMES if (path / name).is_file()), None)


def _existing_yaml(path: Path) -> Path:
    file = _yaml_file(path)
    if file is None:
        raise DataError(f"{path}: no {_YAML_NAMES[0]}; give a YOLO data set's folder")
    return file


def _read_yaml(file: Path) -> dict[str, Any]:
    # Here: a board that has no PyYAML still reads the other formats.
    import yaml  # type: ignore[import-untyped,unused-ignore]

    try:
        document = yaml.safe_load(file.read_bytes())
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise DataError(f"{file}: cannot be read as YAML ({type(error).__name__}); mend the file") from None
    if not isinstance(document, dict):
        raise DataError(f"{file}: holds no keys, expected train, val and names; give a YOLO data set's YAML")
    return document


FORMAT = Format("YOLO", "data.yaml with train, val and names", splits, class_names, read)
