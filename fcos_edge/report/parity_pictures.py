"""The pictures that differ most, with the boxes of both sides beside each other.

Boxes without a partner on the other side stand out; the others are faint. Where the pictures themselves are
not at hand, the boxes are drawn on an empty frame.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from fcos_edge.detections import Detections
from fcos_edge.draw import draw_detections
from fcos_edge.report.pictures import (
    MOST_PICTURES,
    MeasuredPictures,
    frame,
    frame_size_wh,
    jpeg_uri,
    rect,
    shrink,
)
from fcos_edge.runtime import UInt8Array

# Of more boxes the names would hide each other.
_MOST_NAMED = 6


@dataclass(frozen=True)
class Side:
    """One half: the picture as an element, and what is on it in words."""

    name: str
    figure: Markup
    said: str


@dataclass(frozen=True)
class Pair:
    """One picture.

    also  other artifacts in which it is among the worst
    """

    file: str
    artifact: str
    words: str
    also: Sequence[str]
    sides: tuple[Side, Side]


def worst_pairs(document: Mapping[str, Any], data: Path | None) -> list[Pair]:
    """The worst pictures of all artifacts, each once.

    data  the data set that was measured on; None: no picture is shown

    Raises DataError where the data set is another.
    """
    ranked = sorted(
        ((one["name"], worst) for one in document["artifacts"] for worst in one["worst_pictures"]),
        key=lambda row: (-row[1]["unmatched"], -row[1]["drift"], row[1]["picture"]),
    )
    chosen: dict[int, tuple[str, Mapping[str, Any]]] = {}
    for name, worst in ranked:
        chosen.setdefault(worst["picture"], (name, worst))
    kept = dict(list(chosen.items())[:MOST_PICTURES])
    pictures = _pictures(document, data) if data is not None and kept else None
    pairs = []
    for picture, (name, worst) in kept.items():
        image = None if pictures is None else pictures.read(picture, worst["file"])
        sides = tuple(
            _side(worst, which, image, document["bundle"]["classes"]) for which in ("reference", "found")
        )
        also = [other for other, one in ranked if one["picture"] == picture and other != name]
        pairs.append(Pair(worst["file"], name, _words(worst), also, (sides[0], sides[1])))
    return pairs


def _pictures(document: Mapping[str, Any], data: Path) -> MeasuredPictures:
    measured = document["data"]
    split = measured["name"].rpartition("/")[2]
    return MeasuredPictures.of(data, split, measured["classes"], measured["pictures"])


def _words(worst: Mapping[str, Any]) -> str:
    lost, made_up = worst["reference_unmatched"], worst["found_unmatched"]
    alone = f"{lost} of the reference and {made_up} of the artifact without a partner"
    return f"{alone}; largest change of a score {worst['drift']:.3f}"


def _side(worst: Mapping[str, Any], which: str, image: Any, classes: Sequence[str]) -> Side:
    records = worst[which]
    alone = worst.get(f"{which}_alone", [])
    said = _said(records, alone)
    name = "reference" if which == "reference" else "artifact"
    alt = f"{worst['file']}, {name}: {said or 'nothing found'}"
    figure = (
        _frame(worst, records, alone, alt) if image is None else _drawn(image, records, alone, classes, alt)
    )
    return Side(name, figure, said or "nothing found")


def _said(records: Sequence[Mapping[str, Any]], alone: Sequence[int]) -> str:
    """`12 person, 1 car; without a partner: person 0.51`"""
    counts = Counter(record["class_name"] for record in records)
    said = ", ".join(f"{count} {name}" for name, count in counts.items())
    if alone:
        named = (f"{records[place]['class_name']} {records[place]['score']:.2f}" for place in alone)
        said += f"; without a partner: {', '.join(named)}"
    return said


def _drawn(
    image: UInt8Array,
    records: Sequence[Mapping[str, Any]],
    alone: Sequence[int],
    classes: Sequence[str],
    alt: str,
) -> Markup:
    """The picture with its boxes as a JPEG inside the page."""
    image, scale = shrink(image)
    detections = Detections.unchecked(
        np.array([record["box_xyxy"] for record in records], np.float32).reshape(-1, 4) * np.float32(scale),
        np.array([record["score"] for record in records], np.float32),
        np.array([record["label"] for record in records], np.int64),
    )
    is_alone = np.isin(np.arange(len(records)), list(alone))
    # Where only scores moved, all are shown alike.
    drawn = draw_detections(image, detections, classes, emphasized=is_alone if is_alone.any() else None)
    height, width = drawn.shape[:2]
    return Markup('<img src="{}" width="{}" height="{}" alt="{}">').format(
        jpeg_uri(drawn), width, height, alt
    )


def _frame(
    worst: Mapping[str, Any], records: Sequence[Mapping[str, Any]], alone: Sequence[int], alt: str
) -> Markup:
    """The boxes alone, on an empty frame: of the picture's size, or as large as the boxes of both sides."""
    size_wh = frame_size_wh(worst.get("size_hw"), [*worst["reference"], *worst["found"]])
    letter = size_wh[0] / 32
    parts = []
    for place, record in enumerate(records):
        parts.append(Markup('<g class="{}">').format("alone" if place in alone else "box"))
        parts.append(rect(record["box_xyxy"]))
        if place in alone or len(records) <= _MOST_NAMED:
            left, top = record["box_xyxy"][:2]
            parts.append(
                Markup('<text x="{:.1f}" y="{:.1f}">{} {:.2f}</text>').format(
                    left + letter / 4, max(top + letter, letter), record["class_name"], record["score"]
                )
            )
        parts.append(Markup("</g>"))
    return frame(size_wh, letter, alt, parts)
