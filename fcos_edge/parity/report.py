"""The report of `parity`: all artifacts, what they were measured on, and the verdict."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fcos_edge.bench.figures import Ratio
from fcos_edge.detections import Detections
from fcos_edge.parity.accuracy import Accuracy, compare_accuracy, measure_accuracy
from fcos_edge.parity.agreement import PictureDisagreement, compare_detections, worst_pictures
from fcos_edge.parity.artifact import ArtifactParity, SelfAgreement
from fcos_edge.parity.baseline import SCHEMA_NAME, SCHEMA_VERSION
from fcos_edge.parity.gates import Gate
from fcos_edge.parity.latency import stage_latencies, time_ratio
from fcos_edge.parity.limits import Limits
from fcos_edge.parity.recording import VariantRun
from fcos_edge.parity.running import AllRuns, Compared, Pair
from fcos_edge.sensitivity_table import SensitivityTable
from fcos_edge.spec import ModelSpec

if TYPE_CHECKING:
    from fcos_edge.train.evaluation.evaluate import LabelledSplit

SCHEMA = SCHEMA_NAME + "{}.{}".format(*SCHEMA_VERSION)
# A network that hardly reacts to a flipped bit has no floor to speak of; rounding at its end remains.
_LEAST_FLOOR = 0.005  # standard deviations of the logits


@dataclass(frozen=True, eq=False)
class ParityReport:
    """What `parity` found.

    bundle      name, and the manifest's sha256
    data        name, split, number of pictures and boxes, classes
    reference   its run, and `why` it was chosen
    noise       None where the reference was read from a file
    skipped     files that nothing here runs
    baseline    gates against an earlier report, by artifact's name; None without one
    conditions  of the machine
    sensitivity the bundle's table; None where it has none
    command     the command line that repeats it; "" where there was none
    """

    bundle: Mapping[str, Any]
    data: Mapping[str, Any]
    reference: VariantRun
    why: str
    reference_accuracy: Accuracy
    noise: SelfAgreement | None
    artifacts: tuple[ArtifactParity, ...]
    pairs: tuple[Pair, ...]
    skipped: tuple[str, ...]
    limits: Limits
    conditions: Mapping[str, Any]
    picture_names: tuple[str, ...]
    picture_sizes_hw: tuple[tuple[int, int], ...] = ()
    baseline: Mapping[str, Any] | None = None
    sensitivity: SensitivityTable | None = None
    command: str = ""

    @property
    def failed(self) -> tuple[tuple[str, Gate], ...]:
        """(artifact, gate), in order; those against the baseline are among them."""
        return tuple((one.name, gate) for one in self.artifacts for gate in one.failed)

    @property
    def failures(self) -> list[str]:
        """What failed, a line for each gate."""
        return [f"{name}: {gate.name}: {gate.check.description}" for name, gate in self.failed]

    @property
    def passed(self) -> bool:
        return not self.failed

    def to_dict(self) -> dict[str, Any]:
        """JSON values; docs/parity.md describes them."""
        assert self.reference.spec is not None
        classes = self.reference.spec.classes
        return {
            "schema": SCHEMA,
            "passed": self.passed,
            "failed": self.failures,
            "bundle": dict(self.bundle),
            "data": dict(self.data),
            "conditions": dict(self.conditions),
            "limits": self.limits.to_dict(),
            "reference": {
                "name": self.reference.name, "why": self.why, "versions": dict(self.reference.versions),
                "operating_thresholds": dict(zip(classes, self.reference.thresholds, strict=True)),
                "accuracy": self.reference_accuracy.to_dict(),
            },
            "noise": self.noise and self.noise.to_dict(classes),
            "artifacts": [
                one.to_dict(self.reference, self.picture_names, self.picture_sizes_hw)
                for one in self.artifacts
            ],
            "pairs": [pair.to_dict() for pair in self.pairs],
            "skipped": list(self.skipped),
            "baseline": self.baseline,
            "sensitivity": self.sensitivity and self.sensitivity.to_dict(),
            "command": self.command,
        }  # fmt: skip


def build_artifacts(
    runs: AllRuns,
    reference: VariantRun,
    labelled: LabelledSplit,
    limits: Limits,
    resamples: int,
) -> tuple[Accuracy, SelfAgreement | None, tuple[ArtifactParity, ...]]:
    """The reference's accuracy, what noise does to it, and every artifact beside it, judged."""
    assert reference.spec is not None

    def accuracy_of(run: VariantRun) -> Accuracy:
        assert run.spec is not None
        found, thresholds = _of_classes(run, labelled.classes)
        return measure_accuracy(
            labelled, found, thresholds, resamples=resamples, least_boxes=limits.least_boxes
        )

    reference_accuracy = accuracy_of(reference)
    noise = None
    if runs.noise is not None:
        noise = SelfAgreement.of(reference, runs.noise)
    artifacts = []
    for compared in runs.artifacts:
        run = compared.run
        one = ArtifactParity(compared)
        if run.spec is not None and not run.failure:
            one = _measured(compared, reference, reference_accuracy, accuracy_of(run), runs)
        artifacts.append(one.judged(reference, noise, limits))
    return reference_accuracy, noise, tuple(artifacts)


def _measured(
    compared: Compared, reference: VariantRun, before: Accuracy, after: Accuracy, runs: AllRuns
) -> ArtifactParity:
    run = compared.run
    assert run.spec is not None
    assert reference.spec is not None
    agreement, one_bit, floors, nearest = None, None, None, ""
    worst: tuple[PictureDisagreement, ...] = ()
    if len(run.spec.classes) == len(reference.spec.classes):
        sides = (reference.detections, run.detections, reference.thresholds, run.thresholds)
        agreement, worst = compare_detections(*sides), worst_pictures(*sides)
    if compared.one_bit is not None:
        one_bit = SelfAgreement.of(run, compared.one_bit)
        spread = next(figure.spread for figure in compared.raw if figure.name == "logits")
        floor = max(one_bit.logit_change, _LEAST_FLOOR * spread)
        floors, nearest = _nearest(run.name, floor, runs.pairs)
    return ArtifactParity(
        compared, agreement, one_bit, after, compare_accuracy(before, after),
        stage_latencies(run.rounds_ms) if run.rounds_ms else None,
        _int8_ratio(run, runs.artifacts), floors, nearest, worst,
    )  # fmt: skip


def _of_classes(run: VariantRun, classes: Sequence[str]) -> tuple[list[Detections], list[float]]:
    """Detections and thresholds of `classes`, which are found by the names that the artifact gives them."""
    from fcos_edge.train.evaluation.evaluate import keep_classes

    spec = run.spec
    assert spec is not None
    found = keep_classes(run.detections, spec.classes, classes)
    of_name = dict(zip(spec.classes, run.thresholds, strict=True))
    return found, [of_name.get(name, 1.0) for name in classes]


def _int8_ratio(run: VariantRun, artifacts: Sequence[Compared]) -> Ratio | None:
    """int8 time / fp32 time of the same runtime and format."""
    variant = run.variant
    if variant.precision != "int8":
        return None
    suffix = variant.file.rpartition(".")[2]
    for other in (compared.run for compared in artifacts):
        is_same = other.variant.package == variant.package and other.variant.file.endswith(f".{suffix}")
        is_same &= other.machine == run.machine
        if is_same and other.variant.precision == "fp32" and not other.failure:
            return time_ratio(run.rounds_ms, other.rounds_ms)
    return None


def _nearest(name: str, floor: float, pairs: Sequence[Pair]) -> tuple[float | None, str]:
    """Mean logit difference to the nearest other int8 artifact, in floors, and which that is."""
    others = [
        (pair.mean_logit_difference, pair.second if pair.first == name else pair.first)
        for pair in pairs
        if name in (pair.first, pair.second)
    ]
    if not others:
        return None, ""
    # A NaN is near to nothing; where there is nothing else, it fails the gate.
    difference, nearest = min(others, key=lambda other: (math.isnan(other[0]), *other))
    return (difference / floor if floor else float(bool(difference)) * 1e9), nearest


def spec_digest(spec: ModelSpec) -> str:
    """What tells a model's conventions from others': sha256 of the spec without its provenance."""
    import hashlib
    import json

    values = {key: value for key, value in spec.to_dict().items() if key != "provenance"}
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
