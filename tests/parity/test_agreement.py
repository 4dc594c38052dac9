"""Agreement of two detectors, against a table and plain loops over all pairings."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fcos_edge.detections import Detections
from fcos_edge.parity.agreement import Agreement, Asked, compare_detections, worst_pictures
from tests import oracles

Row = tuple[tuple[float, float, float, float], float, int]  # box, score, label

SQUARE = (0.0, 0.0, 100.0, 100.0)
AT_075 = (0.0, 0.0, 100.0, 75.0)  # IoU with SQUARE exactly 0.75
BELOW_075 = (0.0, 0.0, 100.0, 74.0)
AT_09 = (0.0, 0.0, 100.0, 90.0)
FAR = (200.0, 200.0, 300.0, 300.0)

THRESHOLDS = (0.5, 0.25)


def detections_of(*rows: Row) -> Detections:
    """The rows by descending score."""
    if not rows:
        return Detections.empty()
    boxes, scores, labels = zip(*sorted(rows, key=lambda row: -row[1]), strict=True)
    return Detections(np.array(boxes, np.float32), np.array(scores, np.float32), np.array(labels, np.int64))


def compare(
    reference: Sequence[Row],
    found: Sequence[Row],
    thresholds: tuple[float, ...] = THRESHOLDS,
    found_thresholds: tuple[float, ...] | None = None,
) -> Agreement:
    """Of one picture."""
    sides = [detections_of(*reference)], [detections_of(*found)]
    return compare_detections(*sides, thresholds, found_thresholds or thresholds)


@pytest.mark.parametrize(
    ("reference", "found", "asked", "asked_back"),
    [
        ([], [], Asked(0, 0), Asked(0, 0)),
        ([(SQUARE, 0.5, 0)], [(SQUARE, 0.5, 0)], Asked(1, 1), Asked(1, 1)),  # exactly the threshold
        ([(SQUARE, 0.49, 0)], [(SQUARE, 0.49, 0)], Asked(0, 0), Asked(0, 0)),  # below it: not asked
        ([(SQUARE, 0.5, 0)], [(SQUARE, 0.4, 0)], Asked(1, 1), Asked(0, 0)),  # down to 0.1 below
        ([(SQUARE, 0.5, 0)], [(SQUARE, 0.39, 0)], Asked(1, 0), Asked(0, 0)),
        ([(SQUARE, 0.4, 0)], [(SQUARE, 0.5, 0)], Asked(0, 0), Asked(1, 1)),  # the other way
        ([(SQUARE, 0.99, 0)], [(SQUARE, 0.4, 0)], Asked(1, 1), Asked(0, 0)),  # a drift, no lost detection
        ([(SQUARE, 0.3, 1)], [(SQUARE, 0.15, 1)], Asked(1, 1), Asked(0, 0)),  # each class its threshold
        ([(SQUARE, 0.6, 0)], [(SQUARE, 0.6, 1)], Asked(1, 0), Asked(1, 0)),  # another class
        ([(SQUARE, 0.6, 0)], [(AT_075, 0.6, 0)], Asked(1, 1), Asked(1, 1)),  # exactly the least IoU
        ([(SQUARE, 0.6, 0)], [(BELOW_075, 0.6, 0)], Asked(1, 0), Asked(1, 0)),
        ([(SQUARE, 0.6, 0)], [], Asked(1, 0), Asked(0, 0)),  # lost
        ([], [(SQUARE, 0.6, 0)], Asked(0, 0), Asked(1, 0)),  # made up
        # Nobody is the partner of two.
        ([(SQUARE, 0.6, 0), (AT_09, 0.6, 0)], [(SQUARE, 0.6, 0)], Asked(2, 1), Asked(1, 1)),
        # One that was not asked makes room for no one: both of them may have the one partner.
        ([(SQUARE, 0.6, 0), (AT_09, 0.45, 0)], [(AT_09, 0.6, 0)], Asked(1, 1), Asked(1, 1)),
    ],
)
def test_compare__asked_and_matched(
    reference: list[Row], found: list[Row], asked: Asked, asked_back: Asked
) -> None:
    agreement = compare(reference, found)
    assert (agreement.detections.reference, agreement.detections.found) == (asked, asked_back)
    assert agreement.detections.both == asked + asked_back


def test_compare__each_side_has_its_own_thresholds() -> None:
    # int8 scores run lower here, and so does its threshold: 0.21 is still within 0.1 of it.
    for score, matched in ((0.21, 1), (0.19, 0)):
        agreement = compare([(SQUARE, 0.6, 0)], [(SQUARE, score, 0)], (0.5,), (0.3,))
        assert agreement.detections.reference == Asked(1, matched)
    # And back: what is found must reach 0.3, its partner the reference's 0.4.
    for score, matched in ((0.41, 1), (0.39, 0)):
        agreement = compare([(SQUARE, score, 0)], [(SQUARE, 0.3, 0)], (0.5,), (0.3,))
        assert agreement.detections.found == Asked(1, matched)


def test_compare__thresholds_are_float32() -> None:
    # float32(0.7) is less than 0.7: compared as float64, a detection at the threshold would be lost.
    agreement = compare([(SQUARE, 0.7, 0)], [(SQUARE, 0.7, 0)], (0.7,))
    assert agreement.detections.both == Asked(2, 2)


def test_compare__drift_and_iou_of_the_best_pairs() -> None:
    # Two boxes of one class overlap each other: each is paired with itself, not with its neighbour.
    reference = [(SQUARE, 0.75, 0), (AT_09, 0.5, 0), (FAR, 0.5, 1)]
    found = [(AT_09, 0.625, 0), (SQUARE, 0.5, 0), (FAR, 0.5, 1)]
    agreement = compare(reference, found)
    assert agreement.pairs == 3
    assert agreement.iou.least == 1
    assert agreement.drift.mean == pytest.approx((-0.25 + 0.125 + 0) / 3, abs=1e-15)  # float64 sums
    assert (agreement.drift.p50, agreement.drift.largest) == (0.125, 0.25)
    assert [(one.pairs, one.mean_drift) for one in agreement.classes] == [(2, -0.0625), (1, 0)]


def test_compare__drift_of_pairs_that_only_one_side_asked_for() -> None:
    # One falls below the threshold, another rises above it: both count, so nothing drifts as a whole.
    reference = [(SQUARE, 0.5, 0), (FAR, 0.4375, 0)]
    found = [(SQUARE, 0.4375, 0), (FAR, 0.5, 0)]
    agreement = compare(reference, found)
    assert agreement.detections.reference == agreement.detections.found == Asked(1, 1)
    assert (agreement.pairs, agreement.drift.mean, agreement.drift.p50) == (2, 0, 0.0625)


def test_compare__nothing_to_pair() -> None:
    agreement = compare([(SQUARE, 0.6, 0)], [])
    assert (agreement.pairs, agreement.iou.p50, agreement.drift.mean) == (0, None, None)
    assert agreement.detections.found.rate is None
    assert [one.mean_drift for one in agreement.classes] == [None, None]
    assert compare_detections([], [], THRESHOLDS, THRESHOLDS).detections.both.rate is None


def test_compare__per_class_and_json() -> None:
    agreement = compare([(SQUARE, 0.6, 0), (FAR, 0.3, 1)], [(SQUARE, 0.6, 0)])
    assert [one.detections.both for one in agreement.classes] == [Asked(2, 2), Asked(1, 0)]
    document = json.loads(json.dumps(agreement.to_dict(("cat", "dog")), allow_nan=False))
    assert document["detections"]["reference"] == {"asked": 2, "matched": 1, "rate": 0.5}
    assert document["classes"]["dog"]["found"] == {"asked": 0, "matched": 0, "rate": None}
    assert (document["classes"]["cat"]["pairs"], document["classes"]["cat"]["mean_drift"]) == (1, 0)
    assert document["sample"] == [["cat", 0.6, 0.6]]
    assert document["pairs"] == document["iou"]["p50"] == 1
    assert document["drift"]["largest"] == 0


def test_compare__sides_that_do_not_fit() -> None:
    one = [Detections.empty()]
    with pytest.raises(ValueError, match="the reference has 1 pictures, the other side 2"):
        compare_detections(one, one * 2, (0.5,), (0.5,))
    with pytest.raises(ValueError, match="the reference has 1 classes, the other side 2"):
        compare_detections(one, one, (0.5,), (0.5, 0.5))


# Whole pixels and quarters of a score, so that limits are met exactly and overlaps tie.
corners = st.tuples(st.integers(0, 1), st.integers(0, 1), st.integers(7, 10), st.integers(7, 10))
rows = st.tuples(
    corners.map(lambda box: tuple(map(float, box))), st.integers(0, 8).map(lambda n: n / 8), st.integers(0, 1)
)


@settings(deadline=None)  # the oracle is slow, and machines are shared
@given(
    pictures=st.lists(st.tuples(st.lists(rows, max_size=4), st.lists(rows, max_size=4)), max_size=3),
    thresholds=st.lists(st.sampled_from([0.25, 0.5, 0.625]), min_size=4, max_size=4),
)
def test_compare__equals_plain_loops(
    pictures: list[tuple[list[Row], list[Row]]], thresholds: list[float]
) -> None:
    ours, theirs = thresholds[:2], thresholds[2:]
    references, founds = ([detections_of(*picture[side]) for picture in pictures] for side in (0, 1))
    agreement = compare_detections(references, founds, ours, theirs)
    there = [ask(*picture, ours, theirs) for picture in pictures]
    back = [ask(found, reference, theirs, ours) for reference, found in pictures]
    for label, one in enumerate(agreement.classes):
        assert one.detections.reference == sum((asked[label] for asked in there), Asked())
        assert one.detections.found == sum((asked[label] for asked in back), Asked())
    assert agreement.detections.both == sum((one.detections.both for one in agreement.classes), Asked())
    assert agreement.pairs == sum(one.pairs for one in agreement.classes)
    assert agreement.pairs >= agreement.detections.reference.matched
    assert agreement.pairs >= agreement.detections.found.matched

    # Turned around, everything but the sign of the drift is the same.
    turned = compare_detections(founds, references, theirs, ours)
    assert turned.detections.reference == agreement.detections.found
    assert turned.detections.found == agreement.detections.reference

    worst = worst_pictures(references, founds, ours, theirs, count=3)
    lost = {
        index: tuple(sum(asked.asked - asked.matched for asked in side[index]) for side in (there, back))
        for index in range(len(pictures))
    }
    told = {one.picture: (one.reference_unmatched, one.found_unmatched) for one in worst}
    assert all(lost[picture] == told.get(picture, (0, 0)) for picture in lost)


def ask(asking: list[Row], others: list[Row], own: list[float], limits: list[float]) -> list[Asked]:
    """Per class; tries every way to give each detection another one or none."""
    counts = []
    for label in (0, 1):
        asked = [row for row in asking if row[2] == label and row[1] >= own[label]]
        partners = [row for row in others if row[2] == label and row[1] >= limits[label] - 0.1]
        ways = itertools.permutations([*partners, *[None] * len(asked)], len(asked))
        matched = max(
            sum(
                partner is not None and oracles.iou(row[0], partner[0]) >= 0.75
                for row, partner in zip(asked, way, strict=True)
            )
            for way in ways
        )
        counts.append(Asked(len(asked), matched))
    return counts


def test_worst_pictures__order_and_what_is_left_out() -> None:
    square = detections_of((SQUARE, 0.75, 0))
    two = detections_of((SQUARE, 0.75, 0), (FAR, 0.75, 0))
    references = [square, square, square, two, square, Detections.empty(), square]
    founds = [
        square,  # the same
        detections_of((SQUARE, 0.7421875, 0)),  # drifts by less than 0.05
        detections_of((SQUARE, 0.625, 0)),  # by 0.125
        Detections.empty(),  # two lost
        detections_of((SQUARE, 0.5, 0)),  # drifts by 0.25
        square,  # one made up
        detections_of((FAR, 0.75, 0)),  # one lost and one made up
    ]
    worst = worst_pictures(references, founds, (0.5,), (0.5,))
    assert [(one.picture, one.reference_unmatched, one.found_unmatched, one.drift) for one in worst] == [
        (3, 2, 0, 0),  # equal to the next: by index
        (6, 1, 1, 0),
        (5, 0, 1, 0),
        (4, 0, 0, 0.25),
        (2, 0, 0, 0.125),
    ]
    assert worst_pictures(references, founds, (0.5,), (0.5,), count=2) == worst[:2]
    assert worst[0].to_dict() == {
        "picture": 3, "reference_unmatched": 2, "found_unmatched": 0, "drift": 0.0, "unmatched": 2,
        "reference_alone": [0, 1], "found_alone": [],
    }  # fmt: skip


def test_worst_pictures__unmatched_then_drift() -> None:
    # Of two pictures with one lost detection each, the one whose other detection drifts comes first.
    reference = detections_of((SQUARE, 0.75, 0), (FAR, 0.75, 0))
    founds = [detections_of((SQUARE, score, 0)) for score in (0.75, 0.625)]
    worst = worst_pictures([reference] * 2, founds, (0.5,), (0.5,))
    assert [(one.picture, one.unmatched, one.drift) for one in worst] == [(1, 1, 0.125), (0, 1, 0)]
