"""Random views of a labelled picture: flip, scale, crop, colour.

One affine map takes the picture to the network's input, so it is resampled once and boxes follow the
same numbers. Colours change last.

M  boxes
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from fcos_edge.runtime import FloatArray, IntArray, UInt8Array
from fcos_edge.train.config import AugmentConfig
from fcos_edge.train.targets import IGNORED


@dataclass(frozen=True)
class Augmentation:
    """Makes views as its settings say."""

    config: AugmentConfig

    def __call__(
        self,
        image_bgr: UInt8Array,
        boxes_xyxy: FloatArray,
        labels: IntArray,
        input_hw: tuple[int, int],
        generator: np.random.Generator,
    ) -> tuple[UInt8Array, FloatArray, IntArray]:
        """Returns a picture of `input_hw` and its boxes, clipped to it; boxes outside are dropped."""
        matrix = self.draw_map(image_bgr.shape[:2], input_hw, generator)
        height, width = input_hw
        view = np.asarray(cv2.warpAffine(
            image_bgr, matrix, (width, height), flags=cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_CONSTANT, borderValue=self.config.pad_color,
        ), np.uint8)  # fmt: skip
        boxes, kept_labels = self.move_boxes(boxes_xyxy, labels, matrix, input_hw)
        return self.recolor(view, generator), boxes, kept_labels

    def draw_map(
        self, source_hw: tuple[int, int], input_hw: tuple[int, int], generator: np.random.Generator
    ) -> FloatArray:
        """A (2, 3) affine map, source pixel corners to input pixel corners less half a pixel each."""
        source_height, source_width = source_hw
        height, width = input_hw
        fit = min(height / source_height, width / source_width)
        low, high = np.log(self.config.scale)
        factor = fit * np.exp(generator.uniform(low, high))
        free_x, free_y = width - source_width * factor, height - source_height * factor
        shift_x, shift_y = free_x * generator.uniform(), free_y * generator.uniform()
        if generator.uniform() < self.config.flip:
            matrix = np.array([[-factor, 0, source_width * factor + shift_x], [0, factor, shift_y]])
        else:
            matrix = np.array([[factor, 0, shift_x], [0, factor, shift_y]])
        # Boxes live on pixel corners, warpAffine on pixel centres: p_centre = p_corner - 0.5 on both sides.
        matrix[:, 2] += matrix[:, :2].sum(axis=1) * 0.5 - 0.5
        return matrix.astype(np.float32)

    def move_boxes(
        self, boxes_xyxy: FloatArray, labels: IntArray, matrix: FloatArray, input_hw: tuple[int, int]
    ) -> tuple[FloatArray, IntArray]:
        """Boxes in the view: (M', 4) and their labels."""
        corner = matrix[:, 2] + 0.5 - matrix[:, :2].sum(axis=1) * 0.5
        scale = np.diagonal(matrix[:, :2])
        ends = boxes_xyxy.reshape(-1, 2, 2) * scale + corner  # [M, 2, 2]
        moved = np.concatenate([ends.min(axis=1), ends.max(axis=1)], axis=1)
        limit = np.array([input_hw[1], input_hw[0]] * 2, np.float32)
        clipped = np.clip(moved, 0, limit)
        side = clipped[:, 2:] - clipped[:, :2]
        share = side.prod(axis=1) / np.maximum((moved[:, 2:] - moved[:, :2]).prod(axis=1), 1e-6)
        keep = side.min(axis=1, initial=np.inf) >= 1
        labels = np.where(share < self.config.min_visible, IGNORED, labels)
        return clipped[keep].astype(np.float32), labels[keep].astype(np.int64)

    def recolor(self, image_bgr: UInt8Array, generator: np.random.Generator) -> UInt8Array:
        """Change contrast, brightness and saturation."""
        contrast = 1 + self.config.contrast * generator.uniform(-1, 1)
        brightness = self.config.brightness * generator.uniform(-1, 1)
        saturation = 1 + self.config.saturation * generator.uniform(-1, 1)
        grey = cv2.cvtColor(cv2.cvtColor(image_bgr, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR)
        mean = float(grey.mean())
        offset = mean * (1 - contrast) + brightness
        mixed = cv2.addWeighted(image_bgr, contrast * saturation, grey, contrast * (1 - saturation), offset)
        return np.asarray(mixed, np.uint8)
