"""Pascal VOC: an XML file a picture.

    JPEGImages/, Annotations/, ImageSets/Main/<split>.txt    the devkit's own, also below VOCdevkit/VOC<year>/
    <split>/*.xml beside the pictures                        LabelImg's and Roboflow's; `valid` is `val`

Pixels count from 1 and both corners are inside the box (VOC2007 devkit documentation, "annotations": the
top left pixel is (1, 1)), so a box over a whole picture of W pixels has xmin = 1 and xmax = W: in
coordinates that is 0 to W. x1 = xmin - 1, y1 = ymin - 1, x2 = xmax, y2 = ymax. Writers that count from 0
exist and do not say so: theirs are off by one to the left and the top.

Classes are those of all splits, by name: VOC has no list of them. In the second layout a picture without
XML is one without boxes, as LabelImg leaves it. XML with a document type is refused: no data set needs
one, and it can make a small file grow without bound.
"""

from __future__ import annotations

import math
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from xml.parsers import expat

from fcos_edge.errors import DataError
from fcos_edge.sources import is_picture
from fcos_edge.train.data.labels import UNKNOWN_HW, Fault, Format, Labels, PictureLabels, Row

_MAX_PIXEL = 1 << 24  # float32 holds whole numbers up to there


def splits(path: Path) -> tuple[str, ...]:
    root = _devkit_root(path)
    if root is not None:
        # `cat_train.txt` lists the pictures of one class's contest: not a split.
        names = [file.stem for file in sorted((root / "ImageSets" / "Main").glob("*.txt"))]
        return tuple(name for name in names if "_" not in name or name.rpartition("_")[2] not in names)
    folders = [file.name for file in _folders_with_xml(path)]
    return tuple(folders + ["val"] * ("valid" in folders and "val" not in folders))


def class_names(path: Path, split: str) -> tuple[str, ...]:
    return read(path, split).classes


def read(path: Path, split: str) -> Labels:
    """The labels of a split. Raises DataError for files that are missing; what cannot be read is a fault."""
    root = _devkit_root(path)
    if root is not None:
        source = root / "ImageSets" / "Main" / f"{split}.txt"
        files = _listed(root, source)
        everywhere = sorted((root / "Annotations").glob("*.xml"))
    else:
        source = path / split
        if split == "val" and not source.is_dir():
            source = path / "valid"
        files = _beside(source)
        everywhere = [file for folder in _folders_with_xml(path) for file in sorted(folder.glob("*.xml"))]
    faults: list[Fault] = []
    trees = {file: _parse(file, faults) for _, file in files if file.is_file()}
    names = {name for tree in trees.values() for name in _names(tree)}
    for file in everywhere:
        if file not in trees:
            names.update(_names(_parse(file, [])))
    if not names:
        raise DataError(f"{source}: no object of any class in the XML files; check the path of the data set")
    in_order = tuple(sorted(names))
    place_of = {name: place for place, name in enumerate(in_order)}
    pictures = []
    for image_id, (picture, file) in enumerate(files, 1):
        tree = trees.get(file)
        rows = [] if tree is None else _rows(tree, place_of, file, faults)
        size_hw = UNKNOWN_HW if tree is None else _size_hw(tree)
        pictures.append(PictureLabels.from_rows(picture, image_id, rows, size_hw))
    return Labels(source, in_order, tuple(pictures), tuple(faults))


def _rows(tree: ElementTree.Element, place_of: dict[str, int], file: Path, faults: list[Fault]) -> list[Row]:
    rows = []
    for number, element in enumerate(tree.findall("object"), 1):
        try:
            # Children alone: a person's parts have boxes of their own.
            box = element.find("bndbox")
            if box is None:
                raise ValueError("has no bndbox")
            left, top, right, bottom = (_number(box, tag) for tag in ("xmin", "ymin", "xmax", "ymax"))
            name = _text(element, "name")
        except ValueError as error:
            faults.append(Fault("bad_label", file, f"object {number} {error}"))
            continue
        is_difficult = (element.findtext("difficult") or "0").strip() == "1"
        rows.append((left - 1, top - 1, right, bottom, place_of[name], False, is_difficult))
    return rows


def _number(box: ElementTree.Element, tag: str) -> float:
    text = _text(box, tag)
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not abs(value) <= _MAX_PIXEL:  # NaN is not either
        raise ValueError(f"has {tag} {text[:40]!r}")
    return value


def _text(element: ElementTree.Element, tag: str) -> str:
    text = (element.findtext(tag) or "").strip()
    if not text:
        raise ValueError(f"has no {tag}")
    return text


def _names(tree: ElementTree.Element | None) -> list[str]:
    if tree is None:
        return []
    texts = [(element.findtext("name") or "").strip() for element in tree.findall("object")]
    return [text for text in texts if text]


def _size_hw(tree: ElementTree.Element) -> tuple[int, int]:
    height, width = (tree.findtext(f"size/{tag}") or "" for tag in ("height", "width"))
    is_known = all(text.strip().isdecimal() and 0 < int(text) <= _MAX_PIXEL for text in (height, width))
    return (int(height), int(width)) if is_known else UNKNOWN_HW


def _parse(file: Path, faults: list[Fault]) -> ElementTree.Element | None:
    """The tree of an XML file without document type; None, and a fault, where it is none."""
    try:
        content = file.read_bytes()
        guard = expat.ParserCreate()
        guard.StartDoctypeDeclHandler = _refuse_document_type
        guard.Parse(content, True)
        return ElementTree.fromstring(content)
    # LookupError, ValueError: encodings that are unknown, or that the parser cannot use.
    except (OSError, expat.ExpatError, ElementTree.ParseError, LookupError, ValueError) as error:
        faults.append(Fault("bad_label", file, f"cannot be read as XML ({error})"))
        return None


def _refuse_document_type(*_: object) -> None:
    raise ValueError("it declares a document type, which no data set needs")


def _listed(root: Path, source: Path) -> list[tuple[Path, Path]]:
    """(picture, XML file) of every name in a list; a name may be followed by 1, 0 or -1."""
    try:
        lines = source.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, ValueError) as error:
        raise DataError(
            f"{source}: not a list of pictures ({type(error).__name__}); check the split"
        ) from None
    # One listing: looking for each picture under each suffix costs more.
    picture_of = {file.stem: file for file in sorted((root / "JPEGImages").iterdir()) if is_picture(file)}
    pairs = []
    for name in (line.split()[0] for line in lines if line.strip()):
        file = root / "Annotations" / f"{name}.xml"
        if not file.is_file():
            raise DataError(
                f"{file}: no such file, but {source.name} lists it; add it, or take it off the list"
            )
        pairs.append((picture_of.get(name, root / "JPEGImages" / f"{name}.jpg"), file))
    return pairs


def _beside(folder: Path) -> list[tuple[Path, Path]]:
    """(picture, XML file) of everything in a folder that is either, by name; one of them may be missing."""
    picture_of = {file.stem: file for file in sorted(folder.iterdir()) if is_picture(file)}
    names = {file.stem for file in folder.glob("*.xml")} | set(picture_of)
    return [(picture_of.get(name, folder / f"{name}.jpg"), folder / f"{name}.xml") for name in sorted(names)]


def _folders_with_xml(path: Path) -> list[Path]:
    if not path.is_dir():
        return []
    # `Annotations/` alone is the devkit's layout with a part missing.
    folders = [
        folder for folder in sorted(path.iterdir()) if folder.is_dir() and folder.name != "Annotations"
    ]
    return [folder for folder in folders if next(folder.glob("*.xml"), None) is not None]


def _devkit_root(path: Path) -> Path | None:
    """The folder that holds JPEGImages: `path`, or the only one below it or below its VOCdevkit."""
    below = [*path.glob("VOC*"), *path.glob("VOCdevkit/VOC*")] if path.is_dir() else []
    roots = [root for root in (path, *sorted(below)) if (root / "ImageSets" / "Main").is_dir()]
    roots = [root for root in roots if (root / "JPEGImages").is_dir()]
    if len(roots) > 1:
        raise DataError(f"{path}: holds {roots[0].name} and {roots[1].name}; name one of these folders")
    return roots[0] if roots else None


FORMAT = Format(
    "VOC",
    "JPEGImages, Annotations and ImageSets/Main/<split>.txt, or <split>/ with .xml beside pictures",
    splits,
    class_names,
    read,
)
