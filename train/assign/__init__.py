"""Which location learns which box. Adding a method is adding a file here with `ASSIGNERS`: name -> `Method`.

B  pictures of a batch
L  locations of all levels, P3 first, row by row
M  boxes of a picture, padded to the most of the batch

A matcher is given predictions in input pixels, and says for every location the box that it learns. All
work on the whole batch at once, on the device where it lies, and wait for no result.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from functools import cache
from typing import NamedTuple, cast

import torch
from torch import Tensor

from fcos_edge.errors import UsageError
from fcos_edge.train.config import AssignConfig
from fcos_edge.train.predictions import Predictions
from fcos_edge.train.targets import BACKGROUND, IGNORED, Locations, Targets, Truth, centerness


class Matches(NamedTuple):
    """What a matcher finds.

    box      (B, L) int64, index of the box that the location learns, or -1
    quality  (B, L) float32 as in `Targets`, or None
    """

    box: Tensor
    quality: Tensor | None = None


Matcher = Callable[[Predictions, Truth, Locations, AssignConfig], Matches]


class Method(NamedTuple):
    """A matcher, and whether it looks at the predictions; where not, targets can be had before them."""

    match: Matcher
    is_looking: bool


@torch.no_grad()
def assign(
    predictions: Predictions | None, truth: Truth, locations: Locations, config: AssignConfig
) -> Targets:
    """What each location of a batch should say, by `config.method`.

    predictions: distances in input pixels; None only for a method that does not look at them

    A location inside an ignore region that learns no box is IGNORED. Raises UsageError for a method that
    is not there.
    """
    method = find_method(config.method)
    if truth.labels.shape[1] == 0:
        return _background(truth, len(locations.xy))
    box, quality = method.match(cast(Predictions, predictions), truth, locations, config)
    is_positive = box >= 0
    chosen = box.clamp(min=0)
    # Rows of one long table: a gather along boxes would read four indices for every location.
    row = chosen + torch.arange(len(chosen), device=box.device)[:, None] * truth.labels.shape[1]
    boxes = truth.boxes_xyxy.flatten(0, 1).index_select(0, row.flatten()).view(*row.shape, 4)
    ltrb = torch.cat([locations.xy, -locations.xy], dim=-1) - boxes * boxes.new_tensor([1, 1, -1, -1])
    otherwise = torch.where(_in_ignored(truth, locations), IGNORED, BACKGROUND)
    labels = torch.where(is_positive, truth.labels.gather(1, chosen), otherwise)
    return Targets(labels, ltrb, torch.where(is_positive, centerness(ltrb), 0.0), quality)


@cache
def find_method(method: str) -> Method:
    """Raises UsageError for a name that no file of this folder has."""
    found: dict[str, Method] = {}
    for module in pkgutil.iter_modules(__path__):
        found.update(importlib.import_module(f"{__name__}.{module.name}").ASSIGNERS)
    if method not in found:
        raise UsageError(f"assignment {method!r} is not known; choose from {', '.join(sorted(found))}")
    return found[method]


def _in_ignored(truth: Truth, locations: Locations) -> Tensor:
    """(B, L): whether a location lies inside an ignore region, not on its border."""
    is_ignored = (truth.labels == IGNORED)[..., None]
    x1, y1, x2, y2 = truth.boxes_xyxy[..., None].unbind(2)
    inside = []
    for level in locations.levels:
        xy = locations.xy[level.first : level.first + level.height * level.width]
        x, y = xy[: level.width, 0], xy[:: level.width, 1]
        columns = (x > x1) & (x < x2) & is_ignored  # [B, M, width]
        rows = (y > y1) & (y < y2)  # [B, M, height]
        # How many regions hold a row and a column at once: never a value for each location and each box.
        regions = rows.float().transpose(1, 2) @ columns.float()  # [B, height, width]
        inside.append(regions.flatten(1) > 0)
    return torch.cat(inside, 1)


def _background(truth: Truth, count: int) -> Targets:
    """Targets of a batch without a single box."""
    boxes = truth.boxes_xyxy
    shape = (len(boxes), count)
    labels = torch.full(shape, BACKGROUND, dtype=torch.int64, device=boxes.device)
    return Targets(labels, boxes.new_zeros(*shape, 4), boxes.new_zeros(shape), None)
