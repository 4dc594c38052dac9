"""COCO's matches, by hand, against the rule written out, and against pycocotools' own."""

from __future__ import annotations

import contextlib
import io
from dataclasses import replace

import numpy as np
import pytest

from fcos_edge.detections import Detections
from fcos_edge.train.evaluation.coco_matches import MATCH_IOUS, match_boxes, match_split
from fcos_edge.train.evaluation.evaluate import LabelledSplit
from tests.train.oracles_coco import match_one_by_one
from tests.train.random_splits import CATEGORY_IDS, CLASSES, random_split

BOX = [0.0, 0.0, 10.0, 10.0]
HALF = [0.0, 0.0, 10.0, 5.0]  # IoU with BOX exactly 0.5
MOST = [0.0, 0.0, 10.0, 8.0]  # 0.8
NEXT = [5.0, 0.0, 10.0, 10.0]
FAR = [50.0, 50.0, 10.0, 10.0]


@pytest.mark.parametrize(
    ("found", "boxes", "crowds", "hits_at_50", "counts_at_50", "hits_at_80"),
    [
        ([], [BOX], [], "", "", ""),
        ([BOX], [], [], "-", "x", "-"),
        ([HALF], [BOX], [], "x", "x", "-"),  # at the threshold is enough
        ([BOX, BOX], [BOX], [], "x-", "xx", "x-"),  # a box is taken once, by the first
        ([BOX, BOX], [BOX, BOX], [], "xx", "xx", "xx"),
        ([MOST, BOX], [BOX, HALF], [], "xx", "xx", "x-"),  # the first takes the better one
        # Of two boxes with the same IoU the later one is taken, and the next comer is left without.
        ([[2.5, 0.0, 10.0, 10.0], NEXT], [BOX, NEXT], [], "x-", "xx", "-x"),
        ([BOX, BOX, FAR], [], [BOX], "---", "--x", "---"),  # a crowd takes as many as come
        ([BOX, BOX], [BOX], [BOX], "x-", "x-", "x-"),  # a box goes before a crowd
        ([HALF], [], [[0.0, 0.0, 100.0, 100.0]], "-", "-", "-"),  # of crowds the part inside counts
        ([[5.0, 5.0, 0.0, 0.0]], [[5.0, 5.0, 0.0, 0.0]], [BOX], "-", "x", "-"),  # without area
    ],
)
def test_match_boxes__by_hand(
    found: list[list[float]],
    boxes: list[list[float]],
    crowds: list[list[float]],
    hits_at_50: str,
    counts_at_50: str,
    hits_at_80: str,
) -> None:
    taken, counts = match_boxes(
        *(np.array(rows, np.float64).reshape(-1, 4) for rows in (found, boxes, crowds))
    )
    assert taken.shape == counts.shape == (10, len(found))
    is_hit = taken >= 0
    marks = ["".join("x" if value else "-" for value in row) for row in (is_hit[0], counts[0], is_hit[6])]
    assert marks == [hits_at_50, counts_at_50, hits_at_80]


@pytest.mark.parametrize("seed", range(40))
def test_match_boxes__is_the_rule_written_out(seed: int) -> None:
    generator = np.random.default_rng(seed)
    # A coarse grid, so that IoUs tie and meet thresholds.
    found, boxes, crowds = (
        np.concatenate([generator.integers(0, 4, (n, 2)), generator.integers(1, 11, (n, 2))], axis=1) * 1.0
        for n in generator.integers(0, (12, 8, 3))
    )
    taken, counts = match_boxes(found, boxes, crowds)
    for level, threshold in enumerate(MATCH_IOUS.tolist()):
        expected = match_one_by_one(found.tolist(), boxes.tolist(), crowds.tolist(), threshold)
        assert list(zip(taken[level].tolist(), counts[level].tolist(), strict=True)) == expected


@pytest.mark.parametrize("seed", range(4))
def test_match_split__holds_each_detection_once(seed: int) -> None:
    labelled, found = random_split(seed)
    matches = match_split(labelled, found)
    assert len(matches) == len(CLASSES)
    ids = np.array([picture.image_id for picture in labelled.pictures])
    for label, one in enumerate(matches):
        assert [str(a.dtype) for a in (one.picture, one.scores, one.boxes)] == ["int64", "float32", "int64"]
        assert one.is_hit.shape == one.counts.shape == (10, len(one.scores))
        assert (one.is_hit <= one.counts).all()
        # By falling score, then by image id.
        assert list(zip(-one.scores, ids[one.picture], strict=True)) == sorted(
            zip(-one.scores, ids[one.picture], strict=True)
        )
        for place, detections in enumerate(found):
            expected = detections.scores[detections.labels == label][:100]
            np.testing.assert_array_equal(one.scores[one.picture == place], expected)
        kept = set(ids.tolist())
        assert one.boxes.sum() == sum(
            entry["category_id"] == CATEGORY_IDS[label] and entry["image_id"] in kept and not entry["iscrowd"]
            for entry in labelled.document["annotations"]
        )


def test_match_split__an_iou_at_the_threshold_falls_on_the_evaluator_s_side() -> None:
    # Half the box: float32 rounds the width up to 10, and only then the IoU is 0.5.
    found = Detections(np.array([[0.006, 0, 10.006, 10]], np.float32), np.ones(1, np.float32), np.array([0]))
    document = {
        "images": [{"id": 1}], "categories": [{"id": 1, "name": "square"}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 0, 20, 10], "iscrowd": 0}],
    }  # fmt: skip
    pictures, _ = random_split(0, pictures=1)
    picture = replace(pictures.pictures[0], image_id=1)
    labelled = LabelledSplit("half", (picture,), ("square",), document)
    (matches,) = match_split(labelled, [found])
    assert matches.is_hit[:2, 0].tolist() == [True, False]
    assert labelled.compare([found]).figures["AP50"] == pytest.approx(1)


def test_match_split__nothing_found() -> None:
    labelled, found = random_split(0)
    for one in match_split(labelled, [Detections.empty() for _ in found]):
        assert one.is_hit.shape == one.counts.shape == (10, 0)
        assert one.picture.shape == one.scores.shape == (0,)


@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.65, 1.0])
def test_hits_at__is_matching_again_without_those_below(threshold: float) -> None:
    labelled, found = random_split(5)
    alone = match_split(labelled, [detections.filtered(threshold) for detections in found])
    for one, expected in zip(match_split(labelled, found), alone, strict=True):
        np.testing.assert_array_equal(one.hits_at(threshold), expected.hits_at(0))
        np.testing.assert_array_equal(one.count_at(threshold), expected.count_at(0))
        assert one.hits_at(threshold).sum() == expected.is_hit[0].sum()
        assert one.count_at(threshold).sum() == expected.counts[0].sum()


@pytest.mark.parametrize("seed", range(10))
def test_match_split__is_what_pycocotools_matches(seed: int) -> None:
    coco, cocoeval = pytest.importorskip("pycocotools.coco"), pytest.importorskip("pycocotools.cocoeval")
    labelled, found = random_split(seed)
    place_of = {picture.image_id: place for place, picture in enumerate(labelled.pictures)}
    with contextlib.redirect_stdout(io.StringIO()):
        truth = coco.COCO()
        areas = [{**a, "area": a["bbox"][2] * a["bbox"][3]} for a in labelled.document["annotations"]]
        truth.dataset = {"info": {}, **labelled.document, "annotations": areas}
        truth.createIndex()
        run = cocoeval.COCOeval(truth, truth.loadRes(labelled.results(found)), "bbox")
        run.params.imgIds = sorted(place_of)
        run.evaluate()
    by_class_and_id = {
        (entry["category_id"], entry["image_id"]): entry
        for entry in run.evalImgs
        if entry is not None and entry["aRng"] == run.params.areaRng[0]
    }
    for category_id, one in zip(CATEGORY_IDS, match_split(labelled, found), strict=True):
        for image_id, place in place_of.items():
            entry = by_class_and_id.get((category_id, image_id))
            mine = one.picture == place
            if entry is None:
                assert not mine.any()
                continue
            is_ignored = np.asarray(entry["dtIgnore"], bool)
            np.testing.assert_array_equal(one.counts[:, mine], ~is_ignored)
            np.testing.assert_array_equal(one.is_hit[:, mine], (entry["dtMatches"] > 0) & ~is_ignored)
            assert one.boxes[place] == np.sum(np.asarray(entry["gtIgnore"]) == 0)
