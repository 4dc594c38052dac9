from __future__ import annotations

import re
from xml.etree import ElementTree

import matplotlib as mpl
import pytest
from matplotlib.figure import Figure

from fcos_edge.report.path_data import shorten_path, shorten_transform
from fcos_edge.report.svg import INK, MUTED, SERIES_COLORS, inline_svg, own_settings, series_color, set_tip


def _figure(color: str = INK, words: str = "words") -> Figure:
    """A line with a tip, and words."""
    with own_settings():
        figure = Figure(figsize=(3, 2), dpi=72)
        axes = figure.subplots()
        axes.set_prop_cycle(color=[INK])
        axes.spines[:].set_color(MUTED)
        axes.tick_params(length=0, colors=MUTED)
        (line,) = axes.plot([0, 1], [0, 1], color=color)
        set_tip(line, "a <tip> & more")
        axes.set_title(words, color=INK)
    return figure


def test_inline_svg__is_valid_xml_as_wide_as_its_place() -> None:
    root = ElementTree.fromstring(inline_svg(_figure(), "<title>", "a & b"))
    assert root.attrib["viewBox"] == "0 0 216 144"
    assert root.attrib["width"] == "100%"
    assert "height" not in root.attrib
    assert [child.text for child in root[:2]] == ["<title>", "a & b"]
    assert root.attrib["aria-labelledby"].split() == [child.attrib["id"] for child in root[:2]]


def test_inline_svg__has_words_as_text_and_tips_as_titles() -> None:
    svg = inline_svg(_figure(words="$5_bill \x00 \N{SNOWMAN}"), "t", "d")
    root = ElementTree.fromstring(svg)
    texts = [element.text for element in root.iter() if element.tag.endswith("}text")]
    assert "$5_bill   \N{SNOWMAN}" in texts
    tips = [element.text for element in root.iter() if element.tag.endswith("}title")]
    assert tips == ["t", "a <tip> & more"]


def test_inline_svg__has_no_colour_style_or_font_of_its_own() -> None:
    svg = inline_svg(_figure(), "t", "d")
    assert "var(--ink)" in svg
    assert "var(--muted)" in svg
    for found in ("#01", "<style", "font-family", "<metadata", "http://www.w3.org/1999/xlink", "DejaVu"):
        assert found not in svg


def test_inline_svg__another_colour_is_our_own_mistake() -> None:
    with pytest.raises(ValueError, match=r"drawn in #ff0000, expected the page's colours"):
        inline_svg(_figure("#ff0000"), "t", "d")


def test_inline_svg__same_figure_gives_same_text_whatever_the_settings() -> None:
    first = inline_svg(_figure(), "t", "d")
    with mpl.rc_context({"font.size": 30, "lines.linewidth": 9, "svg.fonttype": "path"}):
        assert inline_svg(_figure(), "t", "d") == first


def test_inline_svg__ids_of_two_charts_differ() -> None:
    ids = [re.findall(r' id="([^"]+)"', inline_svg(_figure(), title, "d")) for title in ("one", "two")]
    assert ids[0]
    assert not set(ids[0]) & set(ids[1])
    for svg in (inline_svg(_figure(), "one", "d"),):
        used = re.findall(r'(?:url\(|href=")#([^)"]+)', svg)
        assert set(used) <= set(re.findall(r' id="([^"]+)"', svg))


def test_series_color__begins_again_after_the_last() -> None:
    assert series_color(SERIES_COLORS) == series_color(0)
    assert len({series_color(number) for number in range(SERIES_COLORS)}) == SERIES_COLORS


@pytest.mark.parametrize(
    ("data", "short"),
    [
        ("M 1.2345 2 L 3 4.96 ", "M1.2 2L3 5"),
        ("M 0 0 L 1 1 L 2 2 L 3 3", "M0 0L1 1 2 2 3 3"),
        ("M 10 -0.04 L 10 -5 z", "M10 0L10-5z"),
        # A dot, and a step too small to be seen.
        ("M 3 4 L 3 4 M 5 6 L 5 6", "M3 4h0M5 6h0"),
        ("M 3 4 L 3.01 4.01 L 5 5", "M3 4h0L5 5"),
        ("M 0 0 Q 1.26 1 2 2 Q 3 3 4 4", "M0 0Q1.3 1 2 2Q3 3 4 4"),
        # A line that follows a curve is no part of it, and one that follows a repeated line is.
        ("M 0 0 C 1 1 2 2 3 3 L 4 4 L 5 5", "M0 0C1 1 2 2 3 3L4 4 5 5"),
        ("M 0.5 1e-05", "M.5 0"),
    ],
)
def test_shorten_path__keeps_the_path(data: str, short: str) -> None:
    assert shorten_path(data) == short


@pytest.mark.parametrize(
    ("transform", "short"),
    [
        ("translate(0 0)", ""),
        ("translate(10.123 20.56) scale(0.12345 -0.1)", "translate(10.1 20.6) scale(.1235-.1)"),
        ("rotate(-0 5 5)", ""),
        ("rotate(-90 5.55 5)", "rotate(-90 5.5 5)"),
    ],
)
def test_shorten_transform__drops_what_does_nothing(transform: str, short: str) -> None:
    assert shorten_transform(transform) == short
