"""The embedded detector at a fifteenth of its pixels: trained, so that int8 keeps its budgets, and fast."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from fcos_edge import embedded
from fcos_edge.image import read_image_bgr
from fcos_edge.quantize.calibrate import calibrate
from fcos_edge.quantize.deploy import deploy
from fcos_edge.quantize.make_golden import golden_sources
from fcos_edge.train.checkpoint import Checkpoint, load_checkpoint, save_checkpoint

INPUT_HW = (96, 128)  # not square: exchanged sides are seen


def small_detector() -> Checkpoint:
    """Its record comes from the golden pictures, where it finds two persons and a cat, and some ghosts."""
    checkpoint = load_checkpoint(embedded.CHECKPOINT)
    spec = replace(checkpoint.spec, name="small", input_hw=INPUT_HW)
    pictures = map(read_image_bgr, golden_sources())
    record = calibrate(deploy(checkpoint.network, INPUT_HW), pictures, spec)
    # So few pixels give low scores.
    thresholds = (0.35,) * len(spec.classes)
    return replace(
        checkpoint, spec=spec, operating_thresholds=thresholds, record=record.to_dict(), sensitivity=None
    )


def save_small_detector(path: Path) -> Path:
    save_checkpoint(path, small_detector())
    return path
