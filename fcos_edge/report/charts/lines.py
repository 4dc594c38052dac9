"""Lines: precision over recall, losses over steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from markupsafe import Markup

from fcos_edge.report.charts.frame import (
    Frame,
    Look,
    Mark,
    add_legend,
    add_marks,
    both_widths,
    label_axes,
    new_figure,
    scale_log,
)  # fmt: skip
from fcos_edge.report.svg import SURFACE, set_tip

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MARKS_A_LINE = 6


@dataclass(frozen=True)
class Line:
    """A series of a line chart.

    number  how it looks, from 0; None: the reference, dashed and without marks
    tips    one for each point, or none
    """

    name: str
    x: Sequence[float]
    y: Sequence[float]
    number: int | None
    tips: Sequence[str] = ()


def line_chart(
    lines: Sequence[Line],
    *,
    title: str,
    description: str,
    x_label: str,
    y_label: str,
    x_range: tuple[float, float] | None = None,
    y_range: tuple[float, float] | None = None,
    marks: Sequence[Mark] = (),
    is_log: bool = False,
    height: int = 300,
) -> Markup:
    """Lines over one axis; a gap where a value is NaN.

    is_log  of the y axis
    height  without the legend, pixels
    """

    def draw(frame: Frame) -> Figure:
        names = [line.name for line in lines]
        figure, axes = new_figure(frame, height, names)
        for place, line in enumerate(lines):
            look = Look.of(line.number)
            # Marks of different lines lie beside each other, not on top.
            step = max(1, len(line.x) // _MARKS_A_LINE)
            axes.plot(
                line.x, line.y, color=look.color, linestyle=look.dash, linewidth=1.8,
                marker=look.marker or None, markersize=5, markevery=(place * step // len(lines) % step, step),
                markeredgecolor=SURFACE, markeredgewidth=0.6, zorder=3 if line.number is not None else 4,
            )  # fmt: skip
            for x, y, tip in zip(line.x, line.y, line.tips, strict=False):
                (spot,) = axes.plot([x], [y], marker="o", markersize=11, color=look.color, alpha=0, zorder=5)
                set_tip(spot, tip)
        if is_log:
            scale_log(axes, "y")
        if x_range:
            axes.set_xlim(*x_range)
        if y_range:
            axes.set_ylim(*y_range)
        add_marks(axes, marks)
        label_axes(axes, x_label, y_label)
        add_legend(figure, frame, names, [line.number for line in lines])
        return figure

    return both_widths(draw, title, description)
