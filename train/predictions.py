"""What the network says, one location after the other.

B  pictures of a batch
L  locations of all levels, P3 first, row by row
C  classes
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from fcos_edge.train.config import NetworkConfig
from fcos_edge.train.targets import Locations

# exp(13.8) is a million: no box is that large, and areas of such sides still fit float32, where exp(89)
# is infinite and the loss of an infinite box is NaN. A mixed-precision network reaches 89 in one bad step.
MOST_EXPONENT = 13.8


class Predictions(NamedTuple):
    """Maps of all levels, float32.

    logits      (B, L, C)
    ltrb        (B, L, 4), as the network gives them, or in input pixels: the function that takes them says
    centerness  (B, L), logits
    """

    logits: Tensor
    ltrb: Tensor
    centerness: Tensor


def flatten_maps(maps: dict[str, Tensor], level_names: tuple[str, ...]) -> Predictions:
    """NCHW maps by output name -> one float32 tensor per branch, in location order; distances stay raw."""

    def branch(name: str) -> Tensor:
        return torch.cat(
            [maps[f"{name}_{level}"].flatten(2).transpose(1, 2) for level in level_names], dim=1
        ).float()

    return Predictions(branch("logits"), branch("ltrb"), branch("centerness")[..., 0])


def in_pixels(predictions: Predictions, locations: Locations, network: NetworkConfig) -> Predictions:
    """The same with distances in input pixels, by the network's activation and unit."""
    if network.distance == "exp":
        ltrb = predictions.ltrb.clamp(max=MOST_EXPONENT).exp()
    else:
        ltrb = F.relu(predictions.ltrb)
    if network.distance_unit == "stride":
        ltrb = ltrb * locations.stride[:, None]
    return predictions._replace(ltrb=ltrb)
