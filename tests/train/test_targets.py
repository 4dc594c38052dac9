"""Assignment against a slow oracle, and the paper's rules one by one."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fcos_edge.train.assign import assign
from fcos_edge.train.config import AssignConfig
from fcos_edge.train.predictions import Predictions
from fcos_edge.train.targets import (
    BACKGROUND,
    IGNORED,
    Locations,
    Targets,
    Truth,
    centerness,
    make_locations,
)
from tests.train import oracles

HW = (64, 96)
STRIDES = (8, 16, 32)
RANGES = ((0.0, 16.0), (16.0, 40.0), (40.0, math.inf))
CPU = torch.device("cpu")
Box = tuple[float, float, float, float]


def _locations(ranges: tuple[tuple[float, float], ...] = RANGES) -> Locations:
    return make_locations(HW, STRIDES, AssignConfig(ranges=ranges), CPU)


def _assign(boxes: list[Box], labels: list[int], center_radius: float = 0.0) -> Targets:
    truth = Truth(
        torch.tensor(boxes, dtype=torch.float32).view(1, -1, 4), torch.tensor([labels]).view(1, -1).long()
    )
    return _assign_truth(truth, center_radius)


def _assign_truth(truth: Truth, center_radius: float) -> Targets:
    locations = _locations()
    shape = (len(truth.labels), len(locations.xy))
    # FCOS's own rule does not look at what is predicted.
    predictions = Predictions(torch.zeros(*shape, 3), torch.zeros(*shape, 4), torch.zeros(shape))
    return assign(predictions, truth, locations, AssignConfig(ranges=RANGES, center_radius=center_radius))


def _at(x: float, y: float, stride: int) -> int:
    """Index of a location."""
    places = [place[:3] for place in oracles.locations(HW, STRIDES, RANGES)]
    return places.index((x, y, stride))


def test_make_locations__floor_half_stride_plus_index_times_stride() -> None:
    locations = _locations()
    wanted = oracles.locations(HW, STRIDES, RANGES)
    assert locations.xy.tolist() == [[x, y] for x, y, _, _ in wanted]
    assert locations.stride.tolist() == [stride for _, _, stride, _ in wanted]
    assert [tuple(r) for r in locations.ranges.tolist()] == [allowed for _, _, _, allowed in wanted]


def test_make_locations__level_side_is_rounded_up() -> None:
    config = AssignConfig(ranges=((0, 64),))
    assert make_locations((32, 96), (64,), config, CPU).xy.tolist() == [[32, 32], [96, 32]]


# Whole and half pixels: sums and areas are exact, so that float32 and float64 see the same ties.
_side = st.integers(0, 2 * HW[1]).map(lambda v: v / 2)


@st.composite
def _labelled_box(draw: st.DrawFn) -> tuple[Box, int]:
    x1, x2 = sorted((draw(_side), draw(_side)))
    y1, y2 = sorted((draw(_side), draw(_side)))
    label = draw(st.sampled_from([0, 1, 2, IGNORED, BACKGROUND]))
    # BACKGROUND is padding: no box at all.
    return ((0.0, 0.0, 0.0, 0.0) if label == BACKGROUND else (x1, y1, x2, y2)), label


@given(
    pictures=st.lists(st.lists(_labelled_box(), max_size=6), min_size=1, max_size=3),
    center_radius=st.sampled_from([0.0, 0.5, 1.5]),
)
@settings(max_examples=60, deadline=None)
def test_assign__is_the_oracle(pictures: list[list[tuple[Box, int]]], center_radius: float) -> None:
    most = max(map(len, pictures))
    padded = [rows + [((0.0, 0.0, 0.0, 0.0), BACKGROUND)] * (most - len(rows)) for rows in pictures]
    boxes = torch.tensor([[box for box, _ in rows] for rows in padded], dtype=torch.float32)
    labels = torch.tensor([[label for _, label in rows] for rows in padded], dtype=torch.int64)
    truth = Truth(boxes.view(len(pictures), most, 4), labels.view(len(pictures), most))
    found = _assign_truth(truth, center_radius)
    for index, rows in enumerate(pictures):
        wanted = [
            oracles.assign_one(*place, [box for box, _ in rows], [label for _, label in rows], center_radius)
            for place in oracles.locations(HW, STRIDES, RANGES)
        ]
        assert found.labels[index].tolist() == [target.label for target in wanted]
        is_positive = np.array([target.label >= 0 for target in wanted])
        np.testing.assert_array_equal(
            found.ltrb[index].numpy()[is_positive],
            np.array([target.ltrb for target in wanted if target.label >= 0]).reshape(-1, 4),
        )
        # float32 square root of a product of two quotients.
        np.testing.assert_allclose(
            found.centerness[index].numpy(), [target.centerness for target in wanted], atol=1e-6
        )


@pytest.mark.parametrize(
    ("place", "box", "is_positive"),
    [
        ((12, 20, 8), (4, 4, 28, 28), True),  # the largest distance is 16, the upper end of 0..16
        ((20, 20, 8), (3.5, 4, 28, 28), False),  # 16.5
        ((24, 24, 16), (8, 8, 40, 40), True),  # 16 is the lower end of 16..40, too
        ((24, 24, 16), (8.5, 8.5, 39.5, 39.5), False),  # 15.5
        ((24, 24, 16), (0, 0, 64, 64), True),  # 40
        ((24, 24, 16), (0, 0, 64.5, 64), False),  # 40.5
    ],
)
def test_assign__both_ends_of_a_range_belong(
    place: tuple[int, int, int], box: Box, is_positive: bool
) -> None:
    assert (_assign([box], [0]).labels[0, _at(*place)].item() == 0) is is_positive


def test_assign__smallest_area_wins_and_ties_go_to_the_first() -> None:
    place = _at(20, 20, 8)
    large, small, twin = (8.0, 8.0, 34.0, 34.0), (10.0, 12.0, 30.0, 30.0), (12.0, 10.0, 30.0, 30.0)
    assert _assign([large, small], [0, 1]).labels[0, place].item() == 1
    assert _assign([small, large], [1, 0]).labels[0, place].item() == 1
    assert _assign([small, twin], [1, 2]).labels[0, place].item() == 1
    assert _assign([twin, small], [2, 1]).labels[0, place].item() == 2


@pytest.mark.parametrize("center_radius", [0.0, 1.5])
def test_assign__border_of_a_box_is_outside(center_radius: float) -> None:
    # (12, 12) lies on the left side: min(l, t, r, b) is 0.
    assert (
        _assign([(12.0, 4.0, 20.0, 20.0)], [0], center_radius).labels[0, _at(12, 12, 8)].item() == BACKGROUND
    )


def test_assign__center_sampling_takes_the_middle_only() -> None:
    box = (0.0, 0.0, 96.0, 48.0)  # centre (48, 24): on stride 32, 1.5 strides reach 48 pixels, exclusive
    everywhere, middle = (_assign([box], [0], radius).labels[0] for radius in (0.0, 0.5))
    assert everywhere[_at(16, 16, 32)].item() == 0
    assert middle[_at(16, 16, 32)].item() == BACKGROUND
    assert middle[_at(48, 16, 32)].item() == 0


def test_assign__ignore_region() -> None:
    region, box = (0.0, 0.0, 64.0, 64.0), (8.0, 8.0, 32.0, 32.0)
    labels = _assign([region, box], [IGNORED, 1]).labels[0]
    assert labels[_at(20, 20, 8)].item() == 1  # a box inside still trains
    assert labels[_at(52, 52, 8)].item() == IGNORED
    assert labels[_at(84, 52, 8)].item() == BACKGROUND  # outside


def test_assign__ignore_region_takes_no_location_from_a_larger_box() -> None:
    labels = _assign([(18.0, 18.0, 22.0, 22.0), (8.0, 8.0, 32.0, 32.0)], [IGNORED, 1]).labels[0]
    assert labels[_at(20, 20, 8)].item() == 1


@pytest.mark.parametrize(("boxes", "labels"), [([], []), ([(0.0, 0.0, 0.0, 0.0)], [BACKGROUND])])
@pytest.mark.parametrize("center_radius", [0.0, 1.5])
def test_assign__no_boxes(boxes: list[Box], labels: list[int], center_radius: float) -> None:
    targets = _assign(boxes, labels, center_radius)
    assert (targets.labels == BACKGROUND).all()
    assert targets.ltrb.shape == (1, len(_locations().xy), 4)
    assert torch.isfinite(targets.ltrb).all()
    assert not targets.centerness.any()


def test_assign__box_as_large_as_the_picture_is_not_padding() -> None:
    # Padding is BACKGROUND whatever its numbers are.
    box = (0.0, 0.0, 96.0, 64.0)
    assert (_assign([box], [BACKGROUND]).labels == BACKGROUND).all()
    assert (_assign([box], [0]).labels == 0).any()


def test_centerness__equation_3() -> None:
    ltrb = torch.tensor([[4.0, 4, 4, 4], [1, 4, 4, 4], [1, 1, 4, 9], [0, 4, 4, 4], [-1, 4, 4, 4]])
    assert centerness(ltrb).tolist() == pytest.approx([1, 0.5, math.sqrt(1 / 4 * 1 / 9), 0, 0])
