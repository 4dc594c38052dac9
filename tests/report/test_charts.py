from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from markupsafe import Markup

import fcos_edge.report
from fcos_edge.report.charts import (
    Cloud,
    Columns,
    Interval,
    Line,
    Mark,
    Point,
    Samples,
    box_plots,
    cloud_chart,
    grouped_bars,
    histogram,
    interval_bars,
    line_chart,
    scatter_chart,
)  # fmt: skip
from fcos_edge.report.charts.frame import short

_RNG = np.random.default_rng(0)
_WORDS: dict[str, Any] = {"title": "a title", "description": "a description"}
_TEMPLATES = Path(fcos_edge.report.__file__).parent / "templates"


def _lines(**more: object) -> Markup:
    lines = [
        Line("reference", [0, 1, 2], [3.0, 2.0, float("nan")], None),
        Line("int8", [0, 1, 2], [3, 2.5, 1], 0),
    ]
    return line_chart(
        lines, **_WORDS, x_label="recall", y_label="precision", marks=[Mark(1, "best", 2.5)]
    )  # fmt: skip


def _intervals() -> Markup:
    rows = [
        Interval("cat", "int8", 0, -0.0123, -0.03, 0.01),
        Interval("cat", "fp16", 1, 0.002),
        Interval("dog & co", "int8", 0, 0.004, 0.0, 0.01),
    ]
    return interval_bars(rows, **_WORDS, x_label="change of AP", is_change=True)


def _bars() -> Markup:
    rows = [Interval("cat", "AP", 0, 0.25), Interval("", "AP", 0, 0.0)]
    return interval_bars(rows, **_WORDS, x_label="AP")


def _boxes() -> Markup:
    rows = [Samples("whole", "int8", 0, _RNG.lognormal(size=80).tolist()), Samples("whole", "none", 1, [])]
    return box_plots(rows, **_WORDS, x_label="ms", is_log=True)


def _points() -> Markup:
    points = [Point("fp32", 10.0, 0.25, 0, y_ends=(0.24, 0.26)), Point("int8", 5.0, 0.24, 1)]
    return scatter_chart(
        points, **_WORDS, x_label="ms", y_label="AP", reference_y=0.251, reference_text="ref"
    )


def _cloud() -> Markup:
    scores = _RNG.random((2, 300))
    clouds = [Cloud("scores", scores[0].tolist(), scores[1].tolist(), 0)]
    return cloud_chart(
        clouds, **_WORDS, x_label="fp32", y_label="int8",
        guides=[(0.4, "threshold")],
    )  # fmt: skip


def _columns() -> Markup:
    series = [Columns("logits", [0.1, 0.2], 0), Columns("ltrb", [0.0, None], 1)]
    return grouped_bars(
        ["P3", "P4"], series, **_WORDS, y_label="difference", limit=0.25, limit_text="allowed"
    )  # fmt: skip


def _histogram() -> Markup:
    return histogram(
        [0.25, 0.5, 1.0, 2.0], [3, 0, 1234], **_WORDS, x_label="width / height", y_label="boxes", is_log=True,
        marks=[Mark(1.0, "square")],
    )  # fmt: skip


_EXPECTED = {
    _lines: ["reference", "int8", "recall", "precision", "best"],
    _intervals: [
        "cat",
        "dog & co",
        "int8, cat: -0.012 (-0.030 to 0.010)",
        "fp16, cat: 0.002",
        "change of AP",
    ],
    _bars: ["cat", "0.250", "0.000", "AP, cat: 0.250"],
    _boxes: ["whole", "int8", "ms"],
    _points: ["fp32", "int8", "ref", "fp32: 10, 0.25"],
    _cloud: ["threshold", "fp32", "int8"],
    _columns: ["P3", "P4", "logits", "ltrb, P3: 0", "logits, P4: 0.2", "allowed"],
    _histogram: ["1/4", "1/2", "1", "2", "square", "1 to 2: 1,234", "0.25 to 0.5: 3", "boxes"],
}


@pytest.mark.parametrize("draw", _EXPECTED, ids=lambda draw: draw.__name__.strip("_"))
def test_chart__says_its_values_in_valid_xml_without_hard_colours(draw: Callable[[], Markup]) -> None:
    chart = draw()
    root = ElementTree.fromstring(chart)
    for svg in root.iter("{http://www.w3.org/2000/svg}svg"):
        said = {text.strip() for element in svg.iter() for text in [element.text or ""]}
        assert said >= set(_EXPECTED[draw])
    assert "nan" not in chart.lower()
    assert not re.search(r"(?:fill|stroke):\s*(?:#|rgb|black|white)", chart)
    ids = re.findall(r' id="([^"]+)"', chart)
    assert len(ids) == len(set(ids))


def test_chart__is_the_same_every_time() -> None:
    assert _columns() == _columns()
    assert _lines() == _lines()


def test_cloud_chart__of_300_points_stays_small() -> None:
    # 13 characters a point, and the axes.
    assert len(_cloud()) < 12_000


def test_scatter_chart__names_that_find_no_place_stand_in_a_legend() -> None:
    near = [Point(f"a name of some length {n}", 10 + n / 1000, 0.25, n) for n in range(12)]
    chart = scatter_chart(near, **_WORDS, x_label="ms", y_label="AP")
    texts = re.findall(r"<text[^>]*>([^<]*)", chart)
    assert [texts.count(point.name) for point in near] == [2] * 12  # wide and narrow


@pytest.mark.parametrize(
    ("text", "letters", "expected"),
    [("model.onnx", 10, "model.onnx"), ("model.int8.onnx", 9, "mode…onnx"), ("two\nlines", 20, "two lines")],
)
def test_short__keeps_both_ends(text: str, letters: int, expected: str) -> None:
    assert short(text, letters) == expected


def _read_colors() -> dict[str, list[tuple[int, ...]]]:
    """Name -> light and dark, from the one place."""
    text = (_TEMPLATES / "colors.css").read_text()
    return {
        name: [tuple(bytes.fromhex(color)) for color in (light, dark)]
        for name, light, dark in re.findall(r"--([\w-]+): light-dark\(#(\w{6}), #(\w{6})\)", text)
    }


def _luminance(color: tuple[int, ...]) -> float:
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (v / 255 for v in color)]
    return float(np.dot(linear, [0.2126, 0.7152, 0.0722]))


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_colors__reach_their_contrast_in_both_themes(theme: int) -> None:
    colors = {name: both[theme] for name, both in _read_colors().items()}

    def contrast(name: str, ground: str) -> float:
        low, high = sorted([_luminance(colors[name]), _luminance(colors[ground])])
        return (high + 0.05) / (low + 0.05)

    # WCAG 2.1: 1.4.3 for words, 1.4.11 for what a chart draws.
    for name in ("ink", "muted", "link", "good", "bad", "warn"):
        assert min(contrast(name, ground) for ground in ("surface", "raised")) >= 4.5
    for number in range(8):
        assert contrast(f"series-{number + 1}", "surface") >= 3
