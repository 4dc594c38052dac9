"""What was found out about one artifact: beside the reference, with its gates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from fcos_edge.bench.figures import Latency, Ratio
from fcos_edge.conventions import changed_conventions
from fcos_edge.parity.accuracy import Accuracy, AccuracyDifference
from fcos_edge.parity.agreement import Agreement, PictureDisagreement, compare_detections
from fcos_edge.parity.gates import (
    Gate,
    accuracy_gates,
    agreement_gates,
    conventions_gate,
    fact_gate,
    floors_gate,
    latency_gates,
    raw_gate,
)
from fcos_edge.parity.limits import Limits
from fcos_edge.parity.raw_differences import OutputDifference, finite
from fcos_edge.parity.recording import VariantRun
from fcos_edge.parity.running import Compared, Perturbed


@dataclass(frozen=True)
class SelfAgreement:
    """A network against itself with its input perturbed: one bit flipped, or noise of +-1 added."""

    agreement: Agreement
    raw: tuple[OutputDifference, ...]

    @classmethod
    def of(cls, run: VariantRun, perturbed: Perturbed) -> SelfAgreement:
        """From what it found in the pictures as they are, and perturbed."""
        sides = (run.detections, perturbed.detections, run.thresholds, run.thresholds)
        return cls(compare_detections(*sides), perturbed.raw)

    @property
    def logit_change(self) -> float:
        """Mean absolute change of the logits; of an int8 artifact under one bit, the one-bit floor."""
        return next(figure.mean_abs for figure in self.raw if figure.name == "logits")

    def to_dict(self, classes: Sequence[str]) -> dict[str, Any]:
        return {
            "logit_change": finite(self.logit_change),
            "agreement": self.agreement.to_dict(classes),
            "raw": [figure.to_dict() for figure in self.raw],
        }


@dataclass(frozen=True, eq=False)
class ArtifactParity:
    """One artifact in one runtime. Where it failed, everything after that is None or empty.

    accuracy, difference  on the labels, and against the reference's
    latency               milliseconds of each stage and the whole
    latency_ratio         int8 time / fp32 time in the same runtime; None where there are not both
    floors, nearest       mean logit difference to the nearest other int8 artifact, in one-bit floors
    worst                 the pictures that differ most from the reference
    """

    compared: Compared
    agreement: Agreement | None = None
    one_bit: SelfAgreement | None = None
    accuracy: Accuracy | None = None
    difference: AccuracyDifference | None = None
    latency: Mapping[str, Latency] | None = None
    latency_ratio: Ratio | None = None
    floors: float | None = None
    nearest: str = ""
    worst: tuple[PictureDisagreement, ...] = ()
    gates: tuple[Gate, ...] = ()

    @property
    def run(self) -> VariantRun:
        return self.compared.run

    @property
    def name(self) -> str:
        """`model.int8.onnx in onnxruntime`."""
        return self.run.name

    @property
    def failed(self) -> tuple[Gate, ...]:
        return tuple(gate for gate in self.gates if not gate.passed)

    def judged(self, reference: VariantRun, noise: SelfAgreement | None, limits: Limits) -> ArtifactParity:
        """With its gates."""
        return replace(self, gates=tuple(_gates(self, reference, noise, limits)))

    def to_dict(
        self, reference: VariantRun, picture_names: Sequence[str], sizes_hw: Sequence[tuple[int, int]] = ()
    ) -> dict[str, Any]:
        """JSON values; docs/parity.md describes them.

        sizes_hw: of the pictures; (0, 0), or none at all, where they are not known
        """
        run, variant = self.run, self.run.variant
        names = run.spec.classes if run.spec is not None else ()
        return {
            "name": self.name, "file": variant.file, "precision": variant.precision,
            "runtime": variant.runtime, "package": variant.package, "threads": run.threads,
            "bytes": run.bytes, "versions": dict(run.versions),
            "operating_thresholds": dict(zip(names, run.thresholds, strict=bool(names))),
            "passed": not self.failed, "failure": run.failure,
            "gates": [gate.to_dict() for gate in self.gates],
            "accuracy": self.accuracy and self.accuracy.to_dict(),
            "difference": self.difference and self.difference.to_dict(),
            "agreement": self.agreement and self.agreement.to_dict(names),
            "one_bit": self.one_bit and self.one_bit.to_dict(names),
            "raw": [figure.to_dict() for figure in self.compared.raw],
            "floors": {"value": finite(self.floors), "nearest": self.nearest},
            "latency_ms": self.latency and {name: one.to_dict() for name, one in self.latency.items()},
            "latency_ratio": self.latency_ratio and vars(self.latency_ratio),
            "load_ms": run.load_ms, "first_ms": run.first_ms, "memory_mib": dict(run.memory_mib),
            "verify": run.verify,
            "worst_pictures": [
                self._picture(one, reference, picture_names, sizes_hw) for one in self.worst
            ],
        }  # fmt: skip

    def _picture(
        self,
        one: PictureDisagreement,
        reference: VariantRun,
        picture_names: Sequence[str],
        sizes_hw: Sequence[tuple[int, int]],
    ) -> dict[str, Any]:
        """What both sides found there, at their operating thresholds."""
        sides = {
            name: run.detections[one.picture].filtered(run.thresholds).to_records(run.spec.classes)
            for name, run in (("reference", reference), ("found", self.run))
            if run.spec is not None
        }
        size_hw = list(sizes_hw[one.picture]) if sizes_hw and all(sizes_hw[one.picture]) else None
        return {"file": picture_names[one.picture], "size_hw": size_hw, **one.to_dict(), **sides}


def differences_of_classes(difference: AccuracyDifference) -> tuple[dict[str, float], dict[str, float]]:
    """Class -> AP lost, and class -> misses more, 0..1, where there are boxes."""
    drops = {row.name: -row.ap.value for row in difference.classes if row.ap is not None}
    misses = {row.name: row.miss_rate.value for row in difference.classes if row.miss_rate is not None}
    return drops, misses


def _gates(
    one: ArtifactParity, reference: VariantRun, noise: SelfAgreement | None, limits: Limits
) -> list[Gate]:
    run = one.run
    gates = [fact_gate("runs", "artifact", run.failure)]
    if run.verify is not None:
        gates.append(fact_gate("golden", "golden pictures", what_verify_found(run.verify)))
    if run.spec is not None and reference.spec is not None:
        # An int8 file has thresholds of its own; that they are those it was exported with, `golden` says.
        thresholds = reference.thresholds if run.variant.precision == "int8" else run.thresholds
        sides = (run.spec, thresholds, reference.spec, reference.thresholds)
        gates.append(conventions_gate(changed_conventions(*sides, other="the reference's is")))
    if run.failure:
        return gates
    precision = run.variant.precision
    gates += raw_gate(one.compared.raw, noise.raw if noise else (), precision, limits)
    gates += floors_gate(one.floors, one.nearest, limits)
    if one.agreement is not None and run.spec is not None:
        of_noise = noise.agreement if noise else None
        gates += agreement_gates(one.agreement, of_noise, run.spec.classes, precision, limits)
    if one.difference is not None:
        drops, misses = differences_of_classes(one.difference)
        boxes = {row.name: row.reference.boxes for row in one.difference.classes}
        gates += accuracy_gates(drops, misses, boxes, limits)
    whole_ms = one.latency["whole"].p50_ms if one.latency else None
    ratio = one.latency_ratio.median if one.latency_ratio else None
    gates += latency_gates(ratio, whole_ms, limits)
    return gates


def what_verify_found(verify: Mapping[str, Any]) -> str:
    """What failed in `verify`, and what the user should know about this computer; "" where all passed."""
    note = f" ({verify['note']})" if verify["note"] else ""
    return f"{verify['failure']}{note}" if not verify["passed"] else ""
