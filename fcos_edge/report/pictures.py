"""The pictures that differ most, with the boxes of both sides beside each other.

Boxes without a partner on the other side stand out; the others are faint. Where the pictures themselves are
not at hand, the boxes are drawn on an empty frame.
"""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from markupsafe import Markup

from fcos_edge.detections import Detections
from fcos_edge.draw import draw_detections
from fcos_edge.errors import DataError
from fcos_edge.image import read_image_bgr

MOST_PICTURES = 8
# Two beside each other fill a page; twice that would be four times the bytes for sharper grass.
_WIDTH_PX = 560
_JPEG_QUALITY = 80
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
    paths = _paths(document, data) if data is not None and kept else None
    pairs = []
    for picture, (name, worst) in kept.items():
        image = None if paths is None else _read(paths, worst, str(data))
        sides = tuple(
            _side(worst, which, image, document["bundle"]["classes"]) for which in ("reference", "found")
        )
        also = [other for other, one in ranked if one["picture"] == picture and other != name]
        pairs.append(Pair(worst["file"], name, _words(worst), also, (sides[0], sides[1])))
    return pairs


def _paths(document: Mapping[str, Any], data: Path) -> list[Path]:
    from fcos_edge.train.data.formats import read_pictures

    split = document["data"]["name"].rpartition("/")[2]
    paths = [picture.path for picture in read_pictures(data, split, document["data"]["classes"])]
    if len(paths) != document["data"]["pictures"]:
        raise DataError(
            f"{data}: {len(paths)} pictures in {split}, but the report is of {document['data']['pictures']};"
            " give the data set that it was measured on"
        )
    return paths


def _read(paths: Sequence[Path], worst: Mapping[str, Any], data: str) -> np.ndarray[Any, np.dtype[np.uint8]]:
    path = paths[worst["picture"]]
    if path.name != worst["file"]:
        raise DataError(
            f"{data}: picture {worst['picture']} is {path.name}, but in the report {worst['file']}; give the"
            " data set that it was measured on"
        )
    return read_image_bgr(path)


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
    image: np.ndarray[Any, np.dtype[np.uint8]],
    records: Sequence[Mapping[str, Any]],
    alone: Sequence[int],
    classes: Sequence[str],
    alt: str,
) -> Markup:
    """The picture with its boxes as a JPEG inside the page."""
    height, width = image.shape[:2]
    scale = min(1.0, _WIDTH_PX / width)
    size_wh = (round(width * scale), max(1, round(height * scale)))  # a panorama keeps a row
    if scale < 1:
        image = cv2.resize(image, size_wh, interpolation=cv2.INTER_AREA).astype(np.uint8)
    detections = Detections.unchecked(
        np.array([record["box_xyxy"] for record in records], np.float32).reshape(-1, 4) * np.float32(scale),
        np.array([record["score"] for record in records], np.float32),
        np.array([record["label"] for record in records], np.int64),
    )
    is_alone = np.isin(np.arange(len(records)), list(alone))
    # Where only scores moved, all are shown alike.
    drawn = draw_detections(image, detections, classes, emphasized=is_alone if is_alone.any() else None)
    _, encoded = cv2.imencode(".jpg", drawn, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
    uri = "data:image/jpeg;base64," + base64.b64encode(encoded.tobytes()).decode()
    return Markup('<img src="{}" width="{}" height="{}" alt="{}">').format(uri, *size_wh, alt)


def _frame(
    worst: Mapping[str, Any], records: Sequence[Mapping[str, Any]], alone: Sequence[int], alt: str
) -> Markup:
    """The boxes alone, on an empty frame: of the picture's size, or as large as the boxes of both sides."""
    boxes = [record["box_xyxy"] for side in ("reference", "found") for record in worst[side]]
    height, width = worst.get("size_hw") or (
        max((box[3] for box in boxes), default=1), max((box[2] for box in boxes), default=1)
    )  # fmt: skip
    letter = width / 32
    parts = []
    for place, record in enumerate(records):
        left, top, right, bottom = record["box_xyxy"]
        parts.append(
            Markup('<g class="{}"><rect x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}"/>').format(
                "alone" if place in alone else "box", left, top, right - left, bottom - top
            )
        )
        if place in alone or len(records) <= _MOST_NAMED:
            parts.append(
                Markup('<text x="{:.1f}" y="{:.1f}">{} {:.2f}</text>').format(
                    left + letter / 4, max(top + letter, letter), record["class_name"], record["score"]
                )
            )
        parts.append(Markup("</g>"))
    return Markup(
        '<svg class="frame" viewBox="0 0 {:.0f} {:.0f}" font-size="{:.1f}" role="img" aria-label="{}">'
        "{}</svg>"
    ).format(width, height, letter, alt, Markup("").join(parts))
