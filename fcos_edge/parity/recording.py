"""What one artifact made of every picture: detections and times, in memory and as JSON Lines.

    {"schema": "fcos-edge.parity-run/1.0", "bundle": ..., "artifacts": 2, "pictures": [...], ...}
    {"variant": {...}, "threads": ..., "versions": ..., "verify": ..., ...}
    {"picture": 0, "boxes_xyxy": [[...]], "scores": [...], "labels": [...]}
    {"picture": 1, ...}

So a board without faster-coco-eval collects, and a workstation makes the report. A variant's pictures follow
its line.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from fcos_edge.artifact import PRECISIONS
from fcos_edge.detections import Detections
from fcos_edge.errors import SpecError, UsageError
from fcos_edge.spec import ModelSpec, check_version
from fcos_edge.workers.variants import Variant
from fcos_edge.writing import whole_file

RUN_VERSION = (1, 0)
RUN_SCHEMA = "fcos-edge.parity-run/"


@dataclass(frozen=True, eq=False)
class VariantRun:
    """One artifact in one runtime.

    variant      what ran; `torch` runs the checkpoint
    machine      the file that it was read from, "" for this machine
    threads      it computed with
    spec         from the document inside the file; None where it could not be loaded
    thresholds   operating threshold of each class
    bytes        of all its files
    versions     package -> version, where it ran
    load_ms      until it was ready, first_ms the first inference after that
    memory       resident MiB: `before` loading, at `rest`, at the `peak`
    rounds_ms    milliseconds of letterbox, inference and post-processing of each call, round by round; in
                 each round every artifact had its turn
    verify       what `verify` said of it (ArtifactReport.to_dict), None where it was not asked
    failure      why there is nothing else, or only a part: "" where all went well
    detections   above the candidate threshold, in the data's order of pictures
    """

    variant: Variant
    threads: int
    spec: ModelSpec | None = None
    thresholds: tuple[float, ...] = ()
    bytes: int = 0
    versions: Mapping[str, str] = field(default_factory=dict)
    load_ms: float | None = None
    first_ms: float | None = None
    memory_mib: Mapping[str, float | None] = field(default_factory=dict)
    rounds_ms: Sequence[Sequence[Sequence[float]]] = ()
    verify: Mapping[str, Any] | None = None
    failure: str = ""
    detections: tuple[Detections, ...] = ()
    machine: str = ""

    @property
    def name(self) -> str:
        """`model.int8.onnx in onnxruntime`, and where from if that is another machine."""
        return self.variant.name + (f", {self.machine}" if self.machine else "")

    def head(self) -> dict[str, Any]:
        """All but the detections, as JSON values."""
        values = {name: getattr(self, name) for name in _HEAD}
        variant = {name: value for name, value in asdict(self.variant).items() if name != "python"}
        spec = None if self.spec is None else self.spec.to_dict()
        return {"variant": variant, "spec": spec, **values, "thresholds": list(self.thresholds)}


_HEAD = (
    "threads", "bytes", "versions", "load_ms", "first_ms", "memory_mib", "rounds_ms", "verify", "failure",
)  # fmt: skip


@dataclass(frozen=True)
class PictureId:
    """What tells a picture of the data from others: its id there, its name, and the sha256 of its file."""

    image_id: int
    file: str
    sha256: str


@dataclass(frozen=True, eq=False)
class Recording:
    """All runs over one set of pictures on one machine.

    machine     the name of the file that it was read from, "" for this machine
    bundle      sha256 of the bundle's manifest
    data        name and split of the data
    conditions  of the machine (conditions.measure_conditions)
    """

    bundle: str
    data: str
    pictures: tuple[PictureId, ...]
    conditions: Mapping[str, Any]
    runs: tuple[VariantRun, ...]
    machine: str = ""


def write_recording(path: Path, recording: Recording) -> None:
    """Write JSON Lines, whole or not at all. Raises UsageError where the disk refuses."""
    with whole_file(path, "choose another --collect") as file:
        for line in _lines(recording):
            file.write(json.dumps(line, allow_nan=False) + "\n")


def read_recording(path: Path, machine: str | None = None) -> Recording:
    """Read what `write_recording` wrote. Raises UsageError for anything else.

    machine: what it is called; by default the file's name
    """
    machine = path.name if machine is None else machine
    try:
        with path.open(encoding="utf-8") as file:
            lines = [json.loads(line) for line in file]
        if not lines:
            raise ValueError("it is empty")
        head, *rest = lines
        schema = head["schema"]
        if not schema.startswith(RUN_SCHEMA):
            raise ValueError(f"its schema is {schema!r}")
        _check_version(path, schema.removeprefix(RUN_SCHEMA))
        pictures = tuple(PictureId(**entry) for entry in head["pictures"])
        runs = tuple(_read_runs(rest, len(pictures), machine))
        if len(runs) != head["artifacts"]:
            raise ValueError(f"{len(runs)} artifacts of {head['artifacts']}: the file is cut short")
        return Recording(head["bundle"], head["data"], pictures, dict(head["conditions"]), runs, machine)
    except OSError as error:
        raise UsageError(f"--from {path}: cannot be read ({error.strerror}); check the path") from None
    except KeyError as error:
        raise _not_a_recording(path, f"{error} is missing") from None
    except (ValueError, TypeError, AttributeError, OverflowError, RecursionError, SpecError) as error:
        raise _not_a_recording(path, str(error)) from None


def _check_version(path: Path, version: str) -> None:
    try:
        check_version("recording", version, RUN_VERSION)
    except SpecError as error:
        raise UsageError(f"--from {path}: {error}") from None


def _not_a_recording(path: Path, why: str) -> UsageError:
    return UsageError(
        f"--from {path}: not what `parity --collect` wrote ({' '.join(why.split())[:200]}); collect again"
    )


def _lines(recording: Recording) -> Iterator[dict[str, Any]]:
    yield {
        "schema": RUN_SCHEMA + "{}.{}".format(*RUN_VERSION),
        "bundle": recording.bundle,
        "data": recording.data,
        "artifacts": len(recording.runs),
        "pictures": [asdict(picture) for picture in recording.pictures],
        "conditions": dict(recording.conditions),
    }
    for run in recording.runs:
        yield run.head()
        for index, found in enumerate(run.detections):
            yield {"picture": index, **found.to_lists()}


def _read_runs(lines: Sequence[Mapping[str, Any]], num_pictures: int, machine: str) -> Iterator[VariantRun]:
    starts = [index for index, line in enumerate(lines) if "variant" in line]
    if not starts or starts[0] != 0:
        raise ValueError("no artifact's line where one was expected")
    for start, stop in zip(starts, [*starts[1:], len(lines)], strict=True):
        head, rows = lines[start], lines[start + 1 : stop]
        spec = None if head["spec"] is None else ModelSpec.from_dict(head["spec"])
        detections = tuple(map(Detections.from_lists, rows))
        if [row["picture"] for row in rows] != list(range(len(rows))):
            raise ValueError("pictures are missing between others")
        if len(rows) != num_pictures and not head["failure"]:
            raise ValueError(f"{len(rows)} pictures of {num_pictures}: the file is cut short")
        if spec is not None and len(head["thresholds"]) != len(spec.classes):
            raise ValueError("its thresholds do not fit its classes")
        if spec is not None and any((one.labels >= len(spec.classes)).any() for one in detections):
            raise ValueError("a label is none of its classes")
        thresholds = tuple(map(float, head["thresholds"]))
        variant = Variant(**head["variant"], python="")
        if variant.precision not in PRECISIONS:
            raise ValueError(f"its precision is {variant.precision!r}")
        values = _checked({name: head[name] for name in _HEAD})
        yield VariantRun(
            variant, spec=spec, thresholds=thresholds, detections=detections, machine=machine, **values
        )


def _checked(values: dict[str, Any]) -> dict[str, Any]:
    """What the report counts on. Raises one of `read_recording`'s errors for anything else."""
    for stages_ms in (call for calls in values["rounds_ms"] for call in calls):
        letterbox, inference, postprocess = stages_ms
        if not 0 < letterbox + inference + postprocess < math.inf:
            raise ValueError("its times are no milliseconds")
    for mib in values["memory_mib"].values():
        float(mib or 0)
    if not isinstance(values["failure"], str):
        raise ValueError("its failure is no text")
    if values["verify"] is not None:
        missing = {"passed", "failure", "note"} - values["verify"].keys()
        if missing:
            raise ValueError(f"its verify lacks {', '.join(sorted(missing))}")
    return {**values, "versions": dict(values["versions"])}
