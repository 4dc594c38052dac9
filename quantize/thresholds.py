"""Operating thresholds of an int8 file: the scores move a little, the meaning of a threshold must not.

Without labels, a class's threshold is the one at which the file finds as many objects as the float network
does at its own, over the same pictures. With labels, it is the one that keeps the float network's precision.
A class that is found fewer than `MIN_DETECTIONS` times keeps the float threshold: its count is chance.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from fcos_edge.detections import Detections
from fcos_edge.runtime import FloatArray
from fcos_edge.train.evaluation.coco_matches import ClassMatches

MIN_DETECTIONS = 20


def thresholds_of_count(
    reference: Sequence[Detections],
    found: Sequence[Detections],
    thresholds: Sequence[float],
    least: float,
) -> tuple[float, ...]:
    """Per class, the threshold at which `found` has as many detections as `reference` at `thresholds`.

    reference, found  all above the candidate threshold `least`, picture by picture
    """
    chosen = []
    for label, threshold in enumerate(thresholds):
        scores, own = (_scores(side, label) for side in (found, reference))
        count = int((own >= np.float32(threshold)).sum())
        chosen.append(threshold if count < MIN_DETECTIONS else _between(scores, count, least))
    return tuple(chosen)


def thresholds_of_precision(
    reference: Sequence[ClassMatches],
    found: Sequence[ClassMatches],
    thresholds: Sequence[float],
    least: float,
) -> tuple[float, ...]:
    """Per class, the lowest threshold at which `found` is as precise as `reference` at `thresholds`.

    Precision is right detections / detections at IoU 0.5; those that only match a crowd are neither. Where
    `found` is never as precise, the threshold is that of its best precision.
    """
    chosen = []
    for own, other, threshold in zip(reference, found, thresholds, strict=True):
        count = int(own.count_at(threshold).sum())
        if count < MIN_DETECTIONS:
            chosen.append(threshold)
            continue
        wanted = int(own.hits_at(threshold).sum()) / count
        rows = other.counts[0]
        scores, hits = other.scores[rows], other.is_hit[0][rows]
        precision = np.cumsum(hits) / np.arange(1, len(hits) + 1)
        # A threshold takes all detections of one score or none. The first few are precise by chance.
        is_end = np.append(scores[1:] < scores[:-1], True)
        is_end &= np.arange(1, len(hits) + 1) >= MIN_DETECTIONS
        precise = np.flatnonzero(is_end & (precision >= wanted))
        if len(precise):
            last = int(precise[-1])
        elif is_end.any():
            last = int(np.argmax(np.where(is_end, precision, -1)))
        else:
            chosen.append(threshold)
            continue
        chosen.append(_between(scores, last + 1, least))
    return tuple(chosen)


def _scores(pictures: Sequence[Detections], label: int) -> FloatArray:
    """The scores of a class in all pictures, descending."""
    scores = [detections.scores[detections.labels == label] for detections in pictures]
    return -np.sort(-np.concatenate([np.zeros(0, np.float32), *scores]))


def _between(scores: FloatArray, count: int, least: float) -> float:
    """Between the last score that is taken and the next lower one, so that a small drift changes nothing.

    scores  descending; ties around the border are all taken
    """
    if count >= len(scores):
        return least
    upper = float(scores[count - 1])
    lower = scores[scores < scores[count - 1]]
    below = float(lower[0]) if len(lower) else least
    # Down: rounding up could lose the detection that it is to keep.
    return max(least, math.floor((upper + below) / 2 * 1e4) / 1e4)
