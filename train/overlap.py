"""How two boxes around the same location overlap, and the losses made of that.

Both boxes are given as ltrb, (..., 4): distances from the location to the four sides, not negative. So both
hold the location, and their intersection and hull are the smaller and the larger of each distance.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

# Square pixels. Keeps quotients of empty boxes finite, and is nothing beside any real box.
LEAST_AREA = 1e-6


class Areas(NamedTuple):
    """Of intersection, union and enclosing box: (...)."""

    overlap: Tensor
    union: Tensor
    hull: Tensor

    @classmethod
    def of(cls, a: Tensor, b: Tensor) -> Areas:
        """a, b: ltrb, (..., 4)"""

        def area(ltrb: Tensor) -> Tensor:
            return (ltrb[..., 0] + ltrb[..., 2]) * (ltrb[..., 1] + ltrb[..., 3])

        overlap = area(torch.minimum(a, b))
        return cls(overlap, area(a) + area(b) - overlap, area(torch.maximum(a, b)))


def iou(a: Tensor, b: Tensor) -> Tensor:
    """Intersection over union; 0 for two empty boxes; (..., 4), (..., 4) -> (...)."""
    areas = Areas.of(a, b)
    return areas.overlap / areas.union.clamp(min=LEAST_AREA)


def iou_loss(found: Tensor, wanted: Tensor) -> Tensor:
    """-ln IoU, arXiv 1608.01471; (..., 4), (..., 4) -> (...)."""
    areas = Areas.of(found, wanted)
    # A square pixel more in both areas: finite for empty boxes, as in the paper's own training code.
    return -torch.log((areas.overlap + 1) / (areas.union + 1))


def giou_loss(found: Tensor, wanted: Tensor) -> Tensor:
    """1 - GIoU = 1 - IoU + (hull - union) / hull, arXiv 1902.09630; (..., 4), (..., 4) -> (...)."""
    overlap, union, hull = Areas.of(found, wanted)
    return 1 - overlap / union.clamp(min=LEAST_AREA) + (hull - union) / hull.clamp(min=LEAST_AREA)
