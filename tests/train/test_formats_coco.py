"""COCO files: what is read, and one clear line for what cannot be."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fcos_edge.errors import DataError
from fcos_edge.train.data.formats import class_names, read_pictures
from fcos_edge.train.targets import IGNORED
from tests.coco_sets import CLASSES, coco_of, draw_scenes, write_pictures

Document = dict[str, Any]


def _document() -> Document:
    return {
        "images": [{"id": 5, "file_name": "a.png"}, {"id": 3, "file_name": "b.png"}],
        "annotations": [
            {"image_id": 5, "category_id": 20, "bbox": [1, 2, 10, 20]},
            {"image_id": 5, "category_id": 10, "bbox": [0.5, 0, 4, 4], "iscrowd": 0, "difficult": 0},
            {"image_id": 5, "category_id": 20, "bbox": [3, 3, 5, 5], "iscrowd": 1},
            {"image_id": 5, "category_id": 20, "bbox": [4, 4, 5, 5], "difficult": 1},
            {"image_id": 5, "category_id": 30, "bbox": [0, 0, 9, 9]},
            {"image_id": 5, "category_id": 20, "bbox": [7, 7, 0, 5]},
        ],
        "categories": [{"id": 10, "name": "dog"}, {"id": 20, "name": "cat"}, {"id": 30, "name": "cow"}],
    }


def _write(folder: Path, document: object) -> Path:
    (folder / "annotations").mkdir(exist_ok=True)
    (folder / "annotations" / "instances_train.json").write_text(json.dumps(document))
    return folder


def test_read_pictures__table(tmp_path: Path) -> None:
    first, second = read_pictures(_write(tmp_path, _document()), "train", ("cat", "dog"))
    assert first.path == tmp_path / "train" / "a.png"
    assert first.image_id == 5
    # cat, dog, a crowd, a difficult one; the cow is no class here, the last has no width
    assert first.boxes_xyxy.tolist() == [[1, 2, 11, 22], [0.5, 0, 4.5, 4], [3, 3, 8, 8], [4, 4, 9, 9]]
    assert first.labels.tolist() == [0, 1, IGNORED, IGNORED]
    assert (second.image_id, second.boxes_xyxy.shape, second.labels.shape) == (3, (0, 4), (0,))
    for picture in (first, second):
        assert picture.boxes_xyxy.dtype == np.float32
        assert picture.labels.dtype == np.int64


def test_class_names__are_in_the_files_order(tmp_path: Path) -> None:
    assert class_names(_write(tmp_path, _document()), "train") == ("dog", "cat", "cow")


def _with(*keys: Any, value: Any) -> Callable[[Document], None]:
    """Sets one value deep in a document."""

    def change(document: Document) -> None:
        place: Any = document
        for key in keys[:-1]:
            place = place[key]
        place[keys[-1]] = value

    return change


def _without(*keys: Any) -> Callable[[Document], None]:
    def change(document: Document) -> None:
        place: Any = document
        for key in keys[:-1]:
            place = place[key]
        del place[keys[-1]]

    return change


BROKEN: list[tuple[Callable[[Document], None], str]] = [
    (_without("images"), "expected the COCO keys images, annotations and categories"),
    (_without("annotations"), "expected the COCO keys"),
    (_with("images", value=[]), "no pictures"),
    (_with("images", value=5), "not COCO annotations"),
    (_with("images", value=None), "not COCO annotations"),
    (_with("images", 0, value="a.png"), "not COCO annotations"),
    (_without("images", 0, "file_name"), "not COCO annotations (KeyError: 'file_name')"),
    (_with("images", 0, "file_name", value=7), "not COCO annotations"),
    (_with("images", 1, "id", value=5), "the ids of images must be different whole numbers"),
    (_with("images", 1, "id", value="5"), "the ids of images must be different whole numbers"),
    (_with("images", 1, "id", value=[]), "the ids of images must be different whole numbers"),
    (_with("annotations", value={"a": 1}), "not COCO annotations"),
    (_with("annotations", 0, value=[]), "not COCO annotations"),
    (_with("annotations", 0, value=None), "not COCO annotations"),
    (_without("annotations", 0, "bbox"), "not COCO annotations (KeyError: 'bbox')"),
    (_without("annotations", 0, "image_id"), "not COCO annotations (KeyError: 'image_id')"),
    (_with("annotations", 0, "image_id", value=[5]), "not COCO annotations"),
    (
        _with("annotations", 0, "category_id", value=11),
        "a box on a.png of category_id 11, which no category has",
    ),
    (_with("annotations", 0, "category_id", value=[]), "not COCO annotations"),
    (_with("annotations", 0, "bbox", value=[1, 2, 3]), "not COCO annotations"),
    (_with("annotations", 0, "bbox", value="1234"), "bbox is 1234"),  # four digits are four numbers to map()
    (_with("annotations", 0, "bbox", value=None), "not COCO annotations"),
    (_with("annotations", 0, "bbox", value=[1, 2, "wide", 4]), "not COCO annotations"),
    (_with("annotations", 0, "bbox", value=[1, float("nan"), 3, 4]), "bbox is [1, nan, 3, 4]"),
    (_with("annotations", 0, "bbox", value=[1, 2, float("inf"), 4]), "bbox is [1, 2, inf, 4]"),
    (_with("annotations", 0, "bbox", value=[1, 2, 10**400, 4]), "not COCO annotations (OverflowError"),
    (_with("categories", value=None), "not COCO annotations"),
    (_with("categories", 0, value="dog"), "not COCO annotations"),
    (_without("categories", 0, "id"), "not COCO annotations (KeyError: 'id')"),
    (_with("categories", 1, "name", value="kat"), "no class 'cat'; it has cow, dog, kat"),
    (_with("categories", 1, "name", value=5), "not COCO annotations"),
]


@pytest.mark.parametrize(("change", "message"), BROKEN, ids=range(len(BROKEN)))
def test_read_pictures__broken_annotations(
    tmp_path: Path, change: Callable[[Document], None], message: str
) -> None:
    document = _document()
    change(document)
    with pytest.raises(DataError) as caught:
        read_pictures(_write(tmp_path, document), "train", ("cat", "dog"))
    assert message in str(caught.value)
    assert str(caught.value).startswith(f"{tmp_path / 'annotations' / 'instances_train.json'}: ")


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"5", b"\xff\xfe", b"[" * 100_000])
def test_read_pictures__no_json(tmp_path: Path, content: bytes) -> None:
    path = _write(tmp_path, {}) / "annotations" / "instances_train.json"
    path.write_bytes(content)
    for read in (lambda: read_pictures(tmp_path, "train", ("cat",)), lambda: class_names(tmp_path, "train")):
        with pytest.raises(DataError, match="COCO"):
            read()


@pytest.mark.parametrize(
    "categories", [[], None, 5, [{"id": 1}], [5], [{"name": 5}], [{"name": "a"}, {"name": "a"}]]
)
def test_class_names__broken_categories(tmp_path: Path, categories: object) -> None:
    document = {**_document(), "categories": categories}
    with pytest.raises(DataError, match=r"instances_train\.json: "):
        class_names(_write(tmp_path, document), "train")


def test_read_pictures__missing_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no data set; looked for annotations/instances_<split>\.json"):
        read_pictures(tmp_path, "val", ("cat",))


# Where the file lies, what names it, and where its pictures lie.
LAYOUTS = [
    ("annotations/instances_train.json", ".", "train"),
    ("annotations/instances_train.json", ".", "images/train"),
    ("annotations/instances_train.json", ".", "images"),
    ("annotations/instances_train.json", ".", "annotations"),
    ("annotations/instances_train.json", "annotations/instances_train.json", "train"),
    ("train/_annotations.coco.json", ".", "train"),
    ("train/_annotations.coco.json", "train/_annotations.coco.json", "train"),
    ("instances_train.json", "instances_train.json", "train"),
    ("train.json", "train.json", "train"),
    ("labels.json", "labels.json", "images"),
    ("labels.json", "labels.json", "."),
    ("labels.json", "labels.json", "labels"),
]


@pytest.mark.parametrize(("file", "path", "pictures"), LAYOUTS, ids=range(len(LAYOUTS)))
def test_read_pictures__layouts(tmp_path: Path, file: str, path: str, pictures: str) -> None:
    scenes = draw_scenes(3)
    write_pictures(tmp_path / pictures, scenes)
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).write_text(json.dumps(coco_of(scenes)))
    read = read_pictures(tmp_path / path, "train", CLASSES)
    assert [picture.path.resolve() for picture in read] == [tmp_path / pictures / s.name for s in scenes]


def test_read_pictures__file_names_with_folders(tmp_path: Path) -> None:
    scenes = draw_scenes(2)
    write_pictures(tmp_path / "train" / "deep", scenes)
    document = coco_of(scenes)
    for image in document["images"]:
        image["file_name"] = f"train/deep/{image['file_name']}"
    (tmp_path / "labels.json").write_text(json.dumps(document))
    assert all(p.path.is_file() for p in read_pictures(tmp_path / "labels.json", "any", CLASSES))


def test_read_pictures__without_pictures(tmp_path: Path) -> None:
    folder = _write(tmp_path, _document())
    assert read_pictures(folder, "train", ("cat",))[0].path == tmp_path / "train" / "a.png"
    (tmp_path / "alone.json").write_text(json.dumps(_document()))
    (first, _) = read_pictures(tmp_path / "alone.json", "val", ("cat",))
    assert (first.path, first.size_hw) == (tmp_path / "alone" / "a.png", (0, 0))


def test_read_pictures__roboflow(tmp_path: Path) -> None:
    scenes = draw_scenes(3)
    write_pictures(tmp_path / "valid", scenes)
    document = coco_of(scenes)
    for category in document["categories"]:
        category["supercategory"] = "shapes"
    document["categories"].insert(0, {"id": 0, "name": "shapes", "supercategory": "none"})
    (tmp_path / "valid" / "_annotations.coco.json").write_text(json.dumps(document))
    for split in ("val", "valid"):
        assert class_names(tmp_path, split) == CLASSES  # `shapes` is the project, no class
        assert len(read_pictures(tmp_path, split, CLASSES)) == 3
    with pytest.raises(DataError, match="no split 'train', it has val, valid"):
        read_pictures(tmp_path, "train", CLASSES)


SIZES: list[tuple[dict[str, Any], tuple[int, int], float]] = [
    # pictures that were shrunk: COCO's small, medium and large are of the originals
    ({"width": 60, "height": 40, "orig_width": 120, "orig_height": 80}, (40, 60), 4.0),
    ({"width": 60, "height": 40}, (40, 60), 1.0),
    # no size, or none that can be: from the picture's header
    ({}, (96, 128), 1.0),
    ({"width": 0, "height": 0, "orig_width": 120, "orig_height": 80}, (96, 128), 1.0),
    ({"width": "60", "height": None}, (96, 128), 1.0),
    ({"width": 60, "height": 40, "orig_width": -1, "orig_height": 80}, (40, 60), 1.0),
]


@pytest.mark.parametrize(("sizes", "size_hw", "area_scale"), SIZES, ids=range(len(SIZES)))
def test_read_pictures__sizes(
    tmp_path: Path, sizes: dict[str, Any], size_hw: tuple[int, int], area_scale: float
) -> None:
    scenes = draw_scenes(1)
    write_pictures(tmp_path / "train", scenes)
    document = coco_of(scenes)
    document["images"] = [{"id": 1, "file_name": scenes[0].name, **sizes}]
    (picture,) = read_pictures(_write(tmp_path, document), "train", CLASSES)
    assert (picture.size_hw, picture.area_scale) == (size_hw, area_scale)


def test_read_pictures__box_of_no_picture_is_left_out(tmp_path: Path) -> None:
    document = _document()
    document["annotations"][0]["image_id"] = 77
    assert len(read_pictures(_write(tmp_path, document), "train", ("cat", "dog"))[0].labels) == 3


def test_read_pictures__of_the_data_at_hand(data_set: Callable[[str], Path]) -> None:
    pictures = read_pictures(data_set("coco-person"), "val", ("person",))
    assert (len(pictures), sum(int((p.labels == 0).sum()) for p in pictures)) == (230, 958)
    assert pictures[0].size_hw == (416, 312)
    assert pictures[0].area_scale == 375 * 500 / (312 * 416)
