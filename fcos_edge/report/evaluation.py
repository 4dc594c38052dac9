"""The page of `eval`: COCO's figures, AP and mistakes of each class, precision over recall, pictures."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fcos_edge.report.charts import Columns, Interval, Line, grouped_bars, interval_bars, line_chart
from fcos_edge.report.mistakes import reason_tables, reasons_in_words, sign, worst_pictures
from fcos_edge.report.page import render
from fcos_edge.report.parity_charts import Chart
from fcos_edge.report.parity_tables import condition_facts
from fcos_edge.report.table import NOTHING, Cell, Column, Command, Section, Table, Tile, number, text

Document = Mapping[str, Any]
_MEANINGS = {
    "AP": "mean over classes and the IoUs 0.5, 0.55, ... 0.95", "AP50": "at IoU 0.5", "AP75": "at IoU 0.75",
    "APs": "small boxes, up to 32² pixels", "APm": "medium boxes, up to 96²", "APl": "large boxes",
    "AR1": "recall with the best detection of a picture and class", "AR10": "with the ten best",
    "AR100": "with the hundred best", "ARs": "... small boxes", "ARm": "... medium boxes",
    "ARl": "... large boxes",
}  # fmt: skip
_SIZES = {"s": "small", "m": "medium", "l": "large"}
_LEADS = {
    "missed": "At the operating thresholds, the pictures in which the largest part is a missed box, with all"
    " that goes wrong in them.",
    "alarms": "The pictures with the false alarms of the highest scores, without those above.",
}
# More would be a page of nothing but one chart; the table has all.
_MOST_BARS, _MOST_CURVES = 40, 24


def evaluation_page(document: Document, data: Path | None = None) -> str:
    """The HTML of what `eval --json` wrote; precision over recall needs its `curves`.

    data: the data set that was measured on, for the worst pictures. Raises DataError where it is another.
    """
    # In the order of a file, so that the page is the same whoever asks for it.
    document = json.loads(json.dumps(document, sort_keys=True))
    charts = {
        "classes": class_charts(document),
        "sizes": size_charts(document),
        "curves": curve_charts(document),
    }
    pictures = worst_pictures(document, data)
    reasons = reason_tables(document)
    titles = {
        "classes": "Classes", "reasons": "Reasons", "missed": "Worst misses",
        "alarms": "Worst false alarms", "curves": "Precision and recall", "sizes": "Small, medium and large",
        "figures": "COCO's figures", "conditions": "Conditions", "commands": "Commands",
    }  # fmt: skip
    parts = {**charts, **pictures, "reasons": reasons}
    has = {name: parts.get(name, True) for name in titles}
    boxes = sum(row["boxes"] for row in document["classes"].values())
    where = f"{document['data']}/{document['split']}"
    return render(
        "evaluation.html.j2",
        title=f"{document['name']}, accuracy on {where}", kind="Evaluation", name=document["name"],
        subtitle=f"{document['pictures']:,} pictures of {where}; {document['conditions']['date']}",
        sections=[Section(name, title) for name, title in titles.items() if has[name]],
        titles=titles, has=has,
        headline=_headline(document), tiles=_tiles(document, boxes),
        sentence=f"{document['model']}, on {document['pictures']:,} pictures with {boxes:,} labelled boxes.",
        notes=_notes(document), charts=charts, classes=class_table(document), figures=figure_table(document),
        reasons=reasons, reasons_lead=reasons_in_words(document), pictures=pictures, leads=_LEADS,
        signs={kind: sign(kind) for kind in ("missed", "alarm", "hit")}, has_data=data is not None,
        facts=_facts(document, where, boxes), commands=_commands(document),
    )  # fmt: skip


def class_charts(document: Document) -> list[Chart]:
    """AP of each class and its interval; what is missed at the operating threshold."""
    rows = {name: row for name, row in sorted(document["classes"].items(), key=_by_boxes) if row["boxes"]}
    if not rows:
        return []
    shown = list(rows)[:_MOST_BARS]
    by_ap = sorted(shown, key=lambda name: -rows[name]["AP"])
    by_miss = sorted(shown, key=lambda name: rows[name]["recall"])
    left_out = f" The {_MOST_BARS} classes with most boxes." if len(rows) > len(shown) else ""
    title = "AP of each class"
    ap = interval_bars(
        [_interval(name, rows[name]) for name in by_ap],
        title=title, x_label="AP",
        description=f"AP of {len(shown)} classes, the best first, with 95 % intervals.",
    )  # fmt: skip
    missed_title = "Missed at the operating threshold"
    missed = interval_bars(
        [
            Interval(
                name, "missed", 1, 100 * (1 - rows[name]["recall"]),
                tip=f"{name}: {rows[name]['boxes'] - rows[name]['hits']:,} of {rows[name]['boxes']:,} boxes",
            )
            for name in by_miss
        ],
        title=missed_title, description=f"Share of boxes that are missed, of {len(shown)} classes.",
        x_label="% of boxes", digits=1, x_range=(0, 112),
    )  # fmt: skip
    return [
        Chart(title, ap, f"The thin line: where AP lies in 95 of 100 draws of as many pictures.{left_out}"),
        Chart(missed_title, missed, f"Boxes without a detection of their class at IoU 0.5.{left_out}"),
    ]


def size_charts(document: Document) -> list[Chart]:
    """AP and recall by the area that a box has in the original picture."""
    series = [
        Columns(name, [_known(document[f"{short}{size}"]) for size in _SIZES], place)
        for place, (name, short) in enumerate({"AP": "AP", "recall (AR)": "AR"}.items())
    ]
    if all(value is None for one in series for value in one.values):
        return []
    title = "By size of the box"
    svg = grouped_bars(
        list(_SIZES.values()), series, title=title, y_label="0 to 1",
        description="AP and recall of small, medium and large boxes.",
    )  # fmt: skip
    return [Chart(title, svg, "Area in the original picture: small up to 32², medium up to 96² pixels.")]


def curve_charts(document: Document) -> list[Chart]:
    """Of all classes together, then of each class that has boxes, those with most boxes first."""
    curves = document.get("curves")
    if not curves:
        return []
    rows = {name: row for name, row in sorted(document["classes"].items(), key=_by_boxes) if row["boxes"]}
    charts = [_curves("All classes", curves["recall"], curves["all"])] if rows else []
    for name in list(rows)[:_MOST_CURVES]:
        charts.append(_curves(name, curves["recall"], curves["classes"][name]))
    return charts


def class_table(document: Document) -> Table:
    columns = [
        Column("class", is_number=False), Column("boxes", meaning="labelled, crowds not counted"),
        Column("AP", meaning="mean over the IoUs 0.5 to 0.95"), Column("95 % interval", is_number=False),
        Column("AP50", meaning="at IoU 0.5"), Column("threshold", meaning="operating threshold of the class"),
        Column("found", meaning="boxes found at IoU 0.5 with at least the threshold"),
        Column("missed", "%", "boxes that are not found"),
        Column("precision", "%", "detections at the threshold that are right"),
    ]  # fmt: skip
    rows = []
    for name, row in sorted(document["classes"].items(), key=_by_boxes):
        ends, recall, precision = row["AP_interval_95"], row["recall"], row["precision"]
        rows.append([
            text(name), number(row["boxes"], ",d"), number(_known(row["AP"]), ".3f"),
            text("{:.3f} to {:.3f}".format(*ends) if ends else NOTHING), number(_known(row["AP50"]), ".3f"),
            number(row["threshold"], ".3f"), number(row["hits"], ",d"),
            _percent(None if recall is None else 1 - recall), _percent(precision),
        ])  # fmt: skip
    return Table("classes-table", "Found, missed and precision: at the operating threshold.", columns, rows)


def figure_table(document: Document) -> Table:
    columns = [Column("figure", is_number=False), Column("value"), Column("meaning", is_number=False)]
    rows = [
        [text(name), number(_known(document[name]), ".4f"), text(meaning)]
        for name, meaning in _MEANINGS.items()
    ]
    return Table("figures-table", "", columns, rows)


def _tiles(document: Document, boxes: int) -> list[Tile]:
    hits = sum(row["hits"] for row in document["classes"].values())
    detections = sum(row["detections"] for row in document["classes"].values())
    ends = document["AP_interval_95"]
    interval = "{:.3f} to {:.3f} in 95 of 100 draws".format(*ends) if ends else ""
    missed, right = _share(boxes - hits, boxes), _share(hits, detections)
    return [
        Tile("AP", _shown(document["AP"]), interval, _known(document["AP"])),
        Tile("AP50", _shown(document["AP50"]), "at IoU 0.5, all classes alike", _known(document["AP50"])),
        Tile("missed", _percent(missed).text + " %" * (missed is not None),
             f"{boxes - hits:,} of {boxes:,} boxes, at the operating thresholds", missed),
        Tile("precision", _percent(right).text + " %" * (right is not None),
             f"{hits:,} of {detections:,} detections, at the operating thresholds", right),
    ]  # fmt: skip


def _headline(document: Document) -> str:
    return f"AP {_shown(document['AP'])}"


def _notes(document: Document) -> list[str]:
    notes = []
    small = [name for name, row in sorted(document["classes"].items()) if 0 < row["boxes"] < 50]
    if small:
        notes.append(f"Fewer than 50 boxes, so that chance decides much: {', '.join(small)}.")
    if none := [name for name, row in sorted(document["classes"].items()) if not row["boxes"]]:
        notes.append(f"Nothing to measure, no boxes: {', '.join(none)}.")
    if rescaled := document["rescaled_pictures"]:
        notes.append(f"Sizes are of the originals in {rescaled:,} pictures.")
    return notes


def _facts(document: Document, data: str, boxes: int) -> list[tuple[str, str]]:
    return [
        ("model", document["model"]), ("input", "{} x {}".format(*reversed(document["input_hw"]))),
        ("data", f"{data}, {document['pictures']:,} pictures, {boxes:,} boxes"),
        *condition_facts(document["conditions"]),
    ]  # fmt: skip


def _commands(document: Document) -> list[Command]:
    return [Command("Measure this again:", document["command"])]


def _interval(name: str, row: Mapping[str, Any]) -> Interval:
    low, high = row["AP_interval_95"] or (None, None)
    said = f"{name}: AP {row['AP']:.3f}"
    if low is not None:
        said += f" ({low:.3f} to {high:.3f})"
    return Interval(name, "AP", 0, row["AP"], low, high, f"{said}, {row['boxes']:,} boxes")


def _curves(name: str, recall: list[float], curve: Mapping[str, list[float]]) -> Chart:
    lines = [
        Line("IoU 0.5", recall, curve["at50"], 0),
        Line("mean of IoU 0.5 to 0.95", recall, curve["mean"], 1),
    ]
    svg = line_chart(
        lines, title=f"Precision over recall, {name}", x_label="recall", y_label="precision", height=220,
        description=f"Precision at 101 recalls for {name}, at IoU 0.5 and as a mean over ten IoUs.",
        x_range=(0, 1), y_range=(0, 1.02),
    )  # fmt: skip
    return Chart(name, svg)


def _by_boxes(named: tuple[str, Mapping[str, Any]]) -> tuple[int, str]:
    """Most boxes first. A JSON file has its own order of the classes."""
    return -named[1]["boxes"], named[0]


def _known(value: float) -> float | None:
    """COCO's -1 says that there is nothing to measure."""
    return None if value < 0 else value


def _shown(value: float) -> str:
    return NOTHING if value < 0 else f"{value:.3f}"


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _percent(value: float | None) -> Cell:
    """A fraction, shown as percent in a column that says so."""
    return Cell(NOTHING if value is None else f"{100 * value:.1f}", value)
