"""Slow, obvious versions of the fast code, written from the definitions: float64, plain loops, no tricks.

They import nothing from the code under test but the spec. Formulas: FCOS, arXiv 1904.01355, sections 3.1
to 3.3, with the variants that the spec names.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from fcos_edge.spec import ModelSpec

Box = tuple[float, float, float, float]  # left, top, right, bottom


@dataclass(frozen=True)
class Found:
    """One detection in source pixels."""

    box_xyxy: Box
    score: float
    label: int


@dataclass
class Judge:
    """Takes decisions, and remembers those that float32 rounding could turn around.

    A test compares decisions only where `close_calls` is empty. Exact equality is no close call: it is a
    tie, which the code must break in the documented way.
    """

    close_calls: list[str] = field(default_factory=list)

    def exceeds(self, value: float, bound: float, tolerance: float, what: str) -> bool:
        if value != bound and abs(value - bound) <= tolerance:
            self.close_calls.append(f"{what}: {value} against {bound}")
        return value > bound


@dataclass(frozen=True)
class _Candidate:
    index: int  # place in the raw outputs: location * classes + label
    location: int
    label: int
    level: int
    score: float


def sigmoid(logit: float) -> float:
    if logit >= 0:
        return 1 / (1 + math.exp(-logit))
    return math.exp(logit) / (1 + math.exp(logit))


def locations(spec: ModelSpec) -> list[tuple[float, float, int]]:
    """(x, y, level) of every location, level by level, row by row."""
    found: list[tuple[float, float, int]] = []
    for level, stride in enumerate(spec.strides):
        for row in range(math.ceil(spec.input_hw[0] / stride)):
            for column in range(math.ceil(spec.input_hw[1] / stride)):
                first = math.floor(spec.location_offset * stride)
                found.append((first + column * stride, first + row * stride, level))
    return found


def letterbox_geometry(spec: ModelSpec, source_hw: tuple[int, int]) -> tuple[int, int, int, int]:
    """(left, top, width, height) of the resized picture inside the input."""
    (input_h, input_w), (source_h, source_w) = spec.input_hw, source_hw
    width, height = input_w, input_h
    if spec.resize == "letterbox":
        scale = min(Fraction(input_w, source_w), Fraction(input_h, source_h))
        width = max(1, math.floor(source_w * scale + Fraction(1, 2)))
        height = max(1, math.floor(source_h * scale + Fraction(1, 2)))
    if spec.pad_position == "centre":
        return (input_w - width) // 2, (input_h - height) // 2, width, height
    return 0, 0, width, height


def to_source(spec: ModelSpec, source_hw: tuple[int, int], box: Box) -> Box:
    """A box of the input in pixels of the source picture, clipped to it."""
    left, top, width, height = letterbox_geometry(spec, source_hw)
    source_h, source_w = source_hw

    def x_of(x: float) -> float:
        return min(max((x - left) * source_w / width, 0.0), float(source_w))

    def y_of(y: float) -> float:
        return min(max((y - top) * source_h / height, 0.0), float(source_h))

    return x_of(box[0]), y_of(box[1]), x_of(box[2]), y_of(box[3])


def iou(a: Box, b: Box) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    intersection = width * height
    area_a = (a[2] - a[0]) * (a[3] - a[1])
    area_b = (b[2] - b[0]) * (b[3] - b[1])
    return intersection / (area_a + area_b - intersection)


def nms(
    boxes: Sequence[Box], labels: Sequence[int] | None, bound: float, max_kept: int, judge: Judge
) -> list[int]:
    """Greedy: each box in turn is kept unless a kept one (of its class) overlaps it by more than `bound`."""

    def exceeds(overlap: float) -> bool:
        if overlap == bound > 0:
            # Boxes come from divisions, and hardly any bound is a float32: a tie, too, may turn around.
            judge.close_calls.append(f"iou: exactly {bound}")
        return judge.exceeds(overlap, bound, 1e-3, "iou")

    kept: list[int] = []
    for index, box in enumerate(boxes):
        rivals = [k for k in kept if labels is None or labels[k] == labels[index]]
        if not any(exceeds(iou(boxes[k], box)) for k in rivals):
            kept.append(index)
        if len(kept) == max_kept:
            break
    return kept


def detect(
    spec: ModelSpec, logits: Any, ltrb: Any, centerness: Any, source_hw: tuple[int, int], judge: Judge
) -> list[Found]:
    """All detections of one picture.

    logits: [L][C], ltrb: [L][4], centerness: [L]: raw real numbers; indexable, of any kind
    """
    where = locations(spec)
    per_level: list[list[_Candidate]] = [[] for _ in spec.strides]
    for location, (_, _, level) in enumerate(where):
        for label in range(len(spec.classes)):
            score = _candidate_score(spec, float(logits[location][label]), float(centerness[location]), judge)
            if score is not None:
                index = location * len(spec.classes) + label
                per_level[level].append(_Candidate(index, location, label, level, score))

    best = [c for level in per_level for c in _ranked(level, judge)[: spec.pre_nms_topk_per_level]]
    found = []
    for candidate in _ranked(best, judge):
        x, y, level = where[candidate.location]
        raw = [float(value) for value in ltrb[candidate.location]]
        if any(math.isnan(value) for value in raw):
            continue
        left, top, right, bottom = (_distance(spec, value, level) for value in raw)
        box = to_source(spec, source_hw, (x - left, y - top, x + right, y + bottom))
        # A thousandth of a pixel is no box; nothing at all is no close call.
        has_width = judge.exceeds(box[2] - box[0], 1e-3, 9e-4, "width")
        has_height = judge.exceeds(box[3] - box[1], 1e-3, 9e-4, "height")
        if has_width and has_height:
            found.append(Found(box, candidate.score, candidate.label))

    labels = [one.label for one in found] if spec.nms_per_class else None
    kept = nms([one.box_xyxy for one in found], labels, spec.nms_iou, spec.max_detections, judge)
    return [found[index] for index in kept]


def _candidate_score(spec: ModelSpec, logit: float, centerness_logit: float, judge: Judge) -> float | None:
    """The score of a candidate; None where it is none."""
    if math.isnan(logit) or math.isnan(centerness_logit):
        return None
    probability, centerness = sigmoid(logit), sigmoid(centerness_logit)
    score = {
        "sqrt": math.sqrt(probability * centerness),
        "product": probability * centerness,
        "class": probability,
    }[spec.score]
    compared = probability if spec.threshold_on == "class" else score
    threshold = spec.candidate_threshold
    return score if judge.exceeds(compared, threshold, 1e-5 * threshold, "threshold") else None


def _ranked(candidates: list[_Candidate], judge: Judge) -> list[_Candidate]:
    """By descending score; ties in the order of the raw outputs."""
    ranked = sorted(candidates, key=lambda one: (-one.score, one.index))
    for better, worse in itertools.pairwise(ranked):
        judge.exceeds(better.score, worse.score, 1e-5 * better.score, "order")
        # A logit below -80 may count as -80, and the root of its sigmoid is 4e-18: such scores have no order.
        judge.exceeds(1e-17, worse.score, 1e-17, "order of nothings")
    return ranked


def _distance(spec: ModelSpec, raw: float, level: int) -> float:
    if spec.distance == "exp":
        activated = math.exp(raw) if raw < 700 else math.inf
    else:
        activated = max(raw, 0.0)
    return activated * (spec.strides[level] if spec.distance_unit == "stride" else 1)
