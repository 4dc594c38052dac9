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
from fcos_edge.matching import DoubleArray
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
from fcos_edge.report.svg import SERIES_COLORS

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


def _linear(color: tuple[int, ...]) -> DoubleArray:
    """sRGB bytes to light, 0..1: (3,) float64."""
    values = np.array(color) / 255
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def _luminance(color: tuple[int, ...]) -> float:
    return float(_linear(color) @ [0.2126, 0.7152, 0.0722])


def _oklab(linear: DoubleArray) -> DoubleArray:
    """Light to a space in which distances are differences that are seen (Ottosson 2020): (N, 3) each."""
    to_cones = [[0.41222, 0.53633, 0.05145], [0.21190, 0.68070, 0.10740], [0.08830, 0.28172, 0.62998]]
    to_lab = [[0.21045, 0.79362, -0.00407], [1.97800, -2.42859, 0.45059], [0.02590, 0.78277, -0.80868]]
    return np.asarray(np.cbrt(linear @ np.transpose(to_cones)) @ np.transpose(to_lab))


# Light as eyes see it that lack one kind of cone (Machado, Oliveira and Fernandes 2009).
_EYES: dict[str, list[list[float]]] = {
    "all cones": [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
    "no red": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216],
               [-0.003882, -0.048116, 1.051998]],
    "no green": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413],
                 [-0.011820, 0.042940, 0.968881]],
    "no blue": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602],
                [0.004733, 0.691367, 0.303900]],
}  # fmt: skip


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
@pytest.mark.parametrize("eyes", _EYES)
def test_colors__series_are_told_apart_by_all_eyes(eyes: str, theme: int) -> None:
    colors = _read_colors()
    linear = np.stack([_linear(colors[f"series-{number + 1}"][theme]) for number in range(SERIES_COLORS)])
    lab = _oklab((linear @ np.transpose(_EYES[eyes])).clip(0, 1))
    apart = np.linalg.norm(lab[:, None] - lab[None], axis=-1)
    # About five times what is just seen side by side, 0.02.
    assert apart[~np.eye(SERIES_COLORS, dtype=bool)].min() > 0.095


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_colors__reach_their_contrast_in_both_themes(theme: int) -> None:
    colors = {name: both[theme] for name, both in _read_colors().items()}

    def contrast(name: str, ground: str) -> float:
        low, high = sorted([_luminance(colors[name]), _luminance(colors[ground])])
        return (high + 0.05) / (low + 0.05)

    # WCAG 2.1: 1.4.3 for words, 1.4.11 for what a chart draws.
    for name in ("ink", "muted", "link", "good", "bad", "warn"):
        assert min(contrast(name, ground) for ground in ("surface", "raised")) >= 4.5
    for number in range(SERIES_COLORS):
        assert contrast(f"series-{number + 1}", "surface") >= 3
