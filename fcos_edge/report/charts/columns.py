"""Columns beside each other: values by group and series, and histograms."""

from __future__ import annotations

import math
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
    short,
)  # fmt: skip
from fcos_edge.report.svg import INK, SURFACE, plain, set_tip

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_WIDTH = 0.8  # of a group's place
_ROUND_TICKS = 9


@dataclass(frozen=True)
class Columns:
    """A series: one value for each group, None where it has none.

    number  how it looks, from 0; None: the reference
    """

    name: str
    values: Sequence[float | None]
    number: int | None


def grouped_bars(
    groups: Sequence[str],
    columns: Sequence[Columns],
    *,
    title: str,
    description: str,
    y_label: str,
    limit: float | None = None,
    limit_text: str = "",
    height: int = 260,
) -> Markup:
    """A column from zero for each series in each group; its head has the series' shape. `limit` is dashed."""

    def draw(frame: Frame) -> Figure:
        names = [series.name for series in columns]
        figure, axes = new_figure(frame, height, names)
        step = _WIDTH / max(1, len(columns))
        thick = min(14.0, 0.62 * step * frame.width * 0.88 / max(1, len(groups)))
        known = [value for series in columns for value in series.values if value is not None and value > 0]
        for place, series in enumerate(columns):
            look = Look.of(series.number)
            for group, value in enumerate(series.values):
                if value is None:
                    continue
                x = group + (place + 0.5) * step - _WIDTH / 2
                axes.plot([x, x], [0, value], color=look.color, linewidth=thick, alpha=0.75,
                          solid_capstyle="butt", zorder=2)  # fmt: skip
                (head,) = axes.plot([x], [value], marker=look.marker or "_", color=look.color, zorder=3,
                    markersize=min(7.0, thick + 2), markeredgecolor=SURFACE if look.marker else INK,
                    markeredgewidth=0.7)  # fmt: skip
                set_tip(head, f"{series.name}, {groups[group]}: {value:.3g}")
        axes.set_xlim(-0.5, len(groups) - 0.5)
        top = max([*known, limit or 0.0], default=1.0)
        axes.set_ylim(0, 1.1 * top)
        if limit is not None:
            axes.axhline(limit, color=INK, linewidth=1, linestyle=(0, (4, 3)), zorder=4)
            axes.annotate(plain(limit_text), (1, limit), (0, 3), ("axes fraction", "data"), "offset points",
                          color=INK, ha="right", va="bottom", zorder=5)  # fmt: skip
        letters = max(4, int(frame.width / 8 / max(1, len(groups))))
        axes.set_xticks(range(len(groups)), [short(name, letters) for name in groups])
        axes.tick_params(axis="x", labelcolor=INK)
        label_axes(axes, "", y_label)
        add_legend(figure, frame, names, [series.number for series in columns], has_lines=False)
        return figure

    return both_widths(draw, title, description)


def histogram(
    edges: Sequence[float],
    counts: Sequence[int],
    *,
    title: str,
    description: str,
    x_label: str,
    y_label: str,
    marks: Sequence[Mark] = (),
    is_log: bool = False,
    height: int = 240,
) -> Markup:
    """Counts between edges, one edge more than counts; is_log: a logarithmic x axis, powers of two named."""

    def draw(frame: Frame) -> Figure:
        figure, axes = new_figure(frame, height)
        look = Look.of(0)
        for low, high, count in zip(edges, edges[1:], counts, strict=False):
            if count:
                (bar,) = axes.bar(
                    [low], [count], width=high - low, align="edge", color=look.color, alpha=0.75,
                    edgecolor=SURFACE, linewidth=0.8, zorder=2,
                )  # fmt: skip
                set_tip(bar, f"{low:.4g} to {high:.4g}: {count:,}")
        if is_log:
            _name_octaves(axes, edges)
        if len(edges) > 1:
            axes.set_xlim(edges[0], edges[-1])
        axes.set_ylim(0, 1.12 * max(counts, default=1) or 1)
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        axes.locator_params(axis="y", integer=True)
        add_marks(axes, marks)
        label_axes(axes, x_label, y_label)
        return figure

    return both_widths(draw, title, description)


def _name_octaves(axes: Axes, edges: Sequence[float]) -> None:
    """1/4 reads better beside 4 than 0.25; every second one where they are many."""
    axes.set_xscale("log", base=2)
    first, last = math.ceil(math.log2(edges[0]) - 1e-9), math.floor(math.log2(edges[-1]) + 1e-9)
    stride = 1 + (last - first) // _ROUND_TICKS
    octaves = [octave for octave in range(first, last + 1) if octave % stride == 0]
    names = [f"{2**octave:g}" if octave >= 0 else f"1/{2**-octave:g}" for octave in octaves]
    axes.set_xticks([2.0**octave for octave in octaves], names)
