"""YOLO folders: where pictures and labels are looked for, and one clear line for rows that are none."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from fcos_edge.errors import DataError
from fcos_edge.train.data.formats import class_names, read_labels, read_pictures
from tests.coco_sets import CLASSES, draw_scenes, write_pictures, write_yolo

IMAGE = np.full((40, 80, 3), 128, np.uint8)


def _set(folder: Path, yaml: str = "", rows: str = "0 0.5 0.5 0.25 0.5\n") -> Path:
    """One picture of 80x40, train/images/a.png, with its labels."""
    for name in ("images", "labels"):
        (folder / "train" / name).mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(folder / "train" / "images" / "a.png"), IMAGE)
    (folder / "train" / "labels" / "a.txt").write_text(rows)
    (folder / "data.yaml").write_text(yaml or "train: train/images\nnames: [square, disc]\n")
    return folder


ROWS = [
    # a box in the middle; class, centre, size
    ("0 0.5 0.5 0.25 0.5", [[30, 10, 50, 30]]),
    # spaces, an empty line, a class written as a float, exponents
    ("\n  1.0\t5e-1 0.5 0.25 0.5 \n\n", [[30, 10, 50, 30]]),
    # beyond the border by a rounding error: kept as it is, the check clips it
    ("0 0.5 0.5 1.001 1", [[-0.04, 0, 80.04, 40]]),
    # a polygon becomes the box around it
    ("0 0.1 0.2 0.5 0.1 0.4 0.9", [[8, 4, 40, 36]]),
    # without width: no box to train on
    ("0 0.5 0.5 0 0.5", []),
    # nothing: a picture without boxes
    ("", []),
]


@pytest.mark.parametrize(("rows", "boxes"), ROWS, ids=range(len(ROWS)))
def test_read__rows(tmp_path: Path, rows: str, boxes: list[list[float]]) -> None:
    (picture,) = read_pictures(_set(tmp_path, rows=rows), "train", CLASSES)
    # float32 of tens of pixels
    np.testing.assert_allclose(picture.boxes_xyxy, np.array(boxes).reshape(-1, 4), atol=1e-5)
    assert picture.size_hw == (40, 80)


BAD_ROWS = [
    ("0 0.5 0.5 0.25", "line 1: 4 numbers, expected a class and cx cy w h"),
    ("0 0.5 0.5 0.25 0.5 0.9", "line 1: 6 numbers"),  # a confidence: these are detections, not labels
    ("0 0.1 0.1 0.2 0.2\ncat 0.5 0.5 0.25 0.5", "line 2: 'cat 0.5 0.5 0.25 0.5' is not numbers"),
    ("0.5 0.5 0.5 0.25 0.5", "line 1: class 0.5 is not a whole number"),
    ("nan 0.5 0.5 0.25 0.5", "line 1: class nan is not a whole number"),
    ("inf 0.5 0.5 0.25 0.5", "line 1: class inf is not a whole number"),
    ("0 40 20 20 20", "line 1: coordinate 40, expected 0 to 1, relative to the picture's size"),
    ("0 0.5 0.5 -0.25 0.5", "line 1: coordinate -0.25"),
    ("0 nan 0.5 0.25 0.5", "line 1: coordinate nan"),
    ("0 0.1 0.2 0.5 7 0.4 0.9", "line 1: coordinate 7"),
    ("2 0.5 0.5 0.25 0.5", "line 1: class 2, data.yaml names 0 to 1"),
    ("-1 0.5 0.5 0.25 0.5", "line 1: class -1, data.yaml names 0 to 1"),
]


@pytest.mark.parametrize(("rows", "message"), BAD_ROWS, ids=range(len(BAD_ROWS)))
def test_read__bad_rows(tmp_path: Path, rows: str, message: str) -> None:
    folder = _set(tmp_path, rows=rows)
    with pytest.raises(DataError) as caught:
        read_pictures(folder, "train", CLASSES)
    assert str(caught.value).startswith(f"{folder / 'train' / 'labels' / 'a.txt'}: {message}")
    assert "\n" not in str(caught.value)
    assert len(read_labels(folder, "train").faults) == 1  # what can be read is read, for the data check


def test_read__labels_that_are_no_text(tmp_path: Path) -> None:
    folder = _set(tmp_path)
    (folder / "train" / "labels" / "a.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match=r"a\.txt: cannot be read as text"):
        read_pictures(folder, "train", CLASSES)


def test_read__key_points_follow_the_box(tmp_path: Path) -> None:
    yaml = "train: train/images\nnames: [person]\nkpt_shape: [2, 3]\n"
    rows = "0 0.5 0.5 0.25 0.5 0.1 0.1 2 0.9 0.9 1"  # as a polygon it would reach from 0.1 to 2
    (picture,) = read_pictures(_set(tmp_path, yaml, rows), "train", ("person",))
    assert picture.boxes_xyxy.tolist() == [[30, 10, 50, 30]]


NAMES = [
    ("names: [square, disc]", ("square", "disc")),
    ("names: {0: square, 1: disc}", ("square", "disc")),
    ("names:\n  1: disc\n  0: square", ("square", "disc")),
    ("names: {'0': square, '1': disc}", ("square", "disc")),
    ("names: [1, 2.5, yes]", ("1", "2.5", "True")),  # YAML's own types
]


@pytest.mark.parametrize(("names", "expected"), NAMES, ids=range(len(NAMES)))
def test_class_names__list_or_table(tmp_path: Path, names: str, expected: tuple[str, ...]) -> None:
    assert class_names(_set(tmp_path, f"train: train/images\n{names}\n"), "train") == expected


# Each name stands for nine of the one before: in full it has 9^30 words.
BOMB = "[&a0 [lol], " + ", ".join(f"&a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 30)) + "]"
BAD_YAML = [
    ("train: train/images\n", "names must be a list of classes"),
    ("train: train/images\nnames: cat\n", "names must be a list of classes"),
    ("train: train/images\nnames: []\n", "names must be a list of classes"),
    ("train: train/images\nnames: {0: cat, 2: dog}\n", "names must be a list of classes"),
    ("train: train/images\nnames: {a: cat}\n", "names must be a list of classes"),
    ("train: train/images\nnames: [cat, cat]\n", "names must name each class once"),
    ("train: train/images\nnames: [cat, [dog]]\n", "names holds ['cat', ['dog']], expected words"),
    ("train: train/images\nnames: [cat, null]\n", "names holds ['cat', None], expected words"),
    ("train: 5\nnames: [cat]\n", "train is 5, expected a folder, a text file or a list"),
    ("train: [train/images, 7]\nnames: [cat]\n", "expected a folder, a text file or a list"),
    ("train: {a: b}\nnames: [cat]\n", "expected a folder, a text file or a list"),
    ("train: elsewhere\nnames: [cat]\n", "no elsewhere; looked for "),
    ("train: train/images\npath: [a]\nnames: [cat]\n", "path is ['a'], expected a folder"),
    ("train: train/labels\nnames: [cat]\n", "no pictures in this folder"),
    ("train: train/images/a.png\nnames: [cat]\n", "not a list of pictures"),
    ("train: train/images\nnames: [cat]\nkpt_shape: many\n", "kpt_shape is 'many'"),
    ("train: [\n", "cannot be read as YAML"),
    ("!!python/object/apply:os.system ['true']", "cannot be read as YAML"),
    ("\x00", "cannot be read as YAML"),
    ("- train\n", "holds no keys"),
    ("[" * 100_000, "cannot be read as YAML"),
    (f"train: train/images\nnames: {BOMB}\n", "names holds "),
    (f"train: {BOMB}\nnames: [cat]\n", "train is "),
    (f"train: train/images\nnames: [cat]\nkpt_shape: {BOMB}\n", "kpt_shape is "),
]


@pytest.mark.parametrize(("yaml", "message"), BAD_YAML, ids=range(len(BAD_YAML)))
def test_read__bad_yaml(tmp_path: Path, yaml: str, message: str) -> None:
    folder = _set(tmp_path, yaml)
    with pytest.raises(DataError) as caught:
        read_pictures(folder, "train", ("cat",))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_read__no_labels_anywhere(tmp_path: Path) -> None:
    folder = _set(tmp_path)
    (folder / "train" / "labels").rename(folder / "train" / "annotations")
    with pytest.raises(DataError, match=r"no picture of train has labels; looked for .*train/labels/a\.txt"):
        read_pictures(folder, "train", CLASSES)


@pytest.mark.parametrize(("place", "yaml"), [
    ("images/train", "train: images/train"),
    ("images/train", "path: .\ntrain: images/train"),
    ("images/train", "path: /nowhere/any/more\ntrain: images/train"),  # the folder was moved
    ("images/train", "train: images"),  # all below it
    ("images/train", "train: [images/train]"),
    ("train/images", "train: ../train/images"),  # as Roboflow writes it
    ("set/images/train", "path: set\ntrain: images/train"),
    ("images/deep/images/train", "train: images"),  # the last `images` is replaced
    ("train", "train: train"),  # no `images` at all: labels beside the pictures
])  # fmt: skip
def test_read__where_pictures_lie(tmp_path: Path, place: str, yaml: str) -> None:
    folder = tmp_path / "root"
    pictures = folder / place
    head, found, tail = f"/{place}".rpartition("/images")
    labels = folder / (f"{head}/labels{tail}" if found else place).lstrip("/")
    for each in (pictures, labels):
        each.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(pictures / "a.png"), IMAGE)
    (labels / "a.txt").write_text("1 0.5 0.5 0.25 0.5\n")
    (folder / "data.yaml").write_text(f"{yaml}\nnames: [square, disc]\n")
    (picture,) = read_pictures(folder, "train", CLASSES)
    assert picture.path.samefile(pictures / "a.png")
    assert picture.labels.tolist() == [1]


def test_read__list_file_keeps_its_order(tmp_path: Path) -> None:
    scenes = draw_scenes(6)
    write_yolo(tmp_path, "train", scenes)
    names = ["./images/train/picture5.png", "images/train/picture0.png", ""]
    names.append(str(tmp_path / "images" / "train" / "picture2.png"))
    names.append("images/train/gone.png")  # the data check finds it
    (tmp_path / "some.txt").write_text("\n".join(names))
    (tmp_path / "data.yaml").write_text("train: [some.txt, more]\nnames: [square, disc]\n")
    write_pictures(tmp_path / "more", scenes[4:5])
    pictures = read_pictures(tmp_path, "train", CLASSES)
    assert [p.path.name for p in pictures] == [
        "picture5.png", "picture0.png", "picture2.png", "gone.png", "picture4.png",
    ]  # fmt: skip
    assert [p.image_id for p in pictures] == [1, 2, 3, 4, 5]
    assert [len(p.labels) for p in pictures] == [2, 0, 2, 0, 0]
    assert pictures[3].size_hw == (0, 0)


@pytest.mark.parametrize("yaml", ["train: t\nvalid: train/images", "train: t\nval: train/images"])
def test_read__valid_is_val(tmp_path: Path, yaml: str) -> None:
    folder = _set(tmp_path, f"{yaml}\nnames: [square, disc]\n")
    assert len(read_pictures(folder, "val", CLASSES)) == 1
