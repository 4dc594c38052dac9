"""Slow, obvious versions of the assignments: one picture, plain loops in float64, written from the papers.

FCOS: arXiv 1904.01355, sections 3.1 and 3.2. ATSS: arXiv 1912.02424, algorithm 1. SimOTA: arXiv 2107.08430,
section 2.1. Task-aligned: arXiv 2108.07755, section 3.2.

Each matcher returns the index of the box that every location learns, or -1. Where float32 could rightly
decide otherwise it raises UndecidedError.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import NamedTuple

from tests.train.oracles import BACKGROUND, IGNORED, Box, Target, area, iou

TOLERANCE = 1e-5  # of float32 sums of a few dozen terms, and more than enough


class UndecidedError(Exception):
    """Two numbers are so near that float32 may see them the other way round."""


class Place(NamedTuple):
    """A location; `level` counts from 0."""

    x: float
    y: float
    stride: int
    level: int


def places(input_hw: tuple[int, int], strides: Sequence[int]) -> list[Place]:
    """Finest level first, row by row."""
    return [
        Place(stride // 2 + column * stride, stride // 2 + row * stride, stride, level)
        for level, stride in enumerate(strides)
        for row in range(math.ceil(input_hw[0] / stride))
        for column in range(math.ceil(input_hw[1] / stride))
    ]


def sides(place: Place, box: Box) -> Box:
    """left top right bottom"""
    return (place.x - box[0], place.y - box[1], box[2] - place.x, box[3] - place.y)


def is_less(a: float, b: float) -> bool:
    """a < b, where that is certain; equals are not less."""
    if a != b and math.isfinite(a) and math.isfinite(b) and abs(a - b) < TOLERANCE * max(abs(a), abs(b), 1):
        raise UndecidedError
    return a < b


def is_near_center(place: Place, box: Box, radius: float) -> bool:
    center_x, center_y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    return not radius or max(abs(place.x - center_x), abs(place.y - center_y)) < radius * place.stride


def targets(
    matched: Sequence[int], where: Sequence[Place], boxes: Sequence[Box], labels: Sequence[int]
) -> list[Target]:
    """What follows from the boxes that locations learn."""
    found = []
    for place, index in zip(where, matched, strict=True):
        if index >= 0:
            left, top, right, bottom = ltrb = sides(place, boxes[index])
            across = min(left, right) / max(left, right)
            down = min(top, bottom) / max(top, bottom)
            found.append(Target(labels[index], ltrb, math.sqrt(across * down)))
        elif any(
            label == IGNORED and min(sides(place, box)) > 0 for box, label in zip(boxes, labels, strict=True)
        ):
            found.append(Target(IGNORED))
        else:
            found.append(Target(BACKGROUND))
    return found


def fcos(
    where: Sequence[Place],
    boxes: Sequence[Box],
    labels: Sequence[int],
    ranges: Sequence[tuple[float, float]],
    center_radius: float,
    strict_ranges: bool,
) -> list[int]:
    """The smallest box that the location may learn."""
    matched = []
    for place in where:
        best, best_area = -1, math.inf
        low, high = ranges[place.level]
        for index, (box, label) in enumerate(zip(boxes, labels, strict=True)):
            ltrb = sides(place, box)
            if label < 0 or min(ltrb) <= 0 or not is_near_center(place, box, center_radius):
                continue
            largest = max(ltrb)
            is_in_range = low < largest < high if strict_ranges else low <= largest <= high
            if is_in_range and area(box) < best_area:
                best, best_area = index, area(box)
        matched.append(best)
    return matched


def atss(where: Sequence[Place], boxes: Sequence[Box], labels: Sequence[int], top_k: int) -> list[int]:
    """Candidates near the centre, whose IoU is the mean plus the deviation of all candidates at least."""
    matched = [-1] * len(where)
    best = [0.0] * len(where)
    for index, (box, label) in enumerate(zip(boxes, labels, strict=True)):
        if label < 0:
            continue
        center_x, center_y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
        candidates: list[int] = []
        for level in sorted({place.level for place in where}):
            on_level = [i for i, place in enumerate(where) if place.level == level]
            on_level.sort(key=lambda i: (where[i].x - center_x) ** 2 + (where[i].y - center_y) ** 2)
            candidates += on_level[:top_k]
        ious = {}
        for i in candidates:
            x, y, half = where[i].x, where[i].y, 4 * where[i].stride
            ious[i] = iou((x - half, y - half, x + half, y + half), box)
        threshold = statistics.mean(ious.values())
        if len(ious) > 1:
            threshold += statistics.stdev(ious.values())
        for i in candidates:
            if min(sides(where[i], box)) <= 0:
                continue
            is_wanted = len(ious) == 1 or not is_less(ious[i], threshold)
            if len(ious) > 1 and ious[i] == threshold:
                raise UndecidedError
            if is_wanted and (matched[i] < 0 or is_less(best[i], ious[i])):
                matched[i], best[i] = index, ious[i]
    return matched


def simota(
    where: Sequence[Place],
    boxes: Sequence[Box],
    labels: Sequence[int],
    logits: Sequence[Sequence[float]],
    ltrb: Sequence[Sequence[float]],
    top_k: int,
    center_radius: float,
) -> list[int]:
    """Each box takes its cheapest locations; how many follows from its largest IoUs."""
    matched = [-1] * len(where)
    best = [math.inf] * len(where)
    for index, (box, label) in enumerate(zip(boxes, labels, strict=True)):
        if label < 0:
            continue
        candidates = [
            i for i, place in enumerate(where)
            if min(sides(place, box)) > 0 and is_near_center(place, box, center_radius)
        ]  # fmt: skip
        ious = {i: iou(_predicted(where[i], ltrb[i]), box) for i in candidates}
        costs = {}
        for i in candidates:
            entropy = 0.0
            for category, logit in enumerate(logits[i]):
                p = 1 / (1 + math.exp(-logit))
                entropy -= math.log(p) if category == label else math.log(1 - p)
            costs[i] = entropy - 3 * math.log(ious[i] + 1e-8)
        total = sum(sorted(ious.values(), reverse=True)[:top_k])
        if total > 1.5 and abs(total - round(total)) < TOLERANCE:
            raise UndecidedError
        count = max(int(total), 1)
        cheapest = sorted(candidates, key=lambda i: costs[i])
        if len(cheapest) > count:
            is_less(costs[cheapest[count - 1]], costs[cheapest[count]])
        for i in cheapest[:count]:
            if is_less(costs[i], best[i]):
                matched[i], best[i] = index, costs[i]
    return matched


def task_aligned(
    where: Sequence[Place],
    boxes: Sequence[Box],
    labels: Sequence[int],
    logits: Sequence[Sequence[float]],
    ltrb: Sequence[Sequence[float]],
    top_k: int,
) -> tuple[list[int], list[float]]:
    """The locations with the largest s u^6; and what their class should say."""
    matched = [-1] * len(where)
    best = [0.0] * len(where)
    aligned: list[dict[int, float]] = []
    for index, (box, label) in enumerate(zip(boxes, labels, strict=True)):
        t: dict[int, float] = {}
        aligned.append(t)
        if label < 0:
            continue
        ious = {}
        for i, place in enumerate(where):
            if min(sides(place, box)) > 0:
                ious[i] = iou(_predicted(place, ltrb[i]), box)
                t[i] = ious[i] ** 6 / (1 + math.exp(-logits[i][label]))
        taken = sorted(t, key=lambda i: -t[i])
        if len(taken) > top_k and t[taken[top_k - 1]]:
            is_less(1, t[taken[top_k]] / t[taken[top_k - 1]])
        for i in taken[:top_k]:
            if t[i] and is_less(best[i], ious[i]):
                matched[i], best[i] = index, ious[i]
    quality = [0.0] * len(where)
    for index, t in enumerate(aligned):
        won = [i for i in range(len(where)) if matched[i] == index]
        for i in won:
            quality[i] = t[i] / max(t[j] for j in won) * max(best[j] for j in won)
    return matched, quality


def _predicted(place: Place, ltrb: Sequence[float]) -> Box:
    left, top, right, bottom = ltrb
    return (place.x - left, place.y - top, place.x + right, place.y + bottom)
