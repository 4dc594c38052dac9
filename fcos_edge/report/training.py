"""The page of a training run, made of what is in its folder.

It can be made at any time, of a run that still goes on, too. No torch is needed.
"""

from __future__ import annotations

import json
import math
import shlex
import statistics
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from fcos_edge.errors import UsageError
from fcos_edge.report.page import render
from fcos_edge.report.table import NOTHING, Column, Command, Section, Table, Tile, number, text
from fcos_edge.report.training_charts import (
    LOSSES,
    Point,
    Row,
    accuracy_charts,
    best,
    class_charts,
    loss_charts,
    speed_charts,
    speeds,
)  # fmt: skip
from fcos_edge.train.run_files import COMMAND, METRICS_FILE, RUN_FILE

Document = Mapping[str, Any]
SCHEMA = "fcos-edge.training/1.0"
_HEADER_LENGTH_BYTES, _MOST_HEADER_BYTES = 8, 100_000_000  # of safetensors
_NEEDED = ("epoch", "step", "seconds")
# Name of a fact -> the run's key of a detector that it needs
_DETECTORS = {"begins with": "start", "learns from": "teacher"}


def is_run(path: Path) -> bool:
    """Whether `path` is the folder of a training run."""
    return (path / RUN_FILE).is_file()


def read_training(folder: Path) -> dict[str, Any]:
    """What a run's folder holds: `run`, `command`, `rows` of its epochs, and `stored` of its checkpoint.

    stored  the checkpoint's config and metrics; None while there is none
    Raises UsageError where the folder is none of a run, or damaged, or no epoch is done.
    """
    try:
        run = json.loads((folder / RUN_FILE).read_bytes())
        config, name = run["config"], run["name"]
        config["epochs"], config["batch_size"], config["iterations"]  # what the page counts with
        lines = (folder / METRICS_FILE).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as error:
        reason = f"no {Path(str(error.filename)).name} ({error.strerror})"
        raise UsageError(f"{folder}: {reason}; give the folder of a run that has done an epoch") from None
    except (KeyError, TypeError, ValueError, RecursionError):
        raise UsageError(f"{folder / RUN_FILE}: damaged; give the folder of a run") from None
    rows = [row for row in map(_row, lines) if row is not None]
    if not rows:
        raise UsageError(f"{folder / METRICS_FILE}: no epoch is done yet; try again when one is")
    return {
        "schema": SCHEMA, "folder": str(folder), "command": run.pop(COMMAND, ""), "run": run, "rows": rows,
        "stored": _read_stored(folder / f"{name}.safetensors"),
    }  # fmt: skip


def training_page(document: Document) -> str:
    """The HTML of what `read_training` read."""
    run, rows = document["run"], document["rows"]
    points = accuracy_points(document)
    titles = {
        "curves": "Curves", "classes": "Classes", "epochs": "Epochs", "config": "Configuration",
        "commands": "Commands",
    }  # fmt: skip
    charts = {
        "curves": [
            *accuracy_charts(points), *loss_charts(rows),
            *speed_charts(rows, run["config"]["batch_size"]),
        ],
        "classes": class_charts(_last_classes(document)),
    }  # fmt: skip
    has = {name: charts.get(name, True) for name in titles}
    data = ", ".join(Path(path).name for path in run["data"])
    return render(
        "training.html.j2",
        title=f"{run['name']}, training", kind="Training run", name=run["name"],
        subtitle=f"{len(run['classes'])} classes of {data}", charts=charts, has=has, titles=titles,
        sections=[Section(name, title) for name, title in titles.items() if has[name]],
        headline=_headline(document, points), sentence=_sentence(document, points),
        notes=_notes(document, points), tiles=_tiles(document, points),
        epochs=epoch_table(rows, run["config"]["batch_size"]), facts=_facts(document, data),
        config=list(_flat(run["config"], "")), commands=_commands(document),
    )  # fmt: skip


def accuracy_points(document: Document) -> list[Point]:
    """(step, figures) of every look at the held-out pictures; the last is the stored checkpoint's."""
    points = [(row["step"], row["held_out"]) for row in document["rows"] if row.get("held_out")]
    stored = document["stored"] and document["stored"]["metrics"].get("held_out")
    return [*points, (document["rows"][-1]["step"], stored)] if stored else points


def epoch_table(rows: Sequence[Row], batch_size: int) -> Table:
    losses = {key: name for key, name in LOSSES.items() if any(f"loss_{key}" in row for row in rows)}
    columns = [
        Column("epoch", is_number=False), Column("step"), Column("input", "pixels", is_number=False),
        *(Column(f"loss, {name}") for name in losses.values()), Column("learning rate"),
        Column("time", "s"), Column("speed", "pictures/s"), Column("AP"),
    ]  # fmt: skip
    table = []
    for row, speed in zip(rows, speeds(rows, batch_size), strict=True):
        ap = (row.get("held_out") or {}).get("AP")
        hw = row.get("input_hw")
        table.append([
            text(str(row["epoch"])), number(row["step"], ",d"),
            text(f"{hw[1]} x {hw[0]}" if hw else NOTHING),
            *(number(row.get(f"loss_{key}"), ".4f") for key in losses),
            number(row.get("learning_rate"), ".2e"), number(row["seconds"], ",.0f"),
            number(None if math.isnan(speed) else speed, "#.3g"),
            number(None if ap is None or ap < 0 else ap, ".4f"),
        ])  # fmt: skip
    return Table("epochs-table", "", columns, table)


def _headline(document: Document, points: Sequence[Point]) -> str:
    if points and points[-1][1]["AP"] >= 0:
        return f"AP {points[-1][1]['AP']:.3f}"
    return "Finished" if document["stored"] else f"Epoch {document['rows'][-1]['epoch']} is done"


def _sentence(document: Document, points: Sequence[Point]) -> str:
    rows, config = document["rows"], document["run"]["config"]
    last = rows[-1]
    steps = config["iterations"] or (config["epochs"] * rows[0]["step"] if rows[0]["epoch"] == 1 else 0)
    state = "Finished" if document["stored"] else "Not finished"
    of = f" of {steps:,}" if steps and not document["stored"] else ""
    where = f" AP is of {points[-1][1]['pictures']:,} held-out pictures." if points else ""
    return f"{state}: {last['step']:,}{of} steps, epoch {last['epoch']} of {config['epochs']}.{where}"


def _notes(document: Document, points: Sequence[Point]) -> list[str]:
    notes = []
    highest = best(points)
    if not points:
        notes.append("No figures of held-out pictures yet: losses alone do not tell whether it detects.")
    elif highest is not None and highest[0] < points[-1][0]:
        notes.append(
            f"AP was highest at step {highest[0]:,}, with {highest[1]:.3f}; what is stored is the last."
        )
    boxes = sum(row["boxes"] for row in points[-1][1]["classes"].values()) if points else 0
    if points and boxes < 200:
        notes.append(f"The held-out pictures have {boxes} boxes: AP moves by points for a few of them.")
    return notes


def _tiles(document: Document, points: Sequence[Point]) -> list[Tile]:
    rows, run = document["rows"], document["run"]
    highest, last = best(points), rows[-1]
    losses = [last[f"loss_{key}"] for key in LOSSES if f"loss_{key}" in last]
    known = [one for one in speeds(rows, run["config"]["batch_size"]) if not math.isnan(one)]
    speed = statistics.median(known) if known else None
    return [
        Tile("best AP", NOTHING if highest is None else f"{highest[1]:.3f}",
             "" if highest is None else f"at step {highest[0]:,}", None if highest is None else highest[1]),
        Tile("loss", f"{sum(losses):.3f}" if losses else NOTHING, f"sum, epoch {last['epoch']}",
             sum(losses) if losses else None),
        Tile("time", _clock(sum(row["seconds"] for row in rows)), "without looks at held-out pictures"),
        Tile("speed", NOTHING if speed is None else f"{speed:#.3g}".rstrip("."),
             "pictures a second, the median epoch", speed),
    ]  # fmt: skip


def _facts(document: Document, data: str) -> list[tuple[str, str]]:
    run, stored = document["run"], document["stored"] or {"config": {}, "metrics": {}}
    qat = run.get("qat") or {}
    has_start = bool(qat or run.get("start"))
    facts = [
        ("data", data), ("classes", ", ".join(run["classes"])),
        ("training pictures", f"{stored['metrics'].get('training_pictures', '')}"),
        ("licence record of the pictures", f"{run['licence']} use" if run.get("licence") else ""),
        ("backbone weights", "" if has_start else run.get("weights") or "the installed ImageNet weights"),
        *((what, Path(run[key]["checkpoint"]).name) for what, key in _DETECTORS.items() if run.get(key)),
        *((f"quantization-aware, {key.replace('_', ' ')}", f"{value}") for key, value in qat.items()),
        *((f"made with {what}", f"{value}") for what, value in stored["config"].get("made_with", {}).items()),
    ]  # fmt: skip
    return [fact for fact in facts if fact[1]]


def _commands(document: Document) -> list[Command]:
    folder = shlex.quote(document["folder"])
    commands = (
        [Command("Train it again, to another folder:", document["command"])] if document["command"] else []
    )
    if document["stored"] is None:
        return [*commands, Command("Go on with it:", f"fcos-edge train --resume --out {folder}")]
    checkpoint = shlex.quote(str(Path(document["folder"]) / f"{document['run']['name']}.safetensors"))
    data = shlex.quote(document["run"]["data"][0])
    return [
        *commands,
        Command(
            "Measure it, and look at every class:",
            f"fcos-edge eval {checkpoint} --data {data} --html eval.html",
        ),
        Command("Export it for devices:", f"fcos-edge export {checkpoint} --int8"),
    ]


def _row(line: str) -> Row | None:
    """An epoch's row; None for one that is cut short, which is still being written."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return (
        row
        if isinstance(row, dict) and all(isinstance(row.get(key), int | float) for key in _NEEDED)
        else None
    )


def _read_stored(path: Path) -> dict[str, Any] | None:
    """Config and metrics from a checkpoint's header; None where there is no checkpoint."""
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(_HEADER_LENGTH_BYTES), "little")
            header = json.loads(file.read(min(length, _MOST_HEADER_BYTES)))["__metadata__"]["fcos_edge"]
        told = json.loads(header)
        return {"config": dict(told["config"]), "metrics": dict(told["metrics"])}
    except FileNotFoundError:
        return None
    except (OSError, KeyError, TypeError, ValueError, RecursionError):
        raise UsageError(f"{path}: no checkpoint that can be read; move it away, and try again") from None


def _last_classes(document: Document) -> Mapping[str, Any]:
    points = accuracy_points(document)
    classes: Mapping[str, Any] = points[-1][1]["classes"] if points else {}
    return classes


def _clock(seconds: float) -> str:
    """`2 h 05 min`, or `5 min 20 s`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s"


def _flat(values: Mapping[str, Any], path: str) -> Iterator[tuple[str, str]]:
    """Settings by their path, as `--set` takes them."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{path}{name}.")
        else:
            yield f"{path}{name}", value if isinstance(value, str) else json.dumps(value)
