"""Operating thresholds: per class, the score at which F1 is best on labelled pictures.

A detection is right where it has the class and an IoU of at least 0.5 with a box that no better-scored
detection took. Detections that only match an ignore region count neither way.

M  labelled boxes of a picture      N  detections of a picture
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import chain

import numpy as np

from fcos_edge.detections import Detections
from fcos_edge.matching import DoubleArray, box_areas, pairwise_intersection, pairwise_iou
from fcos_edge.runtime import FloatArray, IntArray
from fcos_edge.train.targets import IGNORED

MATCH_IOU = 0.5
MIN_BOXES = 20  # with fewer the best F1 is chance: the threshold of all classes together is taken


def best_f1_thresholds(
    found: Sequence[Detections],
    truth: Sequence[tuple[FloatArray, IntArray]],
    num_classes: int,
) -> tuple[float, ...]:
    """One threshold per class.

    truth: per picture boxes (M, 4), x1 y1 x2 y2, and labels (M,), a class or IGNORED
    """
    scores: list[list[float]] = [[] for _ in range(num_classes)]
    hits: list[list[bool]] = [[] for _ in range(num_classes)]
    boxes = np.zeros(num_classes, np.int64)
    for detections, (boxes_xyxy, labels) in zip(found, truth, strict=True):
        ignored = boxes_xyxy[labels == IGNORED]
        for label in range(num_classes):
            mine = detections.labels == label
            wanted = boxes_xyxy[labels == label]
            boxes[label] += len(wanted)
            is_hit, is_counted = match(detections.boxes_xyxy[mine], wanted, ignored)
            scores[label] += detections.scores[mine][is_counted].tolist()
            hits[label] += is_hit[is_counted].tolist()
    pooled = best_f1(list(chain(*scores)), list(chain(*hits)), int(boxes.sum()))
    return tuple(
        best_f1(scores[i], hits[i], int(boxes[i])) if boxes[i] >= MIN_BOXES else pooled
        for i in range(num_classes)
    )


def best_f1(scores: Sequence[float], hits: Sequence[bool], boxes: int) -> float:
    """The score at which 2 TP / (detections + boxes) is largest; 0.5 without any hit.

    Halfway to the next lower score, so that a small drift of one score changes nothing.
    """
    order = np.argsort(-np.asarray(scores), kind="stable")
    sorted_scores = np.asarray(scores, np.float64)[order]
    true_positives = np.cumsum(np.asarray(hits, bool)[order])
    if not true_positives.size or not true_positives[-1]:
        return 0.5
    f1 = 2 * true_positives / (np.arange(1, len(order) + 1) + boxes)
    # A threshold takes all detections of one score or none.
    is_last_of_score = np.append(sorted_scores[1:] < sorted_scores[:-1], True)
    best = int(np.argmax(np.where(is_last_of_score, f1, 0)))
    below = sorted_scores[best + 1] if best + 1 < len(order) else sorted_scores[best]
    # Down: rounding up could lose the detection that it is to keep.
    return math.floor(float(sorted_scores[best] + below) / 2 * 1e4) / 1e4


def match(
    found_xyxy: FloatArray, wanted_xyxy: FloatArray, ignored_xyxy: FloatArray
) -> tuple[np.ndarray[tuple[int], np.dtype[np.bool_]], np.ndarray[tuple[int], np.dtype[np.bool_]]]:
    """Detections of one class, best first: (is a hit, counts), (N,) bool each."""
    is_hit = np.zeros(len(found_xyxy), np.bool_)
    overlap = pairwise_iou(found_xyxy, wanted_xyxy)
    for i in range(len(found_xyxy)):
        if overlap.shape[1] and overlap[i].max() >= MATCH_IOU:
            is_hit[i] = True
            overlap[:, overlap[i].argmax()] = -1
    in_ignored = _share_inside(found_xyxy, ignored_xyxy).max(axis=1, initial=0) >= MATCH_IOU
    return is_hit, is_hit | ~in_ignored


def _share_inside(found_xyxy: FloatArray, ignored_xyxy: FloatArray) -> DoubleArray:
    """How much of each found box lies in each ignored one, as COCO measures crowds."""
    area = box_areas(found_xyxy)
    return pairwise_intersection(found_xyxy, ignored_xyxy) / np.maximum(area, 1e-6)[:, None]
