"""Read a page as a browser does without scripts: tables, sections, and every exact number."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from html.parser import HTMLParser

_VOID = {"meta", "link", "img", "input", "br", "image"}


@dataclass
class PageReader(HTMLParser):
    """tables: name -> rows of cells, each (text, exact value or None); texts of what stands in `ids`."""

    tables: dict[str, list[list[tuple[str, float | None]]]] = field(default_factory=dict)
    values: list[float] = field(default_factory=list)
    tags: list[str] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    links: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()
        self._table = ""
        self._is_body = False
        self._open: list[str] = []

    def handle_starttag(self, tag: str, attrs: Sequence[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.tags.append(tag)
        if tag not in _VOID:
            self._open.append(tag)
        if values.get("id"):
            self.ids.append(str(values["id"]))
        self.links += [str(values[name]) for name in ("src", "href", "data-for") if values.get(name)]
        exact = values.get("data-value")
        if exact is not None:
            self.values.append(float(exact))
        if tag == "table":
            self._table = str(values.get("id"))
            self.tables[self._table] = []
        elif tag == "tbody":
            self._is_body = True
        elif tag == "tr" and self._is_body:
            self.tables[self._table].append([])
        elif tag in ("td", "th") and self._is_body:
            self.tables[self._table][-1].append(("", None if exact is None else float(exact)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag, f"</{tag}> closes something else"
        if tag == "tbody":
            self._is_body = False

    def handle_startendtag(self, tag: str, attrs: Sequence[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in _VOID:
            self._open.pop()

    def handle_data(self, data: str) -> None:
        if self._is_body and ("td" in self._open or "th" in self._open):
            text, value = self.tables[self._table][-1][-1]
            self.tables[self._table][-1][-1] = ((text + " " + data.strip()).strip(), value)


def read_page(html: str) -> PageReader:
    reader = PageReader()
    reader.feed(html)
    reader.close()
    return reader
