"""COCO result files: what is in them, and that they are whole or not there."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from fcos_edge.coco_results import coco_results, image_ids, write_results
from fcos_edge.detections import Detections
from fcos_edge.errors import UsageError
from fcos_edge.writing import check_new_file


def _two() -> Detections:
    boxes = np.array([[1, 2, 11, 22.5], [0, 0, 4, 4]], np.float32)
    return Detections(boxes, np.array([0.75, 0.25], np.float32), np.array([1, 0]))


def test_coco_results__boxes_have_a_corner_and_a_size() -> None:
    assert coco_results({42: _two(), 7: Detections.empty()}, [18, 90]) == [
        {"image_id": 42, "category_id": 90, "bbox": [1, 2, 10, 20.5], "score": 0.75},
        {"image_id": 42, "category_id": 18, "bbox": [0, 0, 4, 4], "score": 0.25},
    ]


@pytest.mark.parametrize("found", [{}, {42: Detections.empty()}, {42: _two()}, {42: _two(), 7: _two()}])
def test_write_results__is_json(tmp_path: Path, found: dict[int, Detections]) -> None:
    results = coco_results(found, [1, 2])
    write_results(tmp_path / "x.json", results)
    assert json.loads((tmp_path / "x.json").read_bytes()) == results
    assert [path.name for path in tmp_path.iterdir()] == ["x.json"]


def test_write_results__is_read_by_the_evaluator(tmp_path: Path) -> None:
    coco = pytest.importorskip("faster_coco_eval").COCO
    write_results(tmp_path / "x.json", coco_results({42: _two()}, [1, 2]))
    truth = coco({"images": [{"id": 42}], "annotations": [], "categories": [{"id": 1}, {"id": 2}]})
    assert [entry["area"] for entry in truth.loadRes(str(tmp_path / "x.json")).anns.values()] == [205, 16]


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("there.json", "there.json: is there already; name another file"),
        (".", "is there already"),
        ("nowhere/x.json", "there is no folder"),
        ("there.json/x.json", "there is no folder"),
    ],
)
def test_check_new_file__refuses(tmp_path: Path, name: str, line: str) -> None:
    (tmp_path / "there.json").write_text("[]")
    with pytest.raises(UsageError, match=line):
        check_new_file(tmp_path / name, "--results")
    assert (tmp_path / "there.json").read_text() == "[]"


def test_check_new_file__leaves_nothing(tmp_path: Path) -> None:
    check_new_file(tmp_path / "new.json", "--results")
    assert not list(tmp_path.iterdir())


def test_write_results__what_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    results = coco_results({42: _two()}, [1, 2])
    with pytest.raises(ValueError, match="JSON"):
        write_results(tmp_path / "x.json", [*results, {"score": float("nan")}])
    assert not list(tmp_path.iterdir())
    long = tmp_path / ("x" * 300)  # longer than a name may be
    with pytest.raises(UsageError, match=r"cannot be written .*; choose another --results"):
        write_results(long, results)
    with pytest.raises(UsageError, match=r"cannot be written .*; choose another --results"):
        check_new_file(long, "--results")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("names", "expected"), [
    (["000000410650.jpg", "7.png"], [410650, 7]),
    (["7.png", "street.png"], None),
    (["7.png", "07.jpg"], None),  # one number for two
    (["-7.png", "8.png"], None),
    (["٧.png"], None),  # a digit, but not COCO's
    ([], None),  # a video
])  # fmt: skip
def test_image_ids__are_the_names(names: list[str], expected: list[int] | None) -> None:
    assert image_ids([Path("pictures", name) for name in names]) == expected
