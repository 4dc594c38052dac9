"""What a verb prints: results on stdout, everything else on stderr."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeVar

Item = TypeVar("Item")
# A log file wants to know that the work goes on, not every step of it.
_SECONDS_BETWEEN_LINES = 10.0


def note(message: str) -> None:
    """A line for the person at the terminal."""
    print(message, file=sys.stderr, flush=True)


def print_json(document: Any) -> None:
    """The result of a verb with `--json`: one document."""
    print(json.dumps(document, indent=1, sort_keys=True, allow_nan=False))


def print_table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Columns as wide as their widest cell; numbers to the right, floats with three significant digits."""
    table = [list(map(_cell, row)) for row in rows]
    is_number = [
        all(isinstance(cell, _Number) for cell in column) for column in zip(*table, strict=True)
    ] or [False] * len(header)  # fmt: skip
    widths = [max(map(len, column)) for column in zip(header, *table, strict=True)]
    for row in (header, *table):
        cells = [
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(row, widths, is_number, strict=True)
        ]
        print("  ".join(cells).rstrip())


def track(items: Iterable[Item], what: str, total: int | None = None) -> Iterator[Item]:
    """The items, with a progress bar where stderr is a terminal and now and then a line elsewhere."""
    if sys.stderr.isatty():
        from tqdm import tqdm

        yield from tqdm(items, desc=what, total=total, leave=False, file=sys.stderr)
        return
    said = time.monotonic()
    for count, item in enumerate(items, 1):
        yield item
        if time.monotonic() - said >= _SECONDS_BETWEEN_LINES:
            note(f"{what}: {count}" if total is None else f"{what}: {count} of {total}")
            said = time.monotonic()


class _Number(str):
    """A cell that came from a number."""


def _cell(value: object) -> str:
    if isinstance(value, float):
        return _Number(f"{value:.3g}")
    if isinstance(value, int) and not isinstance(value, bool):
        return _Number(f"{value:,}")
    return "" if value is None else str(value)
