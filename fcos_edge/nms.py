"""Non-maximum suppression: of boxes that overlap too much, keep the best.

IoU  intersection over union of two boxes
K    boxes kept so far
B    boxes of one block

Greedy, in blocks: all pairs of a block with the boxes kept before it are compared at once, and all pairs in
it, then who stays is decided box by box, one machine word each. It ends as soon as enough is kept.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fcos_edge.runtime import FloatArray, IntArray

if TYPE_CHECKING:
    import numpy.typing as npt

# As many as a word has bits; the pair matrix stays in the cache.
_BLOCK = 64
_CORNER_SIGNS = np.array(((-1,), (-1,), (1,), (1,)), np.float32)


def nms(boxes_xyxy: FloatArray, labels: IntArray | None, iou: float, max_kept: int) -> IntArray:
    """Greedy suppression: walk the boxes, drop each that overlaps an earlier kept one by more than `iou`.

    boxes_xyxy: (N, 4) float32, best first; where scores tie, the order given here decides
    labels:     (N,) int64: only boxes of the same label suppress each other; None: all do
    iou:        0..1; an IoU of exactly this much is kept
    max_kept:   stop after so many
    returns:    indices of the kept boxes, ascending
    """
    return Suppression(iou, max_kept).keep(boxes_xyxy, labels)


class Suppression:
    """NMS of boxes that come in portions, better ones first. Arguments as in `nms`."""

    def __init__(self, iou: float, max_kept: int) -> None:
        self._iou = np.float32(iou)
        self._max_kept = max_kept
        self._kept: list[tuple[FloatArray, list[int]]] = []  # of each block, all columns and which are kept
        self._count = 0

    @property
    def is_full(self) -> bool:
        """Whether `max_kept` boxes are kept: no other will be."""
        return self._count >= self._max_kept

    def keep(self, boxes_xyxy: FloatArray, labels: IntArray | None) -> IntArray:
        """Indices of those boxes that stay, ascending; earlier calls had better boxes than these."""
        columns = self._columns(boxes_xyxy, labels)
        kept: list[int] = []
        for start in range(0, len(boxes_xyxy), _BLOCK):
            if self.is_full:
                break
            block = columns[:, start : start + _BLOCK]
            survivors = self._survivors(block, is_per_class=labels is not None)
            self._kept.append((block, survivors))
            self._count += len(survivors)
            kept += [start + survivor for survivor in survivors]
        return np.array(kept, np.int64)

    def _columns(self, boxes_xyxy: FloatArray, labels: IntArray | None) -> FloatArray:
        """(6, N) float32: -x1, -y1, x2, y2, area * iou, label; float32 has every label below 2^24.

        With the first two negated, the smaller of each of two boxes is a corner of their intersection.
        """
        columns = np.empty((6, len(boxes_xyxy)), np.float32)
        np.multiply(boxes_xyxy.T, _CORNER_SIGNS, out=columns[:4])
        width, height = columns[2:4] + columns[:2]
        width *= self._iou
        np.multiply(width, height, out=columns[4])
        if labels is not None:
            columns[5] = labels
        return columns

    def _survivors(self, block: FloatArray, is_per_class: bool) -> list[int]:
        """Those columns of the block that no better box suppresses, until `max_kept` is reached."""
        is_suppressed = [False] * block.shape[1]
        if self._count:
            kept = np.concatenate([columns[:, which] for columns, which in self._kept], axis=1)
            is_rival = self._is_rival(block, kept, is_per_class)
            is_suppressed = np.logical_or.reduce(is_rival, axis=1).tolist()
        words = _as_words(self._is_rival(block, block, is_per_class))
        room = self._max_kept - self._count
        survivors: list[int] = []
        alive = 0  # bit i: column i survives
        for index, (is_out, word) in enumerate(zip(is_suppressed, words, strict=True)):
            if not (is_out or word & alive):
                alive |= 1 << index
                survivors.append(index)
                if len(survivors) == room:
                    break
        return survivors

    def _is_rival(self, rows: FloatArray, columns: FloatArray, is_per_class: bool) -> npt.NDArray[np.bool_]:
        """(B, K) or (B, B) bool: whether the IoU of each pair is larger than the bound."""
        corners = np.minimum(rows[:4, :, None], columns[:4, None])
        width, height = corners[2:] + corners[:2]
        # One side is enough: where the other is negative, so is the product.
        np.maximum(width, 0, out=width)
        intersection = np.multiply(width, height, out=width)
        # i / (a + b - i) > iou, multiplied out: no division, so boxes without area need no special case.
        intersection *= 1 + self._iou
        area_sums = np.add(rows[4, :, None], columns[4], out=height)
        is_rival: npt.NDArray[np.bool_] = intersection > area_sums
        if is_per_class:
            is_rival &= rows[5, :, None] == columns[5]
        return is_rival


def _as_words(bits: npt.NDArray[np.bool_]) -> list[int]:
    """Each row of (B, at most 64) bool as an integer, column 0 the lowest bit."""
    packed = np.packbits(bits, axis=1, bitorder="little")
    if packed.shape[1] < 8:
        words = np.zeros((len(bits), 8), np.uint8)
        words[:, : packed.shape[1]] = packed
        packed = words
    rows: list[int] = packed.view("<u8").reshape(-1).tolist()
    return rows
