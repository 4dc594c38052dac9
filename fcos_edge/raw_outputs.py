"""Raw outputs of one picture by name, and all levels in one as a runtime returns them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from fcos_edge.runtime import Branch, FloatArray, RawOutputs
from fcos_edge.spec import BRANCHES, ModelSpec


def join_outputs(outputs: Mapping[str, FloatArray], spec: ModelSpec) -> RawOutputs:
    """Outputs of one picture, (h, w, C) each, as a runtime returns them."""
    flat = {
        branch: np.concatenate([
            outputs[f"{branch}_{level}"].reshape(1, height * width, -1)
            for level, (height, width) in zip(spec.level_names, spec.level_hw, strict=True)
        ], axis=1)
        for branch in BRANCHES
    }  # fmt: skip
    return RawOutputs(Branch(flat["logits"]), Branch(flat["ltrb"]), Branch(flat["centerness"][:, :, 0]))


def split_outputs(raw: RawOutputs, spec: ModelSpec) -> Iterator[tuple[str, FloatArray]]:
    """(output name, (h, w, C) float32) of the first picture; integers are dequantized."""
    start = 0
    for level, (name, (height, width)) in enumerate(zip(spec.level_names, spec.level_hw, strict=True)):
        stop = start + height * width
        for kind, branch in zip(BRANCHES, raw, strict=True):
            values = branch.values[0, start:stop].reshape(height, width, -1).astype(np.float32)
            if branch.quantization:
                scale, zero_point = branch.quantization[level]
                values = (values - np.float32(zero_point)) * np.float32(scale)
            yield f"{kind}_{name}", values.copy()
        start = stop
