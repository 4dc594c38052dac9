"""What all charts have in common: two widths, quiet axes, and series that are told apart without colour.

A chart is drawn once for a page and once for a phone, in pixels at which its text has the size of the page's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from markupsafe import Markup

from fcos_edge.report.svg import GRID, INK, MUTED, inline_svg, own_settings, plain, series_color

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# As many shapes as colours; they run through at different speeds, so the ninth differs from the first.
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "p", "h")
_DASHES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (1.5, 1.5)), (0, (7, 1.5, 1.5, 1.5)))
_LINE_HEIGHT = 19
_LETTER_WIDTH = 7.6  # of the font that matplotlib measures with; the page's are narrower
_HANDLE_WIDTH = 44


@dataclass(frozen=True)
class Frame:
    """One of the two drawings of a chart.

    width    pixels
    letters  of a name that may stand beside something
    """

    width: int
    letters: int
    is_narrow: bool = False


WIDE, NARROW = Frame(600, 28), Frame(340, 26, is_narrow=True)


@dataclass(frozen=True)
class Look:
    """How a series is drawn; the same number looks the same in every chart of a page."""

    color: str
    marker: str
    dash: Any

    @classmethod
    def of(cls, number: int | None) -> Look:
        """number: of the series, from 0; None: the reference that the others are compared with."""
        if number is None:
            return cls(INK, "", (0, (4, 2)))
        return cls(series_color(number), MARKERS[number % len(MARKERS)], _DASHES[number // 8 % len(_DASHES)])


@dataclass(frozen=True)
class Mark:
    """A point or, with `y` None, a place on the x axis that is named in the chart."""

    x: float
    text: str
    y: float | None = None


def both_widths(draw: Callable[[Frame], Figure], title: str, description: str) -> Markup:
    """Draw for the page and for the phone; `templates/charts.css` shows the one that fits."""
    with own_settings():
        wide, narrow = (inline_svg(draw(frame), title, description) for frame in (WIDE, NARROW))
    return Markup(
        '<div class="chart"><div class="chart-wide">{}</div><div class="chart-narrow">{}</div></div>'
    ).format(wide, narrow)


def one_width(draw: Callable[[Frame], Figure], title: str, description: str) -> Markup:
    """Draw for the phone alone: what is square gains nothing by width."""
    with own_settings():
        narrow = inline_svg(draw(NARROW), title, description)
    return Markup('<div class="chart"><div class="chart-square">{}</div></div>').format(narrow)


def new_figure(frame: Frame, height: float, names: Sequence[str] = ()) -> tuple[Figure, Axes]:
    """A figure and its axes; `names` are those that `add_legend` will show above.

    height  of everything but the legend, pixels
    """
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    height += _LINE_HEIGHT * len(_legend_lines(frame, names))
    layout = ConstrainedLayoutEngine(w_pad=2 / 72, h_pad=3 / 72, hspace=0, wspace=0)
    figure = Figure(figsize=(frame.width / 72, height / 72), dpi=72, layout=layout)
    axes = figure.subplots()
    _quieten(axes, frame)
    return figure, axes


def _quieten(axes: Axes, frame: Frame) -> None:
    """Axes that stand back behind what they show."""
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(MUTED)
    axes.tick_params(which="both", length=0, pad=6, colors=MUTED)
    axes.minorticks_off()
    axes.set_prop_cycle(color=[INK])
    axes.set_axisbelow(True)
    axes.grid(axis="y", color=GRID, linewidth=0.8)
    axes.locator_params(axis="x", nbins=5 if frame.is_narrow else 8)


def scale_log(axes: Axes, name: Literal["x", "y"]) -> None:
    """A logarithmic axis with plain numbers at 1, 2 and 5, which a short one has, too."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    axes.set(**{f"{name}scale": "log"})
    axis = axes.xaxis if name == "x" else axes.yaxis
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0), numticks=9))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_locator(NullLocator())


def label_axes(axes: Axes, x_label: str, y_label: str) -> None:
    """The y label lies above its axis: nobody has to turn their head, and a phone has no width for it."""
    axes.set_xlabel(plain(x_label), loc="right", color=MUTED, labelpad=3)
    if y_label:
        axes.set_title(plain(y_label), loc="left", fontsize="medium", color=MUTED, pad=8, x=0)


def short(text: str, letters: int) -> str:
    """At most so many letters; the middle goes, because names differ at their ends."""
    text = plain(text)
    if len(text) <= letters:
        return text
    head = (letters - 1) // 2
    return f"{text[:head]}…{text[len(text) - (letters - 1 - head) :]}"


def add_legend(figure: Figure, frame: Frame, names: Sequence[str], numbers: Sequence[int | None],
               has_lines: bool = True) -> None:  # fmt: skip
    """Names beside what their series look like, above the axes, in reading order."""
    from matplotlib.lines import Line2D

    if len(names) < 2:
        return
    lines = _legend_lines(frame, names)
    columns = max(map(len, lines))
    looks = [Look.of(number) for number in numbers]
    handles = [
        Line2D([], [], color=look.color, marker=look.marker or ("" if has_lines else "|"), markersize=6,
               linestyle=look.dash if has_lines else "", linewidth=1.8, label=short(name, 44))
        for name, look in zip(names, looks, strict=True)
    ]  # fmt: skip
    # Matplotlib fills columns; people read rows.
    places = [row + column * len(lines) for row in range(len(lines)) for column in range(columns)]
    by_column: list[Any] = [None] * (columns * len(lines))
    for handle, place in zip(handles, places, strict=False):
        by_column[place] = handle
    figure.legend(
        handles=[handle or Line2D([], [], linestyle="", label="") for handle in by_column],
        loc="outside upper left", ncols=columns, frameon=False, labelcolor=INK, handlelength=2.2,
        borderpad=0, borderaxespad=0.2, labelspacing=0.3, columnspacing=1.4, handletextpad=0.6,
    )  # fmt: skip


def _legend_lines(frame: Frame, names: Sequence[str]) -> list[list[str]]:
    """As many columns as fit the widest name."""
    if len(names) < 2:
        return []
    widest = _HANDLE_WIDTH + _LETTER_WIDTH * max(min(len(name), 44) for name in names)
    columns = max(1, min(len(names), int(frame.width // widest)))
    return [list(names[start : start + columns]) for start in range(0, len(names), columns)]


def add_marks(axes: Axes, marks: Sequence[Mark]) -> None:
    """Rings around points, dashed lines at places; their words stand at the side where there is room."""
    for mark in marks:
        low, high = axes.get_xlim()
        at = (math.log(mark.x / low) / math.log(high / low) if axes.get_xscale() == "log"
              else (mark.x - low) / (high - low))  # fmt: skip
        side, shift = ("right", -6) if at > 0.6 else ("left", 6)
        if mark.y is None:
            axes.axvline(mark.x, color=INK, linewidth=1, linestyle=(0, (4, 3)), zorder=2)
            place, coordinates = (mark.x, 1.0), ("data", "axes fraction")
            axes.annotate(plain(mark.text), place, (shift / 2, -2), coordinates, "offset points", color=INK,
                          ha=side, va="top", zorder=6)  # fmt: skip
        else:
            axes.plot([mark.x], [mark.y], marker="o", markersize=10, markerfacecolor="none",
                      markeredgecolor=INK, markeredgewidth=1.5, zorder=6)  # fmt: skip
            axes.annotate(plain(mark.text), (mark.x, mark.y), (shift * 1.3, 9), "data", "offset points",
                          color=INK, ha=side, va="bottom", zorder=6)  # fmt: skip
