"""Labels against a slow, obvious look at every pixel: never off the picture, over a small box or a label."""

from __future__ import annotations

from random import Random

import numpy as np
import numpy.typing as npt
import pytest

from fcos_edge.label_places import REACH, Placed, Rect, Size, Wanted, place_labels

Mask = npt.NDArray[np.bool_]
PICTURE_WH = (70, 50)


def random_scene(seed: int) -> tuple[list[Wanted], list[Rect]]:
    """Few boxes to many, small and large, some over the picture's border by a line; labels of two sizes."""
    dice = Random(seed)
    wanted = []
    for _ in range(dice.choice((1, 3, 8, 20, 40))):
        width, height = dice.choice(((5, 8), (12, 6), (35, 30), (70, 50)))
        left, top = dice.randint(-1, PICTURE_WH[0] - width + 1), dice.randint(-1, PICTURE_WH[1] - height + 1)
        full = (dice.choice((14, 22, 80)), 5)  # 80: wider than the picture
        box = (left, top, left + width, top + height)
        wanted.append(Wanted(box, (full, (8, 4)), width * height < 100))
    left, top = dice.randint(0, 60), dice.randint(0, 40)
    return wanted, [(left, top, left + 6, top + 6)]


def paint(mask: Mask, rect: Rect) -> None:
    left, top, right, bottom = (max(0, side) for side in rect)
    mask[top:bottom, left:right] = True


def gap(rect: Rect, box: Rect) -> int:
    """Squared pixels between a label and its box; 0 where they touch."""
    aside = [max(0, rect[axis] - box[axis + 2], box[axis] - rect[axis + 2]) for axis in (0, 1)]
    return aside[0] ** 2 + aside[1] ** 2


def free_gaps(label: Wanted, label_wh: Size, taken: Mask) -> list[int]:
    """The gap of each place in reach where nothing is taken, pixel for pixel."""
    gaps = []
    for top in range(PICTURE_WH[1] - label_wh[1] + 1):
        for left in range(PICTURE_WH[0] - label_wh[0] + 1):
            rect = (left, top, left + label_wh[0], top + label_wh[1])
            reach = REACH * label_wh[1]
            left_end, top_end, right_end, bottom_end = label.box
            is_near = (
                rect[2] >= left_end - reach and left <= right_end + reach
                and rect[3] >= top_end - reach and top <= bottom_end + reach
            )  # fmt: skip
            if is_near and not taken[top : rect[3], left : rect[2]].any():
                gaps.append(gap(rect, label.box))
    return gaps


@pytest.mark.parametrize("seed", range(30))
def test_places__against_a_look_at_every_pixel(seed: int) -> None:
    wanted, keep_free = random_scene(seed)
    places = place_labels(wanted, PICTURE_WH, keep_free)
    taken = np.zeros(PICTURE_WH[::-1], bool)
    for rect in [*keep_free, *(label.box for label in wanted if label.is_small)]:
        paint(taken, rect)
    for label, place in zip(wanted, places, strict=True):
        if place is None:
            assert free_gaps(label, label.sizes_wh[-1], taken) == []
            continue
        left, top, right, bottom = place.rect
        assert (right - left, bottom - top) == label.sizes_wh[place.size]
        assert left >= 0
        assert top >= 0
        assert right <= PICTURE_WH[0]
        assert bottom <= PICTURE_WH[1]
        assert not taken[top:bottom, left:right].any()
        if place.size == 1:
            # The short text is at its box, at most one row away, or as near to it as any place.
            gaps = free_gaps(label, label.sizes_wh[1], taken)
            assert gap(place.rect, label.box) <= max(min(gaps), label.sizes_wh[1][1] ** 2)
        paint(taken, place.rect)


@pytest.mark.parametrize(("box", "is_small", "expected"), [
    ((20, 20, 60, 45), False, (20, 15, 34, 20)),  # above, flush left
    ((65, 20, 75, 45), False, (56, 15, 70, 20)),  # moved into the picture
    ((20, 2, 60, 45), False, (20, 0, 34, 5)),  # over the border: moved down, on a large box
    ((20, 2, 26, 8), True, (20, 8, 34, 13)),  # a small box is not covered: below
    ((0, 0, 8, 50), True, (8, 0, 22, 5)),  # as high as the picture: beside
])  # fmt: skip
def test_place__preferred_is_of_the_box_alone(box: Rect, is_small: bool, expected: Rect) -> None:
    wanted = Wanted(box, ((14, 5), (8, 4)), is_small)
    far = Wanted((68, 48, 70, 50), ((2, 2),), True)
    assert place_labels([wanted], PICTURE_WH, []) == [Placed(expected, 0)]
    assert place_labels([wanted, far], PICTURE_WH, [])[0] == Placed(expected, 0)


def test_place__none_is_free() -> None:
    wanted = Wanted((10, 10, 20, 20), ((14, 5), (8, 4)), True)
    assert place_labels([wanted], PICTURE_WH, [(0, 0, *PICTURE_WH)]) == [None]
    assert place_labels([wanted], (7, 50), []) == [None]  # the picture is narrower than the label
