"""Turn raw FCOS outputs into detections; the formulas are the paper's (arXiv 1904.01355).

    class logits -> candidates -> scores -> best per level -> boxes -> source picture -> NMS -> detections

location    point (x, y) = floor(offset * s) + (i, j) * s of the input, s the stride of its level
ltrb        distances from a location to the four sides of its box
candidate   one location with one class; a location can be a candidate of several classes
score       sqrt(class * center-ness), or as the spec says

L  locations of all levels, P3 first, row by row
M  candidates
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from fcos_edge.candidates import INTEGER_DTYPES, find_above, gather, logit_bound
from fcos_edge.detections import Detections
from fcos_edge.errors import SpecError
from fcos_edge.letterbox import Letterbox
from fcos_edge.nms import Suppression
from fcos_edge.runtime import Branch, FloatArray, IntArray, RawOutputs
from fcos_edge.spec import ModelSpec, Score

if TYPE_CHECKING:
    import numpy.typing as npt

# Farther than any side of any input (16384), so a longer distance gives the same clipped box. Applied
# before the activation, this keeps infinities and the overflow of exp out of the arithmetic.
_MAX_DISTANCE = np.float32(2.0**20)
_MAX_EXPONENT = np.float32(np.log(2.0**20))
# Pixels of the source picture. Of a box that lies outside, rounding may leave a sliver of 1e-5 on the border.
_LEAST_SIDE = np.float32(1e-3)
# Candidates that are sorted and decoded together.
_PORTION = 256
_LTRB_SIGNS = np.array((-1, -1, 1, 1), np.float32)


class PostProcessor:
    """Post-processing of one model; keeps nothing of one picture for the next.

    Order: candidates are ranked by descending float32 score; ties keep the order of the raw outputs
    (level, row, column, class). int8 scores tie often, so `max_detections`, `pre_nms_topk_per_level`
    and NMS all follow this one order, and every runtime gives the same detections.

    Not numbers: where a class logit, a center-ness or one of the four distances is NaN, there is no
    detection; the rest of the picture is unharmed. A class logit of +inf is probability 1, an infinite
    distance reaches the border of the picture.

    Boxes are clipped to the source picture before NMS; one without area there (all in the padding, or
    outside) is dropped, though it has taken its place among the best of its level.
    """

    def __init__(self, spec: ModelSpec) -> None:
        self._spec = spec
        areas = [height * width for height, width in spec.level_hw]
        self._level_starts = tuple(int(start) for start in np.cumsum([0, *areas]))
        locations = self._level_starts[-1]
        self._shapes = ((locations, len(spec.classes)), (locations, 4), (locations,))
        self._level_of = np.repeat(np.arange(len(areas)), areas)  # [L]
        unit = spec.strides if spec.distance_unit == "stride" else [1] * len(areas)
        to_pixels = np.repeat(np.array(unit, np.float32), areas)[:, None] * _LTRB_SIGNS  # [L, 4]
        location_xy = _locations(spec)
        # x y x y of each location, then what its four distances are multiplied with.
        self._location_terms = np.concatenate([location_xy, location_xy, to_pixels], axis=1)  # [L, 8]
        self._logit_bound = logit_bound(_least_class_probability(spec))
        self._checked: RawOutputs | None = None
        # A score above the threshold is at least the next float32.
        self._least_score = np.float32(0)
        if spec.threshold_on == "score":
            self._least_score = np.nextafter(np.float32(spec.candidate_threshold), np.float32(2))

    def __call__(
        self, raw: RawOutputs, letterboxes: Sequence[Letterbox], least_score: float = 0.0
    ) -> list[Detections]:
        """Detections above the candidate threshold, one object per picture of the batch.

        raw:         logits (N, L, C), ltrb (N, L, 4), centerness (N, L); read before this returns
        letterboxes: N, what `apply` was called on
        least_score: what a score must reach, compared as float32. The result is that of no such limit
                     without what falls short of it, sooner: a worse box never changes a better one's fate

        Raises SpecError where the outputs do not fit the spec.
        """
        # A runtime gives the same buffers again and again.
        if raw is not self._checked or len(letterboxes) != len(raw.logits.values):
            self._check(raw, len(letterboxes))
            self._checked = raw
        least = max(self._least_score, np.float32(least_score))
        return [self._detect(raw, picture, letterbox, least) for picture, letterbox in enumerate(letterboxes)]

    def _detect(
        self, raw: RawOutputs, picture: int, letterbox: Letterbox, least_score: np.float32
    ) -> Detections:
        spec = self._spec
        position = find_above(raw.logits, picture, self._logit_bound, self._level_starts)
        if len(position) == 0:
            return Detections.empty()
        location = position // len(spec.classes)
        score = self._scores(raw, picture, position, location)
        (candidates,) = (score >= least_score).nonzero()  # NaN is not
        if len(candidates) > spec.pre_nms_topk_per_level:
            candidates = self._best_of_levels(score, location, candidates)

        suppression = Suppression(spec.nms_iou, spec.max_detections)
        found = []
        for best in _portions(score, candidates):
            boxes_xyxy = letterbox.undo(self._decode(location[best], raw.ltrb, picture))
            sides = boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]
            # NaN compares false, so it falls with the boxes that have no area.
            if len(best) and not sides.min() > _LEAST_SIDE:
                has_area = (sides > _LEAST_SIDE).all(axis=1)
                boxes_xyxy, best = boxes_xyxy[has_area], best[has_area]
            label = position[best] - location[best] * len(spec.classes)
            label = label.astype(np.int64, copy=False)  # 32-bit Arm counts positions in int32
            kept = suppression.keep(boxes_xyxy, label if spec.nms_per_class else None)
            if len(kept) == len(best):
                found.append((boxes_xyxy, score[best], label))
            else:
                found.append((boxes_xyxy[kept], score[best[kept]], label[kept]))
            if suppression.is_full:
                break
        if len(found) == 1:
            return Detections.unchecked(*found[0])
        if not found:
            return Detections.empty()
        return Detections.unchecked(*map(np.concatenate, zip(*found, strict=True)))

    def _scores(self, raw: RawOutputs, picture: int, position: IntArray, location: IntArray) -> FloatArray:
        """(M,) float32 final scores; NaN where the center-ness is, also if the score does not use it."""
        level = None
        if raw.logits.quantization or raw.centerness.quantization:
            level = self._level_of[location]
        logits, centerness = raw.logits, raw.centerness
        both = np.concatenate((
            gather(logits.values[picture].reshape(-1), logits.quantization, position, level),
            gather(centerness.values[picture], centerness.quantization, location, level),
        ))  # fmt: skip
        _sigmoid(both)
        return _score(self._spec.score, both[: len(position)], both[len(position) :])

    def _best_of_levels(self, score: FloatArray, location: IntArray, candidates: IntArray) -> IntArray:
        """Those candidates that are among the best top-k of their level; the order stays.

        candidates: (M,) positions in `score` and `location`, ascending, and so are their locations
        """
        stops = np.searchsorted(location[candidates], self._level_starts)
        top_k = self._spec.pre_nms_topk_per_level
        levels = [candidates[start:stop] for start, stop in pairwise(stops)]
        return np.concatenate([level[_is_best(score[level], top_k)] for level in levels])

    def _decode(self, location: IntArray, ltrb: Branch, picture: int) -> FloatArray:
        """Place each box around its location: x1 = x - l, y1 = y - t, x2 = x + r, y2 = y + b.

        location: (M,) int64
        ltrb:     the raw distances, before the activation
        returns:  (M, 4) float32, input pixels, not clipped
        """
        level = self._level_of[location] if ltrb.quantization else None
        boxes = gather(ltrb.values[picture], ltrb.quantization, location, level)
        if self._spec.distance == "exp":
            np.exp(np.minimum(boxes, _MAX_EXPONENT, out=boxes), out=boxes)
        else:
            np.minimum(np.maximum(boxes, 0, out=boxes), _MAX_DISTANCE, out=boxes)
        terms = self._location_terms.take(location, axis=0)
        boxes *= terms[:, 4:]
        boxes += terms[:, :4]
        return boxes

    def _check(self, raw: RawOutputs, batch: int) -> None:
        for name, branch, shape in zip(raw._fields, raw, self._shapes, strict=True):
            if branch.values.shape != (batch, *shape):
                raise SpecError(
                    f"{name}: found shape {branch.values.shape}, the spec wants {(batch, *shape)};"
                    " model and spec do not belong together, export the model again"
                )
            self._check_dtype(name, branch)

    def _check_dtype(self, name: str, branch: Branch) -> None:
        dtypes = INTEGER_DTYPES if branch.quantization else (np.dtype(np.float32),)
        levels = len(branch.quantization) or len(self._spec.strides)
        if branch.values.dtype not in dtypes or levels != len(self._spec.strides):
            raise SpecError(
                f"{name}: found {branch.values.dtype} with {len(branch.quantization)} quantized levels,"
                f" wanted float32 with 0 or int8/uint8 with {len(self._spec.strides)}; export the model again"
            )


def _locations(spec: ModelSpec) -> FloatArray:
    """(L, 2) float32, x then y, input pixels."""
    levels = []
    for (height, width), stride in zip(spec.level_hw, spec.strides, strict=True):
        first = int(spec.location_offset * stride)  # floor, since neither is negative
        y, x = np.mgrid[:height, :width] * stride + first
        levels.append(np.stack([x.ravel(), y.ravel()], axis=1))
    return np.concatenate(levels).astype(np.float32)


def _least_class_probability(spec: ModelSpec) -> float:
    """What a class probability must exceed for the candidate threshold to be within reach.

    Center-ness is at most 1, so score > t needs class > t, or class > t^2 under the square root.
    """
    is_sqrt_score = spec.threshold_on == "score" and spec.score == "sqrt"
    return spec.candidate_threshold**2 if is_sqrt_score else spec.candidate_threshold


def _score(kind: Score, class_probability: FloatArray, centerness: FloatArray) -> FloatArray:
    """(M,) float32, 0..1; the paper multiplies, later work takes the root, which orders alike."""
    if kind == "class":
        return np.where(np.isnan(centerness), centerness, class_probability)
    product = class_probability * centerness
    return np.asarray(np.sqrt(product, out=product)) if kind == "sqrt" else product


def _sigmoid(logits: FloatArray) -> None:
    """In place; below -80 it stays at 2e-35 instead of overflowing exp, and NaN stays NaN."""
    np.negative(logits, out=logits)
    np.minimum(logits, 80, out=logits)
    np.exp(logits, out=logits)
    logits += 1
    np.divide(1, logits, out=logits)


def _portions(score: FloatArray, candidates: IntArray) -> Iterator[IntArray]:
    """The candidates by descending score, ties in the order given, in portions.

    NMS is mostly done after the first portion, and the rest is then neither sorted nor decoded.

    candidates: (M,) positions in `score`, ascending
    """
    if len(candidates) > 2 * _PORTION:
        is_best = _is_best(score[candidates], _PORTION)
        yield _ranked(score, candidates[is_best])
        candidates = candidates[~is_best]
    ranked = _ranked(score, candidates)
    for start in range(0, len(ranked), _PORTION):
        yield ranked[start : start + _PORTION]


def _ranked(score: FloatArray, candidates: IntArray) -> IntArray:
    return candidates[(-score[candidates]).argsort(kind="stable")]


def _is_best(scores: FloatArray, count: int) -> npt.NDArray[np.bool_]:
    """(M,) bool: the `count` highest scores, of tied ones the first."""
    if len(scores) <= count:
        return np.ones(len(scores), np.bool_)
    bound = np.partition(scores, len(scores) - count)[len(scores) - count]
    is_best: npt.NDArray[np.bool_] = scores > bound
    ties = np.flatnonzero(scores == bound)
    is_best[ties[: count - np.count_nonzero(is_best)]] = True
    return is_best
