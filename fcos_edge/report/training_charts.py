"""The charts of a training run: accuracy, losses, learning rate and speed over its steps.

A row is one epoch's of `metrics.jsonl`; a point is a step and the figures of the held-out pictures there.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

from fcos_edge.report.charts import Interval, Line, Mark, interval_bars, line_chart
from fcos_edge.report.parity_charts import Chart

Row = Mapping[str, Any]
Point = tuple[int, Mapping[str, Any]]
# Key in a row, after `loss_` -> name
LOSSES = {"classes": "classes", "boxes": "boxes", "centerness": "center-ness", "distill": "of the teacher"}
_MOST_BARS = 40


def accuracy_charts(points: Sequence[Point]) -> list[Chart]:
    if not points:
        return []
    steps = [step for step, _ in points]
    lines = [
        Line(name, steps, [_or_nan(figures[name]) for _, figures in points], place,
             [f"step {step:,}: {name} {figures[name]:.4f}" for step, figures in points])
        for place, name in enumerate(("AP", "AP50"))
    ]  # fmt: skip
    found = best(points)
    marks = [Mark(found[0], f"best AP {found[1]:.3f}", found[1])] if found else []
    title = "Accuracy on held-out pictures"
    svg = line_chart(
        lines, title=title, description=f"AP and AP50 of {len(points)} evaluations over steps.",
        x_label="step", y_label="AP, 0 to 1", marks=marks, x_range=(0, max(steps) * 1.02),
        y_range=(0, _above(value for line in lines for value in line.y)),
    )  # fmt: skip
    return [Chart(title, svg, "Of the averaged weights; the last point is the checkpoint as it is stored.")]


def loss_charts(rows: Sequence[Row]) -> list[Chart]:
    steps = [row["step"] for row in rows]
    lines = []
    for place, (key, name) in enumerate(LOSSES.items()):
        values = [row.get(f"loss_{key}", math.nan) for row in rows]
        tips = [f"step {step:,}: {name} {value:.4f}" for step, value in zip(steps, values, strict=True)]
        if not all(map(math.isnan, values)):
            lines.append(Line(name, steps, values, place, tips))
    if not lines:
        return []
    title = "Losses"
    svg = line_chart(
        lines, title=title, description="The mean losses of each epoch over steps.", x_label="step",
        y_label="mean of an epoch", x_range=(0, max(steps) * 1.02), marks=_input_marks(rows),
        y_range=(0, _above(value for line in lines for value in line.y)),
    )  # fmt: skip
    return [Chart(title, svg, "Before weights are averaged. Center-ness has a floor that is not 0.")]


def speed_charts(rows: Sequence[Row], batch_size: int) -> list[Chart]:
    steps = [row["step"] for row in rows]
    rates = [row.get("learning_rate", math.nan) for row in rows]
    charts = []
    if not all(map(math.isnan, rates)):
        title = "Learning rate"
        tips = [f"step {step:,}: {rate:.3g}" for step, rate in zip(steps, rates, strict=True)]
        svg = line_chart(
            [Line(title, steps, rates, 0, tips)], title=title, x_label="step", y_label="learning rate",
            description="The learning rate at the end of each epoch over steps.", height=220,
            x_range=(0, max(steps) * 1.02), y_range=(0, _above(rates)),
        )  # fmt: skip
        charts.append(Chart(title, svg, "At the end of each epoch."))
    found = speeds(rows, batch_size)
    title = "Pictures a second"
    tips = [f"step {step:,}: {speed:.3g} pictures/s" for step, speed in zip(steps, found, strict=True)]
    svg = line_chart(
        [Line(title, steps, found, 0, tips)], title=title, x_label="step", y_label="pictures/s", height=220,
        description="Pictures that trained in a second, epoch by epoch, over steps.",
        x_range=(0, max(steps) * 1.02), y_range=(0, _above(found)), marks=_input_marks(rows),
    )  # fmt: skip
    charts.append(Chart(title, svg, "Without the looks at held-out pictures between epochs."))
    return charts


def class_charts(classes: Mapping[str, Any]) -> list[Chart]:
    """AP of each class at the last look, the best first."""
    rows = {name: row for name, row in classes.items() if row["boxes"]}
    if not rows:
        return []
    shown = sorted(
        sorted(rows, key=lambda name: -rows[name]["boxes"])[:_MOST_BARS], key=lambda n: -rows[n]["AP"]
    )
    title = "AP of each class"
    svg = interval_bars(
        [
            Interval(name, "AP", 0, rows[name]["AP"], tip=f"{name}: AP {rows[name]['AP']:.3f}, AP50"
                     f" {rows[name]['AP50']:.3f}, {rows[name]['boxes']:,} boxes")
            for name in shown
        ],
        title=title, description=f"AP of {len(shown)} classes on the held-out pictures.", x_label="AP",
    )  # fmt: skip
    small = [name for name in shown if rows[name]["boxes"] < 50]
    said = f"Fewer than 50 boxes: {', '.join(small)}." if small else ""
    return [Chart(title, svg, f"At the last look. {said}".strip())]


def best(points: Sequence[Point]) -> tuple[int, float] | None:
    """(step, AP) of the highest AP, of equals the first."""
    known = [(step, float(figures["AP"])) for step, figures in points if figures["AP"] >= 0]
    return max(known, key=lambda point: point[1], default=None)


def speeds(rows: Sequence[Row], batch_size: int) -> list[float]:
    """Pictures a second of each epoch; NaN where no time is told."""
    before = [0, *(row["step"] for row in rows)]
    return [
        (row["step"] - start) * batch_size / row["seconds"] if row["seconds"] > 0 else math.nan
        for row, start in zip(rows, before, strict=False)
    ]


def _input_marks(rows: Sequence[Row]) -> list[Mark]:
    """Where the input's size changes."""
    return [
        Mark(before["step"], "{} x {}".format(*reversed(row["input_hw"])))
        for before, row in pairwise(rows)
        if row.get("input_hw") and row["input_hw"] != before.get("input_hw")
    ]


def _above(values: Iterable[float]) -> float:
    """Where an axis ends that shows all of them."""
    return 1.08 * max((value for value in values if not math.isnan(value)), default=1.0) or 1.0


def _or_nan(value: float) -> float:
    return math.nan if value < 0 else value
