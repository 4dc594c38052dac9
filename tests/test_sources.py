"""Picking pictures."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from fcos_edge.sources import spread


@pytest.mark.parametrize(
    ("items", "count", "expected"),
    [
        (range(10), 4, [0, 2, 5, 7]),  # from both halves, not the first four
        (range(3), 4, [0, 1, 2]),  # fewer than wanted: all, each once
        (range(4), 4, [0, 1, 2, 3]),
        ((), 4, []),
    ],
)
def test_spread__is_even_and_in_order(items: Sequence[int], count: int, expected: list[int]) -> None:
    assert spread(items, count) == expected
