"""COCO files: what is read, and one clear line for what cannot be."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fcos_edge.errors import DataError
from fcos_edge.train.formats.coco import class_names, read_coco
from fcos_edge.train.targets import IGNORED

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


def test_read_coco__table(tmp_path: Path) -> None:
    first, second = read_coco(_write(tmp_path, _document()), "train", ("cat", "dog"))
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
def test_read_coco__broken_annotations(
    tmp_path: Path, change: Callable[[Document], None], message: str
) -> None:
    document = _document()
    change(document)
    with pytest.raises(DataError) as caught:
        read_coco(_write(tmp_path, document), "train", ("cat", "dog"))
    assert message in str(caught.value)
    assert str(caught.value).startswith(f"{tmp_path / 'annotations' / 'instances_train.json'}: ")


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"5", b"\xff\xfe", b"[" * 100_000])
def test_read_coco__no_json(tmp_path: Path, content: bytes) -> None:
    path = _write(tmp_path, {}) / "annotations" / "instances_train.json"
    path.write_bytes(content)
    for read in (lambda: read_coco(tmp_path, "train", ("cat",)), lambda: class_names(tmp_path, "train")):
        with pytest.raises(DataError, match="COCO"):
            read()


@pytest.mark.parametrize(
    "categories", [[], None, 5, [{"id": 1}], [5], [{"name": 5}], [{"name": "a"}, {"name": "a"}]]
)
def test_class_names__broken_categories(tmp_path: Path, categories: object) -> None:
    document = {**_document(), "categories": categories}
    with pytest.raises(DataError, match=r"instances_train\.json: "):
        class_names(_write(tmp_path, document), "train")


def test_read_coco__missing_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no data set; looked for annotations/instances_<split>\.json"):
        read_coco(tmp_path, "val", ("cat",))
