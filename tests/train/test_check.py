"""The data check: every planted fault is found once and nothing else, and each rule does what it says."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from fcos_edge.errors import DataError, UsageError
from fcos_edge.train.data.check import DataReport, Rule, apply, check_data
from fcos_edge.train.data.data_report import EXAMPLES, KINDS
from fcos_edge.train.data.formats import read_pictures
from tests.coco_sets import CLASSES, Scene, draw_scenes, write_coco, write_voc, write_yolo

Document = dict[str, Any]
Sets = list[tuple[Path, str]]


@pytest.fixture
def sets(tmp_path: Path) -> Sets:
    """A clean COCO set of six pictures to train on and three others; a picture is 128x96."""
    write_coco(tmp_path, "train", draw_scenes(6, seed=1))
    write_coco(tmp_path, "val", draw_scenes(3, seed=2))
    return [(tmp_path, "train"), (tmp_path, "val")]


def _kinds(report: DataReport) -> dict[str, int]:
    return {kind: count for kind, count in report.counts.items() if count}


def _edit(folder: Path, change: Callable[[Document], None], split: str = "train") -> None:
    file = folder / "annotations" / f"instances_{split}.json"
    document = json.loads(file.read_text())
    change(document)
    file.write_text(json.dumps(document))


def _add(**entry: Any) -> Callable[[Path], None]:
    """One more annotation, by default a box inside of picture 1."""
    box = {"id": 99, "image_id": 1, "category_id": 7, "bbox": [2, 3, 20, 20], **entry}
    return lambda folder: _edit(folder, lambda document: document["annotations"].append(box))


def _copy(source: str, target: str) -> Callable[[Path], None]:
    return lambda folder: _replaced(folder, source, target)


def _replaced(folder: Path, source: str, target: str) -> None:
    shutil.copy(folder / source, folder / target)


def _cut(folder: Path) -> None:
    path = folder / "train" / "picture0.png"
    path.write_bytes(path.read_bytes()[:-30])


def _empty(folder: Path) -> None:
    (folder / "train" / "picture0.png").write_bytes(b"")


def _list_twice(folder: Path) -> None:
    _edit(folder, lambda document: document["images"].append({**document["images"][0], "id": 70}))


def _repeat_box(folder: Path) -> None:
    _edit(folder, lambda document: document["annotations"].append(dict(document["annotations"][0], id=99)))


def _state_size(folder: Path) -> None:
    _edit(folder, lambda document: document["images"][0].update(width=64, height=48))


# kind, what plants it in the training split, picture or file that it is about
PLANTED: list[tuple[str, Callable[[Path], None], str]] = [
    ("missing", lambda folder: (folder / "train" / "picture0.png").unlink(), "picture0.png"),
    ("unreadable", _cut, "picture0.png"),
    ("unreadable", _empty, "picture0.png"),
    ("unknown_class", _add(category_id=8), "instances_train.json"),
    ("no_picture", _add(image_id=70), "instances_train.json"),
    ("listed_twice", _list_twice, "picture0.png"),
    ("wrong_size", _state_size, "picture0.png"),
    ("no_area", _add(bbox=[5, 5, 0, 9]), "picture0.png"),
    ("no_area", _add(bbox=[5, 5, 9, -1]), "picture0.png"),
    ("outside", _add(bbox=[128, 5, 9, 9]), "picture0.png"),
    ("outside", _add(bbox=[5, -9, 9, 9]), "picture0.png"),
    ("partly_outside", _add(bbox=[120, 5, 9.1, 9]), "picture0.png"),
    ("partly_outside", _add(bbox=[-2, -2, 200, 200]), "picture0.png"),
    ("duplicate_box", _repeat_box, "picture1.png"),
    ("duplicate_picture", _copy("train/picture1.png", "train/picture0.png"), "picture1.png"),
    ("in_both", _copy("val/picture1.png", "train/picture0.png"), "picture0.png"),
]


@pytest.mark.parametrize(("kind", "plant", "name"), PLANTED, ids=range(len(PLANTED)))
def test_check_data__finds_what_is_planted_once(
    sets: Sets, kind: str, plant: Callable[[Path], None], name: str
) -> None:
    assert _kinds(check_data(sets, CLASSES)) == {}
    plant(sets[0][0])
    report = check_data(sets, CLASSES)
    assert _kinds(report) == {kind: 1}
    (finding,) = report.findings
    assert (finding.kind, finding.place.name) == (kind, name)
    assert "\n" not in finding.detail
    assert _kinds(check_data(sets, CLASSES, decode=True)) == {kind: 1}
    if report.rules[kind] == "refused":
        with pytest.raises(DataError) as caught:
            report.raise_if_refused()
        assert str(caught.value).startswith(f"{finding.place}: ")
        assert f"the data check refuses {KINDS[kind].what} (1)" in str(caught.value)
    else:
        report.raise_if_refused()


HARMLESS: list[tuple[str, Callable[[Path], None]]] = [
    ("a box up to the border", _add(bbox=[0, 0, 128, 96])),
    ("a rounding error beyond it", _add(bbox=[-0.6, -0.6, 129, 97])),
    ("a box of another class on the same place", _add(bbox=[2, 3, 20, 20], category_id=9)),
]


@pytest.mark.parametrize(("what", "plant"), HARMLESS)
def test_check_data__harmless(sets: Sets, what: str, plant: Callable[[Path], None]) -> None:
    _add()(sets[0][0])
    plant(sets[0][0])
    assert _kinds(check_data(sets, CLASSES)) == {}, what


def test_check_data__unreadable_labels_of_yolo_and_voc(tmp_path: Path) -> None:
    yolo = write_yolo(tmp_path / "yolo", "train", draw_scenes(3))
    (yolo / "labels" / "train" / "picture0.txt").write_text("0 1 2\n0 0.5 0.5 0.1 0.1\n9 0.5 0.5 0.1 0.1\n")
    assert _kinds(check_data([(yolo, "train")])) == {"bad_label": 1, "unknown_class": 1}
    voc = write_voc(tmp_path / "voc", "train", draw_scenes(3))
    (voc / "Annotations" / "picture1.xml").write_text("<annotation>")
    (voc / "JPEGImages" / "picture2.png").unlink()
    assert _kinds(check_data([(voc, "train")])) == {"bad_label": 1, "missing": 1}


def test_check_data__counts(sets: Sets) -> None:
    folder = sets[0][0]
    _add(iscrowd=1)(folder)
    every, _ = check_data(sets, None).sets
    document = json.loads((folder / "annotations" / "instances_train.json").read_text())
    boxes = [a for a in document["annotations"] if not a.get("iscrowd") and not a.get("difficult")]
    expected = [sum(a["category_id"] == category for a in boxes) for category in (7, 9)]
    assert every.boxes == dict(zip(CLASSES, expected, strict=True))
    assert (every.pictures, every.without_boxes) == (6, 1)  # picture 3; picture 0 has a crowd
    assert every.ignored == len(document["annotations"]) - len(boxes)
    assert every.other_boxes == 0
    discs, _ = check_data(sets, ("disc",)).sets
    assert discs.boxes == {"disc": expected[1]}
    assert sum(discs.boxes.values()) + discs.ignored + discs.other_boxes == len(document["annotations"])


def test_check_data__looks_at_the_classes_asked_for(sets: Sets) -> None:
    _add(bbox=[5, 5, 0, 9])(sets[0][0])  # a square
    assert _kinds(check_data(sets, ("disc",))) == {}
    with pytest.raises(DataError, match="no class 'cat'; it has disc, square"):
        check_data(sets, ("disc", "cat"))


def test_check_data__hash_follows_pictures_and_labels(sets: Sets) -> None:
    before = [counts.sha256 for counts in check_data(sets).sets]
    assert [counts.sha256 for counts in check_data(sets).sets] == before
    _add()(sets[0][0])
    labels = [counts.sha256 for counts in check_data(sets).sets]
    assert (labels[0] != before[0], labels[1] == before[1]) == (True, True)
    path = sets[1][0] / "val" / "picture0.png"
    cv2.imwrite(str(path), np.zeros((96, 128, 3), np.uint8))
    pictures = [counts.sha256 for counts in check_data(sets).sets]
    assert (pictures[0] == labels[0], pictures[1] != labels[1]) == (True, True)


def test_check_data__labels_alone(sets: Sets) -> None:
    folder = sets[0][0]
    _add(bbox=[128, 5, 9, 9])(folder)
    for split in ("train", "val"):
        shutil.rmtree(folder / split)
    assert _kinds(check_data(sets, pictures=False)) == {"outside": 1}  # by the size that is stated
    assert _kinds(check_data(sets)) == {"missing": 9, "outside": 1}


def test_check_data__one_folder_for_both_splits(tmp_path: Path) -> None:
    folder = write_yolo(tmp_path, "train", draw_scenes(3))
    (folder / "data.yaml").write_text("train: images/train\nval: images/train\nnames: [square, disc]\n")
    both: Sets = [(folder, "train"), (folder, "val")]
    for is_there in (True, False):
        assert _kinds(check_data(both, pictures=is_there)) == {"in_both": 3}
    assert _kinds(check_data([both[0], both[0]])) == {"listed_twice": 3}


def test_check_data__several_folders(tmp_path: Path) -> None:
    first = write_coco(tmp_path / "a", "train", draw_scenes(3, seed=1))
    second = write_coco(tmp_path / "b", "train", draw_scenes(3, seed=2))
    shutil.copy(first / "train" / "picture2.png", second / "train" / "picture1.png")
    report = check_data([(first, "train"), (second, "train")])
    assert _kinds(report) == {"duplicate_picture": 1}
    assert report.findings[0].place == second / "train" / "picture1.png"
    assert str(first / "train" / "picture2.png") in report.findings[0].detail


# kind, plant, rule, pictures and boxes fewer than before
EFFECTS: list[tuple[str, Callable[[Path], None], Rule, int, int]] = [
    ("missing", PLANTED[0][1], "excluded", 1, 0),
    ("unreadable", _cut, "excluded", 1, 0),
    ("wrong_size", _state_size, "excluded", 1, 0),
    ("wrong_size", _state_size, "listed", 0, 0),
    ("no_area", _add(bbox=[5, 5, 0, 9]), "excluded", 0, 0),
    ("outside", _add(bbox=[128, 5, 9, 9]), "excluded", 0, 0),
    ("partly_outside", _add(bbox=[120, 5, 30, 9]), "listed", 0, -1),
    ("duplicate_box", _repeat_box, "listed", 0, -1),
    ("duplicate_box", _repeat_box, "excluded", 0, 0),
    ("duplicate_picture", _copy("train/picture0.png", "train/picture3.png"), "listed", 0, 0),
    ("duplicate_picture", _copy("train/picture0.png", "train/picture3.png"), "excluded", 1, 0),
    ("in_both", _copy("val/picture0.png", "train/picture0.png"), "excluded", 1, 0),
]


@pytest.mark.parametrize(("kind", "plant", "rule", "pictures", "boxes"), EFFECTS, ids=range(len(EFFECTS)))
def test_apply__table(
    sets: Sets, kind: str, plant: Callable[[Path], None], rule: Rule, pictures: int, boxes: int
) -> None:
    """Planted on pictures without boxes, but for `duplicate_box`: what is left out with them is counted."""
    folder = sets[0][0]
    before = read_pictures(folder, "train", CLASSES)
    plant(folder)
    report = check_data(sets, CLASSES, rules={kind: rule})
    report.raise_if_refused()
    assert (_kinds(report), report.rules[kind]) == ({kind: 1}, rule)
    after = apply(report, read_pictures(folder, "train", CLASSES))
    assert len(before) - len(after) == pictures
    assert sum(len(p.labels) for p in before) - sum(len(p.labels) for p in after) == boxes
    for picture in after:
        assert picture.size_hw == (96, 128)
        assert (picture.boxes_xyxy >= 0).all()
        assert (picture.boxes_xyxy <= (128, 96, 128, 96)).all()
        assert picture.boxes_xyxy.dtype == np.float32
        assert len(picture.boxes_xyxy) == len(picture.labels)


def test_apply__keeps_what_is_clean(sets: Sets) -> None:
    pictures = read_pictures(sets[0][0], "train", CLASSES)
    kept = apply(check_data(sets, CLASSES), pictures)
    for one, other in zip(pictures, kept, strict=True):
        assert (one.path, one.image_id, one.size_hw) == (other.path, other.image_id, other.size_hw)
        np.testing.assert_array_equal(one.boxes_xyxy, other.boxes_xyxy)
        np.testing.assert_array_equal(one.labels, other.labels)


def test_apply__nothing_left(sets: Sets) -> None:
    folder = sets[0][0]
    pictures = read_pictures(folder, "train", CLASSES)
    shutil.rmtree(folder / "train")
    with pytest.raises(DataError, match="excludes all 6 pictures"):
        apply(check_data(sets[:1], CLASSES, rules={"missing": "excluded"}), pictures)


@pytest.mark.parametrize(("rules", "message"), [
    ({"lost": "listed"}, "data check: 'lost' is not looked for; choose from missing, "),
    ({"missing": "listed"}, "data check: missing cannot be listed; choose refused or excluded"),
    ({"in_both": "ignored"}, "data check: in_both cannot be ignored; choose refused or excluded"),
])  # fmt: skip
def test_check_data__unknown_rules(sets: Sets, rules: dict[str, Rule], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        check_data(sets, rules=rules)
    assert str(caught.value).startswith(message)


def test_lines__show_counts_examples_and_every_rule(tmp_path: Path) -> None:
    scenes = draw_scenes(30)
    folder = write_coco(tmp_path, "train", scenes)
    for scene in scenes[:10]:
        (folder / "train" / scene.name).unlink()
    _add(bbox=[5, 5, 0, 9])(folder)
    lines = check_data([(folder, "train")]).lines()
    text = "\n".join(lines)
    assert "train: 30 pictures (9 without boxes)" in lines[0]
    assert "refused: missing pictures: 10 (missing)" in lines
    assert text.count("no such picture") == EXAMPLES
    assert f"  and {10 - EXAMPLES} more" in lines
    assert "excluded: boxes without area: 1 (no_area)" in lines
    assert all(kind in text for kind in KINDS)
    assert len(lines) < 17


def test_lines__stay_few_whatever_is_found(sets: Sets) -> None:
    folder = sets[0][0]
    for _, plant, _ in PLANTED[4:]:
        plant(folder)
    assert len(check_data(sets).lines()) < 60


def test_lines__are_lines_whatever_a_file_is_called(sets: Sets) -> None:
    _edit(sets[0][0], lambda document: document["images"][0].update(file_name="two\nlines.png"))
    lines = check_data(sets).lines()
    assert f"  {sets[0][0] / 'train' / 'two'} lines.png: no such picture" in lines
    assert not any("\n" in line for line in lines)


def test_to_dict__is_json(sets: Sets) -> None:
    _cut(sets[0][0])
    document = json.loads(json.dumps(check_data(sets).to_dict()))
    assert list(document) == ["sets", "counts", "rules", "findings"]
    assert document["counts"]["unreadable"] == 1
    assert set(document["rules"]) == set(document["counts"]) == set(KINDS)
    assert document["findings"] == [{
        "kind": "unreadable", "place": str(sets[0][0] / "train" / "picture0.png"),
        "detail": "damaged or cut short",
    }]  # fmt: skip
    assert [row["pictures"] for row in document["sets"]] == [6, 3]


def test_raise_if_refused__names_all_kinds_and_what_to_do(sets: Sets) -> None:
    folder = sets[0][0]
    (folder / "train" / "picture0.png").unlink()
    _add(category_id=8)(folder)
    with pytest.raises(DataError) as caught:
        check_data(sets).raise_if_refused()
    assert str(caught.value) == (
        f"{folder / 'train' / 'picture0.png'}: no such picture; the data check refuses missing pictures (1),"
        " boxes of a class that the data set does not define (1); mend the data, or exclude missing"
    )


def test_check_data__scenes_of_one_picture(tmp_path: Path) -> None:
    """Copies of copies are each found once."""
    scene = draw_scenes(2)[1]
    scenes = [Scene(f"{i}.png", scene.image, scene.boxes, scene.labels) for i in range(4)]
    assert _kinds(check_data([(write_coco(tmp_path, "train", scenes), "train")])) == {"duplicate_picture": 3}


@pytest.mark.parametrize("name", ["bccd", "coco-person", "voc-coco-mix"])
def test_check_data__the_data_at_hand_is_clean(data_set: Callable[[str], Path], name: str) -> None:
    folder = data_set(name)
    report = check_data([(folder, "train"), (folder, "val")])
    assert _kinds(report) == {}
    report.raise_if_refused()
