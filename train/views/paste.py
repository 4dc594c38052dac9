"""Objects of other pictures pasted into a view ("Simple Copy-Paste", arXiv 2012.07177), rare classes as often
as common ones.

The paper pastes objects along their masks. Data sets of boxes have none, so rectangles are pasted: the box
with some of its surroundings, as Albumentations' CopyAndPaste does with boxes. Edges are hard: the paper
found no gain in blending them (section 3), and so every pixel belongs to one picture. The surroundings
differ in width from side to side by lot, or the edge would tell where the box ends.

M  boxes of a picture or view
K  objects of a class
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np

from fcos_edge.runtime import FloatArray, IntArray
from fcos_edge.train.config import AugmentConfig
from fcos_edge.train.data.dataset import LabelledPicture
from fcos_edge.train.targets import IGNORED
from fcos_edge.train.views.augment import Labelled, map_of_centers, move_boxes, recolor

# Square root of an object's area, source pixels; smaller ones are blurs.
LEAST_SIDE = 24
# Widest surroundings on a side, as a share of the box's width or height: 10 % on average.
MOST_MARGIN = 0.2
# Largest share of the view's sides that a pasted rectangle takes.
MOST_SIDE = 0.5
# Largest share of a box that pasted rectangles may cover, all together.
MOST_COVERED = 0.3


class PastedObject(NamedTuple):
    """A box of a picture, by their numbers in the list and in the picture."""

    picture: int
    box: int


def list_objects(pictures: Sequence[LabelledPicture]) -> list[IntArray]:
    """What may be pasted, of each class that has any: (K, 2) int64, columns as in PastedObject."""
    found: dict[int, list[PastedObject]] = {}
    for number, picture in enumerate(pictures):
        areas = (picture.boxes_xyxy[:, 2:] - picture.boxes_xyxy[:, :2]).prod(axis=1)
        for box in np.flatnonzero((picture.labels != IGNORED) & (areas >= LEAST_SIDE**2)).tolist():
            found.setdefault(int(picture.labels[box]), []).append(PastedObject(number, box))
    return [np.array(found[label], np.int64) for label in sorted(found)]


def draw_objects(
    objects: Sequence[IntArray], mean: float, generator: np.random.Generator
) -> list[PastedObject]:
    """The objects for one view: `mean` of them, a fraction by lot. First a class is drawn, then one of its
    objects."""
    count = math.floor(mean + generator.uniform()) if objects else 0
    drawn = []
    for _ in range(count):
        of_class = objects[int(generator.integers(len(objects)))]
        drawn.append(PastedObject(*of_class[generator.integers(len(of_class))].tolist()))
    return drawn


def cut_out(
    picture: Labelled,
    box: int,
    view_hw: tuple[int, ...],
    config: AugmentConfig,
    generator: np.random.Generator,
) -> Labelled:
    """The box with surroundings, at a size and in colours that it might have in a view of its own; RGB.

    Boxes that reach into it come along, as `move_boxes` clips them.
    """
    source_hw = picture.image.shape[:2]
    left, top, right, bottom = _with_margin(picture.boxes_xyxy[box], source_hw, generator)
    crop = picture.image[top:bottom, left:right]
    fit = min(view_hw[0] / source_hw[0], view_hw[1] / source_hw[1])
    most = MOST_SIDE * min(view_hw[0] / (bottom - top), view_hw[1] / (right - left))
    factor = min(fit * np.exp(generator.uniform(*np.log(config.scale))), most)
    height, width = max(1, round((bottom - top) * factor)), max(1, round((right - left) * factor))
    image = cv2.resize(crop, (width, height), interpolation=cv2.INTER_LINEAR)
    # The size is rounded to whole pixels, each side by itself, and boxes follow what was done.
    scale_y, scale_x = height / (bottom - top), width / (right - left)
    matrix = map_of_centers(scale_x, scale_y, -left * scale_x, -top * scale_y)
    if generator.uniform() < config.flip:
        image = cv2.flip(image, 1)
        matrix = map_of_centers(-scale_x, scale_y, width + left * scale_x, -top * scale_y)
    boxes, labels = move_boxes(
        picture.boxes_xyxy, picture.labels, matrix, (height, width), config.min_visible
    )
    return Labelled(recolor(np.asarray(image, np.uint8), config, generator), boxes, labels)


def _with_margin(
    box_xyxy: FloatArray, source_hw: tuple[int, ...], generator: np.random.Generator
) -> tuple[int, int, int, int]:
    """x1 y1 x2 y2, whole pixels in the picture, around the box."""
    size = np.tile(box_xyxy[2:] - box_xyxy[:2], 2)
    margin = size * generator.uniform(0, MOST_MARGIN, 4)
    x1, y1 = np.floor(box_xyxy[:2] - margin[:2]).clip(0).astype(int).tolist()
    x2, y2 = np.ceil(box_xyxy[2:] + margin[2:]).astype(int).tolist()
    return x1, y1, min(x2, source_hw[1]), min(y2, source_hw[0])


def paste(
    view: Labelled, pieces: Sequence[Labelled], min_visible: float, generator: np.random.Generator
) -> Labelled:
    """The RGB view with each piece at a place by lot; one that would cover too much there is left out.

    A box that is covered in part ends where the piece begins, if what is left is a rectangle. Of which less
    than the share `min_visible` of what `view` had is left, it becomes an ignore region.
    """
    image = view.image.copy()
    boxes, labels = view.boxes_xyxy, view.labels
    areas, left_over = _areas(boxes), _areas(boxes)
    for piece in pieces:
        height, width = piece.image.shape[:2]
        x = int(generator.integers(image.shape[1] - width + 1))
        y = int(generator.integers(image.shape[0] - height + 1))
        place = np.array([x, y, x + width, y + height], np.float32)
        left_after = left_over - _areas(_overlap(boxes, place))
        if ((left_after < (1 - MOST_COVERED) * areas) & (labels != IGNORED)).any():
            continue
        image[y : y + height, x : x + width] = piece.image
        boxes, left_over = _uncovered(boxes, place), left_after
        boxes = np.concatenate([boxes, piece.boxes_xyxy + place[[0, 1, 0, 1]]])
        labels = np.concatenate([labels, piece.labels])
        areas = np.concatenate([areas, _areas(piece.boxes_xyxy)])
        left_over = np.concatenate([left_over, _areas(piece.boxes_xyxy)])
    labels = np.where(left_over < min_visible * areas, IGNORED, labels)
    # An ignore region may be covered as a whole; of any other box much is left.
    keep = (boxes[:, 2:] - boxes[:, :2]).min(axis=1, initial=np.inf) >= 1
    return Labelled(image, boxes[keep], labels[keep])


def _areas(boxes_xyxy: FloatArray) -> FloatArray:
    return np.asarray((boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]).prod(axis=1))


def _overlap(boxes_xyxy: FloatArray, place_xyxy: FloatArray) -> FloatArray:
    """(M, 4), without area where a box and the place do not meet."""
    near = np.maximum(boxes_xyxy[:, :2], place_xyxy[:2])
    return np.concatenate([near, np.maximum(np.minimum(boxes_xyxy[:, 2:], place_xyxy[2:]), near)], axis=1)


def _uncovered(boxes_xyxy: FloatArray, place_xyxy: FloatArray) -> FloatArray:
    """(M, 4), the boxes without what the place cuts off: where it reaches over one of their ends, and over
    both sides beside it."""
    low, high = boxes_xyxy[:, :2], boxes_xyxy[:, 2:]
    near, far = place_xyxy[:2], place_xyxy[2:]
    spans = ((near <= low) & (far >= high))[:, ::-1]  # the other axis as a whole
    begins = np.where(spans & (near <= low), far.clip(low, high), low)
    ends = np.where(spans & (far >= high), near.clip(low, high), high)
    return np.concatenate([begins, np.maximum(begins, ends)], axis=1).astype(np.float32)
