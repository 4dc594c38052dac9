"""Accuracy against labels and its difference: by hand, and on splits by lot."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
import pytest

from fcos_edge.detections import Detections
from fcos_edge.parity.accuracy import Accuracy, Difference, compare_accuracy, measure_accuracy
from fcos_edge.train.evaluation.coco_figures import FIGURES
from fcos_edge.train.evaluation.coco_matches import match_split
from tests.train.random_splits import CLASSES, random_split

THRESHOLDS = (0.3, 0.5, 0.5, 0.5)
_, FOUND = random_split(0)


def _measure(
    seed: int = 0, found: Sequence[Detections] | None = None, resamples: int = 200, least_boxes: int = 20
) -> Accuracy:
    labelled, everything = random_split(seed)
    return measure_accuracy(
        labelled, everything if found is None else found, THRESHOLDS, resamples, least_boxes=least_boxes
    )


def _without(found: Sequence[Detections], label: int) -> list[Detections]:
    kept = [(one, one.labels != label) for one in found]
    return [Detections(one.boxes_xyxy[rows], one.scores[rows], one.labels[rows]) for one, rows in kept]


def _known(one: Difference | None) -> Difference:
    assert one is not None
    return one


def _interval(one: Difference | None) -> tuple[float, float]:
    interval = _known(one).interval_95
    assert interval is not None
    return interval


@pytest.mark.parametrize("seed", range(5))
def test_measure_accuracy__is_evaluation_and_matches(seed: int) -> None:
    labelled, found = random_split(seed)
    accuracy, evaluation = _measure(seed), labelled.compare(found)
    assert accuracy.figures == evaluation.figures
    assert accuracy.pictures == 20
    above = match_split(labelled, [one.filtered(THRESHOLDS) for one in found])
    for row, expected, one in zip(accuracy.classes, evaluation.classes, above, strict=True):
        assert (row.name, row.boxes, row.ap, row.ap50) == (
            expected.name, expected.boxes, expected.ap, expected.ap50
        )  # fmt: skip
        assert (row.hits, row.detections) == (one.is_hit[0].sum(), one.counts[0].sum())
        if row.boxes:
            assert row.recall == row.hits / row.boxes
            assert row.miss_rate == pytest.approx(1 - row.hits / row.boxes)
        if row.detections:
            assert row.precision == row.hits / row.detections


def test_measure_accuracy__without_boxes_or_detections_there_are_no_rates() -> None:
    accuracy = _measure()
    rows = {row.name: row for row in accuracy.classes}
    assert (rows["ring"].boxes, rows["ring"].recall, rows["ring"].miss_rate, rows["ring"].ap) == (
        0,
        None,
        None,
        -1,
    )
    assert (rows["star"].detections, rows["star"].precision, rows["star"].miss_rate) == (0, None, 1)


@pytest.mark.parametrize(
    ("least_boxes", "pooled"),
    [
        (0, ()),
        (19, ("star",)),
        (20, ("disc", "star")),
        (1000, ("square", "disc", "star")),  # the ring has no boxes
    ],
)
def test_measure_accuracy__small_classes_are_pooled(least_boxes: int, pooled: tuple[str, ...]) -> None:
    accuracy = _measure(least_boxes=least_boxes)
    assert [row.boxes for row in accuracy.classes] == [25, 19, 0, 18]
    assert accuracy.small_classes == pooled
    if not pooled:
        assert accuracy.pooled is None
        return
    rows = [row for row in accuracy.classes if row.name in pooled]
    assert accuracy.pooled is not None
    for name in ("boxes", "hits", "detections"):
        assert getattr(accuracy.pooled, name) == sum(getattr(row, name) for row in rows)
    assert accuracy.pooled.ap == pytest.approx(np.mean([row.ap for row in rows]))
    assert accuracy.pooled.ap50 == pytest.approx(np.mean([row.ap50 for row in rows]))
    assert accuracy.pooled.recall == accuracy.pooled.hits / accuracy.pooled.boxes


def test_compare_accuracy__of_the_same_detections_is_zero() -> None:
    difference = compare_accuracy(_measure(), _measure())
    zero = Difference(0.0, (0.0, 0.0))
    assert (difference.figures["AP"], difference.figures["AP50"]) == (zero, zero)
    assert difference.figures["AP75"] == Difference(0.0)
    for row in (difference.classes[0], difference.pooled):
        assert row is not None
        assert row.reference == row.found
        assert [row.ap, row.ap50, row.recall, row.miss_rate] == [zero] * 4
    ring = difference.classes[2]
    assert [ring.ap, ring.ap50, ring.recall, ring.miss_rate] == [None] * 4


def test_compare_accuracy__differences_are_found_minus_reference() -> None:
    reference, worse = _measure(), _measure(found=_without(FOUND, 0))
    difference = compare_accuracy(reference, worse)
    for name in FIGURES:
        one, both = difference.figures[name], (reference.figures[name], worse.figures[name])
        assert (one and one.value) == (None if -1 in both else both[1] - both[0])
    square, disc = difference.classes[:2]
    before = reference.classes[0]
    assert _known(square.ap).value == -before.ap
    assert _known(square.ap50).value == -before.ap50
    assert _known(square.miss_rate).value == pytest.approx(before.hits / before.boxes)
    assert _known(square.recall).value == pytest.approx(-before.hits / before.boxes)
    # Every draw loses: the interval lies on one side of zero, and the difference in it.
    for one, sign in (
        (square.ap, -1), (square.ap50, -1), (square.recall, -1), (square.miss_rate, 1),
        (difference.figures["AP"], -1), (difference.figures["AP50"], -1),
    ):  # fmt: skip
        low, high = _interval(one)
        assert low < _known(one).value < high
        assert low * sign > 0
        assert high * sign > 0
    # The others were left alone.
    zero = Difference(0.0, (0.0, 0.0))
    assert disc.ap == disc.miss_rate == zero
    assert difference.pooled is not None
    assert difference.pooled.ap == difference.pooled.miss_rate == zero


def test_compare_accuracy__both_sides_see_the_same_draws() -> None:
    """The interval of a small difference is narrow, however much both scatter from draw to draw."""
    nearly = [Detections(one.boxes_xyxy[:-1], one.scores[:-1], one.labels[:-1]) for one in FOUND]
    reference, other = _measure(), _measure(found=nearly)
    low, high = _interval(compare_accuracy(reference, other).classes[0].ap)
    alone = np.nanpercentile(reference.resamples.ap[:, 0], (2.5, 97.5))
    assert 0 < high - low < np.ptp(alone) / 3


def test_compare_accuracy__without_draws_there_are_no_intervals() -> None:
    worse = _measure(found=_without(FOUND, 0), resamples=0)
    difference = compare_accuracy(_measure(resamples=0), worse)
    for one in (difference.classes[0].ap, difference.figures["AP"]):
        assert _known(one).value < 0
        assert _known(one).interval_95 is None


@pytest.mark.parametrize(
    "other",
    [
        {"seed": 1},  # other pictures
        {"resamples": 100},
        {"least_boxes": 10},
    ],
)
def test_compare_accuracy__refuses_what_was_measured_otherwise(other: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="cannot be compared"):
        compare_accuracy(_measure(), _measure(**other))  # type: ignore[arg-type]


def test_to_dict__is_json() -> None:
    reference, worse = _measure(), _measure(found=_without(FOUND, 0))
    for document in (reference.to_dict(), compare_accuracy(reference, worse).to_dict()):
        assert json.loads(json.dumps(document, allow_nan=False)) == document
        assert set(document["figures"]) == set(FIGURES)
        assert list(document["classes"]) == list(CLASSES)
    assert reference.to_dict()["pooled_classes"] == ["disc", "star"]
    assert reference.to_dict()["classes"]["ring"] == {
        "boxes": 0, "AP": -1.0, "AP50": -1.0, "hits": 0, "detections": reference.classes[2].detections,
        "recall": None, "miss_rate": None, "precision": 0.0,
    }  # fmt: skip


def test_difference__of_less_than_is_written_has_no_sign() -> None:
    document = Difference(-1e-9, (-1e-9, 0.25)).to_dict()
    assert json.dumps(document) == '{"value": 0.0, "interval_95": [0.0, 0.25]}'
