"""Post-processing as it is mostly written: every sigmoid, every box, one NMS per class. The baseline.

It gives the same detections as `fcos_edge.postprocess` for the default conventions (ReLU distances in
strides, threshold on the class, square root of class times center-ness), which the benchmark checks.
"""

from __future__ import annotations

import numpy as np

from fcos_edge.detections import Detections
from fcos_edge.letterbox import Letterbox
from fcos_edge.runtime import FloatArray, IntArray, RawOutputs
from fcos_edge.spec import ModelSpec


class NaivePostProcessor:
    """Float outputs of one picture -> detections."""

    def __init__(self, spec: ModelSpec) -> None:
        self._spec = spec
        centres, strides = [], []
        for (height, width), stride in zip(spec.level_hw, spec.strides, strict=True):
            y, x = np.mgrid[:height, :width]
            centres.append(np.stack([x, y], axis=-1).reshape(-1, 2) * stride + stride // 2)
            strides.append(np.full(height * width, stride))
        self._centres = np.concatenate(centres).astype(np.float32)
        self._strides = np.concatenate(strides).astype(np.float32)
        self._level = np.repeat(np.arange(len(strides)), [len(one) for one in strides])

    def __call__(self, raw: RawOutputs, letterbox: Letterbox) -> Detections:
        spec = self._spec
        probabilities = 1 / (1 + np.exp(-raw.logits.values[0]))  # [L, C]
        centerness = 1 / (1 + np.exp(-raw.centerness.values[0]))
        scores = np.sqrt(probabilities * centerness[:, None])
        distances = np.maximum(raw.ltrb.values[0], 0) * self._strides[:, None]
        boxes = np.concatenate(
            [self._centres - distances[:, :2], self._centres + distances[:, 2:]], axis=1
        )  # [L, 4]
        boxes = letterbox.undo(boxes)
        is_candidate = probabilities > spec.candidate_threshold
        for level in range(len(spec.strides)):
            here = np.flatnonzero(self._level == level)
            positions, labels = np.nonzero(is_candidate[here])
            if len(positions) > spec.pre_nms_topk_per_level:
                order = np.argsort(-scores[here[positions], labels], kind="stable")
                dropped = order[spec.pre_nms_topk_per_level :]
                is_candidate[here[positions[dropped]], labels[dropped]] = False

        found_boxes, found_scores, found_labels = [], [], []
        for label in range(len(spec.classes)):
            positions = np.flatnonzero(is_candidate[:, label])
            kept = positions[nms(boxes[positions], scores[positions, label], spec.nms_iou)]
            found_boxes.append(boxes[kept])
            found_scores.append(scores[kept, label])
            found_labels.append(np.full(len(kept), label, np.int64))
        all_scores = np.concatenate(found_scores)
        order = np.argsort(-all_scores, kind="stable")[: spec.max_detections]
        return Detections(
            np.concatenate(found_boxes)[order], all_scores[order], np.concatenate(found_labels)[order]
        )


def nms(boxes_xyxy: FloatArray, scores: FloatArray, iou: float) -> IntArray:
    """Indices that stay, best first: each kept box is compared with all that are left."""
    areas = (boxes_xyxy[:, 2] - boxes_xyxy[:, 0]) * (boxes_xyxy[:, 3] - boxes_xyxy[:, 1])
    order = np.argsort(-scores, kind="stable")
    kept = []
    while len(order):
        best, rest = order[0], order[1:]
        kept.append(best)
        left_top = np.maximum(boxes_xyxy[best, :2], boxes_xyxy[rest, :2])
        right_bottom = np.minimum(boxes_xyxy[best, 2:], boxes_xyxy[rest, 2:])
        sides = np.maximum(right_bottom - left_top, 0)
        intersection = sides[:, 0] * sides[:, 1]
        order = rest[intersection / (areas[best] + areas[rest] - intersection) <= iou]
    return np.array(kept, np.int64)
