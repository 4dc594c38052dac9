"""What a detector found in one picture: `Detections`.

N  detections
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fcos_edge.errors import UsageError
from fcos_edge.runtime import FloatArray, IntArray


@dataclass(frozen=True, eq=False)
class Detections:
    """Boxes of one picture, best first. No detections are arrays of length 0, never None.

    boxes_xyxy  (N, 4) float32, left top right bottom, pixels of the source picture, finite
    scores      (N,) float32, 0..1, descending
    labels      (N,) int64, label i is `spec.classes[i]`; background is not counted

    Raises ValueError for anything else: only our own code builds detections.
    """

    boxes_xyxy: FloatArray
    scores: FloatArray
    labels: IntArray

    def __post_init__(self) -> None:
        boxes, scores, labels = self.boxes_xyxy, self.scores, self.labels
        count = scores.shape[0] if scores.ndim == 1 else -1
        _require(scores.dtype == np.float32 and count >= 0, "scores must be (N,) float32")
        _require(boxes.dtype == np.float32 and boxes.shape == (count, 4), "boxes_xyxy must be (N, 4) float32")
        _require(labels.dtype == np.int64 and labels.shape == (count,), "labels must be (N,) int64")
        if count == 0:
            return
        _require(bool(np.isfinite(boxes).all()), "boxes_xyxy must be finite")
        _require(bool((boxes[:, :2] <= boxes[:, 2:]).all()), "boxes_xyxy must be left top right bottom")
        _require(bool((scores[1:] <= scores[:-1]).all()), "scores must descend")
        # Sorted, so the ends bound all the others; a NaN fails one of the two comparisons.
        _require(bool(scores[-1] >= 0 and scores[0] <= 1), "scores must be in 0..1")
        _require(bool(labels.min() >= 0), "labels must not be negative")

    @classmethod
    def empty(cls) -> Detections:
        """No detections: (0, 4), (0,) and (0,)."""
        return cls(np.empty((0, 4), np.float32), np.empty(0, np.float32), np.empty(0, np.int64))

    @classmethod
    def unchecked(cls, boxes_xyxy: FloatArray, scores: FloatArray, labels: IntArray) -> Detections:
        """The same without the checks, which cost more than the rest: for the path of every frame."""
        detections = cls.__new__(cls)
        for name, value in (("boxes_xyxy", boxes_xyxy), ("scores", scores), ("labels", labels)):
            object.__setattr__(detections, name, value)
        return detections

    def __len__(self) -> int:
        return len(self.scores)

    def filtered(self, thresholds: float | Sequence[float] | FloatArray) -> Detections:
        """Those whose score reaches the threshold of their class; the order stays.

        thresholds: one for all classes, or one per class; a score equal to its threshold (both as
                    float32) is kept, so that 1 still keeps a certain detection
        """
        per_class = np.asarray(thresholds, np.float32)
        keep = self.scores >= (per_class[self.labels] if per_class.ndim else per_class)
        if keep.all():
            return self
        return Detections.unchecked(self.boxes_xyxy[keep], self.scores[keep], self.labels[keep])

    def to_lists(self) -> dict[str, Any]:
        """JSON values that give back the very same detections: boxes_xyxy, scores, labels."""
        return {
            "boxes_xyxy": self.boxes_xyxy.astype(float).tolist(),
            "scores": self.scores.astype(float).tolist(),
            "labels": self.labels.tolist(),
        }

    @classmethod
    def from_lists(cls, values: Mapping[str, Any]) -> Detections:
        """Read what `to_lists` gave. Raises KeyError, TypeError or ValueError for anything else."""
        return cls(
            np.array(values["boxes_xyxy"], np.float32).reshape(-1, 4),
            np.array(values["scores"], np.float32),
            np.array(values["labels"], np.int64),
        )

    def to_records(self, classes: Sequence[str]) -> list[dict[str, Any]]:
        """One JSON-ready dict per detection: label, class_name, score, box_xyxy.

        Scores are rounded to 6 decimals and pixels to 3: float32 holds no more.
        """
        return [
            {
                "label": label,
                "class_name": classes[label],
                "score": round(score, 6),
                "box_xyxy": [round(side, 3) for side in box],
            }
            for box, score, label in zip(
                self.boxes_xyxy.tolist(), self.scores.tolist(), self.labels.tolist(), strict=True
            )
        ]

    def to_coco(self, image_id: int, category_ids: Sequence[int]) -> list[dict[str, Any]]:
        """One COCO result entry per detection: image_id, category_id, bbox (x, y, width, height), score.

        category_ids: of each label
        """
        size = self.boxes_xyxy[:, 2:] - self.boxes_xyxy[:, :2]
        boxes = np.concatenate([self.boxes_xyxy[:, :2], size], axis=1)
        return [
            {"image_id": image_id, "category_id": category_ids[label], "bbox": box, "score": score}
            for box, score, label in zip(
                boxes.tolist(), self.scores.tolist(), self.labels.tolist(), strict=True
            )
        ]

    def to_supervision(self, classes: Sequence[str] | None = None) -> Any:
        """The same as `supervision.Detections`, for supervision's annotators, zones and trackers.

        classes: class names, `spec.classes`; with them there is data["class_name"]
        returns: with xyxy (N, 4) float32, confidence (N,) float32, class_id (N,) int64, in arrays of its own

        Raises UsageError where supervision is not installed.
        """
        try:
            from supervision import Detections as SupervisionDetections
        except ModuleNotFoundError as error:
            if error.name != "supervision":
                raise
            raise UsageError(
                "supervision is not installed; run: pip install 'fcos-edge[supervision]'"
            ) from None
        names = {} if classes is None else {"class_name": np.array(classes)[self.labels]}
        return SupervisionDetections(
            xyxy=self.boxes_xyxy.copy(),
            confidence=self.scores.copy(),
            class_id=self.labels.copy(),
            data=names,
        )


def _require(condition: bool, wanted: str) -> None:
    if not condition:
        raise ValueError(f"detections: {wanted}")
