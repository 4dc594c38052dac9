"""Steps that make int8 better, one file each; what they find out is written into the record.

equalization      `cle`  which output channels to scale up, and their readers' inputs down, so that one scale
                         fits a convolution's weights; runs before the ranges are measured
weight_search     `ws`   weight scales of least squared error, instead of the largest weight
rounding          `ada`  which weights to round up and which down (AdaRound)
bias_correction   `bc`   what to add to integer biases so that int8 keeps float's mean in every channel

Each but the first has `refine(graph, record, inputs) -> Record`: the graph as it was folded, the record so
far, and letterboxed pictures (N, H, W, 3) uint8 RGB.
"""

from __future__ import annotations

import importlib
from typing import Any

_MODULES = {"cle": "equalization", "ws": "weight_search", "ada": "rounding", "bc": "bias_correction"}


def find_refinement(name: str) -> Any:
    """The module of the refinement called `name` in `recipe.REFINEMENTS`."""
    return importlib.import_module(f"{__name__}.{_MODULES[name]}")
