"""The page of a parity report, and its short form for a comment on a pull request."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fcos_edge.report.bench import bench_charts, bench_tiles, case_table, throughput_table
from fcos_edge.report.page import render
from fcos_edge.report.parity_charts import ParityCharts, sensitivity_charts
from fcos_edge.report.parity_pictures import worst_pairs
from fcos_edge.report.parity_tables import (
    artifact_table,
    class_table,
    condition_facts,
    gate_table,
    limit_facts,
    raw_table,
    sensitivity_table,
    stage_table,
)
from fcos_edge.report.table import Command, Section
from fcos_edge.report.verdict import judge

Document = Mapping[str, Any]


def parity_page(
    document: Document, *, bench: Document | None = None, data: Path | None = None,
    sensitivity: Mapping[str, Any] | None = None,
) -> str:  # fmt: skip
    """The HTML of one report.

    document     what `parity --json` wrote
    bench        what `bench --json` wrote, to stand beside it
    data         the data set, for the worst pictures
    sensitivity  a bundle's table, for a report that has none

    Raises DataError where `data` is not what was measured on.
    """
    charts = ParityCharts(document)
    table = document.get("sensitivity") or sensitivity
    parts = {
        "tradeoff": charts.accuracy_over_time(),
        "curves": charts.precision_recall(),
        "classes": charts.class_changes(),
        "latency": charts.latency(),
        "scores": charts.scores(),
        "raw": charts.raw_differences(),
        "sensitivity": sensitivity_charts(table) if table else [],
    }
    pairs = worst_pairs(document, data)
    tables = {
        "artifacts": artifact_table(document), "classes": class_table(document),
        "stages": stage_table(document), "raw": raw_table(document), "gates": gate_table(document),
        "sensitivity": sensitivity_table(table) if table else None,
    }  # fmt: skip
    has = {
        "artifacts": True, "tradeoff": parts["tradeoff"], "curves": parts["curves"],
        "classes": parts["classes"] or tables["classes"], "latency": parts["latency"] or tables["stages"],
        "bench": bench, "scores": parts["scores"], "raw": parts["raw"] or tables["raw"], "sensitivity": table,
        "pictures": pairs, "gates": True, "conditions": True, "commands": True,
    }  # fmt: skip
    titles = {
        "artifacts": "Artifacts", "tradeoff": "Accuracy and latency", "curves": "Precision and recall",
        "classes": "Classes", "latency": "Latency", "bench": "Bench", "scores": "Scores",
        "raw": "Raw outputs", "sensitivity": "Sensitivity", "pictures": "Worst pictures", "gates": "Gates",
        "conditions": "Conditions", "commands": "Commands",
    }  # fmt: skip
    verdict = judge(document)
    return render(
        "parity.html.j2",
        title=f"{verdict.headline}: {document['bundle']['name']}, parity", kind="Parity report",
        name=document["bundle"]["name"], subtitle=_subtitle(document), verdict=verdict,
        sections=[Section(name, title) for name, title in titles.items() if has[name]], titles=titles,
        has=has, tables=tables, charts=parts, pairs=pairs, document=document,
        pictures_lead=_pictures_lead(document, data),
        bench=bench_parts(bench) if bench else None, conditions=_conditions(document, bench),
        limits=limit_facts(document["limits"]), commands=_commands(document, bench),
        noise=_noise(document), pairs_of_int8=_pairs(document),
    )  # fmt: skip


def bench_page(document: Document) -> str:
    """The HTML of a bench alone."""
    titles = {"bench": "Bench", "conditions": "Conditions", "commands": "Commands"}
    conditions = document["conditions"]
    return render(
        "bench.html.j2",
        title=f"{document['bundle']}, bench", kind="Bench report", name=document["bundle"],
        subtitle=f"{conditions['cpu']}, {conditions['date']}", titles=titles, bench=bench_parts(document),
        sections=[Section(name, title) for name, title in titles.items()],
        conditions=[("Bench", condition_facts(conditions))], commands=_bench_commands(document),
    )  # fmt: skip


def parity_markdown(document: Document, *, bench: Document | None = None) -> str:
    """The same in short, as a comment on a pull request."""
    return render(
        "parity.md.j2", name=document["bundle"]["name"], verdict=judge(document),
        subtitle=_subtitle(document), artifacts=artifact_table(document), classes=class_table(document),
        commands=_commands(document, bench),
        conditions=_conditions(document, bench), bench=bench_parts(bench) if bench else None,
    )  # fmt: skip


def bench_parts(document: Document) -> dict[str, Any]:
    """What the templates show of a bench."""
    return {
        "tiles": bench_tiles(document), "cases": case_table(document), "charts": bench_charts(document),
        "throughput": throughput_table(document), "remarks": document["remarks"],
    }  # fmt: skip


def _subtitle(document: Document) -> str:
    data = document["data"]
    here = document["conditions"].get("here", {})
    where = [str(here[key]) for key in ("cpu", "date") if key in here]
    if "threads" in here:
        where.insert(1, "1 thread" if here["threads"] == 1 else f"{here['threads']} threads")
    bundle = document["bundle"]["manifest_sha256"][:8]
    return f"bundle {bundle} on {data['pictures']:,} pictures of {data['name']}; {', '.join(where)}"


def _conditions(document: Document, bench: Document | None) -> list[tuple[str, list[tuple[str, str]]]]:
    """Of each machine, and what was measured."""
    bundle, data = document["bundle"], document["data"]
    measured = [
        ("bundle", bundle["name"]), ("input", "{} x {}".format(*reversed(bundle["input_hw"]))),
        ("manifest sha256", bundle["manifest_sha256"]),
        ("checkpoint sha256", bundle["checkpoint_sha256"] or ""),
        ("data", f"{data['name']}, {data['pictures']:,} pictures, {data['boxes']:,} boxes"),
        ("pictures sha256", data["pictures_sha256"]), ("classes", ", ".join(data["classes"])),
        ("reference", f"{document['reference']['name']}: {document['reference']['why']}"),
    ]  # fmt: skip
    machines = [
        ("Machine" if name == "here" else name, condition_facts(facts))
        for name, facts in document["conditions"].items()
    ]
    of_bench = [("Bench", condition_facts(bench["conditions"]))] if bench else []
    return [("What was measured", [fact for fact in measured if fact[1]]), *machines, *of_bench]


def _commands(document: Document, bench: Document | None) -> list[Command]:
    bundle = document["bundle"]["name"]
    parity = document.get("command") or f"fcos-edge parity {bundle} --data DATA"
    why = "Measure this again:" if document.get("command") else "Measure this again, DATA being the data set:"
    commands = [
        Command(why, parity),
        Command("What this computer has, and whether its int8 saturates:", "fcos-edge doctor"),
        Command("Without labelled pictures:", f"fcos-edge verify {bundle}"),
    ]
    return [*commands, *(_bench_commands(bench) if bench else [])]


def _bench_commands(document: Document) -> list[Command]:
    line = f"fcos-edge bench {document['bundle']} --seconds {document['seconds']}"
    return [Command("Time every artifact again:", line)]


def _noise(document: Document) -> str:
    """What nothing can be better than."""
    noise = document["noise"]
    rate = noise and noise["agreement"]["detections"]["both"]["rate"]
    if rate is None:
        return ""
    return (
        f"With noise of one grey level in the picture, {100 * rate:.1f} % of the reference's own detections"
        " have a partner: no int8 can be asked for more."
    )


def _pictures_lead(document: Document, data: Path | None) -> str:
    """How to read the pictures; reports of 1.0 do not tell which boxes have no partner."""
    worst = [one for artifact in document["artifacts"] for one in artifact["worst_pictures"]]
    lead = "The pictures of all artifacts in which most boxes have no partner on the other side."
    if any("found_alone" in one for one in worst):
        lead += " Those boxes are drawn strong, all others faint; where only scores moved, all are alike."
    return lead if data is not None else f"{lead} The pictures themselves were not at hand: give --data."


def _pairs(document: Document) -> Sequence[str]:
    """How equal the int8 artifacts are, each pair in words."""
    return [
        f"{pair['first']} and {pair['second']}: "
        + (
            f"all {pair['count']:,} values equal"
            if not pair["unequal"]
            else f"{pair['unequal']:,} of {pair['count']:,} values differ"
        )
        for pair in document["pairs"]
    ]
