"""Misses and false alarms on pictures that are made up: their reasons, and which pictures are the worst."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from fcos_edge.detections import Detections
from fcos_edge.train.data.dataset import LabelledPicture
from fcos_edge.train.evaluation.coco_matches import match_split
from fcos_edge.train.evaluation.evaluate import LabelledSplit
from fcos_edge.train.evaluation.mistakes import Mistakes, PictureMistakes, find_mistakes
from fcos_edge.train.evaluation.reasons import ALARM_REASONS, MISS_REASONS, Mistake
from tests.train.random_splits import random_split

CLASSES = ("man", "bus")
MAN, BUS = 0, 1
THRESHOLDS = (0.5, 0.5)

Labelled = tuple[int, tuple[float, float, float, float]]  # class, x y width height
Found = tuple[int, float, tuple[float, float, float, float]]  # class, score, x y width height

# A square of 10, and others by their IoU with it: 10 - d of its columns are shared by one moved by d.
BOX = (0.0, 0.0, 10.0, 10.0)
IOU_82 = (1.0, 0.0, 10.0, 10.0)
IOU_43 = (4.0, 0.0, 10.0, 10.0)
IOU_05 = (9.0, 0.0, 10.0, 10.0)
NEXT = (0.0, 1.0, 10.0, 10.0)  # IoU 0.82 with the square
FAR = (50.0, 50.0, 10.0, 10.0)


def split_of(pictures: Sequence[Sequence[Labelled]], crowds: Sequence[Labelled] = ()) -> LabelledSplit:
    """Pictures of 100 x 100; the crowds are in the first."""
    annotations = [
        {"id": 0, "image_id": place, "category_id": label, "bbox": list(box), "iscrowd": int(is_crowd)}
        for place, rows in enumerate(pictures)
        for is_crowd, labelled in ((False, rows), (True, crowds if place == 0 else ()))
        for label, box in labelled
    ]
    document = {
        "images": [{"id": place} for place in range(len(pictures))],
        "annotations": annotations,
        "categories": [{"id": label, "name": name} for label, name in enumerate(CLASSES)],
    }
    no_boxes, no_labels = np.zeros((0, 4), np.float32), np.zeros(0, np.int64)
    listed = tuple(
        LabelledPicture(Path(f"{place}.png"), place, no_boxes, no_labels, (100, 100))
        for place in range(len(pictures))
    )
    return LabelledSplit("made up", listed, CLASSES, document)


def detections(rows: Sequence[Found]) -> Detections:
    ordered = sorted(rows, key=lambda row: -row[1])
    boxes = np.array([box for _, _, box in ordered], np.float32).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    return Detections(
        boxes,
        np.array([row[1] for row in ordered], np.float32),
        np.array([row[0] for row in ordered], np.int64),
    )


def judge(
    labelled: Sequence[Labelled], found: Sequence[Found], crowds: Sequence[Labelled] = ()
) -> PictureMistakes:
    return find_mistakes(split_of([labelled], crowds), [detections(found)], THRESHOLDS).pictures[0]


def said(mistakes: Sequence[Mistake]) -> list[str]:
    """`man low score man 1.00 0.40`: class, reason, and the partner's class, IoU and score."""
    lines = []
    for one in mistakes:
        words = [CLASSES[one.label], one.reason]
        if one.partner is not None:
            words += [CLASSES[one.partner.label], f"{one.partner.iou:.2f}"]
            words += [] if one.partner.score is None else [f"{one.partner.score:.2f}"]
        lines.append(" ".join(words))
    return lines


@pytest.mark.parametrize(
    ("labelled", "found", "alarms"),
    [
        ([(MAN, BOX)], [(MAN, 0.9, BOX)], []),
        ([(MAN, BOX)], [(MAN, 0.49, FAR)], []),  # nobody is told of it
        ([(MAN, BOX)], [(MAN, 0.9, FAR)], ["man background"]),
        ([], [(MAN, 0.9, FAR)], ["man background"]),
        ([(MAN, BOX)], [(MAN, 0.9, BOX), (MAN, 0.8, IOU_82)], ["man duplicate man 0.82"]),
        ([(MAN, BOX)], [(MAN, 0.9, IOU_43)], ["man badly placed man 0.43"]),
        ([(MAN, BOX)], [(MAN, 0.9, IOU_05)], ["man background"]),  # 0.05: no attempt at it
        ([(BUS, BOX)], [(MAN, 0.9, IOU_82)], ["man wrong class bus 0.82"]),
        ([(BUS, BOX)], [(MAN, 0.9, IOU_43)], ["man both bus 0.43"]),
        # A box of another class on it says more than one of its own beside it.
        ([(MAN, IOU_43), (BUS, NEXT)], [(MAN, 0.9, BOX)], ["man wrong class bus 0.82"]),
        # The nearest of several, and the best score first.
        ([(MAN, BOX), (MAN, IOU_05)], [(MAN, 0.7, IOU_43), (MAN, 0.8, FAR)],
         ["man background", "man badly placed man 0.43"]),
    ],
)  # fmt: skip
def test_false_alarms__reasons(labelled: list[Labelled], found: list[Found], alarms: list[str]) -> None:
    assert said(judge(labelled, found).false_alarms) == alarms


@pytest.mark.parametrize(
    ("labelled", "found", "misses"),
    [
        ([(MAN, BOX)], [(MAN, 0.5, BOX)], []),  # a score at the threshold reaches it
        ([(MAN, BOX)], [], ["man unseen"]),
        ([(MAN, BOX)], [(MAN, 0.9, FAR)], ["man unseen"]),
        ([(MAN, BOX)], [(MAN, 0.4, BOX)], ["man low score man 1.00 0.40"]),
        ([(MAN, BOX)], [(MAN, 0.4, IOU_43)], ["man unseen"]),  # neither sure nor right
        ([(MAN, BOX)], [(MAN, 0.9, IOU_43)], ["man badly placed man 0.43 0.90"]),
        ([(MAN, BOX)], [(BUS, 0.9, IOU_82)], ["man wrong class bus 0.82 0.90"]),
        ([(MAN, BOX)], [(BUS, 0.4, IOU_82)], ["man unseen"]),
        # One that hits a bus says nothing about the man in front of it.
        ([(MAN, BOX), (BUS, IOU_82)], [(BUS, 0.9, IOU_82)], ["man unseen"]),
        # Two men, one detection: who is left has it on him, too.
        ([(MAN, BOX), (MAN, NEXT)], [(MAN, 0.9, BOX)], ["man shared man 0.82 0.90"]),
        ([(MAN, BOX), (MAN, NEXT)], [(MAN, 0.9, BOX), (MAN, 0.3, NEXT)], ["man low score man 1.00 0.30"]),
        # The largest first.
        ([(MAN, BOX), (BUS, (30, 30, 40, 40))], [(MAN, 0.3, BOX)],
         ["bus unseen", "man low score man 1.00 0.30"]),
    ],
)  # fmt: skip
def test_misses__reasons(labelled: list[Labelled], found: list[Found], misses: list[str]) -> None:
    assert said(judge(labelled, found).misses) == misses


def test_crowds__are_neither_missed_nor_false() -> None:
    judged = judge([], [(MAN, 0.9, BOX), (BUS, 0.8, BOX)], crowds=[(MAN, BOX)])
    assert judged.misses == ()
    assert said(judged.false_alarms) == ["bus background"]  # it is a crowd of men


def test_hits__are_those_at_the_threshold() -> None:
    judged = judge([(MAN, BOX), (BUS, FAR)], [(MAN, 0.9, BOX), (BUS, 0.3, FAR), (MAN, 0.8, FAR)])
    assert judged.hits.labels.tolist() == [MAN]
    assert judged.hits.boxes_xyxy.tolist() == [[0, 0, 10, 10]]


@pytest.mark.parametrize("seed", range(4))
def test_find_mistakes__counts_what_the_figures_count(seed: int) -> None:
    labelled, found = random_split(seed)
    thresholds = [0.3, 0.5, 0.6, 0.5]
    mistakes = find_mistakes(labelled, found, thresholds)
    document = mistakes.add_to({"classes": {name: {} for name in labelled.classes}})
    for label, one in enumerate(match_split(labelled, found)):
        row = document["classes"][labelled.classes[label]]
        hits = one.hits_at(thresholds[label])
        assert sum(row["misses"].values()) == (one.boxes - hits).sum()
        assert sum(row["false_alarms"].values()) == (one.count_at(thresholds[label]) - hits).sum()
        for key, expected in (("misses", one.boxes), ("false_alarms", one.count_at(thresholds[label]))):
            counts = [
                sum(each.label == label for each in getattr(picture, key)) for picture in mistakes.pictures
            ]
            assert counts == (expected - hits).tolist()
        assert tuple(row["misses"]) == MISS_REASONS
        assert tuple(row["false_alarms"]) == ALARM_REASONS


# Pictures by what is missed and falsely found in them, each a row of the tables below.
TINY, LARGE = (0.0, 0.0, 2.0, 2.0), (10.0, 10.0, 80.0, 80.0)


def mistakes_of(pictures: Sequence[tuple[Sequence[Labelled], Sequence[Found]]]) -> Mistakes:
    labelled = split_of([boxes for boxes, _ in pictures])
    return find_mistakes(labelled, [detections(found) for _, found in pictures], THRESHOLDS)


def test_worst_misses__a_bus_comes_before_a_crowd_far_away() -> None:
    mistakes = mistakes_of([
        ([], []),
        ([(MAN, TINY)] * 40, []),
        ([(BUS, LARGE)], []),
        ([(MAN, BOX)], []),
        ([(MAN, BOX), (MAN, FAR)], []),  # of equal boxes, where more are missed
        ([(MAN, LARGE)], [(MAN, 0.9, LARGE)]),
    ])  # fmt: skip
    missed, alarmed = mistakes.worst()
    assert [one.picture for one in missed] == [2, 4, 3, 1]
    assert alarmed == []
    assert [one.picture for one in mistakes.worst(count=2)[0]] == [2, 4]


def test_worst_misses__are_a_part_of_their_picture() -> None:
    mistakes = mistakes_of([([(MAN, BOX)], []), ([(MAN, BOX)], [])])
    smaller = PictureMistakes(
        1, "1.png", (20, 20), mistakes.pictures[1].misses, (), mistakes.pictures[1].hits
    )
    missed, _ = Mistakes(CLASSES, (mistakes.pictures[0], smaller)).worst()
    assert [(one.picture, one.largest_miss) for one in missed] == [(1, 0.25), (0, 0.01)]


def test_worst_false_alarms__by_score_and_each_picture_once() -> None:
    mistakes = mistakes_of([
        ([], [(MAN, 0.6, BOX), (BUS, 0.6, FAR)]),
        ([], [(MAN, 0.8, FAR)]),
        ([(BUS, LARGE)], [(MAN, 0.95, TINY)]),  # among the misses, with its false alarm
        ([], [(MAN, 0.6, BOX)]),
        ([], [(MAN, 0.4, BOX)]),
    ])  # fmt: skip
    missed, alarmed = mistakes.worst()
    assert [one.picture for one in missed] == [2]
    assert len(missed[0].false_alarms) == 1
    assert [one.picture for one in alarmed] == [1, 0, 3]


def test_to_dict__is_what_a_page_draws() -> None:
    document = mistakes_of([([(BUS, FAR)], [(MAN, 0.75, IOU_82)])]).add_to(
        {"classes": {"man": {}, "bus": {}}}
    )
    (worst,) = document["worst_misses"]
    assert worst == {
        "file": "0.png", "picture": 0, "size_hw": [100, 100], "hits": [],
        "misses": [{"label": 1, "class_name": "bus", "score": None, "box_xyxy": [50, 50, 60, 60],
                    "reason": "unseen", "partner": None}],
        "false_alarms": [{"label": 0, "class_name": "man", "score": 0.75, "box_xyxy": [1, 0, 11, 10],
                          "reason": "background", "partner": None}],
    }  # fmt: skip
    assert document["worst_false_alarms"] == []
