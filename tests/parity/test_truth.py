"""Labelled pictures: what is wrong with them is one line, before anything runs."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fcos_edge.errors import DataError, FcosEdgeError, ImageError
from fcos_edge.free_data import CLASSES
from fcos_edge.parity.truth import check_classes, identify, read_truth
from tests.few_pictures import ANNOTATIONS, COUNT, changed_copy


def check(data: Path, classes: tuple[str, ...], *, is_strict: bool = False) -> list[str]:
    """What was said."""
    said: list[str] = []
    check_classes(data, "val", classes, is_strict, said.append)
    return said


def test_classes__of_the_same_order_need_no_words(few_pictures: Path) -> None:
    assert check(few_pictures, CLASSES) == []
    assert check(few_pictures, CLASSES, is_strict=True) == []
    assert check(few_pictures, ("person", "cat"), is_strict=True) == []  # some of them, in the same order


def test_classes__another_order_is_one_line_and_strict_refuses(few_pictures: Path) -> None:
    classes = ("cat", "person")
    (line,) = check(few_pictures, classes)
    assert line == "classes matched by name: the data has them as person, cat; the model as cat, person"
    with pytest.raises(DataError, match="its classes are in another order, person, cat; the model's are cat"):
        check(few_pictures, classes, is_strict=True)


@pytest.mark.parametrize("is_strict", [False, True])
def test_classes__a_missing_one_is_refused(few_pictures: Path, is_strict: bool) -> None:
    with pytest.raises(
        DataError, match=r"has no class 'bird' of the model, it has person, bicycle, .* horse;"
    ):
        check(few_pictures, ("person", "bird"), is_strict=is_strict)
    with pytest.raises(DataError, match="has no class 'Person'"):  # names are compared as they are
        check(few_pictures, ("Person",), is_strict=is_strict)


def test_read__pictures_boxes_and_who_they_are(few_pictures: Path) -> None:
    labelled = read_truth(few_pictures, "val", ("cat", "person"))
    assert (labelled.name, labelled.classes, len(labelled.pictures)) == (
        f"{few_pictures.name}/val",
        ("cat", "person"),
        COUNT,
    )
    identities = identify(labelled.pictures)
    assert [one.file for one in identities] == [f"{number:02}.jpg" for number in range(1, COUNT + 1)]
    first = few_pictures / "val" / "01.jpg"
    assert identities[0].sha256 == hashlib.sha256(first.read_bytes()).hexdigest()


def no_images(document: dict[str, Any]) -> None:
    document["images"], document["annotations"] = [], []


def no_boxes(document: dict[str, Any]) -> None:
    document["annotations"] = []


def only_crowds(document: dict[str, Any]) -> None:
    for row in document["annotations"]:
        row["iscrowd"] = 1


def boxes_of_no_picture(document: dict[str, Any]) -> None:
    for row in document["annotations"]:
        row["image_id"] = 4711


@pytest.mark.parametrize(("change", "said"), [
    (no_images, "no pictures in val; give a data set with pictures"),
    (no_boxes, "no box of person, .*, horse in val; nothing to measure, give labelled pictures"),
    (only_crowds, "no box of person, "),
    (boxes_of_no_picture, "no box of person, "),
])  # fmt: skip
def test_read__nothing_to_measure(
    few_pictures: Path, tmp_path: Path, change: Callable[[dict[str, Any]], None], said: str
) -> None:
    data = changed_copy(few_pictures, tmp_path / "data", change)
    with pytest.raises(DataError, match=said) as caught:
        read_truth(data, "val", CLASSES)
    assert "\n" not in str(caught.value)


def test_read__classes_without_a_box_are_nothing_to_measure(few_pictures: Path) -> None:
    with pytest.raises(DataError, match="no box of bus, horse in val"):
        read_truth(few_pictures, "val", ("bus", "horse"))


def remove(picture: Path) -> None:
    picture.unlink()


def cut(picture: Path) -> None:
    picture.write_bytes(picture.read_bytes()[:2000])


def write_text(picture: Path) -> None:
    picture.write_text("<html>no such picture</html>")


def make_empty(picture: Path) -> None:
    picture.write_bytes(b"")


@pytest.mark.parametrize(("harm", "kind", "said"), [
    (remove, DataError, "1 of 8 labelled pictures are missing, as .*03.jpg; copy the pictures too"),
    (cut, ImageError, "03.jpg: not a picture that OpenCV can decode"),
    (write_text, ImageError, "03.jpg: not a picture"),
    (make_empty, ImageError, "03.jpg: "),
])  # fmt: skip
def test_read__a_harmed_picture_is_said_before_any_artifact_can_fail(
    few_pictures: Path, tmp_path: Path,
    harm: Callable[[Path], None], kind: type[FcosEdgeError], said: str,
) -> None:  # fmt: skip
    data = shutil.copytree(few_pictures, tmp_path / "data")
    harm(data / "val" / "03.jpg")
    with pytest.raises(kind, match=said) as caught:
        read_truth(data, "val", CLASSES)
    assert "\n" not in str(caught.value)


def test_read__annotations_without_pictures(few_pictures: Path, tmp_path: Path) -> None:
    (tmp_path / "annotations").mkdir()
    shutil.copy(few_pictures / ANNOTATIONS, tmp_path / ANNOTATIONS)
    with pytest.raises(DataError, match="8 of 8 labelled pictures are missing"):
        read_truth(tmp_path, "val", CLASSES)
    assert json.loads((tmp_path / ANNOTATIONS).read_text())["images"]
