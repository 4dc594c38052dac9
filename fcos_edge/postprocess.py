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

from collections.abc import Sequence

import numpy as np

from fcos_edge.candidates import INTEGER_DTYPES, find_above, gather, logit_bound
from fcos_edge.detections import Detections
from fcos_edge.errors import SpecError
from fcos_edge.letterbox import Letterbox
from fcos_edge.nms import nms
from fcos_edge.runtime import Branch, FloatArray, IntArray, RawOutputs
from fcos_edge.spec import ModelSpec, Score

# Farther than any side of any input (16384), so a longer distance gives the same clipped box. Applied
# before the activation, this keeps infinities and the overflow of exp out of the arithmetic.
# Pixels of the source picture. Of a box that lies outside, rounding may leave a sliver of 1e-5 on the border.
_LEAST_SIDE = np.float32(1e-3)
_MAX_DISTANCE = 2.0**20
_MAX_EXPONENT = np.float32(np.log(_MAX_DISTANCE))
_LTRB_SIGNS = np.array((-1, -1, 1, 1), np.float32)


class PostProcessor:
    """Post-processing of one model; holds no state between calls.

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
        self._level_of = np.repeat(np.arange(len(areas)), areas)  # [L]
        location_xy = _locations(spec)
        self._location_xyxy = np.concatenate([location_xy, location_xy], axis=1)  # [L, 4]
        unit = spec.strides if spec.distance_unit == "stride" else [1] * len(areas)
        self._ltrb_to_pixels = np.repeat(np.array(unit, np.float32), areas)[:, None] * _LTRB_SIGNS  # [L, 4]
        self._logit_bound = logit_bound(_least_class_probability(spec))

    def __call__(self, raw: RawOutputs, letterboxes: Sequence[Letterbox]) -> list[Detections]:
        """Detections above the candidate threshold, one object per picture of the batch.

        raw:         logits (N, L, C), ltrb (N, L, 4), centerness (N, L); read before this returns
        letterboxes: N, what `apply` was called on

        Raises SpecError where the outputs do not fit the spec.
        """
        self._check(raw, len(letterboxes))
        return [self._detect(raw, picture, letterbox) for picture, letterbox in enumerate(letterboxes)]

    def _detect(self, raw: RawOutputs, picture: int, letterbox: Letterbox) -> Detections:
        spec = self._spec
        location, label = find_above(raw.logits, picture, self._logit_bound, self._level_starts)
        if len(location) == 0:
            return Detections.empty()
        level = self._level_of[location]
        class_probability = _sigmoid(gather(raw.logits, (picture, location, label), level))
        centerness = _sigmoid(gather(raw.centerness, (picture, location), level))
        score = _score(spec.score, class_probability, centerness)
        # A broken center-ness is refused even where the score does not use it.
        is_candidate = ~np.isnan(centerness)
        if spec.threshold_on == "score":
            is_candidate &= score > np.float32(spec.candidate_threshold)

        best = self._rank(score, level, np.flatnonzero(is_candidate))
        location, label, level, score = location[best], label[best], level[best], score[best]
        ltrb = gather(raw.ltrb, (picture, location), level)
        boxes_xyxy = letterbox.undo(self._decode(location, ltrb))
        # NaN compares false, so it falls with the boxes that have no area.
        has_area = (boxes_xyxy[:, 2:] - boxes_xyxy[:, :2] > _LEAST_SIDE).all(axis=1)
        if not has_area.all():
            boxes_xyxy, label, score = boxes_xyxy[has_area], label[has_area], score[has_area]
        kept = nms(boxes_xyxy, label if spec.nms_per_class else None, spec.nms_iou, spec.max_detections)
        return Detections(boxes_xyxy[kept], score[kept], label[kept])

    def _rank(self, score: FloatArray, level: IntArray, candidates: IntArray) -> IntArray:
        """Candidates by descending score, ties in the order given, at most top-k of each level.

        candidates: (M,) positions in `score` and `level`, ascending
        """
        ranked = candidates[np.argsort(-score[candidates], kind="stable")]
        top_k = self._spec.pre_nms_topk_per_level
        if len(ranked) <= top_k:
            return ranked
        is_kept = np.ones(len(ranked), np.bool_)
        level_of_ranked = level[ranked]
        for index in range(len(self._spec.strides)):
            is_kept[np.flatnonzero(level_of_ranked == index)[top_k:]] = False
        return ranked[is_kept]

    def _decode(self, location: IntArray, ltrb: FloatArray) -> FloatArray:
        """Place each box around its location: x1 = x - l, y1 = y - t, x2 = x + r, y2 = y + b.

        location: (M,) int64
        ltrb:     (M, 4) float32, before the activation
        returns:  (M, 4) float32, input pixels, not clipped
        """
        if self._spec.distance == "exp":
            distances = np.exp(np.minimum(ltrb, _MAX_EXPONENT))
        else:
            distances = np.minimum(np.maximum(ltrb, np.float32(0)), np.float32(_MAX_DISTANCE))
        return np.asarray(self._location_xyxy[location] + distances * self._ltrb_to_pixels[location])

    def _check(self, raw: RawOutputs, batch: int) -> None:
        locations, classes = self._spec.num_locations, len(self._spec.classes)
        shapes = ((batch, locations, classes), (batch, locations, 4), (batch, locations))
        for name, branch, shape in zip(raw._fields, raw, shapes, strict=True):
            if branch.values.shape != shape:
                raise SpecError(
                    f"{name}: found shape {branch.values.shape}, the spec wants {shape};"
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
        return class_probability
    product = class_probability * centerness
    return np.asarray(np.sqrt(product)) if kind == "sqrt" else product


def _sigmoid(logits: FloatArray) -> FloatArray:
    """float32; below -80 it stays at 2e-35 instead of overflowing exp, and NaN stays NaN."""
    return np.asarray(1 / (1 + np.exp(np.minimum(-logits, np.float32(80)))))
