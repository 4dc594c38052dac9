"""Labelled pictures that are held out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fcos_edge.errors import DataError
from fcos_edge.train.data.dataset import LabelledPicture, hold_out


def _pictures(count: int) -> list[LabelledPicture]:
    empty, none = np.zeros((0, 4), np.float32), np.zeros(0, np.int64)
    return [LabelledPicture(Path(f"{i}.png"), i, empty, none) for i in range(count)]


def test_hold_out__splits_by_lot_and_keeps_the_order() -> None:
    pictures = _pictures(20)
    rest, held = hold_out(pictures, 6)
    ids = [p.image_id for p in rest], [p.image_id for p in held]
    assert (len(rest), len(held)) == (14, 6)
    assert ids[0] == sorted(ids[0])
    assert ids[1] == sorted(ids[1])
    assert sorted(ids[0] + ids[1]) == list(range(20))
    assert ids[1] != list(range(6))
    again, other = hold_out(pictures, 6), hold_out(pictures, 6, seed=1)
    assert [p.image_id for p in again[1]] == ids[1]
    assert [p.image_id for p in other[1]] != ids[1]
    # Of the embedded default: another lot would mix its training pictures with those held out.
    assert [p.image_id for p in hold_out(_pictures(4594), 200)[1]][:5] == [26, 61, 72, 79, 103]


@pytest.mark.parametrize("count", [-1, 3, 4])
def test_hold_out__too_many(count: int) -> None:
    with pytest.raises(DataError, match=f"cannot hold out {count} of 3 pictures"):
        hold_out(_pictures(3), count)


def test_hold_out__none() -> None:
    rest, held = hold_out(_pictures(3), 0)
    assert (len(rest), held) == (3, [])
