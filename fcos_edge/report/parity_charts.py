"""The charts of a parity page. Of artifacts that found the same one is drawn, and the caption says so."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from fcos_edge.report.charts import (
    Cloud,
    Columns,
    Interval,
    Line,
    Point,
    Samples,
    box_plots,
    cloud_chart,
    grouped_bars,
    interval_bars,
    line_chart,
    scatter_chart,
)
from fcos_edge.report.series import Artifact, distinct, int8_or_all, series_numbers, short_names

STAGES = ("whole", "inference", "letterbox", "postprocess")
# More would be a page of nothing but one chart; the table has all.
_MOST_CLASSES, _MOST_CLOUDS, _MOST_LAYERS = 12, 4, 15
_BRANCHES = {"logits": "Class logits", "ltrb": "Distances to the box's sides", "centerness": "Center-ness"}
_RECALLS = tuple(step / 100 for step in range(101))


@dataclass(frozen=True)
class Chart:
    """A drawing with its heading and what must be known to read it."""

    title: str
    svg: Markup
    caption: str = ""


class ParityCharts:
    """The charts of one document; a method gives one or several, or none where there is nothing to draw."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self._document = document
        self._artifacts: Sequence[Artifact] = document["artifacts"]
        self._names = short_names(self._artifacts)
        self._numbers = series_numbers(self._artifacts)
        self._int8 = int8_or_all(self._artifacts)
        self._reference = document["reference"]["accuracy"]

    def accuracy_over_time(self) -> list[Chart]:
        """AP against the median time of a picture."""
        before = self._reference["figures"]["AP"]
        points = []
        for one in self._artifacts:
            if not one["latency_ms"] or not one["accuracy"] or one["accuracy"]["figures"]["AP"] < 0:
                continue
            moved = one["difference"] and one["difference"]["figures"]["AP"]
            ends = moved and moved["interval_95"]
            whole, ap = one["latency_ms"]["whole"]["p50_ms"], one["accuracy"]["figures"]["AP"]
            y_ends = (before + ends[0], before + ends[1]) if ends else None
            tip = f"{one['name']}: AP {ap:.4f}, {whole:.3g} ms"
            name, number = self._look(one)
            points.append(Point(name, whole, ap, number, y_ends=y_ends, tip=tip))
        if not points:
            return []
        title = "Accuracy against latency"
        svg = scatter_chart(
            points, title=title, description=f"AP and median time of {len(points)} artifacts.",
            x_label="median ms of a picture", y_label="AP", reference_y=before, reference_text="reference",
        )  # fmt: skip
        return [Chart(title, svg, "Up and left is better. Bars: 95 % interval of the change of AP.")]

    def precision_recall(self) -> list[Chart]:
        """Of all classes together, then of each class."""
        charts = []
        shown = distinct(self._int8, "accuracy", "curves")
        for key in ["all", *self._classes()]:
            series = [(one, one["accuracy"]["curves"].get(key)) for one, _ in shown]
            looks = [(*self._look(one), curve["at50"]) for one, curve in series if curve]
            lines = [Line(name, _RECALLS, precision, number) for name, number, precision in looks]
            reference = self._reference["curves"].get(key)
            if not reference or not lines:
                continue
            lines.insert(0, Line("reference", _RECALLS, reference["at50"], None))
            title = "All classes" if key == "all" else key
            svg = line_chart(
                lines, title=f"Precision and recall, {title}", x_label="recall", y_label="precision",
                description="Precision at 101 recalls, IoU 0.5, of the reference and what was exported.",
                x_range=(0, 1), y_range=(0, 1.02), height=300 if key == "all" else 220,
            )  # fmt: skip
            boxes = "" if key == "all" else f"{self._reference['classes'][key]['boxes']:,} boxes."
            same = _also(shown) if key == "all" else ""
            charts.append(Chart(title, svg, f"{boxes}{same}"))
        return charts

    def class_changes(self) -> list[Chart]:
        """How far AP of each class moved, with 95 % intervals."""
        rows = []
        shown = distinct([one for one in self._int8 if one["difference"]], "difference", "classes")
        for name in self._classes():
            for one, _ in shown:
                moved = (one["difference"]["classes"].get(name) or {}).get("AP")
                if moved:
                    low, high = (100 * end for end in moved["interval_95"] or (moved["value"],) * 2)
                    series, number = self._look(one)
                    rows.append(Interval(name, series, number, 100 * moved["value"], low, high))
        if not rows:
            return []
        title = "Change of AP by class"
        svg = interval_bars(
            rows, title=title, description="Change of AP against the reference, points, with 95 % intervals.",
            x_label="points of AP", is_change=True, digits=2,
        )  # fmt: skip
        caption = f"Left of 0 is a loss. Classes with few boxes have wide intervals.{_also(shown)}"
        if len(self._reference["classes"]) > _MOST_CLASSES:
            caption += f" The {_MOST_CLASSES} classes with most boxes; the table has all."
        return [Chart(title, svg, caption)]

    def latency(self) -> list[Chart]:
        """Distributions of times, a chart for each stage."""
        timed = [one for one in self._artifacts if one["latency_ms"]]
        charts = []
        for stage in STAGES:
            samples = [
                Samples(self._names[one["name"]], "", self._numbers[one["name"]],
                        one["latency_ms"][stage]["samples_ms"])
                for one in timed
                if one["latency_ms"].get(stage)
            ]  # fmt: skip
            if samples:
                title = {"whole": "Whole: from picture to detections"}.get(stage, stage.capitalize())
                svg = box_plots(
                    samples, title=f"Latency, {stage}", x_label="ms",
                    description=f"Times of {stage} of {len(samples)} artifacts, milliseconds.",
                )  # fmt: skip
                charts.append(Chart(title, svg))
        if charts:
            caption = "Box: the middle half; line: median; whiskers: 5 to 95 of 100 calls; dots: the others."
            charts[0] = Chart(charts[0].title, charts[0].svg, caption)
        return charts

    def scores(self) -> list[Chart]:
        """Scores of partners, the reference's against those found."""
        with_scores = [one for one in self._int8 if one["agreement"] and one["agreement"]["sample"]]
        shown = distinct(with_scores, "agreement", "sample")
        charts = []
        for one, count in shown[:_MOST_CLOUDS]:
            name, number = self._look(one)
            sample = one["agreement"]["sample"]
            svg = cloud_chart(
                [Cloud(name, [row[1] for row in sample], [row[2] for row in sample], number)],
                title=f"Scores, {name}", x_label="score of the reference", y_label=f"score in {name}",
                description=f"Scores of {len(sample)} detections that both sides have.",
            )  # fmt: skip
            drift = one["agreement"]["drift"]
            same = f" {count - 1} more found the same." if count > 1 else ""
            moved = f"Half move by less than {drift['p50']:.3f}, 95 of 100 by less than {drift['p95']:.3f}."
            charts.append(Chart(name, svg, f"{moved}{same}"))
        return charts

    def raw_differences(self) -> list[Chart]:
        """Relative difference of raw outputs, level by level, a chart for each branch."""
        with_raw = [one for one in self._int8 if one["raw"]]
        shown = distinct(with_raw, "raw")
        charts = []
        for branch, title in _BRANCHES.items():
            prefix = f"{branch}_"
            levels = _unique(
                raw["name"].removeprefix(prefix) for one in with_raw for raw in one["raw"]
                if raw["name"].startswith(prefix)
            )  # fmt: skip
            columns = [Columns(name, _by_level(one["raw"], prefix, levels), number)
                       for one, _ in shown for name, number in [self._look(one)]]  # fmt: skip
            if noise := self._document["noise"]:
                columns.insert(
                    0, Columns("reference under noise", _by_level(noise["raw"], prefix, levels), None)
                )
            if not levels or not any(value for one in columns for value in one.values):
                continue
            svg = grouped_bars(
                levels, columns, title=f"Raw differences, {title}", y_label="mean |difference| / spread",
                description="Mean difference to the reference in standard deviations, level by level.",
            )  # fmt: skip
            charts.append(Chart(title, svg))
        if charts:
            caption = (
                "Smaller is better. Noise of one grey level in the picture moves the reference itself"
                f" by as much as its column shows.{_also(shown)}"
            )
            charts[0] = Chart(charts[0].title, charts[0].svg, caption)
        return charts

    def _look(self, one: Artifact) -> tuple[str, int]:
        return self._names[one["name"]], self._numbers[one["name"]]

    def _classes(self) -> list[str]:
        """Those with boxes, most boxes first."""
        classes: Mapping[str, Mapping[str, Any]] = self._reference["classes"]
        named = [name for name, row in classes.items() if row["boxes"]]
        named.sort(key=lambda name: -int(classes[name]["boxes"]))
        return named[:_MOST_CLASSES]


def sensitivity_charts(sensitivity: Mapping[str, Any]) -> list[Chart]:
    """The layers that do most harm."""
    layers = sorted(sensitivity["layers"], key=lambda row: -float(row["harm"]))[:_MOST_LAYERS]
    if not layers:
        return []
    title = "The layers that int8 harms most"
    svg = interval_bars(
        [
            Interval(row["layer"], "", 0, row["harm"], tip=f"{row['kind']}: {row['harm']:.4g}")
            for row in layers
        ],
        title=title, description=f"Harm of the {len(layers)} most harmful layers.",
        x_label="harm: score change + box loss", digits=4,
    )  # fmt: skip
    return [Chart(title, svg, "Each layer alone in int8. Harms of different layers add in squares.")]


def _by_level(raw: Sequence[Mapping[str, Any]], prefix: str, levels: Sequence[str]) -> list[float | None]:
    of_name = {figure["name"]: figure["relative"] for figure in raw}
    return [of_name.get(prefix + level) for level in levels]


def _unique(names: Any) -> list[str]:
    return list(dict.fromkeys(names))


def _also(shown: Sequence[tuple[Artifact, int]]) -> str:
    """Which artifacts stand for others, too."""
    parts = [f" {one['name']} stands for {count} that found the same." for one, count in shown if count > 1]
    return "".join(parts)
