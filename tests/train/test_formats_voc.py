"""Pascal VOC: its layouts, its way to count pixels, and one clear line for what cannot be read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from fcos_edge.errors import DataError
from fcos_edge.train.data.formats import class_names, read_labels, read_pictures
from fcos_edge.train.targets import IGNORED
from tests.coco_sets import CLASSES, draw_scenes, voc_xml, write_pictures, write_voc

BOX = "<bndbox><xmin>1</xmin><ymin>2</ymin><xmax>30</xmax><ymax>40</ymax></bndbox>"


def _set(folder: Path, *xml: str) -> Path:
    """Pictures with these XML texts, in the devkit's layout."""
    scenes = draw_scenes(len(xml))
    write_voc(folder, "train", scenes)
    for scene, text in zip(scenes, xml, strict=True):
        (folder / "Annotations" / scene.name).with_suffix(".xml").write_text(text)
    return folder


def _object(inside: str, name: str = "disc") -> str:
    return f"<annotation><object><name>{name}</name>{inside}</object></annotation>"


def test_read__counts_from_one_and_includes_both_corners(tmp_path: Path) -> None:
    (picture,) = read_pictures(_set(tmp_path, _object(BOX)), "train", ("disc",))
    # A box from xmin 1 to xmax W covers the picture: 0 to W.
    assert picture.boxes_xyxy.tolist() == [[0, 1, 30, 40]]
    assert picture.size_hw == (96, 128)  # of the file: no size was stated


OBJECTS = [
    # children in any order, spaces, numbers with a fraction
    (f"<object>{BOX}<name> disc </name></object>", [0], [[0, 1, 30, 40]]),
    (_object(BOX.replace("30", " 30.5\n"))[12:-13], [0], [[0, 1, 30.5, 40]]),
    # difficult, and what else VOC says
    (_object(f"<truncated>1</truncated><difficult>1</difficult>{BOX}")[12:-13], [IGNORED], [[0, 1, 30, 40]]),
    (_object(f"<difficult>0</difficult>{BOX}")[12:-13], [0], [[0, 1, 30, 40]]),
    # a person's parts are no objects
    (_object(f"<part><name>hand</name>{BOX}</part>{BOX.replace('30', '20')}")[12:-13], [0], [[0, 1, 20, 40]]),
    # another class
    (_object(BOX, "square")[12:-13], [], []),
    # a box of no width
    (_object(BOX.replace("30", "0"))[12:-13], [], []),
]


@pytest.mark.parametrize(("xml", "labels", "boxes"), OBJECTS, ids=range(len(OBJECTS)))
def test_read__objects(tmp_path: Path, xml: str, labels: list[int], boxes: list[list[float]]) -> None:
    folder = _set(tmp_path, f"<annotation>{xml}</annotation>", _object(BOX))
    picture = read_pictures(folder, "train", ("disc",))[0]
    assert (picture.labels.tolist(), picture.boxes_xyxy.tolist()) == (labels, boxes)


BOMB = '<!DOCTYPE a [<!ENTITY b "bbbbbbbb"><!ENTITY c "&b;&b;&b;&b;">]>' + _object(BOX, "&c;")
OUTSIDE_ENTITY = '<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/hostname">]>' + _object(BOX, "&b;")
BAD_XML: list[tuple[str | bytes, str]] = [
    (_object(""), "object 1 has no bndbox"),
    (f"<annotation><object>{BOX}</object></annotation>", "object 1 has no name"),
    (_object("<bndbox><xmin>1</xmin></bndbox>"), "object 1 has no ymin"),
    (_object(BOX.replace("30", "wide")), "object 1 has xmax 'wide'"),
    (_object(BOX.replace("30", "nan")), "object 1 has xmax 'nan'"),
    (_object(BOX.replace("30", "1e300")), "object 1 has xmax '1e300'"),
    ("", "cannot be read as XML (no element found"),
    ("<annotation>", "cannot be read as XML (no element found"),
    ("picture", "cannot be read as XML (syntax error"),
    (b"\xff\xd8\xff\xe0", "cannot be read as XML ("),
    ('<?xml version="1.0" encoding="none-such"?><annotation/>', "cannot be read as XML ("),
    (BOMB, "cannot be read as XML (it declares a document type"),
    (OUTSIDE_ENTITY, "cannot be read as XML (it declares a document type"),
    (('<?xml version="1.0" encoding="utf-16"?>' + BOMB).encode("utf-16"), "it declares a document type"),
    ("<!DOCTYPE annotation><annotation/>", "it declares a document type"),
    (_object(BOX, "&none;"), "cannot be read as XML (undefined entity"),
]


@pytest.mark.parametrize(("xml", "message"), BAD_XML, ids=range(len(BAD_XML)))
def test_read__bad_xml(tmp_path: Path, xml: str | bytes, message: str) -> None:
    folder = _set(tmp_path, "", _object(BOX))
    file = folder / "Annotations" / "picture0.xml"
    file.write_bytes(xml if isinstance(xml, bytes) else xml.encode())
    with pytest.raises(DataError) as caught:
        read_pictures(folder, "train", ("disc",))
    assert str(caught.value).startswith(f"{file}: ")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    labels = read_labels(folder, "train")
    assert [fault.kind for fault in labels.faults] == ["bad_label"]
    assert [len(picture.classes) for picture in labels.pictures] == [0, 1]


def _beside(folder: Path) -> None:
    for split in ("train", "valid"):
        scenes = draw_scenes(4, seed=len(split))
        write_pictures(folder / split, scenes)
        for scene in scenes[1:]:  # the first has no boxes, and LabelImg leaves no file for it
            (folder / split / scene.name).with_suffix(".xml").write_text(voc_xml(scene))


def _devkit(folder: Path, name: str) -> None:
    write_voc(folder / name, "train", draw_scenes(3, seed=5))
    write_voc(folder / name, "val", draw_scenes(4, seed=5))


LAYOUTS: list[tuple[Callable[[Path], None], tuple[int, int]]] = [
    (_beside, (4, 4)),
    (lambda folder: _devkit(folder, "."), (3, 4)),
    (lambda folder: _devkit(folder, "VOC2007"), (3, 4)),
    (lambda folder: _devkit(folder, "VOCdevkit/VOC2012"), (3, 4)),
]


@pytest.mark.parametrize(("write", "counts"), LAYOUTS, ids=["beside", "plain", "year", "devkit"])
def test_read__layouts(tmp_path: Path, write: Callable[[Path], None], counts: tuple[int, int]) -> None:
    write(tmp_path)
    for split, count in zip(("train", "val"), counts, strict=True):
        pictures = read_pictures(tmp_path, split, CLASSES)
        assert len(pictures) == count
        assert all(picture.path.is_file() for picture in pictures)
        assert len(pictures[0].labels) == 0
        assert sum(len(picture.labels) for picture in pictures) >= 3


def test_read__two_years(tmp_path: Path) -> None:
    _devkit(tmp_path, "VOC2007")
    _devkit(tmp_path, "VOC2012")
    with pytest.raises(DataError, match="holds VOC2007 and VOC2012; name one of these folders"):
        read_pictures(tmp_path, "train", CLASSES)


def test_class_names__of_all_splits(tmp_path: Path) -> None:
    _set(tmp_path, _object(BOX, "zebra"), _object(BOX, "ant"))
    (tmp_path / "ImageSets" / "Main" / "val.txt").write_text("picture1\n")
    assert class_names(tmp_path, "val") == ("ant", "zebra")
    assert len(read_pictures(tmp_path, "val", ("zebra",))) == 1  # none there, but it is a class


def test_read__lists(tmp_path: Path) -> None:
    main = _set(tmp_path, _object(BOX), _object(BOX)) / "ImageSets" / "Main"
    (main / "disc_train.txt").write_text("picture1  1\n")  # of one class's contest
    (main / "val.txt").write_text("picture1 -1\n\npicture0  1\n")
    assert [p.path.name for p in read_pictures(tmp_path, "val", ("disc",))] == [
        "picture1.png",
        "picture0.png",
    ]
    with pytest.raises(DataError, match="no split 'disc_train', it has train, val"):
        read_pictures(tmp_path, "disc_train", ("disc",))
    (main / "val.txt").write_text("picture7\n")
    with pytest.raises(DataError, match=r"picture7\.xml: no such file, but val\.txt lists it"):
        read_pictures(tmp_path, "val", ("disc",))
    (main / "val.txt").write_bytes(b"\xff")
    with pytest.raises(DataError, match=r"val\.txt: not a list of pictures"):
        read_pictures(tmp_path, "val", ("disc",))


def test_read__no_object_of_any_class(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no object of any class in the XML files"):
        read_pictures(_set(tmp_path, "<annotation/>"), "train", ("disc",))


def test_read__picture_is_missing(tmp_path: Path) -> None:
    folder = _set(tmp_path, _object(BOX))
    (folder / "JPEGImages" / "picture0.png").unlink()
    (picture,) = read_pictures(folder, "train", ("disc",))
    assert picture.path == folder / "JPEGImages" / "picture0.jpg"  # VOC's own suffix; the data check finds it
