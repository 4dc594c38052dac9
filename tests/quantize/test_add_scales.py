"""Add scales on a grid: no sum near a rounding tie."""

from __future__ import annotations

import numpy as np
import pytest

from fcos_edge.quantize.add_scales import DENOMINATOR, align_add_scales
from fcos_edge.quantize.graph import Add, Graph, Input, Node, Resize
from fcos_edge.quantize.record import Point

SHAPE = (1, 4, 4)


def graph(*adds: tuple[str, str, str], resizes: tuple[tuple[str, str], ...] = ()) -> Graph:
    """`adds` are (name, input, input); leaves are taken from a picture, which is enough here."""
    nodes: list[Node] = [Input("input", (0.0,) * 3, (1.0,) * 3)]
    nodes += [Resize(name, (source,), 2) for name, source in resizes]
    nodes += [Add(name, (first, second), "none") for name, first, second in adds]
    return Graph(tuple(nodes), {}, (32, 32), {})


def ratio_steps(points: dict[str, Point], source: str, total: str) -> float:
    return points[source].scale / points[total].scale * DENOMINATOR


POINTS = {
    "input": Point(1.0, 0), "a": Point(0.031, 7), "b": Point(0.05, 130), "c": Point(0.0123, 255),
    "up": Point(0.031, 7), "sum": Point(0.07, 90), "sum2": Point(0.08, 100),
}  # fmt: skip


@pytest.mark.parametrize(
    "case",
    [
        graph(("sum", "a", "b")),  # two leaves
        graph(("sum", "a", "b"), ("sum2", "sum", "c")),  # a sum that is added to: backwards
        graph(("sum", "up", "b"), resizes=(("up", "a"),)),  # through an enlargement
    ],
)
def test_align__ratios_are_whole_steps_and_scales_barely_move(case: Graph) -> None:
    points = align_add_scales(case, POINTS)
    for node in case.nodes:
        if isinstance(node, Add):
            for source in node.inputs:
                steps = ratio_steps(points, source, node.name)
                assert steps == pytest.approx(round(steps), abs=1e-4)  # float32 scales
        if isinstance(node, Resize):
            assert points[node.name] == points[node.inputs[0]]
    for name, point in points.items():
        assert point.zero_point == POINTS[name].zero_point
        assert np.float32(point.scale) == point.scale
        assert point.scale == pytest.approx(POINTS[name].scale, rel=0.01)


def test_align__all_sums_of_two_integers_stay_away_from_halves() -> None:
    points = align_add_scales(graph(("sum", "a", "b")), POINTS)
    first, second, total = (np.float64(np.float32(points[name].scale)) for name in ("a", "b", "sum"))
    q = np.arange(256.0)
    sums = (q[:, None] - 7) * first / total + (q[None] - 130) * second / total
    distance = np.abs(sums - np.floor(sums) - 0.5).min()
    assert distance > 0.45 / DENOMINATOR  # without the grid it is about 1e-6


def test_align__input_shared_by_two_sums_follows_the_later() -> None:
    points = align_add_scales(graph(("sum", "a", "b"), ("sum2", "a", "c")), POINTS)
    steps = ratio_steps(points, "a", "sum2")
    assert steps == pytest.approx(round(steps), abs=1e-4)
