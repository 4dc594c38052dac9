"""SVG path data and transforms in fewer characters: a chart's numbers need a tenth of a pixel."""

from __future__ import annotations

import re

_COMMAND = re.compile(r"([A-DF-Za-df-z])([^A-DF-Za-df-z]*)")  # e is of a number
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?")


def shorten_path(data: str, digits: int = 1) -> str:
    """The same path with coordinates of so many digits after the point.

    A line to where the pen is becomes `h0`: with round ends that is a dot.
    """
    short: list[str] = []
    pen: list[str] = []
    for command, text in _COMMAND.findall(data):
        numbers = [_number(found, digits) for found in _NUMBER.findall(text)]
        if command == "L" and numbers == pen:
            if short[-1][0] == "M":
                short.append("h0")
            continue
        # After L the letter needs no repeating.
        is_repeated = command == "L" and short and short[-1][0] in "L "
        short.append((" " if is_repeated else command) + _joined(numbers))
        pen = numbers[-2:]
    return "".join(short)


def shorten_transform(transform: str) -> str:
    """Shifts to a tenth of a pixel, nothing for a shift or turn by zero; factors keep four digits."""
    short = []
    for name, text in re.findall(r"(\w+)\(([^)]*)\)", transform):
        numbers = [float(found) for found in _NUMBER.findall(text)]
        if name in ("translate", "rotate") and not any(numbers[:1] if name == "rotate" else numbers):
            continue
        digits = 1 if name in ("translate", "rotate") else 4
        short.append(f"{name}({_joined([_number(str(number), digits) for number in numbers])})")
    return " ".join(short)


def _number(text: str, digits: int) -> str:
    """-0.50 -> -.5"""
    number = f"{round(float(text), digits):.{digits}f}".rstrip("0").rstrip(".")
    number = re.sub(r"^(-?)0\.", r"\1.", number)
    return "0" if number in ("-0", "", "-") else number


def _joined(numbers: list[str]) -> str:
    """With a space only where two numbers would run into each other."""
    return "".join(number if i == 0 or number[0] == "-" else f" {number}" for i, number in enumerate(numbers))
