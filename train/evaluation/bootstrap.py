"""How far accuracy would move on other pictures: AP when pictures are drawn anew, with replacement.

Two detectors are compared on the same draws (Efron's paired bootstrap), since most of the scatter is the
pictures' own and cancels in the difference. A picture that is drawn twice counts as two equal pictures.

R  draws      P  pictures      C  classes      D  detections of a class      H  hits among them
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fcos_edge.matching import DoubleArray
from fcos_edge.runtime import IntArray
from fcos_edge.train.evaluation.coco_matches import MATCH_IOUS, ClassMatches

RECALL_POINTS = np.linspace(0.0, 1.0, 101)  # to the last bit those of COCO's evaluators
INTERVAL_PERCENT = (2.5, 97.5)

Int32Array = npt.NDArray[np.int32]

_AT_ONCE = 1 << 20  # detections times draws: their weights fill 4 MB


def draw_pictures(pictures: int, draws: int, seed: int) -> IntArray:
    """(R, P) int64: how often each picture comes in each draw of P pictures; the same for the same seed."""
    chosen = np.random.default_rng(seed).integers(pictures, size=(draws, pictures))
    counts = [np.bincount(row, minlength=pictures) for row in chosen]
    return np.array(counts, np.int64).reshape(draws, pictures)


def average_precision(matches: ClassMatches, weights: IntArray | None = None) -> DoubleArray:
    """(10,) AP at each of `MATCH_IOUS`, as COCO computes it; NaN where there is no box to find.

    weights: (P,), how often each picture counts; None: once
    """
    if weights is None:
        weights = np.ones(len(matches.boxes), np.int64)
    return np.asarray(resampled_ap(matches, weights[None])[0])


def resampled_ap(matches: ClassMatches, weights: IntArray) -> DoubleArray:
    """(R, 10): `average_precision` with each row of `weights`, (R, P)."""
    draws = max(1, _AT_ONCE // max(1, len(matches.scores)))
    parts = [_resampled_ap(matches, weights[i : i + draws]) for i in range(0, len(weights), draws)]
    return np.concatenate([np.zeros((0, len(MATCH_IOUS))), *parts])


def _resampled_ap(matches: ClassMatches, weights: IntArray) -> DoubleArray:
    boxes = weights @ matches.boxes  # [R]
    # Draws lie inside, so that all that runs down the detections is done for every draw at once.
    of_picture = np.ascontiguousarray(weights.T, np.int32)  # [P, R]
    reached = np.cumsum(of_picture[matches.picture], axis=0, dtype=np.int32)  # [D, R]
    ap = np.full((len(weights), len(MATCH_IOUS)), np.nan)
    for level, (is_hit, counts) in enumerate(zip(matches.is_hit, matches.counts, strict=True)):
        hits, ignored = np.flatnonzero(is_hit), np.flatnonzero(~counts)
        right = np.cumsum(of_picture[matches.picture[hits]], axis=0, dtype=np.int32)  # [H, R]
        all_of_them = reached[hits]
        if len(ignored):
            dropped = np.cumsum(of_picture[matches.picture[ignored]], axis=0, dtype=np.int32)
            before = np.searchsorted(ignored, hits)
            all_of_them = all_of_them - np.where(before[:, None] > 0, dropped[before - 1], 0)
        ap[:, level] = _area(right, all_of_them, boxes)
    ap[boxes == 0] = np.nan
    return ap


def _area(right: Int32Array, reached: Int32Array, boxes: IntArray) -> DoubleArray:
    """(R,) AP: the mean, over the recall points, of the best precision at that recall or above.

    right, reached: (H, R), how many are right and how many count, up to and with each hit

    Between two hits precision only falls, so that hits are all that has to be looked at: each gives its
    precision, or a later one's where that is better, to the recall points that it is the first to reach.
    """
    if not len(right):
        return np.zeros(len(boxes))
    precision = right / np.maximum(reached, 1)
    best = np.maximum.accumulate(precision[::-1], axis=0)[::-1]
    points = np.searchsorted(RECALL_POINTS, right / np.maximum(boxes, 1), side="right")
    points[1:] -= points[:-1].copy()
    return np.asarray(np.einsum("hr,hr->r", points, best) / len(RECALL_POINTS))


@dataclass(frozen=True, eq=False)
class Resamples:
    """What each draw of the pictures gives, class by class.

    ap, ap50  (R, C) float64, 0..1; NaN where a draw has no box of the class
    hits      (R, C) int64, boxes that are found at IoU 0.5 and the operating threshold of the class
    boxes     (R, C) int64, boxes to find
    """

    ap: DoubleArray
    ap50: DoubleArray
    hits: IntArray
    boxes: IntArray


def resample(
    matches: Sequence[ClassMatches], thresholds: Sequence[float], draws: int, seed: int
) -> Resamples:
    """Draw the pictures `draws` times.

    With the same pictures, draws and seed two detectors are measured on the same draws: their results are
    subtracted, row by row, and each is computed once however many others it is compared with.
    thresholds: the operating threshold of each class
    """
    weights = draw_pictures(len(matches[0].boxes), draws, seed)
    ap = np.stack([resampled_ap(one, weights) for one in matches], axis=1)  # [R, C, 10]
    hits = [weights @ one.hits_at(t) for one, t in zip(matches, thresholds, strict=True)]
    boxes = [weights @ one.boxes for one in matches]
    return Resamples(ap.mean(axis=2), ap[..., 0], np.stack(hits, axis=1), np.stack(boxes, axis=1))


def interval(values: DoubleArray) -> tuple[float, float] | None:
    """The middle 95 % of (R,) values; NaN are left out, None where nothing else is there."""
    known = values[~np.isnan(values)]
    if not len(known):
        return None
    low, high = np.percentile(known, INTERVAL_PERCENT)
    return float(low), float(high)
