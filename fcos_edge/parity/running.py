"""Run every artifact over the pictures, each in a process of its own, and compare on the way.

The pictures go through in blocks. In each block the reference comes first and every artifact has its turn,
only one process at a time; raw outputs are compared block by block and dropped, so that memory does not grow
with the data. Afterwards the artifacts take turns in short rounds that are timed.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from fcos_edge.bundle import Manifest, check_files
from fcos_edge.console import Progress
from fcos_edge.detections import Detections
from fcos_edge.errors import ArtifactError
from fcos_edge.parity.live import LiveVariant, Options, Values
from fcos_edge.parity.raw_differences import OutputDifference, RawDifferences, finite
from fcos_edge.parity.recording import VariantRun
from fcos_edge.parity.reference import Reference
from fcos_edge.spec import ModelSpec
from fcos_edge.workers.variants import Variant, files_of

_BLOCK = 16  # pictures; raw differences are several times as fast in blocks as one by one
_CALLS = 8  # in each round
_ROUNDS = 10


@dataclass(frozen=True, eq=False)
class Perturbed:
    """A network against itself with its input perturbed: what it found, and how its raw outputs moved."""

    detections: tuple[Detections, ...]
    raw: tuple[OutputDifference, ...]


@dataclass(frozen=True, eq=False)
class Compared:
    """A run, and what was compared on the way.

    raw      its raw outputs against the reference's; () where their shapes differ, or there is no reference
    one_bit  an int8 artifact against itself with one bit of its input flipped
    """

    run: VariantRun
    raw: tuple[OutputDifference, ...] = ()
    one_bit: Perturbed | None = None


@dataclass(frozen=True)
class Pair:
    """Two int8 artifacts: `unequal` of `count` raw values; mean difference of the logits, logit units."""

    first: str
    second: str
    count: int
    unequal: int
    mean_logit_difference: float

    def to_dict(self) -> dict[str, Any]:
        return {name: finite(value) for name, value in asdict(self).items()}


@dataclass(frozen=True, eq=False)
class AllRuns:
    """What `run_variants` found. noise: the reference under input noise of +-1."""

    reference: VariantRun | None
    noise: Perturbed | None
    artifacts: tuple[Compared, ...]
    pairs: tuple[Pair, ...]


def run_variants(
    folder: Path,
    manifest: Manifest,
    variants: Sequence[Variant],
    reference: Reference | None,
    pictures: Sequence[Path],
    options: Options,
) -> AllRuns:
    """Run `variants` of the bundle at `folder`, and the reference, over the pictures.

    reference  None: nothing is compared, only run

    What happens to one artifact is in its run's `failure`. Raises ArtifactError where the reference fails.
    """
    paths = [str(picture.resolve()) for picture in pictures]
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fcos-edge-parity-")))
        truth = None
        if reference is not None:
            truth = LiveVariant(stack, reference.variant, reference.path, 0, options)
        artifacts = [_of_bundle(stack, folder, manifest, variant, options) for variant in variants]
        live = [*([truth] if truth else []), *artifacts]
        timed = [paths[i] for i in np.linspace(0, len(paths) - 1, _CALLS).round().astype(int)]
        for one in live:
            one.start(paths[0], timed, scratch / "cache")
        if truth is not None:
            truth.require()
        session = _Session(truth, artifacts, scratch)
        progress = Progress("comparing" if truth else "collecting", len(paths))
        try:
            for start in range(0, len(paths), _BLOCK):
                seeds = range(start, min(start + _BLOCK, len(paths)))
                session.run_block([paths[i] for i in seeds], list(seeds))
                if truth is not None:
                    truth.require()
                progress.advance(seeds.stop)
        finally:
            progress.close()
        if options.is_timed:
            _time_rounds(artifacts)
        for one in live:
            one.ask_memory()
        if options.is_verified:
            for one in artifacts:
                one.verify(folder)
        return session.result()


def _of_bundle(
    stack: ExitStack, folder: Path, manifest: Manifest, variant: Variant, options: Options
) -> LiveVariant:
    artifact = files_of(manifest, variant)
    failure = ""
    try:
        check_files(folder, artifact)
    except ArtifactError as error:
        failure = str(error)
    num_bytes = sum(entry.bytes for entry in artifact.files)
    return LiveVariant(stack, variant, folder / variant.file, num_bytes, options, failure)


@dataclass(eq=False)
class _SelfComparison:
    """A network against itself, perturbed: what was found so far."""

    raw: RawDifferences
    detections: list[Detections] = field(default_factory=list)

    def add(self, own: Values, perturbed: tuple[list[Detections], Values]) -> None:
        self.detections += perturbed[0]
        self.raw.add(own, perturbed[1])

    def result(self) -> Perturbed:
        return Perturbed(tuple(self.detections), self.raw.figures())


class _Session:
    """All that is compared while the blocks go through."""

    def __init__(
        self, reference: LiveVariant | None, artifacts: Sequence[LiveVariant], scratch: Path
    ) -> None:
        self._reference = reference
        self._artifacts = artifacts
        self._raw_path = scratch / "raw"
        self._turn = 0
        self._raw: dict[int, RawDifferences] = {}
        self._one_bit: dict[int, _SelfComparison] = {}
        self._noise: _SelfComparison | None = None
        self._pairs: dict[tuple[int, int], list[tuple[int, int, float]]] = {}
        if reference is None or reference.spec is None:
            return
        self._noise = _SelfComparison(RawDifferences(reference.spec))
        for index, one in enumerate(artifacts):
            if one.spec is None or _shapes(one.spec) != _shapes(reference.spec):
                continue
            self._raw[index] = RawDifferences(reference.spec)
            if one.is_int8:
                self._one_bit[index] = _SelfComparison(RawDifferences(one.spec))

    def run_block(self, pictures: list[str], seeds: list[int]) -> None:
        truth = None
        if self._reference is not None and self._noise is not None:
            truth = self._reference.detect(pictures, seeds, self._raw_path)
            noisy = self._reference.detect_perturbed("noise", pictures, seeds, self._raw_path)
            if truth is not None and noisy is not None:
                self._noise.add(truth, noisy)
        int8: dict[int, Values] = {}
        for index in self._order():
            one = self._artifacts[index]
            is_compared = truth is not None and index in self._raw
            values = one.detect(pictures, seeds, self._raw_path if is_compared else None)
            if truth is None or values is None:
                continue
            self._raw[index].add(truth, values)
            if index in self._one_bit:
                int8[index] = values
                if flipped := one.detect_perturbed("bit", pictures, seeds, self._raw_path):
                    self._one_bit[index].add(values, flipped)
        for first, second in combinations(sorted(int8), 2):
            self._pairs.setdefault((first, second), []).append(_pair_block(int8[first], int8[second]))

    def result(self) -> AllRuns:
        artifacts = []
        for index, one in enumerate(self._artifacts):
            raw = self._raw[index].figures() if index in self._raw and one.detections else ()
            one_bit = None
            if index in self._one_bit and self._one_bit[index].detections:
                one_bit = self._one_bit[index].result()
            artifacts.append(Compared(one.run(), raw, one_bit))
        reference = noise = None
        if self._reference is not None:
            reference = self._reference.run()
            noise = self._noise.result() if self._noise and self._noise.detections else None
        return AllRuns(reference, noise, tuple(artifacts), tuple(self._pair_figures()))

    def _order(self) -> Iterator[int]:
        """Another one begins in every block: what comes after a long pause has colder caches."""
        count = len(self._artifacts)
        yield from ((self._turn + place) % count for place in range(count))
        self._turn += 1

    def _pair_figures(self) -> Iterator[Pair]:
        for (first, second), blocks in self._pairs.items():
            count, unequal = sum(b[0] for b in blocks), sum(b[1] for b in blocks)
            names = self._artifacts[first].variant.name, self._artifacts[second].variant.name
            yield Pair(*names, count, unequal, float(np.mean([b[2] for b in blocks])))


def _pair_block(first: Values, second: Values) -> tuple[int, int, float]:
    """Values, those that differ, and the mean difference of the logits."""
    count = sum(values.size for values in first.values())
    unequal = sum(int((first[name] != second[name]).sum()) for name in first)
    return count, unequal, float(np.abs(first["logits"] - second["logits"]).mean(dtype=np.float64))


def _time_rounds(live: Sequence[LiveVariant]) -> None:
    progress = Progress("timing", _ROUNDS)
    try:
        for turn in range(_ROUNDS):
            for place in range(len(live)):
                live[(turn + place) % len(live)].time_round(_CALLS)
            progress.advance(turn + 1)
    finally:
        progress.close()


def _shapes(spec: ModelSpec) -> tuple[object, ...]:
    return len(spec.classes), spec.level_names, spec.level_hw
