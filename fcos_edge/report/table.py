"""Tables and tiles of a page, as values that the templates draw.

A number is shown rounded and carries its exact value besides, by which the page sorts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Tone = Literal["", "good", "bad", "warn"]
# What stands where there is no figure.
NOTHING = "–"
# Tables with more columns than this are shown as cards on a phone.
_MOST_NARROW_COLUMNS = 4


@dataclass(frozen=True)
class Column:
    """A column: its title, its unit, and what it means in one sentence.

    is_filter  its values can be chosen from a list above the table
    """

    title: str
    unit: str = ""
    meaning: str = ""
    is_number: bool = True
    is_filter: bool = False


@dataclass(frozen=True)
class Cell:
    """What a cell shows.

    value  exact figure of a number, None where there is none; of text the text is the value
    note   smaller, below the text
    tone   good, bad and warn are coloured, and the text says so too
    """

    text: str
    value: float | None = None
    note: str = ""
    tone: Tone = ""


@dataclass(frozen=True)
class Table:
    """Rows of cells under columns; the first column names the row.

    name  unique in the page: letters, digits and "-"
    """

    name: str
    caption: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]]

    def __post_init__(self) -> None:
        if any(len(row) != len(self.columns) for row in self.rows):
            raise ValueError(f"table {self.name}: a row has not {len(self.columns)} cells")

    @property
    def is_wide(self) -> bool:
        return len(self.columns) > _MOST_NARROW_COLUMNS

    def choices(self, index: int) -> list[str]:
        """The texts of a column, each once, in order."""
        return sorted({row[index].text for row in self.rows})


@dataclass(frozen=True)
class Tile:
    """One figure that matters: `98.8 %`, what it is, and what stands behind it."""

    label: str
    text: str
    note: str = ""
    value: float | None = None
    tone: Tone = ""


@dataclass(frozen=True)
class Command:
    """A command line, and what it does."""

    why: str
    line: str


@dataclass(frozen=True)
class Section:
    """A part of the page that the list at its top leads to."""

    name: str
    title: str


def number(value: float | None, form: str = "#.3g", note: str = "", tone: Tone = "") -> Cell:
    """A cell of a number; None, and COCO's -1 where there is nothing to measure, are passed as None.

    form  as of `format`; "#.3g" keeps zeros at the end, so that figures of a column are of equal precision,
          and has no exponent for thousands
    """
    if value is not None and form == "#.3g" and 1000 <= abs(value) < 1e9:
        form = ",.0f"
    return Cell(NOTHING if value is None else _minus(format(value, form)).rstrip("."), value, note, tone)


def signed(value: float, digits: int = 4) -> str:
    """`+0.0012`, `−0.0030`, and nothing but zeros without a sign."""
    shown = format(value, f"+.{digits}f")
    return _minus(shown) if float(shown) else shown[1:]


def change(value: float | None, interval: Sequence[float] | None = None, tone: Tone = "") -> Cell:
    """A cell of a difference, with its 95 % interval as the note."""
    note = "" if interval is None else "{} to {}".format(*map(signed, interval))
    return Cell(NOTHING if value is None else signed(value), value, note, tone)


def text(value: str, note: str = "", tone: Tone = "") -> Cell:
    return Cell(value, None, note, tone)


def _minus(shown: str) -> str:
    """With a minus as wide as a plus, so that figures stand under each other."""
    return shown.replace("-", "−") if "e" not in shown else shown
