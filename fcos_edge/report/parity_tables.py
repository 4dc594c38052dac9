"""The tables of a parity page. Every number carries the exact value of the JSON."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from fcos_edge.report.series import Artifact
from fcos_edge.report.table import Cell, Column, Table, Tone, change, number, text

_BRANCHES = ("logits", "ltrb", "centerness")
_MOST_FAILED_NAMES = 3


def artifact_table(document: Mapping[str, Any]) -> Table:
    """All artifacts in all runtimes."""
    columns = (
        Column("Artifact", is_number=False),
        Column("Precision", is_number=False, is_filter=True),
        Column("Runtime", is_number=False, is_filter=True),
        Column("AP", meaning="COCO's average precision, 0 to 1"),
        Column("Change", meaning="of AP against the reference; below it where that lies in 95 of 100 draws"),
        Column("Partners", "%", "detections of either side that the other has, too"),
        Column("Median", "ms", "time of a picture, from letterbox to detections"),
        Column("int8 / fp32", meaning="time in the same runtime; below 1 int8 is faster"),
        Column("Size", "MB", "of all its files"),
        Column("Peak", "MiB", "resident memory of its process"),
        Column("Result", is_number=False, is_filter=True),
    )
    reference = document["reference"]["accuracy"]["figures"]["AP"]
    caption = (
        f"Reference: {document['reference']['name']} ({document['reference']['why']}), AP {reference:.4f}."
        " Below each change stands its 95 % interval; one that holds 0 may be chance. Partners: detections of"
        " either side that the other has, too. int8 / fp32: of their times. Peak: of memory."
    )
    return Table("artifact-table", caption, columns, list(map(_artifact_row, document["artifacts"])))


def _artifact_row(one: Artifact) -> list[Cell]:
    accuracy, difference, ratio = one["accuracy"], one["difference"], one["latency_ratio"]
    moved = difference and difference["figures"]["AP"]
    rate = one["agreement"] and one["agreement"]["detections"]["both"]["rate"]
    whole = one["latency_ms"] and one["latency_ms"]["whole"]["p50_ms"]
    peak = one["memory_mib"].get("peak")
    _, _, machine = one["name"].partition(f" in {one['package']}, ")
    return [
        text(one["file"], machine),
        text(one["precision"]),
        text(one["package"]),
        number(_known(accuracy and accuracy["figures"]["AP"]), ".4f"),
        change(moved and moved["value"], moved and moved["interval_95"]),
        number(None) if rate is None else _percent(rate),
        number(whole),
        number(ratio and ratio["median"], ".3f", tone="warn" if ratio and ratio["median"] > 1 else ""),
        Cell(f"{one['bytes'] / 1e6:.2f}", one["bytes"]),
        number(peak, ".0f"),
        _result(one),
    ]


def _result(one: Artifact) -> Cell:
    names = [gate["name"] for gate in one["gates"] if not gate["passed"]]
    if not names:
        return text("passed", tone="good")
    more = f" and {len(names) - _MOST_FAILED_NAMES} more" if len(names) > _MOST_FAILED_NAMES else ""
    return text("failed", ", ".join(names[:_MOST_FAILED_NAMES]) + more, "bad")


def class_table(document: Mapping[str, Any]) -> Table | None:
    """Each class with what it loses in the artifact that loses most; None where nothing was compared."""
    columns = (
        Column("Class", is_number=False),
        Column("Boxes"),
        Column("AP", meaning="of the reference"),
        Column("Largest loss", meaning="of AP in any artifact, with its 95 % interval"),
        Column("Loses most", is_number=False),
        Column("Missed", "%", "boxes that the reference misses at its operating threshold"),
        Column("Largest rise", "points", "of what is missed in any artifact"),
        Column("Misses most", is_number=False),
    )
    measured = [one for one in document["artifacts"] if one["difference"]]
    rows = []
    for name, before in document["reference"]["accuracy"]["classes"].items():
        changes = [(one["difference"]["classes"].get(name), one["name"]) for one in measured]
        found = [(row, artifact) for row, artifact in changes if row and row["AP"] and row["miss_rate"]]
        if not found or before["miss_rate"] is None:
            continue
        drop, loser = min(found, key=lambda pair: pair[0]["AP"]["value"])
        rise, misser = max(found, key=lambda pair: pair[0]["miss_rate"]["value"])
        missed = rise["miss_rate"]["value"]
        rows.append([
            text(name), number(before["boxes"], ","), number(_known(before["AP"]), ".4f"),
            change(drop["AP"]["value"], drop["AP"]["interval_95"]),
            text(loser if drop["AP"]["value"] < 0 else ""), _percent(before["miss_rate"]),
            Cell(change(100 * missed).text[:-2], missed), text(misser if missed > 0 else ""),
        ])  # fmt: skip
    if not rows:
        return None
    least = document["limits"].get("least_boxes")
    caption = f"Classes with fewer than {least} boxes are judged together." if least else ""
    return Table("class-table", caption, columns, rows)


def stage_table(document: Mapping[str, Any]) -> Table | None:
    """Times of every artifact, stage by stage."""
    columns = (
        Column("Artifact", is_number=False),
        Column("Letterbox", "ms"), Column("Inference", "ms"), Column("Postprocess", "ms"),
        Column("Whole", "ms"), Column("90 %", "ms", "so many of 100 calls are faster; whole"),
        Column("99 %", "ms"), Column("Slowest", "ms"), Column("Calls"),
        Column("First", "ms", "inference after loading"),
        Column("Load", "ms", "at a first start, with nothing kept"),
    )  # fmt: skip
    rows = []
    for one in document["artifacts"]:
        if not (stages := one["latency_ms"]):
            continue
        whole = stages["whole"]
        medians = [number(stages[name]["p50_ms"]) for name in ("letterbox", "inference", "postprocess")]
        rows.append([
            text(one["name"]), *medians, number(whole["p50_ms"]), number(whole["p90_ms"]),
            number(whole["p99_ms"]), number(whole["largest_ms"]), number(whole["n"], ","),
            number(one["first_ms"]), number(one["load_ms"]),
        ])  # fmt: skip
    caption = "Medians, where nothing else is said. With few calls there is no rarer one to speak of."
    return Table("stage-table", caption, columns, rows) if rows else None


def raw_table(document: Mapping[str, Any]) -> Table | None:
    """How far the raw outputs are from the reference's: each branch, all levels together."""
    columns = (
        Column("Artifact", is_number=False),
        Column("Branch", is_number=False, is_filter=True),
        Column("Mean difference"), Column("Largest"),
        Column("Relative", meaning="to the outputs' standard deviation"), Column("Correlation"),
        Column("Worst channel", meaning="its mean difference in its standard deviations"),
        Column("Floors", meaning="mean logit difference to the nearest other int8 artifact, where one flipped"
               " bit of the input makes 1"),
    )  # fmt: skip
    rows = []
    for one in document["artifacts"]:
        for raw in one["raw"]:
            if raw["name"] not in _BRANCHES:
                continue
            floors = one["floors"]["value"] if raw["name"] == "logits" else None
            rows.append([
                text(one["name"]), text(raw["name"]), number(raw["mean_abs"]), number(raw["max_abs"]),
                number(raw["relative"]), number(raw["correlation"], ".6f"),
                number(raw["worst_difference"] and raw["worst_difference"]["value"]), number(floors),
            ])  # fmt: skip
    return Table("raw-table", "All levels together, against the reference.", columns, rows) if rows else None


def gate_table(document: Mapping[str, Any]) -> Table:
    """Every gate of every artifact; those that failed come first."""
    columns = (
        Column("Gate", is_number=False, is_filter=True),
        Column("Artifact", is_number=False),
        Column("What", is_number=False),
        Column("Found"), Column("Limit"),
        Column("Result", is_number=False, is_filter=True),
    )  # fmt: skip
    rows = [(one, gate) for one in document["artifacts"] for gate in one["gates"]]
    rows.sort(key=lambda row: (row[1]["passed"], row[1]["is_judged"]))
    return Table("gate-table", "", columns, [_gate_row(one, gate) for one, gate in rows])


def _gate_row(one: Artifact, gate: Mapping[str, Any]) -> list[Cell]:
    result, tone = ("passed", "good") if gate["passed"] else ("failed", "bad")
    if not gate["is_judged"]:
        result, tone = "not judged", ""
    what = gate["what"] if gate["what"] == gate["name"] else f"{gate['what']}: {gate['figure']}"
    tones: dict[str, Tone] = {"good": "good", "bad": "bad"}
    return [
        text(gate["name"]), text(one["name"]), text(gate["words"] or what, gate["why"]),
        number(gate["value"], ".4g"), number(gate["limit"], ".4g", gate["kind"]),
        text(result, tone=tones.get(tone, "")),
    ]  # fmt: skip


def sensitivity_table(sensitivity: Mapping[str, Any]) -> Table:
    """All layers, the most harmful first."""
    columns = (
        Column("Layer", is_number=False),
        Column("Kind", is_number=False, is_filter=True),
        Column("Harm", meaning="score change + box loss, this layer alone in int8"),
        Column("Score change"), Column("Box loss", meaning="1 - IoU"),
        Column("Weights", meaning="harm where only weights are int8"),
        Column("Activations", meaning="harm where only the output is"),
        Column("Parameters"), Column("Multiply-adds", "a picture"),
        Column("Kept in", is_number=False),
    )  # fmt: skip
    layers = sorted(sensitivity["layers"], key=lambda row: -row["harm"])
    rows = [
        [
            text(row["layer"]), text(row["kind"]), number(row["harm"]), number(row["score_change"]),
            number(row["box_loss"]), number(row["weights_harm"]), number(row["activation_harm"]),
            number(row["parameters"], ","), number(row["multiply_adds"], ","),
            text("float" if row["is_float"] else "int8"),
        ]
        for row in layers
    ]  # fmt: skip
    caption = f"Recipe {sensitivity['recipe']}, measured on {sensitivity['pictures']} pictures."
    return Table("sensitivity-table", caption, columns, rows)


def limit_facts(limits: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Limits as (name, value); nested ones by their path."""
    return [(name, "not judged" if value is None else f"{value}") for name, value in _flat(limits, "")]


def condition_facts(conditions: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Conditions of one machine as (what, value)."""
    facts = []
    for name, value in conditions.items():
        if name == "versions":
            value = ", ".join(f"{package} {version}" for package, version in value.items())
        elif isinstance(value, list):
            value = ", ".join(map(str, value)) or "none"
        elif isinstance(value, bool):
            value = "yes" if value else "no"
        if value not in ("", None):
            facts.append((name.replace("_", " "), str(value)))
    return facts


def _flat(values: Mapping[str, Any], path: str) -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{path}{name}.")
        else:
            yield f"{path}{name}", value


def _known(value: float | None) -> float | None:
    """COCO's -1 says that there is nothing to measure."""
    return None if value is None or value < 0 else value


def _percent(value: float) -> Cell:
    """A fraction, shown as percent in a column that says so."""
    return Cell(f"{100 * value:.1f}", value)
