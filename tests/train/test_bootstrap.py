"""AP for weighted pictures: against COCO's own evaluator, on data sets that really repeat the pictures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fcos_edge.detections import Detections
from fcos_edge.runtime import IntArray
from fcos_edge.train.evaluation import bootstrap
from fcos_edge.train.evaluation.bootstrap import (
    average_precision,
    draw_pictures,
    interval,
    resample,
    resampled_ap,
)
from fcos_edge.train.evaluation.coco_matches import ClassMatches, match_split
from fcos_edge.train.evaluation.evaluate import LabelledSplit, read_split
from tests.train.random_splits import random_split, repeated, without_ties

ATOL = 1e-9  # two programs add up the same numbers in another order


def _assert_same_ap(
    labelled: LabelledSplit,
    found: Sequence[Detections],
    matches: Sequence[ClassMatches],
    weights: IntArray | None = None,
) -> None:
    """AP of `matches` is COCO's of `labelled` and `found`, class by class and over all."""
    evaluation = labelled.compare(found)
    means = []
    for row, one in zip(evaluation.classes, matches, strict=True):
        ap = average_precision(one, weights)
        if row.ap == -1:
            assert np.isnan(ap).all()
            continue
        assert (ap.mean(), ap[0]) == pytest.approx((row.ap, row.ap50), abs=ATOL)
        means.append(ap.mean())
    assert (np.mean(means) if means else -1) == pytest.approx(evaluation.figures["AP"], abs=ATOL)


@pytest.mark.parametrize("seed", range(12))
def test_average_precision__is_coco_s(seed: int) -> None:
    labelled, found = random_split(seed)
    _assert_same_ap(labelled, found, match_split(labelled, found))


def test_average_precision__of_nothing_found_is_zero() -> None:
    labelled, found = random_split(0)
    found = [Detections.empty() for _ in found]
    _assert_same_ap(labelled, found, match_split(labelled, found))


def test_average_precision__is_coco_s_on_real_labels(data_set: Callable[[str], Path]) -> None:
    classes = ("person", "bicycle", "car", "motorcycle", "bus", "cat", "dog", "horse")
    labelled = read_split(data_set("coco-person"), "val", classes)
    generator = np.random.default_rng(0)
    found = []
    for picture in labelled.pictures:
        near = picture.boxes_xyxy + generator.normal(0, 4, picture.boxes_xyxy.shape)
        near = np.concatenate([near, near + 2, generator.uniform(0, 300, (9, 4))]).astype(np.float32)
        labels = np.concatenate([picture.labels, picture.labels, generator.integers(0, 8, 9)])
        scores = np.sort(generator.uniform(0, 1, len(near)).astype(np.float32).round(2))[::-1]
        ordered = np.asarray(np.sort(near.reshape(-1, 2, 2), axis=1).reshape(-1, 4), np.float32)
        found.append(Detections(ordered, scores, np.maximum(labels, 0)))
    _assert_same_ap(labelled, found, match_split(labelled, found))


@pytest.mark.parametrize("seed", range(8))
def test_average_precision__weights_are_copies_of_pictures(seed: int) -> None:
    labelled, found = random_split(seed)
    # Ties in one picture apart: copies repeat them one after the other, weights take them together.
    found = without_ties(found)
    weights = np.random.default_rng(seed).integers(0, 5, len(found))
    weights[0] = 5  # so that one is left
    copies, found_again = repeated(labelled, found, weights)
    _assert_same_ap(copies, found_again, match_split(labelled, found), weights)


def test_average_precision__without_any_picture() -> None:
    labelled, found = random_split(0)
    for one in match_split(labelled, found):
        assert np.isnan(average_precision(one, np.zeros(len(found), np.int64))).all()


def test_resampled_ap__in_parts_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    labelled, found = random_split(1)
    matches, weights = match_split(labelled, found)[0], draw_pictures(len(found), 50, 0)
    whole = resampled_ap(matches, weights)
    monkeypatch.setattr(bootstrap, "_AT_ONCE", 7 * len(matches.scores))
    # NumPy may add up one column in another order than many.
    np.testing.assert_allclose(resampled_ap(matches, weights), whole, rtol=0, atol=1e-12)


def test_draw_pictures__as_many_as_there_are() -> None:
    counts = draw_pictures(40, 500, seed=3)
    assert (counts.shape, str(counts.dtype)) == ((500, 40), "int64")
    assert (counts.sum(axis=1) == 40).all()
    np.testing.assert_array_equal(counts, draw_pictures(40, 500, seed=3))
    assert not np.array_equal(counts, draw_pictures(40, 500, seed=4))
    # 500 draws of mean 1 and variance 1: the mean scatters by 0.045, and of 40 none is 5 times as far off.
    assert np.abs(counts.mean(axis=0) - 1).max() < 0.23
    assert draw_pictures(40, 0, seed=3).shape == (0, 40)


def test_resample__each_draw_is_an_evaluation_of_its_pictures() -> None:
    labelled, found = random_split(2)
    found = without_ties(found)
    thresholds = (0.2, 0.5, 0.5, 0.5)
    drawn = resample(match_split(labelled, found), thresholds, 5, 7)
    for row, counts in enumerate(draw_pictures(len(found), 5, 7)):
        copies, found_again = repeated(labelled, found, counts)
        evaluation = copies.compare(found_again)
        matches = match_split(copies, found_again)
        expected = np.array([(one.ap, one.ap50) for one in evaluation.classes])
        expected[expected == -1] = np.nan
        np.testing.assert_allclose(drawn.ap[row], expected[:, 0], rtol=0, atol=ATOL)
        np.testing.assert_allclose(drawn.ap50[row], expected[:, 1], rtol=0, atol=ATOL)
        assert drawn.boxes[row].tolist() == [one.boxes for one in evaluation.classes]
        assert drawn.hits[row].tolist() == [
            one.hits_at(threshold).sum() for one, threshold in zip(matches, thresholds, strict=True)
        ]


def test_resample__scatter_is_that_of_a_mean() -> None:
    """Of 100 pictures with a box each, 30 % are found: the rate scatters by sqrt(.3 * .7 / 100) = 0.046."""
    found_in = np.arange(30)
    always = np.ones((10, 30), np.bool_)
    matches = ClassMatches(found_in, np.ones(30, np.float32), always, always, np.ones(100, np.int64))
    drawn = resample([matches], [0.5], 2000, 0)
    # 2000 draws know a standard deviation to 1.6 %; four times that.
    assert (drawn.hits / drawn.boxes).std() == pytest.approx(np.sqrt(0.3 * 0.7 / 100), rel=0.065)
    assert not np.isnan(drawn.ap).any()
    # The same rate in every picture does not scatter.
    everywhere = replace(matches, boxes=np.repeat([1, 0], [30, 70]))
    assert np.nanstd(resample([everywhere], [0.5], 200, 0).ap) == 0


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.arange(1001.0), (25, 975)),
        (np.append(np.arange(1001.0), np.nan), (25, 975)),
        (np.array([0.25]), (0.25, 0.25)),
        (np.array([np.nan, np.nan]), None),
        (np.zeros(0), None),
    ],
)
def test_interval(values: np.ndarray[tuple[int], np.dtype[np.float64]], expected: object) -> None:
    found = interval(values)
    assert found == (None if expected is None else pytest.approx(expected))
