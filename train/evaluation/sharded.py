"""Evaluation by all processes of a training run: each runs its share of the pictures, each gets everything.

Process r of n takes pictures r, r + n, r + 2n, ... A picture's detections do not depend on its neighbours,
so that the figures are those of one process, to the last bit.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch.distributed as dist

from fcos_edge.detections import Detections
from fcos_edge.detector import Detector
from fcos_edge.errors import FcosEdgeError
from fcos_edge.train.data.dataset import LabelledPicture
from fcos_edge.train.evaluation.evaluate import find_candidates


def sharded_candidates(
    detector: Detector, pictures: Sequence[LabelledPicture], what: str, rank: int, world: int
) -> list[Detections]:
    """All that `detector` finds above its candidate threshold, picture by picture, in every process.

    rank, world  of this process among those of torch.distributed; a world of 1 needs none

    Every process must call this, with the same pictures. A picture that one process cannot read raises the
    same FcosEdgeError in all of them: nobody is left waiting.
    """
    if world == 1:
        return find_candidates(detector, pictures, what)
    share: list[Detections] | FcosEdgeError
    try:
        share = find_candidates(detector, pictures[rank::world], what)
    except FcosEdgeError as error:
        share = error
    shares: list[list[Detections] | FcosEdgeError | None] = [None] * world
    dist.all_gather_object(shares, share)
    found: list[Detections | None] = [None] * len(pictures)
    for first, part in enumerate(shares):
        if isinstance(part, FcosEdgeError):
            raise part
        assert part is not None
        found[first::world] = part
    return [detections for detections in found if detections is not None]
