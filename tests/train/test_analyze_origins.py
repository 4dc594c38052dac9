"""Where detections come from: known locations through the real post-processing, and back."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fcos_edge.detector import Detector
from fcos_edge.letterbox import Letterbox
from fcos_edge.postprocess import PostProcessor
from fcos_edge.runtime import Branch, FloatArray, IntArray, RawOutputs, UInt8Array
from fcos_edge.spec import ModelSpec
from fcos_edge.train.analyze.boxes import read_boxes
from fcos_edge.train.analyze.origins import count_origins, find_origins
from fcos_edge.train.analyze.shape import spec_shape
from fcos_edge.train.analyze.views import letterbox_view
from fcos_edge.train.config import AssignConfig
from tests.coco_sets import CLASSES, SIDE, make_coco_set
from tests.train import oracles_analyze as oracle

NOWHERE = -12.0  # a logit far below any threshold
SPEC = ModelSpec("x", CLASSES, (64, 96), (0, 0, 0), (1, 1, 1), nms_iou=1.0)

SPECS = [
    SPEC,
    replace(SPEC, distance="exp"),
    replace(SPEC, distance_unit="pixel", pad_position="centre"),
    replace(SPEC, distance="exp", distance_unit="pixel", resize="stretch", location_offset=0.0),
    replace(SPEC, score="product"),
    replace(SPEC, score="class"),
    replace(SPEC, strides=(8, 16, 32)),
]


def _plant(
    spec: ModelSpec, generator: np.random.Generator, ltrb_scale: float
) -> tuple[IntArray, IntArray, RawOutputs]:
    """Outputs that find something at some locations, the surest first: these, their labels, the outputs."""
    location = generator.permutation(spec.num_locations)[:20]
    label = generator.integers(0, len(spec.classes), 20)
    logits = np.full((1, spec.num_locations, len(spec.classes)), NOWHERE, np.float32)
    logits[0, location, label] = np.linspace(3, -1, 20)
    ltrb = generator.normal(1, ltrb_scale, (1, spec.num_locations, 4)).astype(np.float32)
    centerness = np.full((1, spec.num_locations), 1.5, np.float32)
    return location, label, RawOutputs(Branch(logits), Branch(ltrb), Branch(centerness))


def _quantized(values: FloatArray, scale: float) -> Branch:
    """As int8, all levels with the same scale."""
    return Branch((values / scale).round().clip(-128, 127).astype(np.int8), ((scale, 0),) * 5)


@pytest.mark.parametrize("spec", SPECS, ids=range(len(SPECS)))
@pytest.mark.parametrize(
    "ltrb_scale",
    [
        1.0,
        300.0,  # many boxes fill the whole picture: only the score tells them apart
    ],
)
@pytest.mark.parametrize("is_int8", [False, True])
def test_find_origins__planted_locations(spec: ModelSpec, ltrb_scale: float, is_int8: bool) -> None:
    generator = np.random.default_rng(0)
    location, label, raw = _plant(spec, generator, ltrb_scale)
    if is_int8 and len(spec.strides) == 5:
        raw = RawOutputs(*map(_quantized, (branch.values for branch in raw), (0.1, ltrb_scale / 32, 0.1)))
    letterbox = Letterbox.from_spec(spec, (70, 90))
    (found,) = PostProcessor(spec)(raw, [letterbox])
    # A box without area is dropped, so not all of the planted ones need be there, but the order stays.
    origins = find_origins(spec, raw, letterbox, found)
    assert len(origins) > 3
    rank = [location.tolist().index(origin) for origin in origins]
    assert rank == sorted(rank)
    assert len(set(rank)) == len(rank)
    assert label[rank].tolist() == found.labels.tolist()


def test_find_origins__nothing_found() -> None:
    *_, raw = _plant(SPEC, np.random.default_rng(0), 1.0)
    nothing = RawOutputs(Branch(np.full_like(raw.logits.values, NOWHERE)), raw.ltrb, raw.centerness)
    letterbox = Letterbox.from_spec(SPEC, (70, 90))
    (found,) = PostProcessor(SPEC)(nothing, [letterbox])
    assert find_origins(SPEC, nothing, letterbox, found).shape == (0,)


class _Planted:
    """A runtime that gives the same outputs for every picture."""

    def __init__(self, raw: RawOutputs) -> None:
        self.raw = raw

    def run(self, images: UInt8Array) -> RawOutputs:
        return self.raw

    def close(self) -> None: ...


def test_count_origins__ambiguous_where_the_location_had_a_choice(tmp_path: Path) -> None:
    data = read_boxes(make_coco_set(tmp_path, "val", 6), "val")
    # A second box of the other class around the first of every picture.
    pictures = [
        replace(
            picture,
            boxes_xyxy=np.concatenate([picture.boxes_xyxy, [[0, 0, SIDE / 2, SIDE]]]),
            labels=np.append(picture.labels, 1 - picture.labels[0]),
        )
        for picture in data.pictures
    ]
    assign = AssignConfig(ranges=((0, 1e3),) * 5, center_radius=0.0)
    _, _, raw = _plant(SPEC, np.random.default_rng(3), 1.0)
    runtime = _Planted(raw)
    with Detector(runtime, SPEC, (0.5,) * len(CLASSES)) as detector:
        counted = count_origins(detector, pictures, spec_shape(SPEC, assign).rule)
        assert detector.runtime is runtime

    points: list[tuple[float, float, int]] = [
        (stride // 2 + column * stride, stride // 2 + row * stride, stride)
        for (height, width), stride in zip(SPEC.level_hw, SPEC.strides, strict=True)
        for row in range(height)
        for column in range(width)
    ]
    detections = ambiguous = torn = 0
    for picture in pictures:
        letterbox = Letterbox.from_spec(SPEC, picture.size_hw)
        view = letterbox_view(picture, letterbox)
        boxes = [(x1, y1, x2, y2) for x1, y1, x2, y2 in view.boxes_xyxy.tolist()]
        seen = oracle.Seen(view.input_hw, boxes, view.labels.tolist())
        (found,) = PostProcessor(SPEC)(raw, [letterbox])
        for origin in find_origins(SPEC, raw, letterbox, found):
            x, y, stride = points[origin]
            had = oracle.choices(seen, x, y, stride, 0, 1e3, is_strict=False, center_radius=0.0)
            detections += 1
            ambiguous += len(had) > 1
            torn += len({seen.labels[index] for index in had}) > 1
    assert counted == (detections, ambiguous, torn)
    assert 0 < ambiguous < detections
    assert counted.to_dict()["ambiguous"] == pytest.approx(100 * ambiguous / detections, abs=1e-4)
