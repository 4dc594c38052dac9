"""What `eval` says of mistakes: how often for which reason, and the worst pictures with their boxes.

Missed boxes are dashed and numbered, false alarms solid and lettered, hits thin: nothing is told by colour
alone. The words beneath a picture use the same numbers and letters.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from string import ascii_uppercase
from typing import Any

from markupsafe import Markup

from fcos_edge.label_places import Rect, Wanted, place_labels
from fcos_edge.report.pictures import MeasuredPictures, frame, frame_size_wh, jpeg_uri, rect, shrink
from fcos_edge.report.table import Cell, Column, Table, text

Document = Mapping[str, Any]
Record = Mapping[str, Any]
# Kind -> the document's key, and what one of them is called.
_KEYS = {"missed": "misses", "alarm": "false_alarms"}
# Of more boxes the signs and the words would hide what matters.
_MOST_SIGNS = 6
# As large beneath a picture as in it, on a phone 11 pixels.
_LETTERS_PER_SIDE = 32
_SIGN_LETTERS = 1.35  # the side of a sign's square
_MISS_MEANINGS = {
    "low score": "found, with a score below the threshold of the class",
    "shared": "the detection on it is the one of another box of the class",
    "wrong class": "found as another class",
    "badly placed": "a detection of the class has IoU 0.1 to 0.5 with it",
    "unseen": "none of these: nothing is found there",
}
_ALARM_MEANINGS = {
    "badly placed": "IoU 0.1 to 0.5 with a labelled box of the class",
    "duplicate": "IoU 0.5 or more with a labelled box of the class, which a better detection has",
    "wrong class": "IoU 0.5 or more with a labelled box of another class",
    "both": "IoU 0.1 to 0.5 with a labelled box of another class",
    "background": "none of these: nothing is labelled there",
}


@dataclass(frozen=True)
class Mark:
    """A missed box or a false alarm: the sign that it has in the picture, and what is said of it."""

    sign: Markup
    what: str
    why: str


@dataclass(frozen=True)
class Shown:
    """One picture. rest: what has no sign, in words"""

    file: str
    figure: Markup
    marks: Sequence[Mark]
    rest: str


def worst_pictures(document: Document, data: Path | None) -> dict[str, list[Shown]]:
    """ "missed" and "alarms": the pictures of each list, the worst first.

    data  the data set that was measured on; None: no picture is shown

    Raises DataError where the data set is another.
    """
    lists = {"missed": document.get("worst_misses", []), "alarms": document.get("worst_false_alarms", [])}
    pictures = None
    if data is not None and any(lists.values()):
        classes = list(document["classes"])
        pictures = MeasuredPictures.of(data, document["split"], classes, document["pictures"])
    thresholds = {name: row["threshold"] for name, row in document["classes"].items()}
    return {name: [_show(worst, pictures, thresholds) for worst in worsts] for name, worsts in lists.items()}


def reason_tables(document: Document) -> list[Table]:
    """How many misses and false alarms of each class have which reason; nothing of a file of 1.0."""
    named = sorted(document["classes"].items(), key=lambda row: (-row[1]["boxes"], row[0]))
    tables = []
    for key, name, title, meanings in (
        ("misses", "misses-table", "missed", _MISS_MEANINGS),
        ("false_alarms", "alarms-table", "false alarms", _ALARM_MEANINGS),
    ):
        rows = [
            [text(of), _counted(sum(row[key].values())), *(_counted(row[key][reason]) for reason in meanings)]
            for of, row in named
            if sum(row.get(key, {}).values())
        ]
        if rows:
            columns = [Column("class", is_number=False), Column(title)]
            columns += [Column(reason, meaning=meaning) for reason, meaning in meanings.items()]
            caption = "; ".join(f"{reason}: {meaning}" for reason, meaning in meanings.items())
            tables.append(Table(name, f"{caption[0].upper()}{caption[1:]}.", columns, rows))
    return tables


def _counted(count: int) -> Cell:
    """Nothing for none: few reasons are many, and on a phone each figure is a line."""
    return Cell(f"{count:,}" if count else "", count)


def reasons_in_words(document: Document) -> str:
    """`651 missed boxes: 51 % unseen, 41 % low score; ...`: the two most frequent reasons of each kind."""
    said = []
    for key, name in (("misses", "missed boxes"), ("false_alarms", "false alarms")):
        counts: Counter[str] = Counter()
        for row in document["classes"].values():
            counts.update(row.get(key, {}))
        whole = counts.total()
        most = sorted(counts.items(), key=lambda one: (-one[1], one[0]))[:2]
        parts = [f"{100 * count / whole:.0f} % {reason}" for reason, count in most if count]
        if parts:
            said.append(f"{whole:,} {name}: {', '.join(parts)}")
    return "; ".join(said) + "." * bool(said)


def sign(kind: str, letters: str = "") -> Markup:
    """What marks a box of a kind, beside words; without letters it is a piece of the box's line."""
    side = 20
    return Markup(
        '<svg class="sign frame" viewBox="0 0 {0} {0}" font-size="13" aria-hidden="true">{1}</svg>'
    ).format(side, _sign(kind, letters, (2, 2, side - 2, side - 2)))


def _show(worst: Record, pictures: MeasuredPictures | None, thresholds: Mapping[str, float]) -> Shown:
    signs = {
        "missed": [str(place + 1) for place in range(_MOST_SIGNS)],
        "alarm": list(ascii_uppercase[:_MOST_SIGNS]),
    }
    marks, left_out = [], []
    for kind, key in _KEYS.items():
        for record, letters in zip(worst[key], signs[kind], strict=False):
            what = _miss(record) if kind == "missed" else _alarm(record)
            why = (_why_missed if kind == "missed" else _why_alarm)(record, thresholds)
            marks.append(Mark(sign(kind, letters), what, why))
        if more := worst[key][_MOST_SIGNS:]:
            left_out.append(_more(kind, more))
    hits = len(worst["hits"])
    left_out.append(f"{hits} hit{'s' * (hits != 1)}")
    alt = (
        f"{worst['file']}: {len(worst['misses'])} missed, {len(worst['false_alarms'])} false alarms,"
        f" {hits} hits"
    )
    return Shown(worst["file"], _draw(worst, pictures, signs, alt), marks, ", ".join(left_out) + ".")


def _more(kind: str, records: Sequence[Record]) -> str:
    if kind == "alarm":
        return f"{len(records)} more false alarms, at most {records[0]['score']:.2f}"
    return f"{len(records)} more missed, at most {_size(records[0])}"


def _size(record: Record) -> str:
    left, top, right, bottom = record["box_xyxy"]
    return f"{right - left:.0f} × {bottom - top:.0f} px"


def _miss(record: Record) -> str:
    return f"missed {record['class_name']}, {_size(record)}"


def _alarm(record: Record) -> str:
    return f"{record['class_name']} {record['score']:.2f}"


def _why_missed(record: Record, thresholds: Mapping[str, float]) -> str:
    partner = record["partner"]
    if partner is None:
        return "nothing found there"
    found = f"{partner['class_name']} {partner['score']:.2f}"
    threshold = thresholds[record["class_name"]]
    return {
        "low score": f"found with {partner['score']:.3f}, the threshold is {threshold:.3f}",
        "shared": f"{found} lies on it (IoU {partner['iou']:.2f}), and is the hit of another box",
        "wrong class": f"found as {found} (IoU {partner['iou']:.2f})",
        "badly placed": f"{found} has IoU {partner['iou']:.2f}",
    }[record["reason"]]


def _why_alarm(record: Record, _: Mapping[str, float]) -> str:
    partner = record["partner"]
    if partner is None:
        return "nothing labelled there"
    other, iou = partner["class_name"], f"IoU {partner['iou']:.2f}"
    return {
        "duplicate": f"a second box on the same {other} ({iou})",
        "wrong class": f"labelled {other} ({iou})",
        "badly placed": f"{iou} with a labelled {other}",
        "both": f"{iou} with a labelled {other}",
    }[record["reason"]]


def _draw(
    worst: Record, pictures: MeasuredPictures | None, signs: Mapping[str, Sequence[str]], alt: str
) -> Markup:
    """Hits first, so that nothing lies on what matters; large boxes before small ones."""
    size_wh = frame_size_wh(worst["size_hw"], [*worst["misses"], *worst["false_alarms"], *worst["hits"]])
    letter = max(size_wh) / _LETTERS_PER_SIDE
    parts = []
    if pictures is not None:
        image, _ = shrink(pictures.read(worst["picture"], worst["file"]))
        parts.append(
            Markup('<image href="{}" width="{:.0f}" height="{:.0f}"/>').format(jpeg_uri(image), *size_wh)
        )
    parts += [_box("hit", record) for record in worst["hits"]]
    signed = [
        (kind, record, letters)
        for kind, key in _KEYS.items()
        for record, letters in zip(worst[key], signs[kind], strict=False)
    ]
    loud = [(kind, record) for kind, key in _KEYS.items() for record in worst[key]]
    loud.sort(key=lambda one: -_area(one[1]))
    parts += [_box(kind, record) for kind, record in loud]
    side = round(_SIGN_LETTERS * letter)
    wanted = [
        Wanted(_pixels(record), ((side, side),), is_small=_area(record) < (4 * side) ** 2)
        for _, record, _ in signed
    ]
    places = place_labels(wanted, (round(size_wh[0]), round(size_wh[1])), [])
    for (kind, _, letters), place in zip(signed, places, strict=True):
        if place is not None:
            parts.append(_sign(kind, letters, place.rect))
    return frame(size_wh, letter, alt, parts)


def _box(kind: str, record: Record) -> Markup:
    box = rect(record["box_xyxy"])
    title = record["class_name"] if record["score"] is None else _alarm(record)
    return Markup('<g class="{}"><title>{}</title>{}{}</g>').format(kind, title, box, box)


def _sign(kind: str, letters: str, box_xyxy: Sequence[float]) -> Markup:
    """A small box of the kind's line, with the letters in it."""
    left, top, right, bottom = box_xyxy
    box = rect(box_xyxy)
    return Markup('<g class="{} mark">{}{}<text x="{:.1f}" y="{:.1f}">{}</text></g>').format(
        kind, box, box, (left + right) / 2, (top + bottom) / 2, letters
    )


def _area(record: Record) -> float:
    left, top, right, bottom = record["box_xyxy"]
    return float((right - left) * (bottom - top))


def _pixels(record: Record) -> Rect:
    left, top, right, bottom = record["box_xyxy"]
    return int(left), int(top), int(right) + 1, int(bottom) + 1
