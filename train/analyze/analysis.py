"""All that is said of a data set before training: recall, ambiguity, levels, anchors, box sizes.

Shares are percentages, as in the paper's tables; None where there is nothing to count.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fcos_edge.errors import UsageError
from fcos_edge.train.analyze.anchors import AnchorCount, count_anchors
from fcos_edge.train.analyze.bins import count_in_octaves
from fcos_edge.train.analyze.boxes import DataBoxes, DoubleArray
from fcos_edge.train.analyze.positives import Count, count_positives
from fcos_edge.train.analyze.shape import Shape

ALL_LEVELS = "fpn"
_QUANTILES = (5, 25, 50, 75, 95)


@dataclass(frozen=True, eq=False)
class Analysis:
    """One data set under one shape.

    counts    by name: ALL_LEVELS, and a level's name where that level alone has to learn everything
    sides_wh  (M, 2) float64, width and height of all boxes, input pixels
    """

    pictures: int
    left_out: int
    classes: tuple[str, ...]
    shape: Shape
    counts: Mapping[str, Count]
    anchors: AnchorCount
    sides_wh: DoubleArray

    def to_dict(self) -> dict[str, Any]:
        boxes = self.anchors.boxes
        sizes, ratios = box_sizes(self.sides_wh), aspect_ratios(self.sides_wh)
        return {
            "pictures": self.pictures,
            "boxes": boxes,
            "left_out": self.left_out,
            "classes": len(self.classes),
            "conventions": self.shape.text,
            **{name: _count_dict(count) for name, count in self.counts.items()},
            "anchors": {
                "best_possible_recall": percent(self.anchors.recalled, boxes),
                "without_low_quality": percent(self.anchors.recalled_without_low_quality, boxes),
            },
            "box_sizes": _quantiles(sizes),
            "aspect_ratios": _quantiles(ratios),
            "distributions": {
                "box_sizes": count_in_octaves(sizes).to_dict(),
                "aspect_ratios": count_in_octaves(ratios).to_dict(),
            },
        }


def analyze(data: DataBoxes, shape: Shape, alone: Sequence[str] = ()) -> Analysis:
    """Measure a data set. Raises UsageError for a level that the shape does not have.

    alone  levels that are measured by themselves, too
    """
    names = [level.name for level in shape.rule.levels]
    for name in alone:
        if name not in names:
            raise UsageError(f"--level {name}: is none of the levels {', '.join(names)}")
    views = [shape.see(picture) for picture in data.pictures]
    counts = {ALL_LEVELS: count_positives(views, shape.rule)}
    counts |= {name: count_positives(views, shape.rule.alone(name)) for name in alone}
    anchors = count_anchors(views, [level.stride for level in shape.rule.levels])
    sides_wh = np.concatenate([view.sides_wh for view in views])
    return Analysis(len(views), data.left_out, data.classes, shape, counts, anchors, sides_wh)


def percent(part: int, whole: int) -> float | None:
    """With four digits after the point."""
    return round(100 * part / whole, 4) if whole else None


def box_sizes(sides_wh: DoubleArray) -> DoubleArray:
    """The side of a square of the box's area, input pixels: (M, 2) -> (M,)."""
    return np.asarray(np.sqrt(sides_wh.prod(axis=1)))


def aspect_ratios(sides_wh: DoubleArray) -> DoubleArray:
    """Width / height: (M, 2) -> (M,)."""
    return np.asarray(sides_wh[:, 0] / sides_wh[:, 1])


def _count_dict(count: Count) -> dict[str, Any]:
    positives = sum(count.positives)
    return {
        "best_possible_recall": percent(count.recalled, count.boxes),
        "ambiguous": percent(count.ambiguous, positives),
        "ambiguous_between_classes": percent(count.torn, positives),
        "positives": positives,
        "levels": {
            level.name: {
                "stride": level.stride,
                "range": [level.low, None if level.high == math.inf else level.high],
                "locations": locations,
                "positives": found,
                "share_of_positives": percent(found, positives),
            }
            for level, locations, found in zip(
                count.rule.levels, count.locations, count.positives, strict=True
            )
        },
    }


def _quantiles(values: DoubleArray) -> dict[str, float | None]:
    found = np.percentile(values, _QUANTILES).round(4).tolist() if len(values) else [None] * len(_QUANTILES)
    return {f"{quantile}%": value for quantile, value in zip(_QUANTILES, found, strict=True)}
