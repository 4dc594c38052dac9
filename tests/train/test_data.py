"""COCO files: what is read, and one clear line for what cannot be."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from fcos_edge.errors import DataError
from fcos_edge.train.config import AugmentConfig
from fcos_edge.train.dataset import LabelledPicture, check_files, hold_out
from fcos_edge.train.formats.coco import class_names, read_coco
from fcos_edge.train.loader import TrainingPictures, collate
from fcos_edge.train.targets import BACKGROUND, IGNORED

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
    (_with("annotations", 0, "category_id", value=11), "not COCO annotations (KeyError: 11)"),
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
    with pytest.raises(DataError, match=r"no annotations/instances_val\.json; give a COCO data set's folder"):
        read_coco(tmp_path, "val", ("cat",))


def _pictures(count: int) -> list[LabelledPicture]:
    empty, none = np.zeros((0, 4), np.float32), np.zeros(0, np.int64)
    return [LabelledPicture(Path(f"{i}.png"), i, empty, none) for i in range(count)]


def test_check_files__missing_picture(tmp_path: Path) -> None:
    check_files([])
    with pytest.raises(DataError, match=r"0\.png: no such picture"):
        check_files(_pictures(1))


def test_hold_out__splits_by_lot_and_keeps_the_order() -> None:
    pictures = _pictures(20)
    rest, held = hold_out(pictures, 6)
    ids = [p.image_id for p in rest], [p.image_id for p in held]
    assert (len(rest), len(held)) == (14, 6)
    assert ids[0] == sorted(ids[0])
    assert ids[1] == sorted(ids[1])
    assert sorted(ids[0] + ids[1]) == list(range(20))
    assert ids[1] != list(range(6))
    again, other = hold_out(pictures, 6), hold_out(pictures, 6, seed=1)
    assert [p.image_id for p in again[1]] == ids[1]
    assert [p.image_id for p in other[1]] != ids[1]
    # Of the embedded default: another lot would mix its training pictures with those held out.
    assert [p.image_id for p in hold_out(_pictures(4594), 200)[1]][:5] == [26, 61, 72, 79, 103]


@pytest.mark.parametrize("count", [-1, 3, 4])
def test_hold_out__too_many(count: int) -> None:
    with pytest.raises(DataError, match=f"cannot hold out {count} of 3 pictures"):
        hold_out(_pictures(3), count)


def test_hold_out__none() -> None:
    rest, held = hold_out(_pictures(3), 0)
    assert (len(rest), held) == (3, [])


def test_training_pictures__depend_on_seed_epoch_and_index_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    cv2.imwrite(str(path), np.random.default_rng(0).integers(0, 255, (40, 50, 3), np.uint8))
    picture = LabelledPicture(path, 1, np.array([[5, 5, 30, 30]], np.float32), np.array([1]))

    def sample(seed: int, epoch: int, index: int) -> torch.Tensor:
        data = TrainingPictures([picture, picture], AugmentConfig(), seed)
        data.epoch, data.input_hw = epoch, (32, 64)
        return data[index][0]

    first = sample(0, 0, 0)
    assert first.shape == (3, 32, 64)
    assert first.dtype == torch.uint8
    assert torch.equal(first, sample(0, 0, 0))
    for other in ((1, 0, 0), (0, 1, 0), (0, 0, 1)):
        assert not torch.equal(first, sample(*other))


def test_training_pictures__are_rgb(tmp_path: Path) -> None:
    path = tmp_path / "blue.png"
    image = np.zeros((32, 32, 3), np.uint8)
    image[..., 0] = 200
    cv2.imwrite(str(path), image)
    plain = AugmentConfig(scale=(1, 1), contrast=0, brightness=0, saturation=0)
    data = TrainingPictures(
        [LabelledPicture(path, 1, np.zeros((0, 4), np.float32), np.zeros(0, np.int64))], plain, 0
    )
    data.input_hw = (32, 32)
    assert data[0][0][:, 16, 16].tolist() == [0, 0, 200]


def test_collate__pads_boxes() -> None:
    image = torch.zeros(3, 4, 4, dtype=torch.uint8)
    box = torch.tensor([[1.0, 2, 3, 4]])
    none = (image, torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64))
    images, truth = collate(
        [(image, box, torch.tensor([IGNORED])), none, (image, box.repeat(2, 1), torch.tensor([4, 5]))]
    )
    assert images.shape == (3, 3, 4, 4)
    assert truth.labels.tolist() == [[IGNORED, BACKGROUND], [BACKGROUND, BACKGROUND], [4, 5]]
    assert truth.boxes_xyxy[0].tolist() == [[1, 2, 3, 4], [0, 0, 0, 0]]
    assert collate([none, none])[1].boxes_xyxy.shape == (2, 0, 4)
