"""An earlier report beside today's: what got worse, judged by the same limits.

The reports may be of different releases, bundles or machines, but not of different data. Times of different
runs are not compared; int8 time / fp32 time is, a ratio within each run.
"""

from __future__ import annotations

import json
import math
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
SCHEMA_VERSION = (1, 1)
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

    def earlier(self, one: ArtifactParity) -> Mapping[str, Any] | None:
        """The same artifact there: of the same name, or the only one of that file and package.

        What was collected has its file's name in its own, which changes from week to week.
        """
        variant = one.run.variant
        same = [
            before
            for before in self.artifacts.values()
            if (before["file"], before["package"]) == (variant.file, variant.package)
        ]
        return self.artifacts.get(one.name) or (same[0] if len(same) == 1 else None)


def read_baseline(path: Path) -> Baseline:
    """Read what `parity --json` printed. Raises UsageError for anything else."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        schema = document["schema"]
        if not schema.startswith(SCHEMA_NAME):
            raise ValueError(f"its schema is {schema!r}")
        _check_version(path, schema.removeprefix(SCHEMA_NAME))
        for one in document["artifacts"]:
            if one["accuracy"]:
                _check_artifact(one)
        document["data"].keys(), document["bundle"].keys()
    except OSError as error:
        raise UsageError(f"--baseline {path}: cannot be read ({error.strerror}); check the path") from None
    except KeyError as error:
        raise _not_a_report(path, f"{error} is missing") from None
    except (ValueError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise _not_a_report(path, str(error)) from None
    return Baseline(path.name, document)


def _check_version(path: Path, version: str) -> None:
    try:
        check_version("report", version, SCHEMA_VERSION)
    except SpecError as error:
        raise UsageError(f"--baseline {path}: {error}") from None


def _check_artifact(one: Mapping[str, Any]) -> None:
    """Raise ValueError, KeyError or TypeError unless all that is compared is there."""
    figures = []
    if one["latency_ratio"] is not None and one["latency_ratio"]["median"] <= 0:
        raise ValueError("a latency ratio is not above 0")
    for row in one["accuracy"]["classes"].values():
        figures += [row["AP"], row["miss_rate"] or 0.0]
    if not all(isinstance(one[key], str) for key in ("name", "file", "package")):
        raise ValueError("an artifact has no name")
    if not all(map(math.isfinite, figures)):
        raise ValueError(f"{one['name']}: a figure is no finite number")


def _not_a_report(path: Path, why: str) -> UsageError:
    return UsageError(
        f"--baseline {path}: not what `parity --json` printed ({' '.join(why.split())[:200]}); give"
        " such a file"
    )


def check_same_data(baseline: Baseline, data: Mapping[str, Any]) -> None:
    """Raise UsageError where the earlier report is of other pictures."""
    before = baseline.document["data"]
    for key, what in (("pictures_sha256", "pictures"), ("classes", "classes"), ("boxes", "boxes")):
        found, wanted = before.get(key), data[key]
        if key == "classes" and isinstance(found, list):
            found, wanted = sorted(map(str, found)), sorted(wanted)
        if found != wanted:
            raise UsageError(
                f"--baseline {baseline.file}: was measured on other {what} ({before.get('name')}, "
                f"{before.get('pictures')} pictures, {before.get('boxes')} boxes); give a report of these"
                f" {data['pictures']} pictures and {data['boxes']} boxes of {data['name']}"
            )


def judged_against(
    baseline: Baseline, artifacts: tuple[ArtifactParity, ...], limits: Limits
) -> tuple[tuple[ArtifactParity, ...], dict[str, Any]]:
    """The artifacts with gates against the baseline added, and what the report says of it.

    Raises UsageError where none of them is in the baseline.
    """
    judged, compared, there, new = [], [], set(), []
    for one in artifacts:
        before = baseline.earlier(one)
        gates: tuple[Gate, ...] = ()
        if before is None:
            new.append(one.name)
        else:
            there.add(before["name"])
        if before is not None and one.accuracy is not None:
            compared.append(one.name)
            gates = tuple(_gates(before, one, baseline.file, limits))
        judged.append(replace(one, gates=(*one.gates, *gates)))
    if not there:
        # A gate that never judges anything would pass for ever.
        raise UsageError(
            f"--baseline {baseline.file}: has none of the artifacts that ran, it has"
            f" {', '.join(baseline.artifacts) or 'none at all'}; give a report of these"
        )
    return tuple(judged), {
        "file": baseline.file,
        "bundle": baseline.document["bundle"],
        "compared": compared,
        "only_there": sorted(set(baseline.artifacts) - there),
        "only_here": new,
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
