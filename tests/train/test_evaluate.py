"""COCO figures: of perfect and of no detections, by hand, and against the evaluators called directly."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fcos_edge.detections import Detections
from fcos_edge.detector import Detector
from fcos_edge.errors import DataError
from fcos_edge.runtime import Branch, RawOutputs, UInt8Array
from fcos_edge.spec import ModelSpec
from fcos_edge.train.dataset import LabelledPicture
from fcos_edge.train.evaluate import (
    FIGURES,
    Evaluation,
    coco_results,
    compare_with_labels,
    compare_with_pictures,
    evaluate,
)
from fcos_edge.train.formats.coco import read_coco
from fcos_edge.train.targets import IGNORED
from tests.coco_sets import CLASSES, make_coco_set

Document = dict[str, Any]
Row = tuple[list[float], float, int]  # box x1 y1 x2 y2, score, label


def _detections(*rows: Row) -> Detections:
    rows = tuple(sorted(rows, key=lambda row: -row[1]))
    return Detections(
        np.array([box for box, _, _ in rows], np.float32).reshape(-1, 4),
        np.array([score for _, score, _ in rows], np.float32),
        np.array([label for _, _, label in rows], np.int64),
    )


def _document(*annotations: Document) -> Document:
    return {
        "images": [{"id": i} for i in (1, 2, 3)],
        "annotations": [{"id": i, **entry} for i, entry in enumerate(annotations)],
        "categories": [{"id": 7, "name": "square"}, {"id": 9, "name": "disc"}, {"id": 11, "name": "ring"}],
    }


def _labelled(image_id: int, category_id: int, bbox: list[float], **more: object) -> Document:
    return {"image_id": image_id, "category_id": category_id, "bbox": bbox, **more}


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_coco_set(tmp_path_factory.mktemp("shapes"), "val", 6)


def _read(shapes: Path) -> Document:
    document: Document = json.loads((shapes / "annotations" / "instances_val.json").read_text())
    return document


def _perfect(pictures: list[LabelledPicture]) -> dict[int, Detections]:
    return {
        p.image_id: _detections(
            *((box, 0.9, label) for box, label in zip(p.boxes_xyxy.tolist(), p.labels.tolist(), strict=True))
        )
        for p in pictures
    }


def _noisy(pictures: list[LabelledPicture]) -> dict[int, Detections]:
    """Some boxes moved, some of the other class, some missing, some added."""
    generator = np.random.default_rng(0)
    found = {}
    for p in pictures:
        rows: list[Row] = []
        for box, label in zip(p.boxes_xyxy, p.labels.tolist(), strict=True):
            for _ in range(int(generator.integers(0, 4))):
                moved = box + generator.normal(0, 3, 4).astype(np.float32)
                wrong = generator.uniform() < 0.2
                rows.append(
                    (moved.tolist(), float(generator.uniform(0.05, 1)), 1 - label if wrong else label)
                )
        found[p.image_id] = _detections(*rows)
    return found


def test_compare_with_labels__perfect_detections_are_one(shapes: Path) -> None:
    found = _perfect(read_coco(shapes, "val", CLASSES))
    evaluation = compare_with_labels(found, _read(shapes), CLASSES)
    assert evaluation.pictures == 6
    assert evaluation.figures["AP"] == pytest.approx(1)
    assert evaluation.figures["AP50"] == pytest.approx(1)
    assert evaluation.figures["AR100"] == pytest.approx(1)
    assert [(row.ap, row.ap50) for row in evaluation.classes] == [pytest.approx((1, 1))] * 2
    assert sum(row.boxes for row in evaluation.classes) == 12


def test_compare_with_labels__no_detections_are_zero(shapes: Path) -> None:
    found = {picture.image_id: Detections.empty() for picture in read_coco(shapes, "val", CLASSES)}
    evaluation = compare_with_labels(found, _read(shapes), CLASSES)
    assert evaluation.figures["AP"] == evaluation.figures["AR100"] == 0
    assert [row.ap for row in evaluation.classes] == [0, 0]


@pytest.mark.parametrize("package", ["faster_coco_eval", "pycocotools"])
def test_compare_with_labels__figures_are_the_evaluators(shapes: Path, package: str) -> None:
    pytest.importorskip(package)
    found, document = _noisy(read_coco(shapes, "val", CLASSES)), _read(shapes)
    # A crowd over part of one picture.
    document["annotations"].append({
        "id": 99, "image_id": 100, "category_id": 7, "bbox": [0, 0, 60, 60], "area": 3600, "iscrowd": 1,
    })  # fmt: skip
    evaluation = compare_with_labels(found, document, CLASSES)
    wanted = _direct(package, document, coco_results(found, [7, 9]))
    assert 0 < wanted[0] < 1
    assert [evaluation.figures[name] for name in FIGURES] == pytest.approx(wanted, abs=1e-9)


def _direct(package: str, document: Document, results: list[Document]) -> list[float]:
    """The twelve figures, as an evaluator's own README gets them."""
    with contextlib.redirect_stdout(io.StringIO()):
        if package == "pycocotools":
            truth = pytest.importorskip("pycocotools.coco").COCO()
            truth.dataset = {"info": {}, **document}
            truth.createIndex()
            evaluator = pytest.importorskip("pycocotools.cocoeval").COCOeval
        else:
            module = pytest.importorskip("faster_coco_eval")
            truth, evaluator = module.COCO(document), module.COCOeval_faster
        run = evaluator(truth, truth.loadRes(results), "bbox")
        run.evaluate()
        run.accumulate()
        run.summarize()
    return [float(value) for value in run.stats[:12]]


def test_compare_with_labels__by_hand() -> None:
    document = _document(
        _labelled(1, 7, [0, 0, 10, 10]), _labelled(2, 7, [0, 0, 10, 10]), _labelled(2, 9, [20, 20, 10, 10])
    )
    found = {
        # IoU 1, then a detection of nothing that is surer than the second hit
        1: _detections(([0, 0, 10, 10], 0.9, 0), ([50, 50, 60, 60], 0.8, 0)),
        # IoU 0.6: a hit at the thresholds 0.50, 0.55, 0.60
        2: _detections(([0, 0, 10, 6], 0.7, 0)),
    }
    evaluation = compare_with_labels(found, document, ("square", "disc"))
    square, disc = evaluation.classes
    # 101 recall points: precision 1 up to recall 0.5 (51 points), then 2/3 with both hits (50 points).
    both, one = (51 + 50 * 2 / 3) / 101, 51 / 101
    assert square.ap50 == pytest.approx(both)
    assert square.ap == pytest.approx((3 * both + 7 * one) / 10)
    assert (square.boxes, disc.boxes, disc.ap) == (2, 1, 0)
    assert evaluation.figures["AP"] == pytest.approx(square.ap / 2)


def test_compare_with_labels__crowds_are_ignored_and_not_counted() -> None:
    document = _document(
        _labelled(1, 7, [0, 0, 10, 10]), _labelled(1, 7, [20, 0, 40, 40], iscrowd=1, area=1600)
    )
    hit: Row = ([0, 0, 10, 10], 0.5, 0)
    inside: Row = ([22, 2, 40, 30], 0.9, 0)
    outside: Row = ([22, 50, 40, 70], 0.9, 0)
    for other, ap in ((inside, 1.0), (outside, 0.5)):
        evaluation = compare_with_labels({1: _detections(hit, other)}, document, ("square",))
        assert evaluation.classes[0].boxes == 1
        assert evaluation.classes[0].ap == pytest.approx(ap)


def test_compare_with_labels__other_pictures_and_classes_do_not_count() -> None:
    document = _document(
        _labelled(1, 7, [0, 0, 10, 10]), _labelled(2, 7, [0, 0, 10, 10]), _labelled(1, 11, [0, 0, 10, 10])
    )
    evaluation = compare_with_labels({1: _detections(([0, 0, 10, 10], 0.5, 1))}, document, ("disc", "square"))
    assert evaluation.pictures == 1
    assert [(row.name, row.boxes) for row in evaluation.classes] == [("disc", 0), ("square", 1)]
    # Labels follow the given order, not the file's.
    assert [row.ap for row in evaluation.classes] == [-1, pytest.approx(1)]


@pytest.mark.parametrize(
    ("more", "sizes"),
    [
        ({}, ("APs",)),  # no area: the box's, 100
        ({"area": None}, ("APs",)),
        ({"area": 2000}, ("APm",)),
        ({"area": 100_000}, ("APl",)),
    ],
)
def test_compare_with_labels__area(more: Document, sizes: tuple[str, ...]) -> None:
    document = _document(_labelled(1, 7, [0, 0, 10, 10], **more))
    figures = compare_with_labels({1: _detections(([0, 0, 10, 10], 0.5, 0))}, document, ("square",)).figures
    assert tuple(name for name in ("APs", "APm", "APl") if figures[name] > -1) == sizes


def test_compare_with_labels__missing_class() -> None:
    with pytest.raises(
        DataError, match="the labels have no class 'hexagon'; evaluate on data that labels it"
    ):
        compare_with_labels({1: Detections.empty()}, _document(), ("square", "hexagon"))


def test_compare_with_pictures__is_the_document_they_came_from(shapes: Path) -> None:
    pictures = read_coco(shapes, "val", CLASSES)
    found = _noisy(pictures)
    by_document = compare_with_labels(found, _read(shapes), CLASSES)
    by_pictures = compare_with_pictures(list(found.values()), pictures, CLASSES)
    assert by_pictures == by_document


def test_compare_with_pictures__several_sets_with_the_same_ids(shapes: Path, tmp_path: Path) -> None:
    # Both sets number their pictures from 100; the second has other boxes.
    other = read_coco(make_coco_set(tmp_path, "val", 3, seed=1), "val", CLASSES)
    pictures = read_coco(shapes, "val", CLASSES)
    found = [*_perfect(pictures).values(), *_perfect(other).values()]
    evaluation = compare_with_pictures(found, [*pictures, *other], CLASSES)
    assert evaluation.pictures == 9
    assert sum(row.boxes for row in evaluation.classes) == 18
    assert evaluation.figures["AP"] == pytest.approx(1)


@pytest.mark.parametrize("label", [0, 1])
def test_compare_with_pictures__ignore_regions_take_every_class(label: int) -> None:
    boxes = np.array([[0, 0, 10, 10], [60, 60, 70, 70], [20, 0, 60, 40]], np.float32)
    picture = LabelledPicture(Path("a.png"), 5, boxes, np.array([0, 1, IGNORED]))
    hits: tuple[Row, Row] = ([0, 0, 10, 10], 0.5, 0), ([60, 60, 70, 70], 0.5, 1)
    found = _detections(*hits, ([22, 2, 40, 30], 0.9, label))
    evaluation = compare_with_pictures([found], [picture], CLASSES)
    assert [row.boxes for row in evaluation.classes] == [1, 1]
    assert [row.ap for row in evaluation.classes] == pytest.approx([1, 1])


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


def test_evaluation__to_dict_is_json() -> None:
    evaluation: Evaluation = compare_with_labels(
        {1: Detections.empty()}, _document(_labelled(1, 7, [0, 0, 10, 10])), ("square", "disc")
    )
    document = evaluation.to_dict()
    assert json.loads(json.dumps(document, allow_nan=False)) == document
    assert document["classes"] == {
        "square": {"boxes": 1, "AP": 0.0, "AP50": 0.0}, "disc": {"boxes": 0, "AP": -1.0, "AP50": -1.0},
    }  # fmt: skip
    assert set(FIGURES) < set(document)
