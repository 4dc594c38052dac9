"""Which location each final detection came from, and whether it had a choice of boxes.

Section 4.1.2 of arXiv 1904.01355: "only 2.3% of the detected bounding boxes are produced by the ambiguous
locations" (1.5 % where the choice was between classes). All final detections count, right or wrong.

Post-processing does not say where a detection comes from: on a device nobody asks. So the raw outputs of the
same inference are kept, every location's box is decoded with the same roundings, and the location is the
one whose box is the detection's. Where several are, as boxes that all fill the picture, the score decides.

L     locations of all levels, P3 first, row by row
K     detections of one picture
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from fcos_edge.candidates import gather
from fcos_edge.detections import Detections
from fcos_edge.detector import Detector
from fcos_edge.image import read_image_bgr
from fcos_edge.letterbox import Letterbox
from fcos_edge.runtime import Branch, FloatArray, IntArray, RawOutputs, Runtime, UInt8Array
from fcos_edge.spec import ModelSpec
from fcos_edge.train.analyze.analysis import percent
from fcos_edge.train.analyze.boxes import DoubleArray, PictureBoxes
from fcos_edge.train.analyze.positives import Rule, map_level
from fcos_edge.train.analyze.views import letterbox_view

# As post-processing has them: farther than any side of any input.
_MAX_DISTANCE = np.float32(2.0**20)
_MAX_EXPONENT = np.float32(np.log(2.0**20))


class OriginCount(NamedTuple):
    """Final detections of some pictures; those from ambiguous locations, and between classes."""

    detections: int
    ambiguous: int
    torn: int

    def to_dict(self) -> dict[str, Any]:
        return {
            "detections": self.detections,
            "ambiguous": percent(self.ambiguous, self.detections),
            "ambiguous_between_classes": percent(self.torn, self.detections),
        }


def count_origins(detector: Detector, pictures: Iterable[PictureBoxes], rule: Rule) -> OriginCount:
    """Run `detector` over the pictures, down to its candidate threshold.

    rule  of the detector's own levels and location offset
    """
    spec = detector.spec
    kept = _Kept(detector.runtime)
    detections = ambiguous = torn = 0
    detector.runtime = kept
    try:
        for picture in pictures:
            image = read_image_bgr(picture.path)
            found = detector.candidates(image)
            assert kept.raw is not None
            letterbox = Letterbox.from_spec(spec, (image.shape[0], image.shape[1]))
            location = find_origins(spec, kept.raw, letterbox, found)
            view = letterbox_view(picture, letterbox)
            maps = [map_level(view, rule, level) for level in rule.levels]
            choices = np.concatenate([level.choices.ravel() for level in maps])  # [L]
            is_torn = np.concatenate([level.is_torn.ravel() for level in maps])
            detections += len(location)
            ambiguous += int(np.count_nonzero(choices[location] > 1))
            torn += int(np.count_nonzero(is_torn[location]))
    finally:
        detector.runtime = kept.runtime
    return OriginCount(detections, ambiguous, torn)


def find_origins(spec: ModelSpec, raw: RawOutputs, letterbox: Letterbox, found: Detections) -> IntArray:
    """The location of each detection of the only picture in `raw`: (K,) int64, 0..L-1."""
    boxes = letterbox.undo(_decode_all(spec, raw.ltrb))
    boxes[np.isnan(boxes)] = np.inf  # no detection's
    logits, centerness = (_real(spec, branch) for branch in (raw.logits, raw.centerness))
    location = np.zeros(len(found.scores), np.int64)
    for index, (box, score, label) in enumerate(
        zip(found.boxes_xyxy, found.scores, found.labels, strict=True)
    ):
        apart = np.abs(boxes - box).max(axis=1)
        (same,) = (apart == apart.min()).nonzero()
        scores = _scores(spec, logits[same, label], centerness[same])
        location[index] = same[np.abs(scores - score).argmin()]
    return location


class _Kept:
    """A runtime that keeps what it gave last."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self.raw: RawOutputs | None = None

    def run(self, images: UInt8Array) -> RawOutputs:
        self.raw = self.runtime.run(images)
        return self.raw

    def close(self) -> None:
        self.runtime.close()


def _decode_all(spec: ModelSpec, ltrb: Branch) -> FloatArray:
    """(L, 4) float32 boxes of all locations, input pixels; rounded as post-processing rounds."""
    distances = _real(spec, ltrb)
    if spec.distance == "exp":
        distances = np.exp(np.minimum(distances, _MAX_EXPONENT))
    else:
        distances = np.clip(distances, np.float32(0), _MAX_DISTANCE)
    start = 0
    boxes = np.empty_like(distances)
    for (height, width), stride in zip(spec.level_hw, spec.strides, strict=True):
        stop = start + height * width
        y, x = np.mgrid[:height, :width].astype(np.float32) * stride + int(spec.location_offset * stride)
        unit = np.float32(stride if spec.distance_unit == "stride" else 1)
        left, top, right, bottom = (distances[start:stop] * unit).T
        x, y = x.ravel(), y.ravel()
        boxes[start:stop] = np.stack([x - left, y - top, x + right, y + bottom], axis=1)
        start = stop
    return boxes


def _real(spec: ModelSpec, branch: Branch) -> FloatArray:
    """The only picture's values as real numbers: (L, ...) float32."""
    level = np.repeat(np.arange(len(spec.strides)), [height * width for height, width in spec.level_hw])
    return gather(branch.values[0], branch.quantization, np.arange(len(level)), level)


def _scores(spec: ModelSpec, logits: FloatArray, centerness: FloatArray) -> DoubleArray:
    """Final scores in float64, near enough to tell locations apart."""
    of_class, of_center = (
        1 / (1 + np.exp(-np.maximum(values.astype(np.float64), -80))) for values in (logits, centerness)
    )
    if spec.score == "class":
        return np.asarray(of_class)
    product = of_class * of_center
    return np.asarray(np.sqrt(product) if spec.score == "sqrt" else product)
