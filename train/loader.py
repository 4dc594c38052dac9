"""Labelled pictures to batches: which pictures, in which random view, in which order.

M  boxes of one picture
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from fcos_edge.image import read_image_bgr
from fcos_edge.train.augment import Augmentation
from fcos_edge.train.config import AugmentConfig
from fcos_edge.train.dataset import LabelledPicture
from fcos_edge.train.targets import BACKGROUND, Truth


class TrainingPictures(Dataset[tuple[Tensor, Tensor, Tensor]]):
    """Augmented pictures. Sample i of an epoch depends on seed, epoch and i alone."""

    def __init__(self, pictures: Sequence[LabelledPicture], config: AugmentConfig, seed: int) -> None:
        self.pictures = pictures
        self.augmentation = Augmentation(config)
        self.seed = seed
        self.epoch = 0
        self.input_hw = (0, 0)  # set by the loop before each epoch

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor, Tensor]:
        """Picture (3, H, W) uint8 RGB, boxes (M, 4) float32 in input pixels, labels (M,) int64."""
        picture = self.pictures[index]
        generator = np.random.default_rng((self.seed, self.epoch, index))
        image, boxes, labels = self.augmentation(
            read_image_bgr(picture.path), picture.boxes_xyxy, picture.labels, self.input_hw, generator
        )
        rgb = np.ascontiguousarray(image[..., ::-1].transpose(2, 0, 1))
        return torch.from_numpy(rgb), torch.from_numpy(boxes), torch.from_numpy(labels)


def collate(samples: Sequence[tuple[Tensor, Tensor, Tensor]]) -> tuple[Tensor, Truth]:
    """Stack pictures, pad boxes: (B, 3, H, W) uint8 and a Truth."""
    images = torch.stack([image for image, _, _ in samples])
    most = max(len(labels) for _, _, labels in samples)
    boxes_xyxy = torch.zeros(len(samples), most, 4)
    labels_of = torch.full((len(samples), most), BACKGROUND, dtype=torch.int64)
    for i, (_, boxes, labels) in enumerate(samples):
        boxes_xyxy[i, : len(boxes)] = boxes
        labels_of[i, : len(labels)] = labels
    return images, Truth(boxes_xyxy, labels_of)
