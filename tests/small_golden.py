"""Golden pictures of a detector of 120 locations, made up, with and without a calibration record.

Four classes give logits and distances the same shapes, so that the two can be exchanged. All scales are
powers of two: a float32 output and a step of it are exact.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from fcos_edge.artifact import OutputInfo
from fcos_edge.detections import Detections
from fcos_edge.golden import REFERENCE, Golden, GoldenPicture
from fcos_edge.letterbox import Letterbox
from fcos_edge.postprocess import PostProcessor
from fcos_edge.runtime import Branch, FloatArray, RawOutputs, UInt8Array
from fcos_edge.spec import BRANCHES
from tests.runtimes.models import SPEC, THRESHOLDS

SOURCE_NAMES = ("first.png", "second.png")
RECORD_SHA256 = "5" * 64
_SCALE_AND_ZERO_POINT = {"logits": (1 / 16, 200), "ltrb": (1 / 32, 0), "centerness": (1 / 16, 128)}
POINTS = {name: _SCALE_AND_ZERO_POINT[name.split("_")[0]] for name in SPEC.output_names}
# Rows of p3 with an object at column 3, score 0.97. One at column 9, 0.304, is just above its threshold, 0.3.
_STRONG_ROWS = (1, 4, 6)


def small_golden(*, is_quantized: bool = True) -> Golden:
    """Two pictures of three objects each."""
    pictures = tuple(_picture(name, seed, is_quantized) for seed, name in enumerate(SOURCE_NAMES))
    conventions = (replace(SPEC, provenance={}), {REFERENCE: THRESHOLDS})
    if not is_quantized:
        return Golden(pictures, *conventions)
    outputs = tuple(OutputInfo(name, *point) for name, point in POINTS.items())
    return Golden(pictures, *conventions, outputs, RECORD_SHA256, dict.fromkeys(POINTS, 0.0))


def write_sources(folder: Path) -> list[Path]:
    """The source pictures, as large as the input: the letterbox leaves them alone."""
    paths = [folder / name for name in SOURCE_NAMES]
    for seed, path in enumerate(paths):
        assert cv2.imwrite(str(path), _image_rgb(seed)[:, :, ::-1])
    return paths


def dequantized(picture: GoldenPicture) -> dict[str, FloatArray]:
    """The simulator's integers as an exact runtime returns them."""
    outputs = {}
    for name, integers in picture.int8.items():
        scale, zero_point = POINTS[name]
        outputs[name] = (integers.astype(np.float32) - np.float32(zero_point)) * np.float32(scale)
    return outputs


def raw_outputs(outputs: Mapping[str, FloatArray]) -> RawOutputs:
    """Outputs of one picture, (h, w, C) each, as a runtime returns them."""

    def joined(branch: str) -> FloatArray:
        levels = [outputs[f"{branch}_{level}"] for level in SPEC.level_names]
        return np.concatenate([level.reshape(1, -1, level.shape[2]) for level in levels], axis=1)

    logits, ltrb, centerness = map(joined, BRANCHES)
    return RawOutputs(Branch(logits), Branch(ltrb), Branch(centerness[:, :, 0]))


def detect(outputs: Mapping[str, FloatArray]) -> Detections:
    letterbox = Letterbox.from_spec(SPEC, SPEC.input_hw)
    return PostProcessor(SPEC)(raw_outputs(outputs), [letterbox])[0]


def _image_rgb(seed: int) -> UInt8Array:
    return np.random.default_rng(seed).integers(0, 256, (*SPEC.input_hw, 3)).astype(np.uint8)


def _picture(name: str, seed: int, is_quantized: bool) -> GoldenPicture:
    rng = np.random.default_rng(seed)
    integers: dict[str, UInt8Array] = {}
    for level, (height, width) in zip(SPEC.level_names, SPEC.level_hw, strict=True):
        integers[f"logits_{level}"] = rng.integers(70, 110, (height, width, 4)).astype(np.uint8)  # -8 to -6
        integers[f"ltrb_{level}"] = rng.integers(32, 64, (height, width, 4)).astype(np.uint8)
        integers[f"centerness_{level}"] = rng.integers(64, 192, (height, width, 1)).astype(np.uint8)
    for row in _STRONG_ROWS:
        integers["logits_p3"][row, 3, row % 4] = 248  # 3, a probability of 0.95
        integers["centerness_p3"][row, 3] = 192  # 4
    integers["logits_p3"][3, 9, 0] = 174  # -1.6, a probability of 0.17
    integers["centerness_p3"][3, 9] = 132
    picture = GoldenPicture(
        name, _image_rgb(seed)[None], {}, integers, Detections.empty(), Detections.empty()
    )
    # A quarter of a step, seen from the float network, is what a good int8 network loses.
    fp32 = {
        output: values + (rng.uniform(-1, 1, values.shape) * POINTS[output][0] / 4).astype(np.float32)
        for output, values in dequantized(picture).items()
    }
    candidates = detect(fp32)
    int8 = integers if is_quantized else {}
    return GoldenPicture(name, picture.images, fp32, int8, candidates, candidates.filtered(THRESHOLDS))
