"""Recall, ambiguity and anchors from their definitions: every location, every anchor, plain loops."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

Box = tuple[float, float, float, float]  # left, top, right, bottom


@dataclass(frozen=True)
class Seen:
    """One picture in the input. `last_pixel`: 1 where a box ends in its last pixel."""

    input_hw: tuple[int, int]
    boxes: Sequence[Box]
    labels: Sequence[int]
    last_pixel: int = 0


@dataclass
class Counted:
    boxes: int = 0
    recalled: int = 0
    positives: int = 0
    ambiguous: int = 0
    torn: int = 0


def area(box: Box, last_pixel: int) -> float:
    return (box[2] - box[0] + last_pixel) * (box[3] - box[1] + last_pixel)


def choices(
    seen: Seen,
    x: float,
    y: float,
    stride: int,
    low: float,
    high: float,
    is_strict: bool,
    center_radius: float,
) -> list[int]:
    """The boxes that the location (x, y) may learn."""
    found = []
    for index, (left, top, right, bottom) in enumerate(seen.boxes):
        distances = (x - left, y - top, right - x, bottom - y)
        if min(distances) <= 0:
            continue
        farthest = max(distances)
        if not (low < farthest < high if is_strict else low <= farthest <= high):
            continue
        if center_radius:
            reach = center_radius * stride
            if abs(x - (left + right) / 2) >= reach or abs(y - (top + bottom) / 2) >= reach:
                continue
        found.append(index)
    return found


def count(
    pictures: Sequence[Seen],
    levels: Sequence[tuple[int, float, float]],
    is_strict: bool = False,
    center_radius: float = 0.0,
    location_offset: float = 0.5,
) -> Counted:
    """levels: stride, and the ends of the range."""
    total = Counted()
    for seen in pictures:
        recalled = set()
        for stride, low, high in levels:
            for row in range(math.ceil(seen.input_hw[0] / stride)):
                for column in range(math.ceil(seen.input_hw[1] / stride)):
                    first = math.floor(location_offset * stride)
                    x, y = first + column * stride, first + row * stride
                    found = choices(seen, x, y, stride, low, high, is_strict, center_radius)
                    if not found:
                        continue
                    total.positives += 1
                    total.ambiguous += len(found) > 1
                    total.torn += len({seen.labels[index] for index in found}) > 1
                    recalled.add(min(found, key=lambda index: area(seen.boxes[index], seen.last_pixel)))
        total.boxes += len(seen.boxes)
        total.recalled += len(recalled)
    return total


def iou(a: Box, b: Box) -> float:
    """Of boxes that end where their last pixel ends."""
    across = min(a[2], b[2]) - max(a[0], b[0])
    down = min(a[3], b[3]) - max(a[1], b[1])
    if across <= 0 or down <= 0:
        return 0.0
    return across * down / (area(a, 0) + area(b, 0) - across * down)


def anchors(input_hw: tuple[int, int], strides: Sequence[int]) -> list[Box]:
    """RetinaNet's, nine a location."""
    found = []
    for stride in strides:
        for row in range(math.ceil(input_hw[0] / stride)):
            for column in range(math.ceil(input_hw[1] / stride)):
                x, y = (column + 0.5) * stride, (row + 0.5) * stride
                for octave in range(3):
                    side = 4 * 2 ** (octave / 3) * stride
                    for ratio in (0.5, 1.0, 2.0):
                        width, height = side / ratio**0.5, side * ratio**0.5
                        found.append((x - width / 2, y - height / 2, x + width / 2, y + height / 2))
    return found


def recalled_by_anchors(seen: Seen, strides: Sequence[int], low_quality: float | None) -> set[int]:
    """Boxes that some anchor learns. Overlaps that differ by rounding alone are equal."""
    if not seen.boxes:
        return set()
    ends = [(*box[:2], box[2] + seen.last_pixel, box[3] + seen.last_pixel) for box in seen.boxes]
    overlaps = [[round(iou(box, anchor), 9) for box in ends] for anchor in anchors(seen.input_hw, strides)]
    best_of_box = [max(row[index] for row in overlaps) for index in range(len(ends))]
    learned = set()
    for row in overlaps:
        favourite = row.index(max(row))
        is_low_quality = low_quality is not None and any(
            best >= low_quality and row[index] == best for index, best in enumerate(best_of_box)
        )
        if row[favourite] >= 0.5 or is_low_quality:
            learned.add(favourite)
    return learned
