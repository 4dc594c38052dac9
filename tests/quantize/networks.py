"""A small FCOS in PyTorch to export: two levels, milliseconds, random weights that find something."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fcos_edge.image import read_image_bgr
from fcos_edge.quantize.calibrate import calibrate
from fcos_edge.quantize.deploy import deploy
from fcos_edge.quantize.export import TrainedDetector
from fcos_edge.quantize.make_golden import golden_sources
from fcos_edge.spec import ModelSpec
from fcos_edge.train.layers import Conv2dSame, Normalize, Upsample2x

MEAN, STD = (127.0, 127.0, 127.0), (128.0, 128.0, 128.0)
THRESHOLDS = (0.3, 0.35)


class TinyFcos(nn.Module):
    """Normalize, a stem, a residual, one upsampling path, and three outputs for P3 and P4."""

    def __init__(self, classes: int = 2, channels: int = 16) -> None:
        super().__init__()
        c = channels
        self.normalize = Normalize(MEAN, STD)
        self.stem = nn.Sequential(Conv2dSame(3, c, 3, 2, bias=False), nn.BatchNorm2d(c), nn.ReLU6())
        self.down = nn.Sequential(Conv2dSame(c, c, 3, 2, bias=False), nn.BatchNorm2d(c), nn.ReLU6())
        self.block = nn.Sequential(nn.Conv2d(c, c, 1, bias=False), nn.BatchNorm2d(c))
        self.c3 = nn.Sequential(Conv2dSame(c, c, 3, 2, bias=False), nn.BatchNorm2d(c), nn.ReLU6())
        self.c4 = nn.Conv2d(c, c, 3, 2, 1)
        self.up = Upsample2x()
        self.lateral = nn.Conv2d(c, c, 1)
        self.heads = nn.ModuleDict(
            {
                f"{branch}_{level}": nn.Conv2d(c, count, 1)
                for level in ("p3", "p4")
                for branch, count in (("logits", classes), ("ltrb", 4), ("centerness", 1))
            }
        )

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        x = self.down(self.stem(self.normalize(images)))
        x = self.c3(self.block(x) + x)
        p4 = self.c4(x)
        p3 = self.lateral(x) + self.up(p4)
        return {
            f"{branch}_{level}": self.heads[f"{branch}_{level}"](feature)
            for level, feature in (("p3", p3), ("p4", p4))
            for branch in ("logits", "ltrb", "centerness")
        }


def tiny_detector(seed: int = 0, input_hw: tuple[int, int] = (64, 64)) -> TrainedDetector:
    """With a record, calibrated on the golden pictures themselves, and a few detections on them."""
    torch.manual_seed(seed)
    network = TinyFcos()
    height, width = input_hw
    with torch.no_grad():
        for name, head in network.heads.items():
            assert isinstance(head, nn.Conv2d)
            nn.init.normal_(head.weight, std=1.0 if name.startswith("logits") else 0.3)
            nn.init.constant_(head.bias, {"logits": -2.5, "ltrb": 2.0, "centerness": 1.0}[name.split("_")[0]])
        network.train()(torch.rand(8, 3, height, width) * 255)
    network.eval()
    names = ("cat", "person")
    spec = ModelSpec("tiny", names, input_hw, MEAN, STD, strides=(8, 16), provenance={"data": "none, random"})
    pictures = [read_image_bgr(source) for source in golden_sources()]
    record = calibrate(deploy(network, input_hw), pictures, spec)
    metrics = {"pictures": 3, "val": {"AP": 0.1, "classes": {"cat": {"boxes": 1, "AP": 0.1}}}}
    return TrainedDetector(network, spec, THRESHOLDS, record, metrics)
