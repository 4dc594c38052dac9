"""What a bench found, as tables and charts: a part of a parity page, or a page of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fcos_edge.report.charts import Samples, box_plots
from fcos_edge.report.parity_charts import STAGES, Chart
from fcos_edge.report.table import Cell, Column, Table, Tile, number, text


def case_table(document: Mapping[str, Any]) -> Table:
    """Every artifact with every number of threads."""
    columns = (
        Column("Artifact", is_number=False),
        Column("Precision", is_number=False, is_filter=True),
        Column("Runtime", is_number=False, is_filter=True),
        Column("Threads"),
        Column("Median", "ms", "whole: from letterbox to detections"), Column("90 %", "ms"),
        Column("99 %", "ms"), Column("Inference", "ms", "median"),
        Column("First", "ms"), Column("Load", "ms"), Column("Peak", "MiB"), Column("Size", "MB"),
    )  # fmt: skip
    rows = []
    for case in document["cases"]:
        whole, inference = (case["latency"].get(stage, {}) for stage in ("whole", "inference"))
        rows.append([
            text(case["file"], case["failure"], "bad" if case["failure"] else ""), text(case["precision"]),
            text(case["package"]), number(case["threads"], "d"),
            *(number(whole.get(name)) for name in ("p50_ms", "p90_ms", "p99_ms")),
            number(inference.get("p50_ms")), number(case["first_ms"]), number(case["load_ms"]),
            number(case["memory_mib"].get("peak"), ".0f"),
            Cell(f"{case['size_bytes'] / 1e6:.2f}", case["size_bytes"]),
        ])  # fmt: skip
    caption = f"{document['rounds']} rounds in {document['took_s']:.0f} s; all took turns in every round."
    return Table("bench-table", caption, columns, rows)


def throughput_table(document: Mapping[str, Any]) -> Table | None:
    """Pictures a second in the best of the ways that were tried."""
    columns = (
        Column("Artifact", is_number=False), Column("Runtime", is_number=False),
        Column("Pictures", "a second"), Column("Networks"), Column("Threads", "each"),
    )  # fmt: skip
    rows = [
        [
            text(one["file"]), text(one["package"]), number(one["best"]["pictures_per_second"], ".4g"),
            number(one["best"]["networks"], "d"), number(one["best"]["threads"], "d"),
        ]
        for one in document["throughput"]
        if one["best"]
    ]  # fmt: skip
    return Table("throughput-table", "The best of what was tried.", columns, rows) if rows else None


def bench_charts(document: Mapping[str, Any]) -> list[Chart]:
    """Distributions of times by stage; a series for each number of threads."""
    threads = sorted({case["threads"] for case in document["cases"]})
    charts = []
    for stage in STAGES:
        samples = [
            Samples(f"{case['precision']} .{case['file'].rpartition('.')[2]} {case['package']}",
                    "1 thread" if case["threads"] == 1 else f"{case['threads']} threads",
                    threads.index(case["threads"]), case["latency"][stage]["samples_ms"])
            for case in document["cases"]
            if case["latency"].get(stage)
        ]  # fmt: skip
        if samples:
            svg = box_plots(
                samples, title=f"Bench, {stage}", x_label="ms",
                description=f"Times of {stage}, milliseconds.",
                is_log=True,  # of many threads and calls some are far slower, and would hide the others
            )  # fmt: skip
            charts.append(Chart(stage.capitalize(), svg))
    return charts


def bench_tiles(document: Mapping[str, Any]) -> list[Tile]:
    """The fastest, what int8 gains at most, the least memory."""
    tiles = []
    timed = [case for case in document["cases"] if case["latency"].get("whole")]
    if timed:
        best = min(timed, key=lambda case: float(case["latency"]["whole"]["p50_ms"]))
        ms = best["latency"]["whole"]["p50_ms"]
        tiles.append(Tile("Fastest", f"{ms:.3g} ms", f"a picture, median: {_named(best)}", ms))
    if document["int8_gains"]:
        gain = max(document["int8_gains"], key=lambda one: float(one["median"]))
        note = f"as fast as fp32, inference: {gain['fast']['file']} in {gain['package']}"
        tiles.append(Tile("int8 gains", f"{gain['median']:.2f} ×", note, gain["median"]))
    peaks = [case for case in document["cases"] if case["memory_mib"].get("peak")]
    if peaks:
        least = min(peaks, key=lambda case: float(case["memory_mib"]["peak"]))
        peak = least["memory_mib"]["peak"]
        tiles.append(Tile("Least memory", f"{peak:.0f} MiB", f"at its peak: {_named(least)}", peak))
    return tiles


def _named(case: Mapping[str, Any]) -> str:
    threads = "1 thread" if case["threads"] == 1 else f"{case['threads']} threads"
    return f"{case['file']} in {case['package']}, {threads}"
