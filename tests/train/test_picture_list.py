"""Pictures without labels: which there are, and the ids that they get."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from fcos_edge.errors import DataError
from fcos_edge.train.data.picture_list import is_unlabelled, numbers_in_names, read_picture_list
from tests.coco_sets import make_coco_set

COCO_LIST: dict[str, Any] = {
    "images": [{"id": 30, "file_name": "b.png"}, {"id": 4, "file_name": "a.png"}],
    "categories": [{"id": 18, "name": "dog"}, {"id": 1, "name": "person"}],
}


def _draw(folder: Path, *names: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        cv2.imwrite(str(folder / name), np.zeros((8, 8, 3), np.uint8))
    return folder


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["000000000042.jpg", "7.png"], [42, 7]),
        (["0.jpg"], [0]),
        (["42.jpg", "042.jpg"], None),  # the same number
        (["42.jpg", "42.png"], None),
        (["42.jpg", "cat.jpg"], None),
        (["-1.jpg"], None),
        (["1.5.jpg"], None),
        (["٤٢.jpg"], None),  # digits, but not COCO's
        (["1234567890123456789.jpg"], None),  # 2^63 is not far
    ],
)
def test_numbers_in_names(names: list[str], expected: list[int] | None) -> None:
    assert numbers_in_names([Path("some", name) for name in names]) == expected


def test_read_picture_list__folder(tmp_path: Path) -> None:
    listed = read_picture_list(_draw(tmp_path / "a", "000000000042.png", "000000000007.png"))
    assert [(p.path.name, p.image_id) for p in listed.pictures] == [
        ("000000000007.png", 7), ("000000000042.png", 42),
    ]  # fmt: skip
    assert listed.image_ids == "the number in the file name"
    assert listed.pictures[0].boxes_xyxy.shape == (0, 4)
    listed = read_picture_list(_draw(tmp_path / "b", "7.png", "x.png"))
    assert [picture.image_id for picture in listed.pictures] == [1, 2]
    assert listed.category_ids(("person", "dog", "cat"), ("dog", "cat")) == [2, 3]


def test_read_picture_list__text(tmp_path: Path) -> None:
    _draw(tmp_path / "some", "b.png", "a c.png")
    _draw(tmp_path / "other", "3.png")
    lines = ["some/b.png", "", "  some/a c.png ", str(tmp_path / "other" / "3.png")]
    (tmp_path / "list.txt").write_text("\n".join(lines))
    listed = read_picture_list(tmp_path / "list.txt")
    assert [(p.path.name, p.image_id) for p in listed.pictures] == [
        ("b.png", 1),
        ("a c.png", 2),
        ("3.png", 3),
    ]
    assert all(picture.path.is_file() for picture in listed.pictures)


@pytest.mark.parametrize("below", ["test2017", "."])
def test_read_picture_list__coco(tmp_path: Path, below: str) -> None:
    _draw(tmp_path / "elsewhere", "c.png")
    _draw(tmp_path / below, "a.png", "b.png")
    (tmp_path / "annotations").mkdir()
    file = tmp_path / "annotations" / "image_info_test-dev2017.json"
    file.write_text(json.dumps(COCO_LIST))
    listed = read_picture_list(file)
    assert [(p.path, p.image_id) for p in listed.pictures] == [
        (tmp_path / below / "b.png", 30), (tmp_path / below / "a.png", 4),
    ]  # fmt: skip
    assert listed.category_ids(("cat", "person", "dog"), ("person", "dog")) == [1, 18]
    with pytest.raises(DataError, match="no category 'cat'; leave it out with --classes"):
        listed.category_ids(("cat", "person"), ("cat", "person"))


@pytest.mark.parametrize(
    ("name", "content", "line"),
    [
        ("list.txt", "a.png\nb.png\n", "list.txt, line 2: 'b.png' is no picture's path"),
        ("list.txt", "\n \n", "list.txt: no pictures; write a path on each line"),
        ("list.txt", b"\xff\xfe", "cannot be read .UnicodeDecodeError."),
        ("list.txt", "a\0.png", "line 1: .* is no picture's path"),
        ("image_info_x.json", "{", "image_info_x.json: no COCO list of pictures"),
        ("image_info_x.json", "[]", "no COCO list of pictures"),
        ("image_info_x.json", json.dumps({**COCO_LIST, "images": []}), "no images or no categories"),
        ("image_info_x.json", json.dumps(COCO_LIST), "no b.png in the folders of"),
        (
            "image_info_x.json",
            json.dumps({**COCO_LIST, "images": [{"id": 1, "file_name": "a.png"}, *COCO_LIST["images"]]}),
            "b.png: no such picture; add it, or take it out of image_info_x.json",
        ),
        (
            "image_info_x.json",
            json.dumps({**COCO_LIST, "images": [{"id": 1, "file_name": "a.png"}] * 2}),
            "ids must be whole numbers, and different",
        ),
    ],
)
def test_read_picture_list__refuses(tmp_path: Path, name: str, content: str | bytes, line: str) -> None:
    _draw(tmp_path, "a.png")
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DataError, match=line):
        read_picture_list(tmp_path / name)


def test_is_unlabelled(tmp_path: Path) -> None:
    pictures = _draw(tmp_path / "pictures", "a.png")
    for name in ("list.txt", "image_info_test2017.json", "instances_val.json"):
        (tmp_path / name).write_text("")
    (tmp_path / "empty").mkdir()
    rows = {
        pictures: True,
        tmp_path / "list.txt": True,
        tmp_path / "image_info_test2017.json": True,
        tmp_path / "instances_val.json": False,
        tmp_path / "empty": False,
        tmp_path / "nowhere": False,
        tmp_path / "nowhere.txt": False,
        make_coco_set(tmp_path / "coco", "val", 1): False,
        _draw(tmp_path / "coco", "example.png"): False,  # a stray picture beside the labels
        tmp_path / "coco" / "val": True,
    }
    assert {path: is_unlabelled(path) for path in rows} == rows
