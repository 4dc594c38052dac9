"""NMS against hand-made tables and the oracle."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from fcos_edge.nms import nms
from tests import oracles

SQUARE = (0, 0, 10, 10)


@pytest.mark.parametrize(
    ("boxes", "labels", "iou", "kept"),
    [
        ([], [], 0.5, []),  # nothing
        ([SQUARE, SQUARE], [0, 0], 0.5, [0]),  # the same box twice: the first stays
        ([SQUARE, SQUARE], [0, 1], 0.5, [0, 1]),  # another class
        ([SQUARE, SQUARE], None, 0.5, [0]),  # class-agnostic
        ([SQUARE, (0, 0, 5, 10)], [0, 0], 0.5, [0, 1]),  # IoU exactly at the bound stays
        ([SQUARE, (0, 0, 6, 10)], [0, 0], 0.5, [0]),  # IoU 0.6
        ([SQUARE, (10, 0, 20, 10)], [0, 0], 0.0, [0, 1]),  # touching is no overlap
        ([SQUARE, (9, 9, 19, 19)], [0, 0], 0.0, [0]),  # at bound 0 any overlap drops
        ([SQUARE, SQUARE], [0, 0], 1.0, [0, 1]),  # at bound 1 nothing drops
        ([SQUARE, (20, 20, 30, 30)], [0, 0], 0.5, [0, 1]),  # apart on both axes: no negative * negative
        ([(0, 0, 10, 10), (0, 4, 10, 14), (0, 8, 10, 18)], [0] * 3, 0.4, [0, 2]),  # a dropped box drops none
        ([(5, 5, 5, 5), (5, 5, 5, 5)], [0, 0], 0.5, [0, 1]),  # without area: no 0/0
    ],
)
def test_nms__table(
    boxes: list[tuple[int, ...]], labels: list[int] | None, iou: float, kept: list[int]
) -> None:
    boxes_xyxy = np.array(boxes, np.float32).reshape(-1, 4)
    found = nms(boxes_xyxy, None if labels is None else np.array(labels, np.int64), iou, 100)
    assert found.tolist() == kept
    assert found.dtype == np.int64


@pytest.mark.parametrize("count", [63, 64, 65, 128, 200])  # around the size of a block
def test_nms__across_blocks_the_first_of_each_place_stays(count: int) -> None:
    places = np.arange(count) % 70  # the 71st box lies on the first one, in another block
    left = places[:, None] * 20
    boxes_xyxy = np.concatenate([left, left * 0, left + 10, left * 0 + 10], axis=1).astype(np.float32)
    assert nms(boxes_xyxy, None, 0.5, 1000).tolist() == list(range(min(count, 70)))


@pytest.mark.parametrize("max_kept", [1, 5, 64, 100])
def test_nms__stops_at_max_kept(max_kept: int) -> None:
    left = np.arange(150)[:, None] * 20
    boxes_xyxy = np.concatenate([left, left * 0, left + 10, left * 0 + 10], axis=1).astype(np.float32)
    assert nms(boxes_xyxy, np.zeros(150, np.int64), 0.5, max_kept).tolist() == list(range(max_kept))


@settings(deadline=None)  # the oracle is slow, and machines are shared
@given(
    seed=st.integers(0, 2**32 - 1),
    count=st.integers(0, 200),
    classes=st.sampled_from([0, 1, 20, 80]),  # 0: class-agnostic
    iou=st.sampled_from([0.0, 0.31, 0.6, 0.99]),
    max_kept=st.sampled_from([1, 10, 100]),
    side=st.sampled_from([8, 40, 400]),  # crowded to sparse
)
def test_nms__equals_oracle(
    seed: int, count: int, classes: int, iou: float, max_kept: int, side: int
) -> None:
    rng = np.random.default_rng(seed)
    left_top = rng.integers(0, side, (count, 2))
    boxes_xyxy = np.concatenate([left_top, left_top + rng.integers(1, 20, (count, 2))], axis=1)
    labels = rng.integers(0, classes, count) if classes else None
    judge = oracles.Judge()
    boxes: list[oracles.Box] = [(a, b, c, d) for a, b, c, d in boxes_xyxy.tolist()]
    wanted = oracles.nms(boxes, None if labels is None else labels.tolist(), iou, max_kept, judge)
    assume(not judge.close_calls)
    assert nms(boxes_xyxy.astype(np.float32), labels, iou, max_kept).tolist() == wanted
