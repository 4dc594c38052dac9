"""Pictures to batches: what a sample depends on, and how boxes are padded."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import torch

from fcos_edge.train.config import AugmentConfig
from fcos_edge.train.dataset import LabelledPicture
from fcos_edge.train.loader import TrainingPictures, collate
from fcos_edge.train.targets import BACKGROUND, IGNORED


def test_training_pictures__depend_on_seed_epoch_and_index_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    cv2.imwrite(str(path), np.random.default_rng(0).integers(0, 255, (40, 50, 3), np.uint8))
    picture = LabelledPicture(path, 1, np.array([[5, 5, 30, 30]], np.float32), np.array([1]))

    def sample(seed: int, epoch: int, index: int) -> torch.Tensor:
        data = TrainingPictures([picture, picture], AugmentConfig(), seed)
        data.epoch, data.input_hw = epoch, (32, 64)
        return data[index][0]

    first = sample(0, 0, 0)
    assert first.shape == (3, 32, 64)
    assert first.dtype == torch.uint8
    assert torch.equal(first, sample(0, 0, 0))
    for other in ((1, 0, 0), (0, 1, 0), (0, 0, 1)):
        assert not torch.equal(first, sample(*other))


def test_training_pictures__are_rgb(tmp_path: Path) -> None:
    path = tmp_path / "blue.png"
    image = np.zeros((32, 32, 3), np.uint8)
    image[..., 0] = 200
    cv2.imwrite(str(path), image)
    plain = AugmentConfig(scale=(1, 1), contrast=0, brightness=0, saturation=0)
    data = TrainingPictures(
        [LabelledPicture(path, 1, np.zeros((0, 4), np.float32), np.zeros(0, np.int64))], plain, 0
    )
    data.input_hw = (32, 32)
    assert data[0][0][:, 16, 16].tolist() == [0, 0, 200]


def test_collate__pads_boxes() -> None:
    image = torch.zeros(3, 4, 4, dtype=torch.uint8)
    box = torch.tensor([[1.0, 2, 3, 4]])
    none = (image, torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64))
    images, truth = collate(
        [(image, box, torch.tensor([IGNORED])), none, (image, box.repeat(2, 1), torch.tensor([4, 5]))]
    )
    assert images.shape == (3, 3, 4, 4)
    assert truth.labels.tolist() == [[IGNORED, BACKGROUND], [BACKGROUND, BACKGROUND], [4, 5]]
    assert truth.boxes_xyxy[0].tolist() == [[1, 2, 3, 4], [0, 0, 0, 0]]
    assert collate([none, none])[1].boxes_xyxy.shape == (2, 0, 4)
