"""Data sets of any format: told apart by their path, and the same labels in each give the same pictures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from fcos_edge.errors import DataError
from fcos_edge.train.data.dataset import LabelledPicture
from fcos_edge.train.data.formats import class_names, coco_document, find_format, formats, read_pictures
from fcos_edge.train.targets import IGNORED
from tests.coco_sets import CLASSES, Scene, draw_scenes, write_coco, write_voc, write_yolo

Writer = Callable[[Path, str, Sequence[Scene]], Path]
WRITERS: list[tuple[str, Writer]] = [("COCO", write_coco), ("YOLO", write_yolo), ("VOC", write_voc)]


def test_formats__one_a_file() -> None:
    assert [form.name for form in formats()] == ["COCO", "VOC", "YOLO"]


@pytest.mark.parametrize(("name", "write"), WRITERS)
def test_find_format__by_the_path(tmp_path: Path, name: str, write: Writer) -> None:
    assert find_format(write(tmp_path, "train", draw_scenes(2)), "train").name == name


@pytest.mark.parametrize(("name", "write"), WRITERS)
def test_read_pictures__same_labels_same_pictures(tmp_path: Path, name: str, write: Writer) -> None:
    scenes = draw_scenes(12)
    folder = write(tmp_path, "train", scenes)
    assert sorted(class_names(folder, "train")) == sorted(CLASSES)
    pictures = read_pictures(folder, "train", CLASSES)
    # YOLO has no list of its own: a folder's pictures are in the order of their names.
    order = sorted(scenes, key=lambda scene: scene.name) if name == "YOLO" else scenes
    assert [picture.path.name for picture in pictures] == [scene.name for scene in order]
    for scene, picture in zip(order, pictures, strict=True):
        assert picture.path.is_file()
        assert picture.size_hw == scene.image.shape[:2]
        expected = np.array([[x, y, x + w, y + h] for x, y, w, h in scene.boxes]).reshape(-1, 4)
        # Nine digits of a share of the picture, then float32: far below a pixel.
        np.testing.assert_allclose(picture.boxes_xyxy, expected, atol=1e-5)
        difficult = scene.difficult if name != "YOLO" else frozenset()
        labels = [IGNORED if place in difficult else label for place, label in enumerate(scene.labels)]
        assert picture.labels.tolist() == labels
        assert picture.boxes_xyxy.dtype == np.float32
        assert picture.labels.dtype == np.int64


@pytest.mark.parametrize(("name", "write"), WRITERS)
def test_coco_document__has_the_same_boxes(tmp_path: Path, name: str, write: Writer) -> None:
    folder = write(tmp_path, "val", draw_scenes(12))
    document, pictures = coco_document(folder, "val"), read_pictures(folder, "val", CLASSES)
    assert [image["id"] for image in document["images"]] == [picture.image_id for picture in pictures]
    assert [(image["height"], image["width"]) for image in document["images"]] == [
        picture.size_hw for picture in pictures
    ]
    names = {category["id"]: category["name"] for category in document["categories"]}
    for picture in pictures:
        entries = [entry for entry in document["annotations"] if entry["image_id"] == picture.image_id]
        boxes = np.array([entry["bbox"] for entry in entries], float).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        np.testing.assert_allclose(boxes, picture.boxes_xyxy, atol=1e-5)
        labels = [
            IGNORED if entry["iscrowd"] else CLASSES.index(names[entry["category_id"]]) for entry in entries
        ]
        assert labels == picture.labels.tolist()
    # A box that is ignored keeps its class: detections of others on it still count as false.
    ignored = [entry for entry in document["annotations"] if entry["iscrowd"]]
    assert len(ignored) == (0 if name == "YOLO" else 2)
    assert all(names[entry["category_id"]] in CLASSES for entry in ignored)


@pytest.mark.parametrize(("name", "write"), WRITERS)
def test_read_pictures__subset_of_classes(tmp_path: Path, name: str, write: Writer) -> None:
    folder = write(tmp_path, "train", draw_scenes(12))
    both: list[LabelledPicture] = read_pictures(folder, "train", CLASSES)
    discs = read_pictures(folder, "train", ("disc",))
    turned = read_pictures(folder, "train", CLASSES[::-1])
    assert len(both) == len(discs)  # those without a disc train as background
    assert 0 < sum(len(picture.labels) for picture in discs) < sum(len(picture.labels) for picture in both)
    for one, other in zip(both, turned, strict=True):
        assert [1 - label if label != IGNORED else label for label in one.labels] == other.labels.tolist()
    with pytest.raises(DataError, match="no class 'cat'; it has disc, square"):
        read_pictures(folder, "train", ("disc", "cat"))


@pytest.mark.parametrize(("crowd", "labels"), [
    ("ignore", [0, IGNORED, IGNORED, IGNORED]),
    ("drop", [0, IGNORED, IGNORED]),  # a difficult one is no crowd, even where evaluation takes it for one
])  # fmt: skip
def test_read_pictures__crowds(tmp_path: Path, crowd: Literal["ignore", "drop"], labels: list[int]) -> None:
    document = """{"images": [{"id": 1, "file_name": "a.png"}], "categories": [{"id": 1, "name": "cat"}],
        "annotations": [
            {"image_id": 1, "category_id": 1, "bbox": [1, 1, 2, 2]},
            {"image_id": 1, "category_id": 1, "bbox": [2, 1, 2, 2], "iscrowd": 1},
            {"image_id": 1, "category_id": 1, "bbox": [3, 1, 2, 2], "difficult": 1},
            {"image_id": 1, "category_id": 1, "bbox": [4, 1, 2, 2], "difficult": 1, "iscrowd": 1}]}"""
    file = tmp_path / "labels.json"
    file.write_text(document)
    assert read_pictures(file, "train", ("cat",), crowd)[0].labels.tolist() == labels
    assert [entry.get("iscrowd", 0) for entry in coco_document(file, "train")["annotations"]] == [0, 1, 1, 1]


@pytest.mark.parametrize(("name", "write"), WRITERS)
def test_find_format__no_such_split(tmp_path: Path, name: str, write: Writer) -> None:
    write(tmp_path, "train", draw_scenes(2))
    with pytest.raises(DataError, match="no split 'test', it has train") as caught:
        read_pictures(tmp_path, "test", CLASSES)
    assert "\n" not in str(caught.value)


def test_find_format__nothing_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file or folder"):
        read_pictures(tmp_path / "absent", "train", CLASSES)
    (tmp_path / "notes.txt").write_text("nothing")
    for path in (tmp_path, tmp_path / "notes.txt"):
        with pytest.raises(DataError, match="no data set; looked for ") as caught:
            read_pictures(path, "train", CLASSES)
        for what in (
            "instances_<split>.json",
            "_annotations.coco.json",
            "data.yaml",
            "ImageSets/Main",
            ".xml",
        ):
            assert what in str(caught.value)
        assert "\n" not in str(caught.value)


def test_find_format__two_in_one_folder(tmp_path: Path) -> None:
    write_coco(tmp_path, "train", draw_scenes(2))
    write_yolo(tmp_path, "train", draw_scenes(2))
    with pytest.raises(DataError, match=r"a data set in COCO and YOLO; name its COCO file or data\.yaml"):
        read_pictures(tmp_path, "train", CLASSES)
    coco = tmp_path / "annotations" / "instances_train.json"
    assert read_pictures(coco, "train", CLASSES)[0].path.parent == tmp_path / "train"
    yolo = read_pictures(tmp_path / "data.yaml", "train", CLASSES)
    assert yolo[0].path.parent == tmp_path / "images" / "train"
    # YOLO's file names `val` too, COCO's folder does not have it.
    with pytest.raises(DataError, match=r"data\.yaml: no images/val; looked for "):
        read_pictures(tmp_path, "val", CLASSES)
