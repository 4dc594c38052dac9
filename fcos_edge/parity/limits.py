"""How far an artifact may be from the reference: every number that `parity` judges by, and its reason.

All were chosen on the embedded detector: on `coco-person` and `voc-coco-mix`, in ONNX Runtime, OpenVINO,
ai-edge-litert and tflite-runtime, beside faults that were planted on purpose. "Measured" is the worst
unharmed artifact.

spread  standard deviation of the reference's values
floor   the one-bit floor: what flipping the lowest bit of one input value changes the logits of int8 by
points  hundredths of AP or of a miss rate
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class RawLimits:
    """Raw outputs: of a branch over all levels, or of one output.

    correlation  least; not judged where the reference hardly varies
    relative     mean difference, spreads
    shift        mean difference with its sign, of the worst channel, spreads of the channel
    difference   mean difference without its sign, of the worst channel, spreads of the channel
    """

    correlation: float
    relative: float
    shift: float
    difference: float


@dataclass(frozen=True)
class AgreementLimits:
    """Raw outputs and detections against the reference's.

    branch, output  of a branch over all levels, and of each output
    matched         least part of the detections of both sides that have a partner
    count           detections of one side / those of the other
    drift           mean score difference of partners, of all classes and of each
    """

    branch: RawLimits
    output: RawLimits
    matched: float
    count: float
    drift: float


@dataclass(frozen=True)
class Limits:
    """All limits of `parity`; those of accuracy and time can be set on the command line.

    max_ap_drop        points of AP, each class weighted by its boxes
    max_class_drop     points of AP of a class with at least `least_boxes` boxes
    max_miss_increase  points of the miss rate at the operating threshold of such a class
    least_boxes        classes with fewer are pooled and reported; with fewer boxes in all, the limit on
                       `max_ap_drop` grows with 1 / sqrt(boxes), as chance does
    max_latency_ratio  int8 time / fp32 time of the same runtime, whole pipeline
    max_latency_ms     median time of a picture, whole pipeline; None: not judged
    agreement_factor   all limits of agreement are this many times as wide
    noise_margin       of the part that is matched, below the reference's own under input noise of +-1
    max_floors         mean logit difference of an int8 artifact to the nearest other one, in floors
    least_asked        detections of the reference that their number is judged from
    least_pairs        partners that a drift is judged from
    spare              detections without a partner that are chance, however few there are
    """

    # int8 loses 0.3 points here on 230 pictures, and at most 1.3 on 180 draws of 20 to 40 of them. The mean
    # over classes moves by up to 7 points there, because classes of two boxes count as much as others.
    max_ap_drop: float = 1.5
    max_class_drop: float = 2.0
    # One to three detections of a hundred cross their threshold in int8, in both directions.
    max_miss_increase: float = 3.0
    least_boxes: int = 200
    # Usually 0.5; 0.9 in tflite-runtime, which knows no VNNI, and 1.0 there beside busy neighbours.
    max_latency_ratio: float = 1.5
    max_latency_ms: float | None = None
    agreement_factor: float = 1.0
    noise_margin: float = 0.03
    # OpenVINO reading the ONNX file, which loses a rounding, is at 3.1; all others below 1.3.
    max_floors: float = 4.0
    least_asked: int = 50
    least_pairs: int = 30
    spare: int = 3
    # Sums in another order: 2e-6 spreads measured.
    fp32: AgreementLimits = AgreementLimits(
        RawLimits(0.9999, 1e-3, 1e-3, 1e-3), RawLimits(0.9999, 1e-3, 1e-3, 1e-3), 0.99, 1.05, 0.001
    )
    # Weights rounded to 11 bits: 0.005 spreads measured, 0.02 in a network that is hardly trained.
    fp16: AgreementLimits = AgreementLimits(
        RawLimits(0.999, 0.04, 0.04, 0.05), RawLimits(0.999, 0.04, 0.04, 0.05), 0.98, 1.1, 0.005
    )
    # Measured: correlation 0.961 and 0.946, relative 0.17 and 0.20, shift 0.11 and 0.14, difference 0.21 and
    # 0.26, matched 0.973, count 0.93, drift 0.005. An input noise of one grey level does as much to float32.
    int8: AgreementLimits = AgreementLimits(
        RawLimits(0.93, 0.25, 0.20, 0.30), RawLimits(0.90, 0.28, 0.25, 0.40), 0.93, 1.33, 0.02
    )

    # Int8 weights alone: no more than all of int8.
    w8: AgreementLimits = int8

    def of(self, precision: str) -> AgreementLimits:
        """Those of `fp32`, `fp16`, `w8` or `int8`."""
        limits: AgreementLimits = getattr(self, precision)
        return limits

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)
