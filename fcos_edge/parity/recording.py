"""What one artifact made of every picture: detections and times, in memory and as JSON Lines.

    {"schema": "fcos-edge.parity-run/1.0", "bundle": ..., "data": ..., "pictures": [...], "conditions": ...}
    {"variant": {...}, "threads": ..., "versions": ..., "verify": ..., ...}
    {"picture": 0, "boxes_xyxy": [[...]], "scores": [...], "labels": [...]}
    {"picture": 1, ...}

So a board without faster-coco-eval collects, and a workstation makes the report. A variant's pictures follow
its line.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from fcos_edge.detections import Detections
from fcos_edge.errors import SpecError, UsageError
from fcos_edge.spec import ModelSpec, check_version
from fcos_edge.workers.variants import Variant
from fcos_edge.writing import naming

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

    bundle      sha256 of the bundle's manifest
    data        name and split of the data
    conditions  of the machine (conditions.measure_conditions)
    """

    bundle: str
    data: str
    pictures: tuple[PictureId, ...]
    conditions: Mapping[str, Any]
    runs: tuple[VariantRun, ...]


def check_recording_file(path: Path) -> None:
    """Raise UsageError where a recording cannot go to `path`: before the work, not after it."""
    if path.exists() or path.is_symlink():
        raise UsageError(f"--collect {path}: is there already; name another file, or move this one")
    part = path.with_name(f".{path.name}.part")
    if not path.parent.is_dir():
        raise UsageError(f"--collect {path}: there is no folder {path.parent}; make it first")
    with naming(path, "choose another --collect"):
        part.touch()
        part.unlink()


def write_recording(path: Path, recording: Recording) -> None:
    """Write JSON Lines, whole or not at all. Raises UsageError where the disk refuses."""
    part = path.with_name(f".{path.name}.part")
    try:
        with naming(path, "choose another --collect"):
            with part.open("w", encoding="utf-8") as file:
                for line in _lines(recording):
                    file.write(json.dumps(line, allow_nan=False) + "\n")
            os.replace(part, path)
    finally:
        with suppress(OSError):  # what stopped the writing is said already
            part.unlink(missing_ok=True)


def read_recording(path: Path) -> Recording:
    """Read what `write_recording` wrote. Raises UsageError for anything else."""
    try:
        with path.open(encoding="utf-8") as file:
            lines = [json.loads(line) for line in file]
        head, *rest = lines
        schema = head["schema"]
        if not schema.startswith(RUN_SCHEMA):
            raise ValueError(f"its schema is {schema!r}")
        check_version(str(path), schema.removeprefix(RUN_SCHEMA), RUN_VERSION)
        pictures = tuple(PictureId(**entry) for entry in head["pictures"])
        runs = tuple(_read_runs(rest, len(pictures), path.name))
        return Recording(head["bundle"], head["data"], pictures, head["conditions"], runs)
    except OSError as error:
        raise UsageError(f"--from {path}: cannot be read ({error.strerror}); check the path") from None
    except (ValueError, KeyError, TypeError, AttributeError, SpecError) as error:
        raise UsageError(
            f"--from {path}: not what `parity --collect` wrote ({' '.join(str(error).split())[:200]});"
            " collect again"
        ) from None


def _lines(recording: Recording) -> Iterator[dict[str, Any]]:
    yield {
        "schema": RUN_SCHEMA + "{}.{}".format(*RUN_VERSION),
        "bundle": recording.bundle,
        "data": recording.data,
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
        values = {name: head[name] for name in _HEAD}
        thresholds = tuple(map(float, head["thresholds"]))
        variant = Variant(**head["variant"], python="")
        yield VariantRun(
            variant, spec=spec, thresholds=thresholds, detections=detections, machine=machine, **values
        )
