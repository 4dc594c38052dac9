"""The artifacts of a parity report as series of its charts: short names, and numbers for their looks."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

Artifact = Mapping[str, Any]


def short_names(artifacts: Iterable[Artifact]) -> dict[str, str]:
    """`model.int8.onnx in onnxruntime` to `int8 onnxruntime`; with the suffix where two would be one."""
    artifacts = list(artifacts)
    short = {one["name"]: f"{one['precision']} {one['package']}{_machine(one)}" for one in artifacts}
    longer = {
        one["name"]: f"{one['precision']} .{one['file'].rpartition('.')[2]} {one['package']}{_machine(one)}"
        for one in artifacts
    }
    chosen = {}
    for name in short:
        for names in (short, longer):
            if sum(other == names[name] for other in names.values()) == 1:
                chosen[name] = names[name]
                break
        else:
            chosen[name] = name
    return chosen


def series_numbers(artifacts: Iterable[Artifact]) -> dict[str, int]:
    """Name -> number; int8 first: most charts show it alone, and the first series differ most."""
    ordered = sorted(artifacts, key=lambda one: one["precision"] != "int8")
    return {one["name"]: number for number, one in enumerate(ordered)}


def int8_or_all(artifacts: Iterable[Artifact]) -> list[Artifact]:
    """The int8 artifacts that ran; where there is none, all that ran."""
    ran = [one for one in artifacts if one["accuracy"] is not None]
    return [one for one in ran if one["precision"] == "int8"] or ran


def distinct(artifacts: Iterable[Artifact], *keys: str) -> list[tuple[Artifact, int]]:
    """Artifacts of which something is not the same as of one before; and of how many it is the same.

    keys  lead to what is compared: `"accuracy", "curves"`
    """
    first: dict[str, Artifact] = {}
    count: dict[str, int] = {}
    for one in artifacts:
        value: Any = one
        for key in keys:
            value = value and value[key]
        text = json.dumps(value, sort_keys=True)
        first.setdefault(text, one)
        count[text] = count.get(text, 0) + 1
    return [(one, count[text]) for text, one in first.items()]


def _machine(one: Artifact) -> str:
    """`, board.jsonl`: where it was collected."""
    _, comma, machine = str(one["name"]).partition(f" in {one['package']}, ")
    return f", {machine}" if comma else ""
