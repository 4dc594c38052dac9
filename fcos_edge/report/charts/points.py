"""Points over two axes: few that are named, as accuracy against latency, or clouds of scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from markupsafe import Markup

from fcos_edge.report.charts.frame import (
    Frame,
    Look,
    add_legend,
    both_widths,
    label_axes,
    new_figure,
    one_width,
    short,
)  # fmt: skip
from fcos_edge.report.charts.rows import draw_dots
from fcos_edge.report.svg import GRID, INK, MUTED, SURFACE, set_tip

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_LETTER, _LINE = 6.9, 15.0  # pixels of a name
_NEAR = 9.0
_CLOUD_HEIGHT = 350


@dataclass(frozen=True)
class Point:
    """A named point and the intervals of its values, None where there are none.

    number  how it looks, from 0; None: the reference, a line across at its y
    """

    name: str
    x: float
    y: float
    number: int | None
    x_ends: tuple[float, float] | None = None
    y_ends: tuple[float, float] | None = None
    tip: str = ""


@dataclass(frozen=True)
class Cloud:
    """Many points that are one series: x and y of equal length."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    number: int | None


class _Box(NamedTuple):
    """Of a name, pixels."""

    left: float
    bottom: float
    right: float
    top: float

    def overlaps(self, other: _Box) -> bool:
        return (
            self.left < other.right and other.left < self.right
            and self.bottom < other.top and other.bottom < self.top
        )  # fmt: skip


def scatter_chart(
    points: Sequence[Point],
    *,
    title: str,
    description: str,
    x_label: str,
    y_label: str,
    x_from_zero: bool = True,
    reference_y: float | None = None,
    reference_text: str = "",
    height: int = 340,
) -> Markup:
    """Named points; names stand beside them where all find a place, else in a legend."""

    def draw(frame: Frame) -> Figure:
        figure = _draw(frame, has_legend=False)
        return figure or _draw(frame, has_legend=True)  # type: ignore[return-value]

    def _draw(frame: Frame, has_legend: bool) -> Figure | None:
        names = [point.name for point in points] if has_legend else []
        figure, axes = new_figure(frame, height, names)
        axes.grid(visible=True, axis="x", color=GRID, linewidth=0.8)
        for point in points:
            look = Look.of(point.number)
            for ends, other, is_x in ((point.x_ends, point.y, True), (point.y_ends, point.x, False)):
                if ends is not None:
                    line = (ends, (other, other)) if is_x else ((other, other), ends)
                    axes.plot(*line, color=look.color, linewidth=1.4, alpha=0.75, zorder=2)
            (dot,) = axes.plot(
                [point.x], [point.y], marker=look.marker or "*", markersize=9, color=look.color,
                markeredgecolor=SURFACE, markeredgewidth=0.8, linestyle="", zorder=4,
            )  # fmt: skip
            set_tip(dot, point.tip or f"{point.name}: {point.x:.4g}, {point.y:.4g}")
        if reference_y is not None:
            axes.axhline(reference_y, color=INK, linewidth=1, linestyle=(0, (4, 3)), zorder=1.5)
            # At the left: fast and accurate is where nobody is.
            axes.annotate(reference_text, (0, reference_y), (4, 3), ("axes fraction", "data"),
                          "offset points", color=INK, ha="left", va="bottom")  # fmt: skip
        axes.margins(0.08, 0.12)
        if x_from_zero:
            axes.set_xlim(left=0, right=1.08 * max((point.x for point in points), default=1.0))
        label_axes(axes, x_label, y_label)
        if has_legend:
            add_legend(figure, frame, names, [point.number for point in points], has_lines=False)
        elif not _place_names(figure, axes, frame, points):
            return None
        return figure

    return both_widths(draw, title, description)


def cloud_chart(
    clouds: Sequence[Cloud],
    *,
    title: str,
    description: str,
    x_label: str,
    y_label: str,
    ends: tuple[float, float] = (0.0, 1.0),
    guides: Sequence[tuple[float, str]] = (),
) -> Markup:
    """Values against values on equal axes; the diagonal is where they are the same.

    guides  thresholds that are drawn on both axes, and their words
    """

    def draw(frame: Frame) -> Figure:
        names = [cloud.name for cloud in clouds]
        figure, axes = new_figure(frame, _CLOUD_HEIGHT, names)
        axes.grid(visible=True, axis="x", color=GRID, linewidth=0.8)
        axes.plot(ends, ends, color=MUTED, linewidth=1, zorder=1.5)
        for value, text in guides:
            for line in (axes.axhline, axes.axvline):
                line(value, color=INK, linewidth=0.9, linestyle=(0, (4, 3)), zorder=1.6)
            axes.annotate(text, (1, value), (-2, 2), ("axes fraction", "data"), "offset points", color=INK,
                          ha="right", va="bottom")  # fmt: skip
        for cloud in clouds:
            x, y = (np.asarray(values, np.float64) for values in (cloud.x, cloud.y))
            draw_dots(axes, x, y, Look.of(cloud.number).color, diameter=4.2, alpha=0.55)
        axes.set_xlim(*ends)
        axes.set_ylim(*ends)
        axes.set_aspect("equal", anchor="W")
        label_axes(axes, x_label, y_label)
        add_legend(figure, frame, names, [cloud.number for cloud in clouds], has_lines=False)
        return figure

    return one_width(draw, title, description)


def _place_names(figure: Figure, axes: Axes, frame: Frame, points: Sequence[Point]) -> bool:
    """Write each name beside its point, where it hides nothing; False where one finds no place."""
    figure.draw_without_rendering()
    frame_box = axes.get_window_extent()
    places = [axes.transData.transform((point.x, point.y)) for point in points]
    taken = [_Box(x - 6, y - 6, x + 6, y + 6) for x, y in places]
    for (x, y), point in zip(places, points, strict=True):
        name = short(point.name, frame.letters)
        width = _LETTER * len(name)
        for side, up in ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (1, -1), (-1, 1), (-1, -1)):
            left = x + side * _NEAR - width * (1 - side) / 2
            bottom = y - _LINE / 2 + up * (_NEAR + _LINE / 2 - abs(side) * 3)
            box = _Box(left, bottom, left + width, bottom + _LINE)
            is_inside = box.left >= frame_box.x0 - 4 and box.right <= frame_box.x1 + 4
            if is_inside and not any(box.overlaps(other) for other in taken):
                taken.append(box)
                align = {1: "left", -1: "right", 0: "center"}[side]
                axes.annotate(
                    name, (point.x, point.y), (side * _NEAR, bottom + _LINE / 2 - y), "data",
                    "offset pixels", color=INK, ha=align, va="center_baseline", zorder=5,
                )  # fmt: skip
                break
        else:
            return False
    return True
