"""Random views of a labelled picture: flip, scale, crop, colour.

One affine map takes the picture to the view, so it is resampled once and boxes follow the same numbers.
Colours change last, on the way from BGR to RGB.

M  boxes of a picture
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np

from fcos_edge.runtime import FloatArray, IntArray, UInt8Array
from fcos_edge.train.config import AugmentConfig
from fcos_edge.train.targets import IGNORED

# Luma of BT.601, as OpenCV's BGR2GRAY.
_GREY_OF_BGR = np.array([0.114, 0.587, 0.299])


class Labelled(NamedTuple):
    """A picture in memory and its boxes.

    image       (H, W, 3) uint8; BGR as it was read, RGB once it is a view
    boxes_xyxy  (M, 4) float32, pixels of `image`
    labels      (M,) int64, a class or IGNORED
    """

    image: UInt8Array
    boxes_xyxy: FloatArray
    labels: IntArray


def affine_view(
    picture: Labelled, view_hw: tuple[int, int], config: AugmentConfig, generator: np.random.Generator
) -> Labelled:
    """A random part of the picture, or the picture on a part of the view; RGB."""
    source_height, source_width = picture.image.shape[:2]
    fit = min(view_hw[0] / source_height, view_hw[1] / source_width)
    center = choose_center(picture, config, generator)
    matrix = draw_map(picture.image.shape[:2], view_hw, fit, config, generator, center)
    image = warp(picture.image, matrix, view_hw, config.pad_color)
    boxes, labels = move_boxes(picture.boxes_xyxy, picture.labels, matrix, view_hw, config.min_visible)
    return Labelled(recolor(image, config, generator), boxes, labels)


def choose_center(
    picture: Labelled, config: AugmentConfig, generator: np.random.Generator
) -> FloatArray | None:
    """Centre x, y of a box by lot, that the view shall show; None where the lot or the picture has none."""
    if not config.keep_object or generator.uniform() >= config.keep_object:
        return None
    objects = picture.boxes_xyxy[picture.labels != IGNORED]
    if not len(objects):
        return None
    return np.asarray(objects[generator.integers(len(objects))].reshape(2, 2).mean(axis=0))


def draw_map(
    source_hw: tuple[int, ...],
    view_hw: tuple[int, int],
    fit: float,
    config: AugmentConfig,
    generator: np.random.Generator,
    center_xy: FloatArray | None = None,
) -> FloatArray:
    """A (2, 3) affine map by lot, from source pixel centres to view pixel centres.

    fit:       view pixels per source pixel at scale 1
    center_xy: (2,), a point of the picture that the view shall show, pixels as of boxes; None: any
    """
    source_height, source_width = source_hw[:2]
    height, width = view_hw
    low, high = np.log(config.scale)
    factor = fit * np.exp(generator.uniform(low, high))
    free = np.array([width - source_width * factor, height - source_height * factor])
    place = generator.uniform(size=2)
    is_flipped = generator.uniform() < config.flip
    first, last = np.zeros(2), free
    if center_xy is not None:
        x, y = center_xy * factor
        point = np.array([source_width * factor - x if is_flipped else x, y])
        # Of the places that there are, those with the point in the view.
        first, last = (end.clip(-point, np.array([width, height]) - point) for end in (first, last))
    shift_x, shift_y = first + (last - first) * place
    if is_flipped:
        return map_of_centers(-factor, factor, source_width * factor + shift_x, shift_y)
    return map_of_centers(factor, factor, shift_x, shift_y)


def map_of_centers(scale_x: float, scale_y: float, shift_x: float, shift_y: float) -> FloatArray:
    """The (2, 3) map of pixel centres for a scale and shift of pixel corners, in which boxes are given.

    p_centre = p_corner - 0.5 on both sides.
    """
    shift = [shift_x + scale_x * 0.5 - 0.5, shift_y + scale_y * 0.5 - 0.5]
    return np.array([[scale_x, 0, shift[0]], [0, scale_y, shift[1]]], np.float32)


def warp(
    image: UInt8Array, matrix: FloatArray, view_hw: tuple[int, int], pad_color_rgb: tuple[int, int, int]
) -> UInt8Array:
    """The BGR picture (H, W, 3) through a map of pixel centres, on a view in the pad's colour."""
    view = cv2.warpAffine(
        image, matrix, (view_hw[1], view_hw[0]), flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_CONSTANT, borderValue=pad_color_rgb[::-1],
    )  # fmt: skip
    return np.asarray(view, np.uint8)


def move_boxes(
    boxes_xyxy: FloatArray,
    labels: IntArray,
    matrix: FloatArray,
    view_hw: tuple[int, int],
    min_visible: float,
) -> tuple[FloatArray, IntArray]:
    """Boxes in the view, clipped to it: (M', 4) and their labels.

    matrix: (2, 3), of pixel centres, without rotation

    A box of which less than a pixel is left is dropped; of which less than the share `min_visible` is
    left, it becomes an ignore region: neither an example of its class nor background.
    """
    corner = matrix[:, 2] + 0.5 - matrix[:, :2].sum(axis=1) * 0.5
    scale = np.diagonal(matrix[:, :2])
    ends = boxes_xyxy.reshape(-1, 2, 2) * scale + corner  # [M, 2, 2]
    moved = np.concatenate([ends.min(axis=1), ends.max(axis=1)], axis=1)
    limit = np.array([view_hw[1], view_hw[0]] * 2, np.float32)
    clipped = np.clip(moved, 0, limit)
    side = clipped[:, 2:] - clipped[:, :2]
    share = side.prod(axis=1) / np.maximum((moved[:, 2:] - moved[:, :2]).prod(axis=1), 1e-6)
    keep = side.min(axis=1, initial=np.inf) >= 1
    labels = np.where(share < min_visible, IGNORED, labels)
    return clipped[keep].astype(np.float32), labels[keep].astype(np.int64)


def recolor(image_bgr: UInt8Array, config: AugmentConfig, generator: np.random.Generator) -> UInt8Array:
    """Change contrast, brightness and saturation by lot; (H, W, 3) BGR becomes RGB.

    Saturation mixes each pixel with its grey, contrast each value with the mean grey of the picture. Both
    are linear in the colours, so one 3x4 matrix does all of it, and swaps the channels, in one pass.
    """
    contrast = 1 + config.contrast * generator.uniform(-1, 1)
    brightness = config.brightness * generator.uniform(-1, 1)
    saturation = 1 + config.saturation * generator.uniform(-1, 1)
    mean_grey = float(_GREY_OF_BGR @ cv2.mean(image_bgr)[:3])
    matrix = np.empty((3, 4))
    matrix[:, :3] = contrast * (saturation * np.eye(3) + (1 - saturation) * _GREY_OF_BGR)
    matrix[:, 3] = mean_grey * (1 - contrast) + brightness
    return np.asarray(cv2.transform(image_bgr, matrix[::-1]), np.uint8)
