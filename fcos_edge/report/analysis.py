"""The page of `analyze`: what can be recalled, what is ambiguous, what each level learns, sizes of boxes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fcos_edge.report.charts import Interval, Mark, histogram, interval_bars
from fcos_edge.report.page import render
from fcos_edge.report.parity_charts import Chart
from fcos_edge.report.table import NOTHING, Column, Command, Section, Table, Tile, number, text

Document = Mapping[str, Any]
_QUANTITIES = ("best_possible_recall", "ambiguous", "ambiguous_between_classes")


def analysis_page(document: Document) -> str:
    """The HTML of what `analyze --json` wrote."""
    titles = {
        "recall": "Recall and ambiguity", "levels": "Levels", "sizes": "Boxes",
        "conditions": "Conditions", "commands": "Commands",
    }  # fmt: skip
    everything = document[document["counts"][0]]
    data = f"{document['data']} {document['split']}"
    return render(
        "analysis.html.j2",
        title=f"{data}, analysis", kind="Analysis of a data set", name=data,
        subtitle=f"{document['pictures']:,} pictures, {document['boxes']:,} boxes of"
                 f" {_count(document['classes'], 'class', 'classes')}",
        sections=[Section(name, title) for name, title in titles.items()], titles=titles,
        headline=f"Best possible recall {_percent(everything['best_possible_recall'])}",
        sentence=f"So many boxes have at least one location that learns them: {document['conventions']}.",
        notes=_notes(document, everything), tiles=_tiles(document, everything),
        recall=recall_table(document), levels=level_table(everything), level_charts=level_charts(everything),
        quantiles=quantile_table(document), charts=box_charts(document, everything),
        facts=_facts(document), commands=[Command("Measure this again:", document["command"])],
    )  # fmt: skip


def level_charts(count: Mapping[str, Any]) -> list[Chart]:
    """The share of all positives that each level learns."""
    rows = [
        Interval(
            f"{name}, stride {level['stride']}", "positives", 0, level["share_of_positives"] or 0.0,
            tip=f"{name}: {level['positives']:,} of {level['locations']:,} locations are positive",
        )
        for name, level in count["levels"].items()
    ]  # fmt: skip
    title = "Positives by level"
    svg = interval_bars(
        rows, title=title, description="Share of the positive locations that each level has.",
        x_label="% of positives", digits=1,
    )  # fmt: skip
    return [Chart(title, svg, "A level with next to none learns nothing: its range does not fit the boxes.")]


def box_charts(document: Document, count: Mapping[str, Any]) -> list[Chart]:
    """Sizes and aspect ratios of the boxes, on logarithmic axes."""
    sizes, ratios = (document["distributions"][name] for name in ("box_sizes", "aspect_ratios"))
    # From the centre of a square, its sides are half a side away.
    starts = [Mark(2 * level["range"][0], name) for name, level in count["levels"].items()]
    inside = [mark for mark in starts if sizes["edges"][0] < mark.x < sizes["edges"][-1]]
    charts = [
        Chart(
            "Box sizes",
            histogram(
                sizes["edges"], sizes["counts"], title="Box sizes",
                description="How many boxes have which size in the input.",
                x_label="square root of the area in the input, pixels", y_label="boxes", is_log=True,
                marks=inside,
            ),
            "Dashed: from here on the centre of a square box is for that level." if inside else "",
        ),
        Chart(
            "Aspect ratios",
            histogram(
                ratios["edges"], ratios["counts"], title="Aspect ratios",
                description="How many boxes have which ratio of width to height.",
                x_label="width / height", y_label="boxes", is_log=True, marks=[Mark(1.0, "square")],
            ),
            "Left of the line boxes are higher than wide.",
        ),
    ]  # fmt: skip
    return charts if document["boxes"] else []


def recall_table(document: Document) -> Table:
    columns = [
        Column("who learns", is_number=False),
        Column("best possible recall", "%", "boxes that at least one location or anchor learns"),
        Column("ambiguous", "%", "positives that could have learned more than one box"),
        Column("between classes", "%", "... boxes of more than one class"), Column("positives"),
    ]  # fmt: skip
    rows = [
        [
            text("all levels" if place == 0 else f"{name} alone"),
            *(number(document[name][key], ".2f") for key in _QUANTITIES),
            number(document[name]["positives"], ",d"),
        ]
        for place, name in enumerate(document["counts"])
    ]
    anchors = document["anchors"]
    for name, key in (
        ("9 anchors, IoU of at least 0.5", "without_low_quality"),
        ("... and low-quality matches of at least 0.4", "best_possible_recall"),
    ):
        rows.append([text(name), number(anchors[key], ".2f"), *[number(None)] * 3])
    if found := document.get("detections"):
        note = f"{found['detections']:,} detections of the model"
        rows.append([text(note), number(None), *(number(found[key], ".2f") for key in _QUANTITIES[1:]),
                     number(None)])  # fmt: skip
    return Table("recall-table", "The detections' line: those that come from ambiguous locations."
                 if document.get("detections") else "", columns, rows)  # fmt: skip


def level_table(count: Mapping[str, Any]) -> Table:
    columns = [
        Column("level", is_number=False), Column("stride", "pixels"),
        Column("distances", "pixels", "largest distance to a side that the level learns", is_number=False),
        Column("locations", meaning="in all pictures"),
        Column("positives", meaning="locations that learn a box"), Column("share", "% of positives"),
    ]  # fmt: skip
    rows = [
        [
            text(name), number(level["stride"], "d"), text(_range(level["range"])),
            number(level["locations"], ",d"), number(level["positives"], ",d"),
            number(level["share_of_positives"], ".2f"),
        ]
        for name, level in count["levels"].items()
    ]  # fmt: skip
    return Table("levels-table", "", columns, rows)


def quantile_table(document: Document) -> Table:
    quantiles = sorted(document["box_sizes"], key=lambda name: float(name.rstrip("%")))
    columns = [Column("of all boxes are below", is_number=False), *(Column(name) for name in quantiles)]
    rows = [
        [text(name), *(number(document[key][quantile], "#.3g") for quantile in quantiles)]
        for name, key in (("box size, pixels", "box_sizes"), ("width / height", "aspect_ratios"))
    ]
    return Table("quantiles-table", "", columns, rows)


def _tiles(document: Document, count: Mapping[str, Any]) -> list[Tile]:
    anchors = document["anchors"]["best_possible_recall"]
    recall, ambiguous, torn = (count[key] for key in _QUANTITIES)
    return [
        Tile("best possible recall", _percent(recall), "of all boxes", recall),
        Tile("with 9 anchors", _percent(anchors), "as RetinaNet has them, low-quality matches too", anchors),
        Tile("ambiguous", _percent(ambiguous), "of positives could learn several boxes", ambiguous),
        Tile("between classes", _percent(torn), "of positives: only these can cost accuracy", torn),
    ]


def _notes(document: Document, count: Mapping[str, Any]) -> list[str]:
    notes = []
    if licence := document.get("licence"):
        notes.append(f"Only pictures whose licence record allows {licence} use.")
    if document["left_out"]:
        notes.append(f"{document['left_out']:,} crowds and difficult boxes are left out.")
    # Of five levels each has a fifth where boxes are spread evenly over the octaves.
    starved = [name for name, level in count["levels"].items() if (level["share_of_positives"] or 0) < 0.5]
    if starved:
        notes.append(f"Fewer than 0.5 % of the positives are on {', '.join(starved)}: see Levels.")
    return notes


def _facts(document: Document) -> list[tuple[str, str]]:
    return [
        ("data", f"{document['data']}, {document['split']}"), ("conventions", document["conventions"]),
        ("fcos-edge", document["fcos_edge"]),
    ]  # fmt: skip


def _percent(value: float | None) -> str:
    return NOTHING if value is None else f"{value:.2f} %"


def _range(ends: Sequence[float | None]) -> str:
    low, high = ends
    return f"{low:g} to {high:g}" if high is not None else f"from {low:g}"


def _count(count: int, one: str, many: str) -> str:
    return f"{count:,} {one if count == 1 else many}"
