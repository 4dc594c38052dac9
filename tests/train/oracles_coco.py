"""COCO's matching rule written out, one detection and one threshold at a time."""

from __future__ import annotations

from collections.abc import Sequence

Box = Sequence[float]  # x y width height


def match_one_by_one(
    found: Sequence[Box], boxes: Sequence[Box], crowds: Sequence[Box], threshold: float
) -> list[tuple[int, bool]]:
    """(the box that it takes or -1, counts) of each detection of one picture and class, best first."""
    free = list(range(len(boxes)))
    rows = []
    for detection in found:
        best = None
        for place in free:
            value = overlap(detection, boxes[place], is_crowd=False)
            # Of equal ones the last.
            if value >= threshold and (
                best is None or value >= overlap(detection, boxes[best], is_crowd=False)
            ):
                best = place
        if best is not None:
            free.remove(best)
            rows.append((best, True))
        else:
            rows.append((-1, all(overlap(detection, c, is_crowd=True) < threshold for c in crowds)))
    return rows


def overlap(found: Box, truth: Box, *, is_crowd: bool) -> float:
    """IoU, or the part of `found` in a crowd."""
    width = min(found[0] + found[2], truth[0] + truth[2]) - max(found[0], truth[0])
    height = min(found[1] + found[3], truth[1] + truth[3]) - max(found[1], truth[1])
    if width <= 0 or height <= 0:
        return 0.0
    shared = width * height
    own = found[2] * found[3]
    return shared / own if is_crowd else shared / (own + truth[2] * truth[3] - shared)
