"""A matplotlib figure as SVG inside a page: in the page's own colours and font, small, the same every time.

Figures are drawn in stand-in colours, one for each of the page's variables. They become `var(--ink)` and so
on, so that one drawing serves light and dark without any script. Text stays text: it takes the page's font,
can be found and selected, and a screen reader has title and description.

What an artist's `tip` says is shown by the browser when the pointer rests on it.
"""

from __future__ import annotations

import hashlib
import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from markupsafe import Markup

from fcos_edge.report.path_data import shorten_path, shorten_transform

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.figure import Figure

SERIES_COLORS = 8
# Never black: matplotlib leaves black out of what it writes.
_STAND_INS = {
    name: f"#0102{number:02x}"
    for number, name in enumerate(
        ["ink", "muted", "grid", "surface", *(f"series-{n + 1}" for n in range(SERIES_COLORS))], 3
    )
}
INK, MUTED, GRID, SURFACE = (_STAND_INS[name] for name in ("ink", "muted", "grid", "surface"))
_VARIABLES = {color: f"var(--{name})" for name, color in _STAND_INS.items()}
_TIP = "tip: "
# What the page's own style says, what is the default, or what a browser has no use for.
_DROPPED = {"font-family", "font-variant", "font-stretch", "stroke-miterlimit"}
_DEFAULTS = {
    "opacity": "1", "fill-opacity": "1", "stroke-opacity": "1", "font-weight": "400", "font-style": "normal",
    "stroke-dashoffset": "0", "stroke-linecap": "butt", "stroke-linejoin": "round", "text-anchor": "start",
}  # fmt: skip
_SHORTHAND = re.compile(r"^(?P<rest>.*?)(?P<size>[\d.]+)px\b.*$")
_HARD_COLOR = re.compile(r"#[0-9a-fA-F]{3,8}\b|\brgba?\(")
# XML has no place for these.
_NOT_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")


def series_color(number: int) -> str:
    """The stand-in of the page's series colour `number`, from 0; after the last the first again."""
    return _STAND_INS[f"series-{number % SERIES_COLORS + 1}"]


def plain(text: str) -> str:
    """Text that every SVG can hold, on one line."""
    return " ".join(_NOT_XML.sub(" ", text).split())


def set_tip(artist: Artist, text: str) -> None:
    """Say `text` when the pointer rests on `artist`."""
    artist.set_gid(_TIP + plain(text))


@contextmanager
def own_settings() -> Iterator[None]:
    """Draw in here: as on every machine, whatever the user's matplotlibrc says."""
    import matplotlib as mpl

    with mpl.rc_context(), warnings.catch_warnings():
        mpl.rcdefaults()
        mpl.rcParams.update({
            "svg.fonttype": "none", "svg.hashsalt": "fcos-edge", "svg.image_inline": True,
            "font.size": 12.5, "path.simplify": False,
            # A class may be called "$5_bill".
            "text.parse_math": False, "text.usetex": False, "axes.unicode_minus": False,
            "axes.formatter.useoffset": False, "axes.formatter.limits": (-4, 7),
        })  # fmt: skip
        # Measured with a font that lacks it; the page's font may have it.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        yield


def inline_svg(figure: Figure, title: str, description: str) -> Markup:
    """The figure as one `<svg>` element that is as wide as its place in the page.

    Ids are unique in a page as long as no two of its charts are the same in drawing and words.
    Raises ValueError where something was drawn in another colour than the page's.
    """
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    FigureCanvasSVG(figure)
    written = io.StringIO()
    with own_settings():
        # Without date and version the same data gives the same text.
        figure.savefig(written, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    root = ElementTree.fromstring(_NOT_XML.sub(" ", written.getvalue()))
    for element in root.iter():
        _strip_names(element)
    used = set(re.findall(r'(?:url\(|href=")#([^)"]+)', ElementTree.tostring(root, encoding="unicode")))
    _clean(root, used)
    words = plain(title), plain(description)
    return Markup(_finish(root, *words))


def _strip_names(element: ElementTree.Element) -> None:
    """`{http://...}href` -> `href`: inside HTML there is one namespace."""
    element.tag = element.tag.rpartition("}")[2]
    for name in [name for name in element.attrib if "}" in name]:
        element.set(name.rpartition("}")[2], element.attrib.pop(name))


def _clean(element: ElementTree.Element, used: set[str]) -> None:
    """Drop what nothing refers to, and groups that hold nothing but their children."""
    kept: list[ElementTree.Element] = []
    for child in element:
        if child.tag in ("metadata", "style"):
            continue
        _clean(child, used)
        name = child.get("id", "")
        if child.tag == "g" and name.startswith(_TIP):
            tip = ElementTree.Element("title")
            tip.text = name.removeprefix(_TIP)
            child.insert(0, tip)
        if name not in used:
            child.attrib.pop("id", None)
        if child.tag in ("g", "defs") and not len(child):
            continue
        if child.tag == "g" and not child.attrib and child[0].tag != "title":
            kept.extend(child)
        else:
            kept.append(child)
    element[:] = kept
    element.text = element.text if element.tag in ("text", "tspan", "title") else None
    element.tail = None
    if element.tag != "svg":
        _shorten(element)


def _shorten(element: ElementTree.Element) -> None:
    """Numbers to a tenth of a pixel, styles without defaults, colours that are the page's."""
    for name, value in element.attrib.items():
        if name == "d":
            # Markers and clips are defined around 0: there a tenth would be seen.
            digits = 2 if element.get("id") else 1
            element.set(name, shorten_path(value, digits))
        elif name == "transform":
            element.set(name, shorten_transform(value))
        elif name in ("x", "y", "width", "height"):
            element.set(name, f"{round(float(value), 1):g}")
        elif name == "style":
            element.set(name, _short_style(value))
    for name in ("style", "transform"):
        if element.get(name) == "":
            del element.attrib[name]
    if element.tag == "use":
        # Beside x and y.
        element.attrib.pop("width", None)


def _short_style(style: str) -> str:
    short = []
    for part in style.split(";"):
        name, _, value = (text.strip() for text in part.partition(":"))
        if name == "font" and (found := _SHORTHAND.match(value)):
            weight = found["rest"].strip()
            short += [f"font-weight:{weight}"] * (weight in ("bold", "600", "700"))
            name, value = "font-size", f"{found['size']}px"
        if not name or name in _DROPPED or _DEFAULTS.get(name) == value:
            continue
        short.append(f"{name}:{_VARIABLES.get(value, value)}")
    return ";".join(short)


def _finish(root: ElementTree.Element, title: str, description: str) -> str:
    """The whole element, with its own ids and words."""
    body = "".join(ElementTree.tostring(child, encoding="unicode") for child in root)
    if found := _HARD_COLOR.search(re.sub(r'(?:href="#|url\(#)[^")]*', "", re.sub(r">[^<]+<", "><", body))):
        raise ValueError(f"chart {title!r}: drawn in {found[0]}, expected the page's colours")
    mark = "c" + hashlib.sha256(f"{title}\0{description}\0{body}".encode()).hexdigest()[:10]
    for number, name in enumerate(re.findall(r' id="([^"]+)"', body)):
        body = re.sub(rf'(id="|href="#|url\(#){re.escape(name)}(?=["\)])', rf"\g<1>{mark}-{number}", body)
    words = "".join(
        f'<{tag} id="{mark}-{tag}">{Markup.escape(text)}</{tag}>'
        for tag, text in (("title", title), ("desc", description))
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{root.attrib["viewBox"]}" width="100%" role="img"'
        f' aria-labelledby="{mark}-title {mark}-desc" stroke-linejoin="round">{words}{body}</svg>'
    )
