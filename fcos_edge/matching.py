"""Pair the detections of two models on the same picture.

R  detections of the reference
F  detections found by the model that is compared with it
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fcos_edge.detections import Detections
from fcos_edge.runtime import FloatArray

BoolArray = npt.NDArray[np.bool_]
DoubleArray = npt.NDArray[np.float64]


def pairwise_iou(reference_xyxy: FloatArray, found_xyxy: FloatArray) -> FloatArray:
    """Intersection over union of every pair: (R, 4) and (F, 4) float32 -> (R, F); without area, 0."""
    intersection = pairwise_intersection(reference_xyxy, found_xyxy)
    areas_r, areas_f = box_areas(reference_xyxy), box_areas(found_xyxy)
    union = areas_r[:, None] + areas_f - intersection
    return np.asarray(intersection / np.where(union > 0, union, 1), np.float32)


def pairwise_intersection(reference_xyxy: FloatArray, found_xyxy: FloatArray) -> DoubleArray:
    """Shared area of every pair: (R, 4) and (F, 4) float32 -> (R, F) float64, pixels^2."""
    a, b = reference_xyxy[:, None].astype(np.float64), found_xyxy[None].astype(np.float64)
    sides = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])
    return np.asarray(np.prod(np.maximum(sides, 0), axis=-1))


def box_areas(boxes_xyxy: FloatArray) -> DoubleArray:
    """(N, 4) float32 -> (N,) float64, pixels^2."""
    boxes = boxes_xyxy.astype(np.float64)
    return np.asarray(np.prod(boxes[:, 2:] - boxes[:, :2], axis=-1))


def near_pairs(reference: Detections, found: Detections, *, iou: float, score: float) -> BoolArray:
    """(R, F): same class, IoU at least `iou`, scores at most `score` apart."""
    is_near = reference.labels[:, None] == found.labels[None]
    is_near &= np.abs(reference.scores[:, None] - found.scores[None]) <= np.float32(score)
    return np.asarray(is_near & (pairwise_iou(reference.boxes_xyxy, found.boxes_xyxy) >= iou))


def partner_pairs(reference: Detections, found: Detections, *, iou: float, score_ratio: float) -> BoolArray:
    """(R, F): same class, IoU at least `iou`, found's score at least `score_ratio` of the reference's."""
    is_near = reference.labels[:, None] == found.labels[None]
    is_near &= found.scores[None] >= np.float32(score_ratio) * reference.scores[:, None]
    return np.asarray(is_near & (pairwise_iou(reference.boxes_xyxy, found.boxes_xyxy) >= iou))


def count_unmatched(possible: BoolArray) -> int:
    """References left over when each is paired with one found detection and as many as can be.

    possible: (R, F), which pairs may be made; pairs are exchanged where that makes room for one more.
    """
    found_of: dict[int, int] = {}  # reference -> found
    return sum(not _pair(reference, possible, found_of) for reference in range(len(possible)))


def best_pairs(possible: BoolArray, iou: FloatArray) -> list[tuple[int, int]]:
    """Pair as many as can be, the best overlaps first: (reference, found) by ascending reference.

    possible: (R, F), which pairs may be made
    iou:      (R, F); the pair with the highest one is made first, of equal ones that with the lowest indices

    Then pairs are exchanged where that makes room for one more, so that as many have a partner as
    `count_unmatched` says. The sum of the overlaps need not be the largest that there is.
    """
    references, found = np.nonzero(possible)
    found_of: dict[int, int] = {}
    taken: set[int] = set()
    for pair in np.argsort(-iou[references, found], kind="stable"):
        a, b = int(references[pair]), int(found[pair])
        if a not in found_of and b not in taken:
            found_of[a] = b
            taken.add(b)
    for reference in range(len(possible)):
        if reference not in found_of:
            _pair(reference, possible, found_of)
    return sorted(found_of.items())


def _pair(reference: int, possible: BoolArray, found_of: dict[int, int]) -> bool:
    """Pair one more reference, in `found_of`; False where that makes another one lose its partner.

    A loop, no recursion: a chain of exchanges can be as long as there are detections.
    """
    holder_of = {found: holder for holder, found in found_of.items()}
    asker_of: dict[int, int] = {}  # found -> the reference that asked for it first
    asking = [reference]
    for asker in asking:  # it grows on the way
        for found in map(int, np.flatnonzero(possible[asker])):
            if found in asker_of:
                continue
            asker_of[found] = asker
            if found in holder_of:
                asking.append(holder_of[found])
                continue
            # A free one: back along the chain, each takes what it asked for and leaves what it had.
            taken: int | None = found
            while taken is not None:
                asker = asker_of[taken]
                found_of[asker], taken = taken, found_of.get(asker)
            return True
    return False
