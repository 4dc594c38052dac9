"""COCO figures: of perfect and of no detections, by hand, and against the evaluators called directly."""

from __future__ import annotations

import contextlib
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fcos_edge.coco_results import coco_results
from fcos_edge.detections import Detections
from fcos_edge.errors import DataError
from fcos_edge.train.data.dataset import IGNORED, LabelledPicture
from fcos_edge.train.data.formats import read_pictures
from fcos_edge.train.evaluation.coco_figures import (
    FIGURES,
    RECALLS,
    Evaluation,
    compare_with_labels,
    compare_with_pictures,
)
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
    found = _perfect(read_pictures(shapes, "val", CLASSES))
    evaluation = compare_with_labels(found, _read(shapes), CLASSES)
    assert evaluation.pictures == 6
    assert evaluation.figures["AP"] == pytest.approx(1)
    assert evaluation.figures["AP50"] == pytest.approx(1)
    assert evaluation.figures["AR100"] == pytest.approx(1)
    assert [(row.ap, row.ap50) for row in evaluation.classes] == [pytest.approx((1, 1))] * 2
    assert sum(row.boxes for row in evaluation.classes) == 12


def test_compare_with_labels__no_detections_are_zero(shapes: Path) -> None:
    found = {picture.image_id: Detections.empty() for picture in read_pictures(shapes, "val", CLASSES)}
    evaluation = compare_with_labels(found, _read(shapes), CLASSES)
    assert evaluation.figures["AP"] == evaluation.figures["AR100"] == 0
    assert [row.ap for row in evaluation.classes] == [0, 0]


@pytest.mark.parametrize("package", ["faster_coco_eval", "pycocotools"])
@pytest.mark.parametrize("area_scale", [1.0, 6.25])
def test_compare_with_labels__is_what_the_evaluators_say(
    shapes: Path, package: str, area_scale: float
) -> None:
    pytest.importorskip(package)
    found, document = _noisy(read_pictures(shapes, "val", CLASSES)), _read(shapes)
    # A crowd over part of one picture.
    document["annotations"].append({
        "id": 99, "image_id": 100, "category_id": 7, "bbox": [0, 0, 60, 60], "area": 3600, "iscrowd": 1,
    })  # fmt: skip
    evaluation = compare_with_labels(found, document, CLASSES, dict.fromkeys(found, area_scale))
    scale = area_scale**0.5
    stats, precision = direct(
        package, magnified(document, scale), magnified(coco_results(found, [7, 9]), scale)
    )
    assert 0 < stats[0] < 1
    # Two programs add up the same numbers in another order.
    assert [evaluation.figures[name] for name in FIGURES] == pytest.approx(stats, abs=1e-9)
    for row, values in zip(evaluation.classes, precision, strict=True):
        assert row.curve.at50 == pytest.approx(values[0], abs=1e-9)
        assert row.curve.mean == pytest.approx(values.mean(axis=0), abs=1e-9)
    assert evaluation.curve.at50 == pytest.approx(precision.mean(axis=0)[0], abs=1e-9)


def magnified(entries: Any, scale: float) -> Any:
    """A COCO document or results as of pictures `scale` times as wide and high: boxes and areas grow."""
    if isinstance(entries, dict):
        return {**entries, "annotations": magnified(entries["annotations"], scale)}
    return [
        {**entry, "bbox": [scale * side for side in entry["bbox"]], "area": scale**2 * entry.get("area", 0)}
        for entry in entries
    ]


def direct(package: str, document: Document, results: list[Document]) -> tuple[list[float], Any]:
    """The twelve figures and precision (classes, IoUs, recalls), as an evaluator's own README gets them."""
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
    precision = np.asarray(run.eval["precision"])[:, :, :, 0, -1]
    return [float(value) for value in run.stats[:12]], precision.transpose(2, 0, 1)


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
    assert square.curve.at50 == pytest.approx([1] * 51 + [2 / 3] * 50)
    # Nothing of the disc is found, and it counts for half.
    assert set(disc.curve.at50) == {0}
    assert evaluation.curve.at50 == pytest.approx([0.5] * 51 + [1 / 3] * 50)
    assert np.mean(square.curve.mean) == pytest.approx(square.ap)


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


@pytest.mark.parametrize(
    ("side", "area_scale", "expected"),
    [
        # side of the box here, area there / here, APs, APm, APl
        (20, 1.0, (1, -1, -1)),
        (20, 3.9, (-1, 1, -1)),  # 39.5 pixels there
        (60, 3.9, (-1, -1, 1)),  # 118.5
        (40, 0.25, (1, -1, -1)),  # 20: enlarged pictures
    ],
)
def test_compare_with_labels__sizes_are_those_of_the_original(
    side: int, area_scale: float, expected: tuple[float, ...]
) -> None:
    document = _document(_labelled(1, 7, [0, 0, side, side]), _labelled(2, 9, [0, 0, 10, 10]))
    found = {1: _detections(([0, 0, side, side], 0.5, 0)), 2: Detections.empty()}
    evaluation = compare_with_labels(found, document, ("square",), {1: area_scale})
    assert [evaluation.figures[name] for name in ("APs", "APm", "APl")] == pytest.approx(expected)
    assert evaluation.rescaled_pictures == (area_scale != 1)


def test_compare_with_labels__detections_of_nothing_have_the_originals_size_too() -> None:
    # The false one is 20 x 20 here and 40 x 40 there: medium, and so no mistake among the small ones.
    document = _document(_labelled(1, 7, [0, 0, 10, 10]))
    found = {1: _detections(([0, 0, 10, 10], 0.5, 0), ([60, 0, 80, 20], 0.9, 0))}
    here = compare_with_labels(found, document, ("square",)).figures
    there = compare_with_labels(found, document, ("square",), {1: 4.0}).figures
    assert (here["APs"], there["APs"]) == pytest.approx((0.5, 1))
    # What does not depend on size is the same to the last bit.
    same = ("AP", "AP50", "AP75", "AR1", "AR10", "AR100")
    assert [here[name] for name in same] == [there[name] for name in same]


def test_compare_with_labels__missing_class() -> None:
    with pytest.raises(
        DataError, match="the labels have no class 'hexagon'; evaluate on data that labels it"
    ):
        compare_with_labels({1: Detections.empty()}, _document(), ("square", "hexagon"))


def test_compare_with_pictures__is_the_document_they_came_from(shapes: Path) -> None:
    pictures = read_pictures(shapes, "val", CLASSES)
    found = _noisy(pictures)
    by_document = compare_with_labels(found, _read(shapes), CLASSES)
    by_pictures = compare_with_pictures(list(found.values()), pictures, CLASSES)
    assert by_pictures == by_document


def test_compare_with_pictures__sizes_are_those_of_the_original(shapes: Path) -> None:
    pictures = read_pictures(shapes, "val", CLASSES)
    found = _noisy(pictures)
    small = [replace(picture, area_scale=9.0) for picture in pictures]
    by_pictures = compare_with_pictures(list(found.values()), small, CLASSES)
    assert by_pictures == compare_with_labels(found, _read(shapes), CLASSES, dict.fromkeys(found, 9.0))
    assert by_pictures.rescaled_pictures == len(pictures)
    assert by_pictures.figures["APl"] > -1  # 96 pixels there, 32 here


def test_compare_with_pictures__several_sets_with_the_same_ids(shapes: Path, tmp_path: Path) -> None:
    # Both sets number their pictures from 100; the second has other boxes.
    other = read_pictures(make_coco_set(tmp_path, "val", 3, seed=1), "val", CLASSES)
    pictures = read_pictures(shapes, "val", CLASSES)
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
    assert (document["pictures"], document["rescaled_pictures"]) == (1, 0)
    assert "curves" not in document


def test_evaluation__curves_are_json() -> None:
    labels = _document(_labelled(1, 7, [0, 0, 10, 10]))
    found = {1: _detections(([50, 50, 60, 60], 0.9, 0), ([60, 0, 70, 9], 0.8, 0), ([0, 0, 10, 6], 0.7, 0))}
    curves = compare_with_labels(found, labels, ("square", "disc")).to_dict(has_curves=True)["curves"]
    assert json.loads(json.dumps(curves, allow_nan=False)) == curves
    assert curves["recall"] == list(RECALLS) == pytest.approx(np.linspace(0, 1, 101))
    # A hit at three of ten IoUs, after two of nothing; no disc is there to be found.
    assert curves["classes"]["square"] == {"at50": [0.3333] * 101, "mean": [0.1] * 101}
    assert curves["classes"]["disc"] == {"at50": [-1] * 101, "mean": [-1] * 101}
    assert curves["all"] == curves["classes"]["square"]


def test_compare_with_labels__is_what_pycocotools_says_of_random_boxes() -> None:
    pytest.importorskip("pycocotools")
    generator = np.random.default_rng(0)
    labels, found, scales = [], {}, {}
    images = range(1, 61)
    for image_id in images:
        scales[image_id] = float(generator.uniform(0.5, 4))
        rows: list[Row] = []
        for _ in range(int(generator.integers(0, 12))):
            x, y = generator.uniform(0, 300, 2)
            width, height = np.exp(generator.uniform(1.5, 5.5, 2))
            category = int(generator.choice([7, 9, 11]))
            labels.append(_labelled(
                image_id, category, [x, y, width, height],
                area=width * height * generator.uniform(0.4, 1), iscrowd=int(generator.uniform() < 0.1),
            ))  # fmt: skip
            for _ in range(int(generator.integers(0, 4))):
                left, top, right, bottom = np.array([x, y, x + width, y + height]) + generator.normal(0, 5, 4)
                box = [left, top, max(right, left), max(bottom, top)]
                # A tenth, so that scores tie often.
                rows.append((box, round(float(generator.uniform(0, 1)), 1), int(generator.integers(0, 3))))
        found[image_id] = _detections(*rows)
    document = {**_document(*labels), "images": [{"id": i} for i in images]}
    evaluation = compare_with_labels(found, document, ("square", "disc", "ring"), scales)
    # Each picture magnified by its own factor.
    annotations = [
        {**magnified([entry], scales[entry["image_id"]] ** 0.5)[0], "id": entry["id"] + 1}
        for entry in document["annotations"]
    ]
    results = [
        magnified([entry], scales[entry["image_id"]] ** 0.5)[0] for entry in coco_results(found, [7, 9, 11])
    ]
    stats, precision = direct("pycocotools", {**document, "annotations": annotations}, results)
    assert [evaluation.figures[name] for name in FIGURES] == pytest.approx(stats, abs=1e-6)
    curves = [row.curve.at50 for row in evaluation.classes]
    assert np.abs(np.array(curves) - precision[:, 0]).max() < 1e-6
