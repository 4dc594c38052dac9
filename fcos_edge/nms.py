"""Non-maximum suppression: of boxes that overlap too much, keep the best.

IoU  intersection over union of two boxes
K    boxes kept so far
B    boxes of one block
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fcos_edge.runtime import FloatArray, IntArray

# Blocks keep the pair matrix in the cache, and most pictures are done after the first few.
_BLOCK = 64


def nms(boxes_xyxy: FloatArray, labels: IntArray | None, iou: float, max_kept: int) -> IntArray:
    """Greedy suppression: walk the boxes, drop each that overlaps an earlier kept one by more than `iou`.

    boxes_xyxy: (N, 4) float32, best first; where scores tie, the order given here decides
    labels:     (N,) int64: only boxes of the same label suppress each other; None: all do
    iou:        0..1; an IoU of exactly this much is kept
    max_kept:   stop after so many
    returns:    indices of the kept boxes, ascending
    """
    kept: list[int] = []
    for start in range(0, len(boxes_xyxy), _BLOCK):
        stop = min(start + _BLOCK, len(boxes_xyxy))
        rows = np.array([*kept, *range(start, stop)], np.int64)  # [K + B]
        is_rival = _overlaps(boxes_xyxy[rows], boxes_xyxy[start:stop], iou)  # [K + B, B]
        if labels is not None:
            is_rival &= labels[rows][:, None] == labels[start:stop]
        is_alive = np.logical_not(is_rival[: len(kept)].any(axis=0))  # [B]
        is_rival = is_rival[len(kept) :]  # [B, B]
        for index in range(stop - start):
            if is_alive[index]:
                kept.append(start + index)
                if len(kept) == max_kept:
                    return np.array(kept, np.int64)
                # Also clears earlier boxes and itself; they have been decided already.
                is_alive &= ~is_rival[index]
    return np.array(kept, np.int64)


def _overlaps(rows_xyxy: FloatArray, columns_xyxy: FloatArray, iou: float) -> npt.NDArray[np.bool_]:
    """Whether the IoU of each pair is larger than `iou`: (R, 4) and (C, 4) float32 -> (R, C) bool."""
    left_a, top_a, right_a, bottom_a = rows_xyxy.T[:, :, None]  # each [R, 1]
    left_b, top_b, right_b, bottom_b = columns_xyxy.T  # each [C]
    width = np.minimum(right_a, right_b) - np.maximum(left_a, left_b)
    height = np.minimum(bottom_a, bottom_b) - np.maximum(top_a, top_b)
    intersection = np.maximum(width, 0) * np.maximum(height, 0)
    area_a = (right_a - left_a) * (bottom_a - top_a)
    area_b = (right_b - left_b) * (bottom_b - top_b)
    # Multiplied out: no division, so boxes without area need no special case.
    return np.asarray(intersection > np.float32(iou) * (area_a + area_b - intersection))
