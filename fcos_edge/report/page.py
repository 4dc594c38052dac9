"""One file of HTML or Markdown: rendered from a template, and written whole or not at all.

A page opens without a network: style, script, charts and pictures are in it, and its content security policy
allows nothing else. A file at the place that it is written to is replaced where it is a page of ours.
"""

from __future__ import annotations

import base64
import hashlib
import re
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from fcos_edge import __version__
from fcos_edge.errors import UsageError
from fcos_edge.writing import check_can_write, naming, whole_file

# Stands near the beginning of every page of ours.
MARK = "made by fcos-edge"
_MARK_WITHIN_BYTES = 600
_REMEDY = "name another file"
_STYLES = ("colors.css", "style.css", "charts.css")
# HTML, people's names and numbers of issues.
_ENTITIES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", "@": "&#64;", "#": "&#35;"})


def render(template: str, **values: Any) -> str:
    """The text of templates/<template>; in HTML every value is escaped that is no Markup.

    Raises jinja2.UndefinedError where the template asks for a value that is not given.
    """
    return _environment().get_template(template).render(**values)


def check_page_file(option: str, path: Path) -> None:
    """Raise UsageError where a page cannot go to `path`: before the work, not after it.

    option  what named the file, as "--html"
    """
    with naming(path, _REMEDY):
        if path.exists() or path.is_symlink():
            _check_is_ours(option, path)
    check_can_write(path, option)


def write_page(path: Path, text: str) -> None:
    """Write what `render` made, whole or not at all. Raises UsageError where the disk refuses."""
    with whole_file(path, _REMEDY) as file:
        file.write(text)


def escape_markdown(text: str) -> str:
    """Text that Markdown shows as it is, on one line, in a table's cell too."""
    text = re.sub(r"([\\`*_{}\[\]|~])", r"\\\1", " ".join(text.split()))
    return text.translate(_ENTITIES)


def fence(line: str) -> str:
    """A command line as a block of code, which nothing in it can end."""
    ticks = "`" * max(3, 1 + max(map(len, re.findall("`+", line)), default=0))
    return f"{ticks}sh\n{line}\n{ticks}"


def _check_is_ours(option: str, path: Path) -> None:
    if path.is_file():
        with path.open("rb") as file:
            if MARK.encode() in file.read(_MARK_WITHIN_BYTES):
                return
    raise UsageError(f"{option} {path}: is there already and no page of ours; {_REMEDY}, or move this one")


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("fcos_edge.report"),
        # By the name's end: Markdown is escaped where its template says so.
        autoescape=lambda name: name is not None and name.endswith(".html.j2"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    style = "".join(_source(environment, name) for name in _STYLES)
    script = _source(environment, "page.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    environment.filters |= {"md": escape_markdown, "fenced": fence}
    environment.globals |= {
        "mark": MARK,
        "version": __version__,
        "style": Markup(style),
        "script": Markup(script),
        "script_hash": f"sha256-{digest}",
    }
    return environment


def _source(environment: Environment, name: str) -> str:
    assert environment.loader is not None
    return environment.loader.get_source(environment, name)[0]
