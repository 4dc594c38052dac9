"""The paper's view: the whole picture, its short side scaled to a length, its long side limited, flipped."""

from __future__ import annotations

import cv2
import numpy as np

from fcos_edge.train.config import AugmentConfig
from fcos_edge.train.views.augment import Labelled, map_of_centers, move_boxes, recolor


def short_side_view(
    picture: Labelled,
    short_side: int,
    max_long_side: int,
    config: AugmentConfig,
    generator: np.random.Generator,
) -> Labelled:
    """An RGB view of the size that `scaled_hw` gives. Of `config` it takes the flip and the colours."""
    source_hw = picture.image.shape[:2]
    height, width = scaled_hw(source_hw, short_side, max_long_side)
    image = cv2.resize(picture.image, (width, height), interpolation=cv2.INTER_LINEAR)
    # The size is rounded to whole pixels, each side by itself, and boxes follow what was done.
    scale_y, scale_x = height / source_hw[0], width / source_hw[1]
    matrix = map_of_centers(scale_x, scale_y, 0, 0)
    if generator.uniform() < config.flip:
        image = cv2.flip(image, 1)
        matrix = map_of_centers(-scale_x, scale_y, width, 0)
    boxes, labels = move_boxes(
        picture.boxes_xyxy, picture.labels, matrix, (height, width), config.min_visible
    )
    return Labelled(recolor(np.asarray(image, np.uint8), config, generator), boxes, labels)


def scaled_hw(source_hw: tuple[int, ...], short_side: int, max_long_side: int) -> tuple[int, int]:
    """Height and width, whole pixels, once the short side is `short_side` and the long one no longer than
    `max_long_side`."""
    height, width = source_hw[:2]
    scale = min(short_side / min(height, width), max_long_side / max(height, width))
    return max(1, round(height * scale)), max(1, round(width * scale))
