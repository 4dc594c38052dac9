"""Thresholds of int8 files against slow counting."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from fcos_edge.detections import Detections
from fcos_edge.quantize.thresholds import MIN_DETECTIONS, thresholds_of_count, thresholds_of_precision
from fcos_edge.train.evaluation.coco_matches import ClassMatches

LEAST = 0.0625
GRID = st.integers(16, 240).map(
    lambda steps: steps / 256
)  # coarser than the 1e-4 that thresholds are rounded to


def detections(scores: Sequence[float], label: int = 0) -> Detections:
    order = sorted(scores, reverse=True)
    boxes = np.tile(np.array([0, 0, 1, 1], np.float32), (len(order), 1))
    return Detections(boxes, np.array(order, np.float32), np.full(len(order), label, np.int64))


def matches(rows: Sequence[tuple[float, bool]]) -> ClassMatches:
    """Detections of one class in one picture: (score, whether it is right)."""
    rows = sorted(rows, key=lambda row: -row[0])
    is_hit = np.tile(np.array([hit for _, hit in rows], bool), (10, 1))
    scores = np.array([score for score, _ in rows], np.float32)
    return ClassMatches(
        np.zeros(len(rows), np.int64), scores, is_hit, np.ones_like(is_hit), np.array([len(rows)])
    )


SCORES = st.lists(GRID, min_size=MIN_DETECTIONS, max_size=60, unique=True)


@given(SCORES, st.sampled_from([0.9, 0.95, 1.0, 1.05]), st.floats(0.1, 0.9))
def test_count__is_the_same_on_both_sides(scores: list[float], drift: float, threshold: float) -> None:
    moved = [np.float32(score * drift) for score in scores]
    moved = [score for score in moved if score >= LEAST]  # below the candidate threshold nothing exists
    (chosen,) = thresholds_of_count([detections(scores)], [detections(moved)], [threshold], LEAST)
    wanted = sum(np.float32(score) >= np.float32(threshold) for score in scores)
    if wanted < MIN_DETECTIONS:
        assert chosen == threshold
    else:
        assert sum(score >= np.float32(chosen) for score in moved) == min(wanted, len(moved))


def test_count__each_class_has_its_own_and_ties_are_taken_together() -> None:
    many = [0.3 + 0.01 * i for i in range(40)]
    first = [detections(many), detections(many, label=1)]
    lower = [detections([s - 0.1 for s in many]), detections([0.5] * 30 + [0.2] * 10, label=1)]
    one, two = thresholds_of_count(first, lower, [0.395, 0.495], LEAST)
    assert 0.29 < one < 0.3  # 30 of 40
    assert 0.34 <= two <= 0.35  # the 20th is one of 30 equal ones


@given(
    st.lists(st.tuples(GRID, st.booleans()), min_size=30, max_size=80),
    st.lists(st.tuples(GRID, st.booleans()), min_size=30, max_size=80),
    st.floats(0.1, 0.5),
)
def test_precision__is_kept_at_the_lowest_threshold(
    own: list[tuple[float, bool]], found: list[tuple[float, bool]], threshold: float
) -> None:
    def precision(rows: list[tuple[float, bool]], at: float) -> tuple[int, float]:
        taken = [hit for score, hit in rows if np.float32(score) >= np.float32(at)]
        return len(taken), sum(taken) / len(taken) if taken else 0.0

    (chosen,) = thresholds_of_precision([matches(own)], [matches(found)], [threshold], LEAST)
    count, wanted = precision(own, threshold)
    if count < MIN_DETECTIONS:
        assert chosen == threshold
        return
    reached = {score: precision(found, score) for score, _ in found}
    enough = {score: part for score, (taken, part) in reached.items() if taken >= MIN_DETECTIONS}
    precise = [score for score, part in enough.items() if part >= wanted]
    at = min(score for score, _ in found if score >= chosen)
    assert at == min(precise) if precise else enough[at] == max(enough.values())


def test_thresholds__too_few_detections_keep_the_float_one() -> None:
    few = [detections([0.9] * (MIN_DETECTIONS - 1))]
    assert thresholds_of_count(few, few, [0.4], LEAST) == (0.4,)
    rows = matches([(0.9, True)] * (MIN_DETECTIONS - 1))
    assert thresholds_of_precision([rows], [rows], [0.4], LEAST) == (0.4,)
