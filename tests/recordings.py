"""A recording that finds one bicycle in every 64x32 picture: a model file that needs no runtime."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fcos_edge.artifact import ArtifactInfo, OutputInfo
from fcos_edge.runtime import Branch, RawOutputs, UInt8Array
from fcos_edge.runtimes.replay import save_recording
from tests.small_specs import SMALL_SPEC

SOURCE_HW = (32, 64)  # the input's own size: boxes come back as they are
THRESHOLD = 0.4
BOX_XYXY = [20.0, 12.0, 36.0, 28.0]
LABEL = 1
SCORE = 0.98973  # sqrt(sigmoid(4) * sigmoid(6))
WEAK_SCORE = 0.3  # a person at another place, under the operating threshold


def write_recording(path: Path) -> Path:
    """An .npz file; its detections are those named above."""
    locations = SMALL_SPEC.num_locations
    logits = np.full((1, locations, len(SMALL_SPEC.classes)), -9, np.float32)
    ltrb = np.ones((1, locations, 4), np.float32)  # one stride, 8 pixels at p3
    centerness = np.full((1, locations), 6, np.float32)
    # Row 2, column 3 of p3, which is 8 wide: the location (28, 20).
    logits[0, 2 * 8 + 3, LABEL] = 4
    # Row 0, column 6: sqrt(c * sigmoid(6)) is WEAK_SCORE.
    probability = WEAK_SCORE**2 * (1 + np.exp(-6.0))
    logits[0, 6, 0] = np.log(probability / (1 - probability))
    outputs = tuple(map(OutputInfo, SMALL_SPEC.output_names))
    info = ArtifactInfo("onnx", "fp32", outputs, (THRESHOLD,) * len(SMALL_SPEC.classes))
    save_recording(path, SMALL_SPEC, info, [RawOutputs(Branch(logits), Branch(ltrb), Branch(centerness))])
    return path


def picture_bgr(seed: int = 0) -> UInt8Array:
    """A grey picture with a little noise, (32, 64, 3)."""
    noise = np.random.default_rng(seed).integers(120, 136, (*SOURCE_HW, 3))
    return noise.astype(np.uint8)
