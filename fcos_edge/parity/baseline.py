"""An earlier report beside today's: what got worse, judged by the same limits.

The reports may be of different releases, bundles or machines, but not of different data. Times of different
runs are not compared; int8 time / fp32 time is, a ratio within each run.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fcos_edge.comparison import Check
from fcos_edge.errors import SpecError, UsageError
from fcos_edge.parity.artifact import ArtifactParity
from fcos_edge.parity.gates import Gate, accuracy_gates
from fcos_edge.parity.limits import Limits
from fcos_edge.spec import check_version

SCHEMA_NAME = "fcos-edge.parity/"
SCHEMA_VERSION = (1, 0)
# Ratios of two runs: more than what neighbours on a shared machine do to one.
MAX_RATIO_GROWTH = 1.5


@dataclass(frozen=True)
class Baseline:
    """An earlier report: its file's name, and its artifacts by name."""

    file: str
    document: Mapping[str, Any]

    @property
    def artifacts(self) -> dict[str, Mapping[str, Any]]:
        return {one["name"]: one for one in self.document["artifacts"] if one["accuracy"]}


def read_baseline(path: Path) -> Baseline:
    """Read what `parity --json` printed. Raises UsageError for anything else."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        schema = document["schema"]
        if not schema.startswith(SCHEMA_NAME):
            raise ValueError(f"its schema is {schema!r}")
        check_version(str(path), schema.removeprefix(SCHEMA_NAME), SCHEMA_VERSION)
        for one in document["artifacts"]:
            if one["accuracy"]:
                one["name"], one["latency_ratio"]
                for row in one["accuracy"]["classes"].values():
                    row["boxes"] + row["AP"]
        dict(document["data"])
    except OSError as error:
        raise UsageError(f"--baseline {path}: cannot be read ({error.strerror}); check the path") from None
    except (ValueError, KeyError, TypeError, AttributeError, SpecError) as error:
        raise UsageError(
            f"--baseline {path}: not what `parity --json` printed ({' '.join(str(error).split())[:200]})"
        ) from None
    return Baseline(path.name, document)


def check_same_data(baseline: Baseline, data: Mapping[str, Any]) -> None:
    """Raise UsageError where the earlier report is of other pictures."""
    before = baseline.document["data"]
    for key in ("pictures_sha256", "classes", "boxes"):
        if before.get(key) != data[key]:
            raise UsageError(
                f"--baseline {baseline.file}: was measured on other data ({before.get('name')}, "
                f"{before.get('pictures')} pictures); give a report of {data['name']}"
            )


def judged_against(
    baseline: Baseline, artifacts: tuple[ArtifactParity, ...], limits: Limits
) -> tuple[tuple[ArtifactParity, ...], dict[str, Any]]:
    """The artifacts with gates against the baseline added, and what the report says of it."""
    judged, compared = [], []
    for one in artifacts:
        before = baseline.artifacts.get(one.name)
        gates: tuple[Gate, ...] = ()
        if before is not None and one.accuracy is not None:
            compared.append(one.name)
            gates = tuple(_gates(before, one, baseline.file, limits))
        judged.append(replace(one, gates=(*one.gates, *gates)))
    names = {one.name for one in artifacts}
    return tuple(judged), {
        "file": baseline.file,
        "bundle": baseline.document["bundle"],
        "compared": compared,
        "only_there": sorted(set(baseline.artifacts) - names),
        "only_here": sorted(names - set(compared)),
    }


def _gates(before: Mapping[str, Any], one: ArtifactParity, file: str, limits: Limits) -> Iterator[Gate]:
    assert one.accuracy is not None
    rows = before["accuracy"]["classes"]
    drops, misses, boxes = {}, {}, {}
    for row in one.accuracy.classes:
        earlier = rows.get(row.name)
        if earlier is None or min(earlier["AP"], row.ap) < 0:
            continue
        boxes[row.name] = row.boxes
        drops[row.name] = earlier["AP"] - row.ap
        if earlier["miss_rate"] is not None and row.miss_rate is not None:
            misses[row.name] = row.miss_rate - earlier["miss_rate"]
    yield from accuracy_gates(drops, misses, boxes, limits, against=file, prefix="baseline_")
    if one.latency_ratio is not None and before["latency_ratio"]:
        growth = one.latency_ratio.median / before["latency_ratio"]["median"]
        figure = f"int8 time / fp32 time, beside that of {file}"
        yield Gate("baseline_latency_ratio", Check("latency", figure, growth, MAX_RATIO_GROWTH))
