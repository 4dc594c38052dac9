"""Box sizes and aspect ratios as pictures, drawn with matplotlib; only `analyze --out` needs it.

The folder holds nothing but these pictures, and only such a folder is written to again.
"""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fcos_edge.errors import UsageError
from fcos_edge.train.analyze.analysis import Analysis, aspect_ratios, box_sizes
from fcos_edge.train.analyze.bins import BINS_PER_OCTAVE, count_in_octaves
from fcos_edge.train.analyze.boxes import DoubleArray
from fcos_edge.writing import naming

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SIZES_NAME, ASPECTS_NAME = "box_sizes.png", "aspect_ratios.png"
_REMEDY = "choose another folder with --out"
# Two hues that people tell apart whatever colours they see.
_BAR, _MARK = "#4477aa", "#aa3377"


def check_folder(folder: Path) -> None:
    """Raise UsageError where the histograms cannot go to `folder`: before the work, not after it."""
    above = next((parent for parent in (folder, *folder.parents) if parent.exists()), folder)
    if above.exists() and not above.is_dir():
        raise UsageError(f"--out {folder}: {above} is a file; {_REMEDY}")
    if above == folder:
        others = {path.name for path in folder.iterdir()} - {SIZES_NAME, ASPECTS_NAME}
        if any(not name.startswith(".") for name in others):
            raise UsageError(f"--out {folder}: holds files that are not from `analyze`; {_REMEDY}")


def write_histograms(folder: Path, analysis: Analysis, title: str) -> list[Path]:
    """Write both pictures, each whole or not at all. Returns their paths."""
    check_folder(folder)
    pictures = {
        SIZES_NAME: _draw_sizes(analysis, title),
        ASPECTS_NAME: _draw_aspects(analysis, title),
    }
    with naming(folder, _REMEDY):
        folder.mkdir(parents=True, exist_ok=True)
    for name, png in pictures.items():
        part = folder / f".{name}.part"
        try:
            with naming(folder / name, _REMEDY):
                part.write_bytes(png)
                os.replace(part, folder / name)
        finally:
            part.unlink(missing_ok=True)
    return [folder / name for name in pictures]


def _draw_sizes(analysis: Analysis, title: str) -> bytes:
    figure = _figure(f"{title}\ndashed: from here on the centre of a square box is for that level")
    axes = figure.axes[0]
    low, high = _draw_bars(axes, box_sizes(analysis.sides_wh))
    axes.set_xlabel("box size in the input: square root of the area, pixels")
    for level in analysis.shape.rule.levels:
        # From the centre of a square, its sides are half a side away.
        start = 2 * level.low
        if low < start < high:
            axes.axvline(start, color=_MARK, linewidth=1, linestyle="--")
            place = (start, 0.95)
            axes.annotate(f" {level.name}", place, xycoords=("data", "axes fraction"), color=_MARK)
    return _encoded(figure)


def _draw_aspects(analysis: Analysis, title: str) -> bytes:
    figure = _figure(title)
    axes = figure.axes[0]
    _draw_bars(axes, aspect_ratios(analysis.sides_wh))
    axes.set_xlabel("width / height")
    axes.axvline(1, color=_MARK, linewidth=1, linestyle="--")
    return _encoded(figure)


def _draw_bars(axes: Axes, values: DoubleArray) -> tuple[float, float]:
    """Bars of equal width on a logarithmic axis. Returns where they begin and end."""
    edges, counts = count_in_octaves(values)
    axes.bar(edges[:-1], counts, np.diff(edges), align="edge", color=_BAR, edgecolor="white", linewidth=0.5)
    axes.set_xscale("log", base=2)
    ticks = edges[::BINS_PER_OCTAVE].tolist()
    # Ratios below 1 as fractions: 1/4 reads better than 0.25 beside 4.
    names = [f"{tick:g}" if tick >= 1 else f"1/{1 / tick:g}" for tick in ticks]
    axes.set_xticks(ticks, names)
    axes.set_xlim(edges[0], edges[-1])
    axes.set_ylabel("boxes")
    return float(edges[0]), float(edges[-1])


def _figure(title: str) -> Figure:
    # Not pyplot: it keeps figures, and asks for a display.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.5), dpi=120, layout="constrained")
    axes = figure.subplots()
    axes.set_title(title, fontsize="medium")
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def _encoded(figure: Figure) -> bytes:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    FigureCanvasAgg(figure)
    png = io.BytesIO()
    # Without the version in it, the same data gives the same file.
    figure.savefig(png, format="png", metadata={"Software": None})
    return png.getvalue()
