"""The FCOS network (arXiv 1904.01355): backbone, feature pyramid, shared head."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor, nn

from fcos_edge.train.backbones import build_backbone
from fcos_edge.train.config import NetworkConfig
from fcos_edge.train.fpn import Fpn
from fcos_edge.train.head import FcosHead
from fcos_edge.train.layers import Normalize


class Fcos(nn.Module):
    """Pictures (N, 3, H, W) float32, RGB, 0..255 -> raw maps by output name, NCHW.

    The names and their order are `ModelSpec.output_names`.
    """

    def __init__(
        self, config: NetworkConfig, *, pretrained: bool = False, weights_path: Path | None = None
    ) -> None:
        super().__init__()
        self.normalize = Normalize(config.mean, config.std)
        self.backbone = build_backbone(config.backbone, pretrained=pretrained, weights_path=weights_path)
        if config.activation == "relu":
            replace_relu6(self.backbone)
        self.fpn = Fpn(self.backbone.channels, config)
        self.head = FcosHead(config)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        maps: dict[str, Tensor] = self.head(self.fpn(self.backbone(self.normalize(images))))
        return maps


def replace_relu6(module: nn.Module) -> None:
    """Put a ReLU in the place of every ReLU6 inside `module`."""
    for name, child in module.named_children():
        if isinstance(child, nn.ReLU6):
            setattr(module, name, nn.ReLU(child.inplace))
        else:
            replace_relu6(child)
