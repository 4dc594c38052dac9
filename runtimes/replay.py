"""Recorded outputs in place of a network: a runtime for tests, and for looking at a recording again.

runtime = ReplayRuntime([raw_outputs])          # from memory
save_recording(path, spec, info, [raw_outputs])  # path ends in .npz; `fcos_edge.load(path)` plays it
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from fcos_edge.artifact import DOCUMENT_KEY, ArtifactInfo, dump_document
from fcos_edge.errors import ArtifactError
from fcos_edge.runtime import Branch, LoadOptions, RawOutputs, UInt8Array, reason_of
from fcos_edge.spec import BRANCHES, ModelSpec


def read_recorded_document(path: Path) -> str:
    """The document in a recording. Raises ArtifactError where there is none."""
    with _open(path) as archive:
        return str(archive[DOCUMENT_KEY])


READERS = {".npz": read_recorded_document}
PACKAGES = ()
REQUIREMENT = ""
FIRST_ON = ()


class ReplayRuntime:
    """Plays recorded outputs, one per run, and starts over after the last.

    recordings   what the runs return, in turn
    num_runs     how many runs there were
    last_images  a copy of what the last one was given, None before the first
    is_closed    whether `close` was called
    """

    def __init__(self, recordings: Sequence[RawOutputs]) -> None:
        if not recordings:
            raise ValueError("recordings: found none, expected at least one")
        self.recordings = tuple(recordings)
        self.num_runs = 0
        self.last_images: UInt8Array | None = None
        self.is_closed = False
        self._has_submitted = False

    def run(self, images: UInt8Array) -> RawOutputs:
        """The next recording, whatever the pictures are."""
        recording = self.recordings[self.num_runs % len(self.recordings)]
        self.num_runs += 1
        self.last_images = images.copy()
        return recording

    def submit(self, images: UInt8Array) -> None:
        """Take pictures; `wait` must follow before the next."""
        if self._has_submitted:
            raise RuntimeError("submit: the batch before was not waited for")
        self._has_submitted = True
        self.last_images = images.copy()

    def wait(self) -> RawOutputs:
        """The recording for what was submitted."""
        if not self._has_submitted or self.last_images is None:
            raise RuntimeError("wait: nothing was submitted")
        self._has_submitted = False
        return self.run(self.last_images)

    def close(self) -> None:
        """Note that it was called."""
        self.is_closed = True


def save_recording(path: Path, spec: ModelSpec, info: ArtifactInfo, recordings: Sequence[RawOutputs]) -> None:
    """Write what a network returned to `path`, an .npz file that `fcos_edge.load` plays like a model."""
    arrays: dict[str, Any] = {DOCUMENT_KEY: np.array(dump_document(spec, info))}
    for index, recording in enumerate(recordings):
        for name, branch in zip(BRANCHES, recording, strict=True):
            arrays[f"{name}_{index}"] = branch.values
            # float64 holds every float32 scale and zero point exactly.
            arrays[f"{name}_{index}_quantization"] = np.array(branch.quantization, np.float64).reshape(-1, 2)
    np.savez(path, **arrays)


def devices() -> tuple[str, ...]:
    """None: nothing is computed."""
    return ()


def load(path: Path, spec: ModelSpec, info: ArtifactInfo, options: LoadOptions) -> ReplayRuntime:
    """Read what `save_recording` wrote; device and threads change nothing.

    Raises ArtifactError where it does not fit the spec.
    """
    with _open(path) as archive:
        count = sum(name.removeprefix("logits_").isdigit() for name in archive.files)
        recordings = [
            RawOutputs(*(_branch(archive, f"{name}_{index}") for name in BRANCHES)) for index in range(count)
        ]
    if not recordings:
        raise ArtifactError(f"{path}: holds no recording")
    locations, classes = spec.num_locations, len(spec.classes)
    for recording in recordings:
        shapes = [branch.values.shape[1:] for branch in recording]
        if shapes != [(locations, classes), (locations, 4), (locations,)]:
            raise ArtifactError(f"{path}: the recorded shapes {shapes} do not fit the spec")
    return ReplayRuntime(recordings)


@contextmanager
def _open(path: Path) -> Iterator[Any]:
    try:
        # Opened here, because np.load leaves a file that it cannot read open.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            yield archive
    except (OSError, ValueError, EOFError, KeyError, AttributeError, TypeError, zipfile.BadZipFile) as error:
        raise ArtifactError(f"{path}: no recording: {reason_of(error)}") from None


def _branch(archive: Any, name: str) -> Branch:
    levels = archive[f"{name}_quantization"]
    return Branch(archive[name], tuple((float(scale), int(zero_point)) for scale, zero_point in levels))
