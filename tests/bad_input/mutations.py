"""Spoil a JSON document in the ways that disks, editors and hostile people do.

A mutation starts from a valid document, because random text fails at its first character: one to three
changes of structure, then in a third of all cases changes of the written bytes.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from random import Random
from typing import Any

# Stands for JSON text that `json.dumps` cannot write; replaced once the rest is written.
_RAW = "raw text %d"
_RAW_TEXTS = (
    "1e400",  # infinite once read
    "-0.0",
    "NaN",
    "-Infinity",
    "9" * 5000,  # more digits than Python converts
    "1" + "0" * 400,  # an integer, and no float
    "0.1e-400",
    "[" * 500 + "]" * 500,
    "[" * 100_000 + "]" * 100_000,  # deeper than any stack
    '{"a":' * 200 + "1" + "}" * 200,
    '{"name":1,"name":2}',
    "1_000",
    "\\u0031",
    "'single'",
    "",
)
_ODD_VALUES: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2**31, 2**53 + 1, 2**63, 2**64, -(2**63), 0.5, -0.5, 1e-320, 1e308, 255, 256,
    "", " ", "a", "\n", "line\nbreak", "\u2028", "\x85", "\0", "..", "../x", "/etc/passwd", "C:x", "\ud800",
    "\N{ARABIC-INDIC DIGIT ONE}.\N{ARABIC-INDIC DIGIT ZERO}", "\N{SUPERSCRIPT TWO}", "1.0", "2.0", "1.00000",
    "x" * 201, "long " * 2000, "\N{COMBINING ACUTE ACCENT}" * 500, "\N{RIGHT-TO-LEFT OVERRIDE}", "0" * 64,
    [], {}, [[]], [{}], {"": ""}, [None] * 3, [True, 8], [0] * 3, list(range(50)), {"x" * 5000: 1},
    {"a\nb": 1},
)  # fmt: skip
_ODD_NUMBERS: tuple[Callable[[Any], Any], ...] = (
    lambda number: -number,
    lambda number: number + 1,
    lambda number: number * 32,
    lambda number: number * 10**30,
    lambda number: float(number),
    lambda number: str(number),
    lambda number: bool(number),
    lambda number: [number],
    lambda number: number / 3,
)
_ODD_TEXTS: tuple[Callable[[str], Any], ...] = (
    lambda text: text + "\n",
    lambda text: text[:-1],
    lambda text: text * 2,
    lambda text: text.upper(),
    lambda text: text[:9] * 1000,
    lambda text: "../" + text,
    lambda text: text + "\ud800",
    lambda text: list(text),
    lambda text: {text: text},
    lambda text: text.encode("utf-8", "surrogatepass").hex(),
)
_ODD_BYTES = (
    b'"',
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b":",
    b"\\",
    b"\\u",
    b"\0",
    b"\xff",
    b"\xed\xa0\x80",
    b"e999",
    b"\n",
)


def mutate(document: Any, random: Random) -> bytes:
    """The JSON text of `document` (JSON values, left as they are) with something wrong, most of the time."""
    document = copy.deepcopy(document)
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        document = _change(document, random)
    text = json.dumps(document, ensure_ascii=random.random() < 0.5, indent=random.choice((None, 1)))
    for index, raw in enumerate(_RAW_TEXTS):
        text = text.replace(f'"{_RAW % index}"', raw)
    content = text.encode("utf-8", "surrogatepass")
    if random.random() < 0.3:
        for _ in range(random.randint(1, 3)):
            content = _change_bytes(content, random)
    return content


def _change(document: Any, random: Random) -> Any:
    """One value or key of `document` changed, anywhere in it."""
    places = list(_places(document))
    if not places:
        return copy.deepcopy(random.choice(_ODD_VALUES))
    # A small share: where it always hit the root, nothing else would be reached.
    if random.random() < 0.02:
        return copy.deepcopy(random.choice(([document], {"a": document}, *_ODD_VALUES)))
    parent, key = random.choice(places)
    value = parent[key]
    match random.randrange(8):
        case 0:
            del parent[key]
        case 1:
            parent[key] = copy.deepcopy(random.choice(_ODD_VALUES))
        case 2:
            parent[key] = _RAW % random.randrange(len(_RAW_TEXTS))
        case 3:
            other, other_key = random.choice(places)
            if not _holds(value, other) and not _holds(other[other_key], parent):
                parent[key], other[other_key] = other[other_key], value
        case 4:
            parent[key] = random.choice(([value], {"a": value}, [value] * 2, [value] * 10))
        case 5 if isinstance(parent, dict):
            parent[random.choice(("", "x" * 5000, "a\nb", "\ud800", f"{key} ", "version"))] = value
        case 5 | 6 if isinstance(parent, list):
            parent.extend([value] * random.choice((1, 2, 30)))
        case 6:
            parent[key] = list(value) if isinstance(value, dict) else {"0": value}
        case _:
            parent[key] = _odd(value, random)
    return document


def _odd(value: Any, random: Random) -> Any:
    """Another value of much the same kind."""
    if isinstance(value, int | float):
        try:
            return random.choice(_ODD_NUMBERS)(value)
        except OverflowError:
            return value
    if isinstance(value, str):
        return random.choice(_ODD_TEXTS)(value)
    return copy.deepcopy(random.choice(_ODD_VALUES))


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """(parent, key) of every value inside."""
    keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in keys:
        yield value, key
        yield from _places(value[key])


def _holds(value: Any, part: Any) -> bool:
    return value is part or any(parent[key] is part for parent, key in _places(value))


def _change_bytes(content: bytes, random: Random) -> bytes:
    at = random.randrange(len(content) + 1)
    match random.randrange(5):
        case 0:  # cut short
            return content[:at]
        case 1:  # a hole
            return content[:at] + content[at + random.choice((1, 2, 10)) :]
        case 2:
            return content[:at] + random.choice(_ODD_BYTES) + content[at:]
        case 3:  # twice the same part: keys that stand twice
            return content[: at + random.choice((1, 20, 200))] + content[at:]
        case _:
            flipped = bytes([content[at] ^ 1 << random.randrange(8)]) if at < len(content) else b""
            return content[:at] + flipped + content[at + 1 :]
