"""Four pictures in one view (YOLOv4, arXiv 2004.10934, section 3.3): more objects, smaller ones, other
neighbours.

The view is cut in four around a random centre, and each part is an affine view of its own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from fcos_edge.train.config import AugmentConfig
from fcos_edge.train.views.augment import Labelled, choose_center, draw_map, move_boxes, recolor, warp

# Shares of the view's sides between which the centre lies: every part stays large enough for objects.
_CENTER_RANGE = (0.3, 0.7)


def mosaic_view(
    pictures: Sequence[Labelled],
    view_hw: tuple[int, int],
    config: AugmentConfig,
    generator: np.random.Generator,
) -> Labelled:
    """The four pictures, top left, top right, bottom left, bottom right, as one RGB view.

    At scale 1 a picture has the area of its part: about half its sides in a view of its own, without
    wide margins where the shapes differ. What reaches over its part is cut off.
    """
    height, width = view_hw
    low, high = _CENTER_RANGE
    middle_x = round(width * generator.uniform(low, high))
    middle_y = round(height * generator.uniform(low, high))
    view = np.empty((height, width, 3), np.uint8)
    boxes, labels = [], []
    parts = [
        (top, bottom, left, right)
        for top, bottom in ((0, middle_y), (middle_y, height))
        for left, right in ((0, middle_x), (middle_x, width))
    ]
    for picture, (top, bottom, left, right) in zip(pictures, parts, strict=True):
        part_hw = bottom - top, right - left
        source_hw = picture.image.shape[:2]
        fit = math.sqrt(math.prod(part_hw) / math.prod(source_hw))
        center = choose_center(picture, config, generator)
        matrix = draw_map(source_hw, part_hw, fit, config, generator, center)
        view[top:bottom, left:right] = warp(picture.image, matrix, part_hw, config.pad_color)
        moved, moved_labels = move_boxes(
            picture.boxes_xyxy, picture.labels, matrix, part_hw, config.min_visible
        )
        boxes.append(moved + np.array([left, top, left, top], np.float32))
        labels.append(moved_labels)
    return Labelled(recolor(view, config, generator), np.concatenate(boxes), np.concatenate(labels))
