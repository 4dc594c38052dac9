"""Operating thresholds against brute force."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fcos_edge.detections import Detections
from fcos_edge.runtime import FloatArray, IntArray
from fcos_edge.train.evaluation.thresholds import MIN_BOXES, best_f1, best_f1_thresholds, match
from fcos_edge.train.targets import IGNORED
from tests.train import oracles

Box = tuple[float, float, float, float]


def _boxes(*boxes: Box) -> FloatArray:
    return np.array(boxes, np.float32).reshape(-1, 4)


@st.composite
def _box(draw: st.DrawFn) -> Box:
    # Few different boxes, so that they overlap and tie.
    x, y = draw(st.integers(0, 3)), draw(st.integers(0, 3))
    return (x, y, x + draw(st.integers(1, 4)), y + draw(st.integers(1, 4)))


@st.composite
def _picture(draw: st.DrawFn) -> tuple[list[tuple[Box, float]], list[Box], list[Box]]:
    scores = sorted(draw(st.lists(st.integers(1, 20), max_size=6)), reverse=True)
    found = [(draw(_box()), score / 20) for score in scores]
    return found, draw(st.lists(_box(), max_size=4)), draw(st.lists(_box(), max_size=2))


def _detections(found: list[tuple[Box, float]]) -> Detections:
    return Detections(
        _boxes(*(box for box, _ in found)), np.array([score for _, score in found], np.float32),
        np.zeros(len(found), np.int64),
    )  # fmt: skip


def _truth(wanted: list[Box], ignored: list[Box]) -> tuple[FloatArray, IntArray]:
    return _boxes(*wanted, *ignored), np.array([0] * len(wanted) + [IGNORED] * len(ignored), np.int64)


@given(st.lists(_picture(), min_size=1, max_size=4))
@settings(max_examples=100, deadline=None)
def test_best_f1_thresholds__no_other_threshold_is_better(
    pictures: list[tuple[list[tuple[Box, float]], list[Box], list[Box]]],
) -> None:
    (threshold,) = best_f1_thresholds(
        [_detections(found) for found, _, _ in pictures],
        [_truth(wanted, ignored) for _, wanted, ignored in pictures], 1,
    )  # fmt: skip

    def f1(at: float) -> float:
        return oracles.f1_at(at, *zip(*pictures, strict=True))

    best = max(f1(score / 20) for score in range(1, 21))
    if best == 0:
        assert threshold == 0.5
    else:
        assert f1(threshold) == pytest.approx(best, abs=1e-12)


@pytest.mark.parametrize(
    ("scores", "hits", "boxes", "expected"),
    [
        ([0.9, 0.6, 0.2], [True, True, False], 2, 0.4),  # halfway down to the next
        ([0.9, 0.6], [True, True], 2, 0.6),  # there is no next
        ([0.9, 0.8, 0.8, 0.4], [True, True, False, False], 2, 0.6),  # F1 0.8, as 0.9 alone would give 0.67
        ([0.9, 0.8, 0.8], [True, False, True], 1, 0.85),  # a tie is taken as a whole or not at all
        ([0.123456], [True], 1, 0.1234),  # rounded down: the hit stays
        ([0.9], [False], 3, 0.5),
        ([], [], 3, 0.5),
        ([], [], 0, 0.5),
    ],
)
def test_best_f1__table(scores: list[float], hits: list[bool], boxes: int, expected: float) -> None:
    assert best_f1(scores, hits, boxes) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(
    ("found", "wanted", "ignored", "hits", "counts"),
    [
        # the same box twice: one hit
        ([(0, 0, 4, 4), (0, 0, 4, 4)], [(0, 0, 4, 4)], [], [1, 0], [1, 1]),
        # IoU of exactly a half is enough
        ([(0, 0, 4, 2)], [(0, 0, 4, 4)], [], [1], [1]),
        ([(0, 0, 4, 1.9)], [(0, 0, 4, 4)], [], [0], [1]),
        # inside an ignore region: not counted; but a box there can be hit
        ([(1, 1, 2, 2)], [], [(0, 0, 8, 8)], [0], [0]),
        ([(1, 1, 2, 2)], [(1, 1, 2, 2)], [(0, 0, 8, 8)], [1], [1]),
        # less than half of it lies inside
        ([(6, 0, 11, 8)], [], [(0, 0, 8, 8)], [0], [1]),
        ([], [(0, 0, 1, 1)], [(0, 0, 8, 8)], [], []),
    ],
)
def test_match__table(
    found: list[Box], wanted: list[Box], ignored: list[Box], hits: list[int], counts: list[int]
) -> None:
    is_hit, is_counted = match(_boxes(*found), _boxes(*wanted), _boxes(*ignored))
    assert is_hit.tolist() == list(map(bool, hits))
    assert is_counted.tolist() == list(map(bool, counts))


def test_best_f1_thresholds__classes_with_few_boxes_share_one() -> None:
    box = (0.0, 0.0, 4.0, 4.0)
    boxes, scores = _boxes(box, box), np.array([0.8, 0.3], np.float32)
    # Class 0 in every picture, right at 0.8; class 1 in one, right at 0.3.
    both = Detections(boxes, scores, np.array([0, 1]))
    first = Detections(boxes[:1], scores[:1], np.array([0]))
    truth = (boxes, np.array([0, 1])), (boxes[:1], np.array([0]))
    found = [both] + [first] * (MIN_BOXES - 1)
    labels = [truth[0]] + [truth[1]] * (MIN_BOXES - 1)
    thresholds = best_f1_thresholds(found, labels, 3)
    assert thresholds[0] == pytest.approx(0.8, abs=1e-3)
    assert thresholds[1] == thresholds[2] == pytest.approx(0.3, abs=1e-3)  # of all classes together
