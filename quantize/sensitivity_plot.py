"""The sensitivity table as a picture: one bar per layer, in the network's order."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

from fcos_edge.sensitivity_table import MOST_HARMFUL, SensitivityRow, SensitivityTable

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Paul Tol's bright scheme: told apart whatever colours one sees.
_COLORS = {
    "stem": "#aa3377", "depthwise": "#ee6677", "pointwise": "#4477aa", "linear": "#66ccee",
    "dense": "#222222", "add": "#ccbb44", "output": "#228833",
}  # fmt: skip
_INCHES_PER_BAR = 0.105
_HEIGHT_INCHES = 7.5
_DPI = 120
_HATCH = "//////"


def write_sensitivity_plot(path: Path, table: SensitivityTable, title: str) -> None:
    """Write a PNG; the same table and title give the same bytes with one release of matplotlib."""
    # Not pyplot: it keeps figures, and asks for a display.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    rows = table.rows
    width = max(8.0, 1.5 + _INCHES_PER_BAR * len(rows))
    figure = Figure(figsize=(width, _HEIGHT_INCHES), dpi=_DPI, layout="constrained")
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    _draw_bars(axes, rows)
    _draw_ranks(axes, table)
    axes.set_title(f"{title}: harm of each layer's quantization alone, {table.recipe}", loc="left")
    axes.set_ylabel("harm = score change + (1 - IoU)")
    axes.margins(x=0.005)
    axes.set_ylim(0, 1.12 * max((row.harm for row in rows), default=0.0) or 1.0)
    handles = [Patch(color=color, label=kind) for kind, color in _COLORS.items() if _has(rows, kind)]
    if any(row.is_float for row in rows):
        handles.append(Patch(facecolor="white", edgecolor="#555555", hatch=_HATCH, label="kept in float"))
    # Above the bars: there is no telling which of them is high.
    figure.legend(handles=handles, frameon=False, ncols=len(_COLORS) + 1, loc="outside upper right")
    FigureCanvasAgg(figure)
    png = io.BytesIO()
    # Without the version in it, the same data gives the same file.
    figure.savefig(png, format="png", metadata={"Software": None})
    path.write_bytes(png.getvalue())


def _draw_bars(axes: Axes, rows: tuple[SensitivityRow, ...]) -> None:
    colors = [_COLORS[row.kind] for row in rows]
    axes.bar(
        range(len(rows)),
        [row.harm for row in rows],
        color=["white" if row.is_float else color for row, color in zip(rows, colors, strict=True)],
        edgecolor=colors,
        hatch=[_HATCH if row.is_float else "" for row in rows] or None,
    )
    names = [row.layer for row in rows]
    axes.set_xticks(range(len(rows)), names, rotation=90, fontsize=6)
    axes.tick_params(axis="x", length=2, pad=1)


def _draw_ranks(axes: Axes, table: SensitivityTable) -> None:
    """The most harmful are numbered, so that they are found in the printed table."""
    places = {row.layer: place for place, row in enumerate(table.rows)}
    for rank, row in enumerate(table.ranked[:MOST_HARMFUL], 1):
        if row.harm > 0:
            axes.annotate(
                str(rank), (places[row.layer], row.harm), (0, 2), textcoords="offset points",
                ha="center", va="bottom", fontsize=8,
            )  # fmt: skip


def _has(rows: tuple[SensitivityRow, ...], kind: str) -> bool:
    return any(row.kind == kind for row in rows)
