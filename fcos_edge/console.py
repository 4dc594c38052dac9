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


class Progress:
    """Steps of long work and the time that is left: a bar on a terminal, now and then a line elsewhere."""

    def __init__(self, what: str, total: int, first: int = 0) -> None:
        self.what, self.total, self.first = what, total, first
        self._bar: Any = None
        if sys.stderr.isatty():
            from tqdm import tqdm

            self._bar = tqdm(desc=what, total=total, initial=first, leave=False, file=sys.stderr)
        self._began = self._said = time.monotonic()

    def advance(self, done: int, more: str = "") -> None:
        """`done` of `total` are done; `more` says how it goes."""
        if self._bar is not None:
            self._bar.set_postfix_str(more, refresh=False)
            self._bar.update(done - self._bar.n)
            return
        now = time.monotonic()
        if now - self._said >= _SECONDS_BETWEEN_LINES and done > self.first:
            left = (now - self._began) / (done - self.first) * (self.total - done)
            note(f"{self.what}: {done} of {self.total}, {_clock(left)} left, {more}".rstrip(", "))
            self._said = now

    def say(self, line: str) -> None:
        """A line for the person at the terminal, above the bar."""
        if self._bar is not None:
            self._bar.write(line, file=sys.stderr)
        else:
            note(line)

    def close(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.close()


def _clock(seconds: float) -> str:
    """1:02:03, or 2:03."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


class _Number(str):
    """A cell that came from a number."""


def _cell(value: object) -> str:
    if isinstance(value, float):
        return _Number(f"{value:.3g}")
    if isinstance(value, int) and not isinstance(value, bool):
        return _Number(f"{value:,}")
    return "" if value is None else str(value)
