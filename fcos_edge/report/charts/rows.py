"""Rows under each other: values with intervals, and distributions of samples, by group and series.

The groups' names stand at the left of a page and above their rows on a phone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from markupsafe import Markup

from fcos_edge.report.charts.frame import (
    NARROW,
    Frame,
    Look,
    add_legend,
    both_widths,
    label_axes,
    new_figure,
    scale_log,
    short,
)  # fmt: skip
from fcos_edge.report.svg import GRID, INK, MUTED, SURFACE, set_tip

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_ROW, _GAP, _AXIS = 17.0, 9.0, 58.0  # pixels: a row, between two groups, and around them all
_NAME_ROW = 19.0
_QUANTILES = (5, 25, 50, 75, 95)
_MOST_DOTS = 400


@dataclass(frozen=True)
class Interval:
    """One row: a value of one series in one group, and where it lies in 95 of 100 draws.

    number  how the series looks, from 0; None: the reference
    low     None where there is no interval
    tip     "" for the values alone
    """

    group: str
    series: str
    number: int | None
    value: float
    low: float | None = None
    high: float | None = None
    tip: str = ""


@dataclass(frozen=True)
class Samples:
    """One row: the samples of one series in one group."""

    group: str
    series: str
    number: int | None
    values: Sequence[float]
    tip: str = ""


def interval_bars(
    intervals: Sequence[Interval],
    *,
    title: str,
    description: str,
    x_label: str,
    is_change: bool = False,
    x_range: tuple[float, float] | None = None,
    digits: int = 3,
) -> Markup:
    """Bars from zero with their intervals; where they are changes, points around a line at zero.

    With one series alone the values are written beside the bars.
    """
    is_single = len({interval.series for interval in intervals}) < 2

    def draw_row(axes: Axes, interval: Interval, look: Look, y: float) -> None:
        ends = [value for value in (interval.low, interval.high) if value is not None]
        if not is_change:
            (bar,) = axes.barh([y], [interval.value], height=_ROW - 6, color=look.color, alpha=0.75, zorder=2)
            set_tip(bar, interval.tip or _said(interval, digits))
        if len(ends) == 2:
            axes.plot(ends, [y, y], color=look.color if is_change else INK, linewidth=1.6, zorder=3)
        if is_change or not is_single:
            (dot,) = axes.plot(
                [interval.value], [y], marker=look.marker or "|", markersize=7, color=look.color,
                markeredgecolor=SURFACE if look.marker else look.color, markeredgewidth=0.7, zorder=4,
            )  # fmt: skip
            set_tip(dot, interval.tip or _said(interval, digits))
        if is_single:
            sign = "+" if is_change else ""
            place = (max([interval.value, *ends]), y)
            axes.annotate(
                f"{interval.value:{sign}.{digits}f}", place, (6, 0), textcoords="offset points", color=INK,
                va="center_baseline", annotation_clip=False,
            )  # fmt: skip

    def finish(axes: Axes) -> None:
        if is_change:
            axes.axvline(0, color=INK, linewidth=1, zorder=1.5)
        else:
            axes.set_xlim(left=0)
        if x_range:
            axes.set_xlim(*x_range)

    return _rows(intervals, draw_row, finish, title, description, x_label)


def box_plots(
    samples: Sequence[Samples],
    *,
    title: str,
    description: str,
    x_label: str,
    is_log: bool = False,
) -> Markup:
    """Box from the first to the third quartile, line at the median, whiskers to the 5th and 95th of 100.

    What lies outside the whiskers is a dot, so nothing is hidden.
    """

    def draw_row(axes: Axes, row: Samples, look: Look, y: float) -> None:
        values = np.sort(np.asarray(row.values, np.float64))
        if not len(values):
            return
        least, first, median, third, most = np.percentile(values, _QUANTILES).tolist()
        half = (_ROW - 6) / 2
        axes.plot([least, first], [y, y], color=look.color, linewidth=1.4)
        axes.plot([third, most], [y, y], color=look.color, linewidth=1.4)
        (box,) = axes.barh(
            [y], [third - first], left=first, height=2 * half, color=look.color, alpha=0.45, linewidth=0
        )
        set_tip(box, row.tip or f"{row.series}, {row.group}: median {median:.3g}, 5 to 95 % {least:.3g} to"
                                f" {most:.3g}, n {len(values)}")  # fmt: skip
        axes.plot([median, median], [y - half - 1, y + half + 1], color=INK, linewidth=2, zorder=4)
        outside = values[(values < least) | (values > most)][-_MOST_DOTS:]
        draw_dots(axes, outside, np.full(len(outside), y), look.color, diameter=2.6)
        if look.marker:
            axes.plot([median], [y], marker=look.marker, markersize=5.5, color=look.color,
                      markeredgecolor=SURFACE, markeredgewidth=0.7, zorder=5)  # fmt: skip

    def finish(axes: Axes) -> None:
        if is_log:
            scale_log(axes, "x")
        else:
            axes.set_xlim(left=0)

    return _rows(samples, draw_row, finish, title, description, x_label)


def draw_dots(axes: Axes, x: Any, y: Any, color: str, diameter: float, alpha: float = 0.8) -> None:
    """Many dots as one path: a page of them stays small. x and y (N,) float64."""
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path

    if not len(x):
        return
    spots = np.repeat(np.stack([x, y], axis=1), 2, axis=0)
    codes = np.tile([Path.MOVETO, Path.LINETO], len(x))
    axes.add_patch(PathPatch(
        Path(spots, codes), fill=False, edgecolor=color, linewidth=diameter, capstyle="round", alpha=alpha,
        zorder=2,
    ))  # fmt: skip
    axes.update_datalim(spots)
    axes.autoscale_view()


def _rows(
    rows: Sequence[Any], draw_row: Callable[..., None], finish: Callable[[Axes], None],
    title: str, description: str, x_label: str,
) -> Markup:  # fmt: skip
    groups = list(dict.fromkeys(row.group for row in rows))
    numbers = {row.series: row.number for row in rows}

    def draw(frame: Frame) -> Figure:
        has_names = any(groups)
        above = _NAME_ROW if frame.is_narrow and has_names and len(numbers) > 1 else 0.0
        places, names, y = [], [], 0.0
        for group in groups:
            members = [row for row in rows if row.group == group]
            y += above
            names.append((group, y - _ROW / 2 - 3 if above else y + _ROW * (len(members) - 1) / 2))
            places += [(row, y + _ROW * place) for place, row in enumerate(members)]
            y += _ROW * len(members) + _GAP
        figure, axes = new_figure(frame, y + _AXIS, list(numbers))
        axes.grid(visible=False, axis="y")
        axes.grid(visible=True, axis="x", color=GRID, linewidth=0.8)
        for row, place in places:
            draw_row(axes, row, Look.of(row.number), place)
        finish(axes)
        axes.set_ylim(y - _GAP / 2 - _ROW / 2 + 2, -_ROW / 2 - 2)
        axes.set_yticks([])
        for name, place in names if has_names else []:
            if above:
                axes.annotate(short(name, 44), (0, place), xycoords=("axes fraction", "data"), color=INK,
                              va="bottom", ha="left", annotation_clip=False)  # fmt: skip
        if has_names and not above:
            letters = min(frame.letters, 18) if frame is NARROW else frame.letters
            axes.set_yticks([place for _, place in names], [short(name, letters) for name, _ in names])
            axes.tick_params(axis="y", labelcolor=INK)
        label_axes(axes, x_label, "")
        add_legend(figure, frame, list(numbers), list(numbers.values()), has_lines=False)
        axes.tick_params(axis="x", labelcolor=MUTED)
        return figure

    return both_widths(draw, title, description)


def _said(interval: Interval, digits: int) -> str:
    said = f"{interval.series}, {interval.group}: {interval.value:.{digits}f}".strip(", ")
    if interval.low is None or interval.high is None:
        return said
    return f"{said} ({interval.low:.{digits}f} to {interval.high:.{digits}f})"
