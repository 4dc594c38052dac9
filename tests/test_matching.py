"""Pairing of detections, against plain loops and all permutations."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fcos_edge.detections import Detections
from fcos_edge.matching import (
    BoolArray,
    best_pairs,
    count_unmatched,
    near_pairs,
    pairwise_iou,
    partner_pairs,
)
from fcos_edge.runtime import FloatArray
from tests import oracles

SQUARE = (0, 0, 10, 10)


def boxes_of(*boxes: tuple[float, ...]) -> FloatArray:
    return np.array(boxes, np.float32).reshape(-1, 4)


def one(box: tuple[float, ...] = SQUARE, score: float = 0.5, label: int = 0) -> Detections:
    return Detections(boxes_of(box), np.array([score], np.float32), np.array([label], np.int64))


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        (SQUARE, SQUARE, 1.0),
        (SQUARE, (0, 0, 5, 10), 0.5),
        (SQUARE, (5, 0, 15, 10), 1 / 3),
        (SQUARE, (10, 0, 20, 10), 0.0),  # touching
        (SQUARE, (20, 20, 30, 30), 0.0),  # apart on both axes: no negative * negative
        (SQUARE, (5, 0, 5, 10), 0.0),  # a line inside
        ((5, 5, 5, 5), (5, 5, 5, 5), 0.0),  # two points at one place: no 0/0
        ((0, 5, 10, 5), (0, 5, 10, 5), 0.0),  # two lines at one place
        ((0, 0, 1e30, 1e30), (0, 0, 1e30, 1e30), 1.0),  # an area that float32 cannot hold
        ((-20, -20, -10, -10), (-20, -20, -10, -15), 0.5),  # left of and above the picture
    ],
)
def test_pairwise_iou__table(a: tuple[float, ...], b: tuple[float, ...], expected: float) -> None:
    for first, second in ((a, b), (b, a)):
        found = pairwise_iou(boxes_of(first), boxes_of(second))
        assert found.dtype == np.float32
        assert found.tolist() == [[np.float32(expected)]]


@pytest.mark.parametrize(("count_a", "count_b"), [(0, 0), (0, 3), (3, 0)])
def test_pairwise_iou__no_boxes(count_a: int, count_b: int) -> None:
    assert pairwise_iou(boxes_of(*[SQUARE] * count_a), boxes_of(*[SQUARE] * count_b)).shape == (
        count_a,
        count_b,
    )


# Whole pixels, so that sides, lines and points meet.
sides = st.tuples(st.integers(-4, 12), st.integers(0, 8)).map(lambda pair: (pair[0], sum(pair)))
boxes = st.tuples(sides, sides).map(lambda xy: (xy[0][0], xy[1][0], xy[0][1], xy[1][1]))


@given(first=st.lists(boxes, max_size=6), second=st.lists(boxes, max_size=6))
def test_pairwise_iou__equals_the_oracle(
    first: list[tuple[int, int, int, int]], second: list[tuple[int, int, int, int]]
) -> None:
    found = pairwise_iou(boxes_of(*first), boxes_of(*second))
    expected = [[np.float32(oracles.iou(a, b)) for b in second] for a in first]
    assert found.tolist() == expected


@pytest.mark.parametrize(
    ("found", "is_near"),
    [
        (one(), True),
        (one(label=1), False),
        (one(score=0.625), True),  # exactly the allowed difference
        (one(score=0.375), True),  # the same downwards
        (one(score=0.65), False),
        (one(score=0.35), False),
        (one((0, 0, 10, 5)), True),  # exactly the least IoU
        (one((0, 0, 10, 4)), False),
    ],
)
def test_near_pairs__table(found: Detections, is_near: bool) -> None:
    assert near_pairs(one(), found, iou=0.5, score=0.125).tolist() == [[is_near]]


@pytest.mark.parametrize(
    ("found", "is_partner"),
    [
        (one(), True),
        (one(label=1), False),
        (one(score=0.25), True),  # exactly the least score
        (one(score=0.24), False),
        (one(score=1.0), True),  # a better score is no loss
        (one((0, 0, 10, 5)), True),
        (one((0, 0, 10, 4)), False),
    ],
)
def test_partner_pairs__table(found: Detections, is_partner: bool) -> None:
    assert partner_pairs(one(), found, iou=0.5, score_ratio=0.5).tolist() == [[is_partner]]


@pytest.mark.parametrize(("reference", "found"), [(one(), Detections.empty()), (Detections.empty(), one())])
def test_pairs__of_nothing(reference: Detections, found: Detections) -> None:
    shape = (len(reference), len(found))
    assert near_pairs(reference, found, iou=0.5, score=0.1).shape == shape
    assert partner_pairs(reference, found, iou=0.5, score_ratio=0.5).shape == shape


def table(*rows: str) -> BoolArray:
    """One row per reference, one character per found detection; x: may be paired."""
    return np.array([[cell == "x" for cell in row] for row in rows], np.bool_).reshape(
        len(rows), len("".join(rows[:1]))
    )


@pytest.mark.parametrize(
    ("possible", "unmatched"),
    [
        (table(), 0),  # no references
        (table("", ""), 2),  # nothing found
        (table("x.", ".x"), 0),
        (table("x", "x"), 1),  # one detection is no partner of two
        (table("xx", "x."), 0),  # the first gives way to the second
        (table("xx.", "x.x", "x.."), 0),  # two exchanges
        (table("x..", "x..", ".xx"), 1),  # a free detection does not help the others
        (table("..", "xx"), 1),
    ],
)
def test_count_unmatched__table(possible: BoolArray, unmatched: int) -> None:
    assert count_unmatched(possible) == unmatched


def fewest_unmatched(possible: BoolArray) -> int:
    """Tries every order in which the references could take one found detection each, or none."""
    references, found = possible.shape
    places = [*range(found), *[None] * references]
    return min(
        sum(place is None or not possible[row, place] for row, place in enumerate(order))
        for order in itertools.permutations(places, references)
    )


@st.composite
def tables(draw: st.DrawFn) -> BoolArray:
    references, found = draw(st.integers(0, 4)), draw(st.integers(0, 4))
    cells = draw(st.lists(st.booleans(), min_size=references * found, max_size=references * found))
    return np.array(cells, np.bool_).reshape(references, found)


@settings(deadline=None)  # the oracle is slow, and machines are shared
@given(tables())
def test_count_unmatched__equals_all_permutations(possible: BoolArray) -> None:
    before = possible.copy()
    assert count_unmatched(possible) == fewest_unmatched(possible)
    np.testing.assert_array_equal(possible, before)


@pytest.mark.parametrize(
    ("iou", "pairs"),
    [
        ([], []),  # no references
        ([[0.9, 0.8], [0.8, 0.9]], [(0, 0), (1, 1)]),
        ([[0.8, 0.9], [0.9, 0.8]], [(0, 1), (1, 0)]),
        ([[0.9, 0.9], [0.9, 0.9]], [(0, 0), (1, 1)]),  # equal ones: lowest indices
        ([[0.8, 0.9], [0, 1.0]], [(0, 0), (1, 1)]),  # the best overlap of all first
        ([[1.0, 0.8], [0.9, 0]], [(0, 1), (1, 0)]),  # it gives way where two have partners then
        ([[0, 0.9], [0, 0.8]], [(0, 1)]),  # no partner of two
        ([[0, 0], [0, 0]], []),
    ],
)
def test_best_pairs__table(iou: list[list[float]], pairs: list[tuple[int, int]]) -> None:
    overlap = np.array(iou, np.float32).reshape(len(iou), -1 if iou else 0)
    assert best_pairs(overlap > 0, overlap) == pairs


@settings(deadline=None)
@given(possible=tables(), seed=st.integers(0, 9))
def test_best_pairs__as_many_as_there_can_be(possible: BoolArray, seed: int) -> None:
    iou = np.random.default_rng(seed).random(possible.shape, np.float32)
    before = possible.copy()
    pairs = best_pairs(possible, iou)
    assert len(pairs) == len(possible) - fewest_unmatched(possible)
    assert all(possible[pair] for pair in pairs)
    assert len({a for a, _ in pairs}) == len({b for _, b in pairs}) == len(pairs)
    np.testing.assert_array_equal(possible, before)


def test_count_unmatched__chain_longer_than_the_stack() -> None:
    # Reference i takes detection i first; the last one wants detection 0, so that all of them move on.
    count = 1500
    possible = np.zeros((count + 1, count + 1), np.bool_)
    index = np.arange(count)
    possible[index, index] = possible[index, index + 1] = True
    possible[count, 0] = True
    assert count_unmatched(possible) == 0
