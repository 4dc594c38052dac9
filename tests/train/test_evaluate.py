"""Evaluation of a detector over a split: each picture once, with the labels of the data set."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fcos_edge.detections import Detections
from fcos_edge.detector import Detector
from fcos_edge.errors import DataError
from fcos_edge.runtime import Branch, RawOutputs, UInt8Array
from fcos_edge.spec import ModelSpec
from fcos_edge.train.evaluation.evaluate import evaluate, keep_classes
from tests.coco_sets import CLASSES, make_coco_set


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_coco_set(tmp_path_factory.mktemp("shapes"), "val", 6)


class Seen:
    """A runtime that finds nothing, and counts."""

    def __init__(self, spec: ModelSpec) -> None:
        self.spec = spec
        self.count = 0

    def run(self, images: UInt8Array) -> RawOutputs:
        self.count += len(images)
        shape = (len(images), self.spec.num_locations)
        nothing = np.full((*shape, len(self.spec.classes)), -20, np.float32)
        return RawOutputs(
            Branch(nothing), Branch(np.ones((*shape, 4), np.float32)), Branch(np.zeros(shape, np.float32))
        )

    def close(self) -> None:
        self.count = -1


@pytest.mark.parametrize(("image_ids", "expected"), [(None, 6), ([101, 103], 2)])
def test_evaluate__runs_each_picture_once(shapes: Path, image_ids: list[int] | None, expected: int) -> None:
    spec = ModelSpec("x", CLASSES, (96, 96), (127, 127, 127), (128, 128, 128))
    runtime = Seen(spec)
    evaluation = evaluate(Detector(runtime, spec, (0.5, 0.5)), shapes, "val", image_ids)
    assert runtime.count == evaluation.pictures == expected
    assert evaluation.figures["AP"] == 0
    assert sum(row.boxes for row in evaluation.classes) == 2 * expected


def test_evaluate__no_picture_is_left(shapes: Path) -> None:
    spec = ModelSpec("x", CLASSES, (96, 96), (127, 127, 127), (128, 128, 128))
    with pytest.raises(DataError, match="none of the pictures"):
        evaluate(Detector(Seen(spec), spec, (0.5, 0.5)), shapes, "val", [1])


def test_keep_classes__labels_are_those_of_the_chosen() -> None:
    boxes = np.arange(16, dtype=np.float32).reshape(4, 4)
    detections = Detections(boxes, np.array([0.9, 0.8, 0.7, 0.6], np.float32), np.array([2, 0, 1, 2]))
    rows = [
        # chosen, rows that stay, their labels
        (("a", "b", "c"), [0, 1, 2, 3], [2, 0, 1, 2]),
        (("c",), [0, 3], [0, 0]),
        (("c", "a"), [0, 1, 3], [0, 1, 0]),
        (("b",), [2], [0]),
    ]
    for chosen, kept, labels in rows:
        (found,) = keep_classes([detections], ("a", "b", "c"), chosen)
        assert found.boxes_xyxy.tolist() == boxes[kept].tolist()
        assert found.scores.tolist() == detections.scores[kept].tolist()
        assert found.labels.tolist() == labels
    (nothing,) = keep_classes([Detections.empty()], ("a", "b", "c"), ("b",))
    assert len(nothing) == 0
