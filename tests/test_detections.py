"""Detections: what is refused, what is kept, what is written."""

from __future__ import annotations

import json
import sys
from typing import Any

import numpy as np
import pytest

from fcos_edge.detections import Detections
from fcos_edge.errors import UsageError

BOXES = np.array([[0, 0, 10, 20], [5, 5, 6, 6], [1, 2, 3.25, 4]], np.float32)
SCORES = np.array([0.9, 0.5, 0.25], np.float32)
LABELS = np.array([1, 0, 1], np.int64)


def test_empty__is_a_table_without_rows() -> None:
    empty = Detections.empty()
    assert (empty.boxes_xyxy.shape, empty.scores.shape, empty.labels.shape) == ((0, 4), (0,), (0,))
    assert (len(empty), empty.to_records(["a"])) == (0, [])
    assert len(empty.filtered(0.1)) == len(empty.filtered([0.1, 0.2])) == 0


@pytest.mark.parametrize(
    "change",
    [
        {"boxes_xyxy": BOXES.astype(np.float64)},  # float64
        {"boxes_xyxy": BOXES[:2]},  # too few
        {"boxes_xyxy": BOXES[:, :3]},  # three sides
        {"boxes_xyxy": BOXES[:, [2, 1, 0, 3]]},  # right before left
        {"boxes_xyxy": BOXES[:, [0, 3, 2, 1]]},  # bottom before top
        {"boxes_xyxy": BOXES + np.float32(np.inf)},  # not finite
        {"boxes_xyxy": BOXES * np.float32(np.nan)},  # not a number
        {"scores": SCORES[::-1]},  # ascending
        {"scores": SCORES + np.float32(0.2)},  # above 1
        {"scores": SCORES - np.float32(0.3)},  # below 0
        {"scores": np.array([0.9, np.nan, 0.1], np.float32)},  # NaN between
        {"scores": np.array([0.9, 0.5, np.nan], np.float32)},  # NaN last
        {"scores": SCORES[:, None]},  # (N, 1)
        {"scores": SCORES.astype(np.float64)},  # float64
        {"labels": LABELS - 1},  # background
        {"labels": LABELS.astype(np.int32)},  # int32
        {"labels": LABELS[:2]},  # too few
    ],
)
def test_detections__refuses(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="detections: "):
        Detections(**{"boxes_xyxy": BOXES, "scores": SCORES, "labels": LABELS, **change})


@pytest.mark.parametrize("score", [np.nan, -0.1, 1.1])
def test_detections__refuses_a_single_score_out_of_range(score: float) -> None:
    with pytest.raises(ValueError, match=r"in 0\.\.1"):
        Detections(BOXES[:1], np.array([score], np.float32), LABELS[:1])


@pytest.mark.parametrize(
    ("thresholds", "kept"),
    [
        (0.0, [0, 1, 2]),
        (0.5, [0, 1]),  # equal is kept
        (1.0, []),
        ([0.6, 0.2], [0, 2]),  # label 0 needs 0.6, label 1 needs 0.2
        ([0.2, 0.9], [0, 1]),  # 0.9 is kept although float32(0.9) is no 0.9
    ],
)
def test_filtered__compares_with_the_threshold_of_the_class(thresholds: Any, kept: list[int]) -> None:
    filtered = Detections(BOXES, SCORES, LABELS).filtered(thresholds)
    np.testing.assert_array_equal(filtered.boxes_xyxy, BOXES[kept])
    np.testing.assert_array_equal(filtered.scores, SCORES[kept])
    np.testing.assert_array_equal(filtered.labels, LABELS[kept])


def test_to_records__are_json() -> None:
    records = Detections(BOXES, SCORES, LABELS).to_records(["person", "car"])
    assert json.loads(json.dumps(records))[2] == {
        "label": 1,
        "class_name": "car",
        "score": 0.25,
        "box_xyxy": [1.0, 2.0, 3.25, 4.0],
    }
    assert records[0]["score"] == 0.9  # not 0.8999999761581421


def test_to_coco__boxes_have_a_corner_and_a_size() -> None:
    entries = Detections(BOXES, SCORES, LABELS).to_coco(42, [18, 90])
    assert json.loads(json.dumps(entries))[2] == {
        "image_id": 42, "category_id": 90, "bbox": [1.0, 2.0, 2.25, 2.0], "score": 0.25,
    }  # fmt: skip
    assert Detections.empty().to_coco(42, [18, 90]) == []


@pytest.mark.parametrize("count", [0, 1, 3])
def test_to_supervision__is_the_same(count: int) -> None:
    pytest.importorskip("supervision")
    detections = Detections(BOXES[:count], SCORES[:count], LABELS[:count])
    given = detections.to_supervision(["person", "car"])
    np.testing.assert_array_equal(given.xyxy, BOXES[:count])
    np.testing.assert_array_equal(given.confidence, SCORES[:count])
    np.testing.assert_array_equal(given.class_id, LABELS[:count])
    assert (given.xyxy.dtype, given.confidence.dtype) == (np.float32, np.float32)
    assert given.data["class_name"].tolist() == [["person", "car"][label] for label in LABELS[:count]]
    assert detections.to_supervision().data == {}
    given.xyxy[:] = -1  # supervision's functions may write to what they are given
    np.testing.assert_array_equal(detections.boxes_xyxy, BOXES[:count])


def test_to_supervision__missing_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "supervision", None)
    with pytest.raises(UsageError, match=r"run: pip install 'fcos-edge\[supervision\]'"):
        Detections.empty().to_supervision()
