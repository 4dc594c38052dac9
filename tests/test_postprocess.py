"""Post-processing against hand-made tables and the oracle, under every convention of the spec."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from fcos_edge import postprocess
from fcos_edge.detections import Detections
from fcos_edge.errors import SpecError
from fcos_edge.letterbox import Letterbox
from fcos_edge.postprocess import PostProcessor
from fcos_edge.runtime import Branch, RawOutputs
from fcos_edge.spec import ModelSpec
from tests import oracles
from tests.small_specs import SMALL_SPEC, class_names

Array = npt.NDArray[Any]
L = SMALL_SPEC.num_locations
LEVELS = np.repeat(np.arange(3), [32, 8, 2])  # 32x64 at strides 8, 16, 32
FIRST_OF_P3, SECOND_ROW_OF_P3, FIRST_OF_P4, FIRST_OF_P5 = 0, 8, 32, 40
# Nothing is resized or padded: source pixels are input pixels.
SAME_SIZE = Letterbox.from_spec(SMALL_SPEC, SMALL_SPEC.input_hw)


def background(spec: ModelSpec = SMALL_SPEC, pictures: int = 1) -> RawOutputs:
    """No object anywhere; a test then writes one into it."""
    logits = np.full((pictures, L, len(spec.classes)), -20, np.float32)
    ltrb = np.ones((pictures, L, 4), np.float32)
    return RawOutputs(Branch(logits), Branch(ltrb), Branch(np.full((pictures, L), 20, np.float32)))


def put(
    raw: RawOutputs, location: int, label: int, logit: float, ltrb: Sequence[float] | None = None,
    centerness: float = 20, picture: int = 0,
) -> None:  # fmt: skip
    raw.logits.values[picture, location, label] = logit
    raw.centerness.values[picture, location] = centerness
    if ltrb is not None:
        raw.ltrb.values[picture, location] = ltrb


def detect(raw: RawOutputs, spec: ModelSpec = SMALL_SPEC, **change: Any) -> Detections:
    spec = replace(spec, **change)
    (found,) = PostProcessor(spec)(raw, [Letterbox.from_spec(spec, spec.input_hw)])
    return found


# --- boxes -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("location", "ltrb", "change", "box_xyxy"),
    [
        # Location (4, 4), stride 8.
        (FIRST_OF_P3, (0.25, 0.5, 1, 2), {}, (2, 0, 12, 20)),
        (FIRST_OF_P3, (1, 2, 3, 4), {"distance_unit": "pixel"}, (3, 2, 7, 8)),
        (FIRST_OF_P3, (-1, -9, 1, 1), {}, (4, 4, 12, 12)),  # ReLU
        (FIRST_OF_P3, (-math.log(4), -math.log(2), 0, 0), {"distance": "exp"}, (2, 0, 12, 12)),
        (FIRST_OF_P3, [math.log(2)] * 4, {"distance": "exp", "distance_unit": "pixel"}, (2, 2, 6, 6)),
        (FIRST_OF_P3, (0, 0, 1, 1), {"location_offset": 0.0}, (0, 0, 8, 8)),
        (FIRST_OF_P3, (0, 0, 1, 1), {"location_offset": 1.0}, (8, 8, 16, 16)),
        (FIRST_OF_P3, (0, 0, 1, 1), {"location_offset": 0.2}, (1, 1, 9, 9)),  # floor(1.6)
        # Second row: (4, 12). Fourth column: (28, 4).
        (SECOND_ROW_OF_P3, (0, 0, 1, 1), {}, (4, 12, 12, 20)),
        (FIRST_OF_P3 + 3, (0, 0, 1, 1), {}, (28, 4, 36, 12)),
        # Other strides: (8, 8) of 16, (16, 16) of 32, and its neighbour (48, 16).
        (FIRST_OF_P4, (0.25, 0.25, 0.5, 0.5), {}, (4, 4, 16, 16)),
        (FIRST_OF_P5, (0.25, 0.25, 0.25, 0.25), {}, (8, 8, 24, 24)),
        (FIRST_OF_P5 + 1, (0.25, 0.25, 0.25, 0.25), {}, (40, 8, 56, 24)),
        # Clipped to the picture, 64 wide and 32 high.
        (FIRST_OF_P3, (1, 1, 100, 100), {}, (0, 0, 64, 32)),
        (FIRST_OF_P3, [math.inf] * 4, {}, (0, 0, 64, 32)),
        (FIRST_OF_P3, [math.inf] * 4, {"distance": "exp"}, (0, 0, 64, 32)),
        (FIRST_OF_P3, [3e38] * 4, {}, (0, 0, 64, 32)),  # times stride: more than float32 holds
        (FIRST_OF_P3, [3e38] * 4, {"distance": "exp"}, (0, 0, 64, 32)),
        (FIRST_OF_P3, (-math.inf, -math.inf, 1, 1), {}, (4, 4, 12, 12)),
        (FIRST_OF_P3, (-math.inf, -math.inf, 0, 0), {"distance": "exp"}, (4, 4, 12, 12)),
    ],
)
def test_box__table(location: int, ltrb: Sequence[float], change: Any, box_xyxy: Sequence[float]) -> None:
    raw = background()
    put(raw, location, 1, 5, ltrb)
    found = detect(raw, **change)
    np.testing.assert_allclose(found.boxes_xyxy, [box_xyxy], atol=1e-5)  # exp and log round once each
    assert found.labels.tolist() == [1]


@pytest.mark.parametrize(
    ("ltrb", "reason"),
    [
        ((0, 0, 0, 0), "no size"),
        ((1, 0, 1, 0), "no height"),
        ((0, 1, 0, 1), "no width"),
        ((math.nan, 1, 1, 1), "NaN left"),
        ((1, 1, 1, math.nan), "NaN bottom"),
    ],
)
@pytest.mark.parametrize("distance", ["relu", "exp"])
def test_box__without_area_is_dropped(ltrb: Sequence[float], reason: str, distance: Any) -> None:
    raw = background()
    values = [-math.inf if distance == "exp" and side == 0 else side for side in ltrb]
    put(raw, FIRST_OF_P3, 0, 5, values)
    put(raw, FIRST_OF_P5, 2, 4)
    assert detect(raw, distance=distance).labels.tolist() == [2], reason


def test_box__in_the_padding_is_dropped() -> None:
    spec = replace(SMALL_SPEC, pad_position="centre")
    raw = background()
    put(raw, FIRST_OF_P3, 0, 5)  # reaches x = 12; the picture spans 24..40
    put(raw, FIRST_OF_P3 + 3, 1, 5)  # 20..36
    (found,) = PostProcessor(spec)(raw, [Letterbox.from_spec(spec, (64, 32))])
    assert found.labels.tolist() == [1]
    np.testing.assert_array_equal(found.boxes_xyxy, [[0, 0, 24, 24]])


def test_box__sliver_that_rounding_leaves_on_the_border_is_dropped() -> None:
    # The last location of a column lies on the lower border of the input; 64 * (117 / 64) is just below 117.
    spec = replace(SMALL_SPEC, input_hw=(64, 32), pad_position="centre", location_offset=1.0)
    logits = np.full((1, spec.num_locations, len(spec.classes)), -9, np.float32)
    logits[0, 7 * 4 + 1, 0] = 5
    ltrb = np.ones((1, spec.num_locations, 4), np.float32)
    ltrb[0, :, 1] = 0  # nothing above the location
    raw = RawOutputs(Branch(logits), Branch(ltrb), Branch(np.zeros((1, spec.num_locations), np.float32)))
    (found,) = PostProcessor(spec)(raw, [Letterbox.from_spec(spec, (117, 8))])
    assert len(found) == 0


# --- scores ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("score", "logit", "centerness", "wanted"),
    [
        ("sqrt", 0, 0, 0.5),
        ("product", 0, 0, 0.25),
        ("class", 0, 0, 0.5),
        ("class", 0, -50, 0.5),  # center-ness has no say
        ("sqrt", math.log(4), math.log(0.25 / 0.75), math.sqrt(0.8 * 0.25)),
        ("sqrt", math.inf, 0, math.sqrt(0.5)),
        ("product", math.inf, math.inf, 1),
        ("class", math.inf, 0, 1),
        ("product", 200, -200, 0),  # exp would overflow
        ("product", 5, -math.inf, 0),
    ],
)
def test_score__table(score: Any, logit: float, centerness: float, wanted: float) -> None:
    raw = background()
    put(raw, FIRST_OF_P3, 1, logit, centerness=centerness)
    found = detect(raw, score=score)
    np.testing.assert_allclose(found.scores, [wanted], rtol=1e-6, atol=1e-30)  # float32


@pytest.mark.parametrize("score", ["sqrt", "product", "class"])
@pytest.mark.parametrize(
    ("logit", "centerness"), [(math.nan, 5), (5, math.nan), (math.nan, math.nan), (-math.inf, 5)]
)
@pytest.mark.parametrize("threshold_on", ["class", "score"])
def test_score__nan_is_no_detection(score: Any, logit: float, centerness: float, threshold_on: Any) -> None:
    raw = background()
    put(raw, FIRST_OF_P3, 1, logit, centerness=centerness)
    put(raw, FIRST_OF_P5, 2, 4)
    assert detect(raw, score=score, threshold_on=threshold_on).labels.tolist() == [2]


@pytest.mark.parametrize(
    ("threshold_on", "score", "centerness", "count"),
    [
        # Class probabilities 0.6, 0.5, 0.4 against 0.5; the threshold itself is not enough.
        ("class", "sqrt", 0, 1),
        ("class", "product", -9, 1),
        ("class", "class", 0, 1),
        ("score", "class", 0, 1),
        ("score", "sqrt", 20, 3),  # sqrt(0.4 * 1) is 0.63
        ("score", "sqrt", 0, 1),  # sqrt(0.6 * 0.5) is 0.548, sqrt(0.5 * 0.5) is 0.5
        ("score", "product", 20, 1),
        ("score", "product", 0, 0),
    ],
)
def test_candidate_threshold__table(threshold_on: Any, score: Any, centerness: float, count: int) -> None:
    raw = background()
    for label, probability in enumerate((0.6, 0.5, 0.4)):
        put(raw, FIRST_OF_P3, label, math.log(probability / (1 - probability)), centerness=centerness)
    found = detect(raw, threshold_on=threshold_on, score=score, candidate_threshold=0.5)
    assert found.labels.tolist() == list(range(count))


@pytest.mark.parametrize("threshold", [1e-300, 1e-9, 0.05, 0.1, 0.5, 0.9, 1 - 2**-53])
def test_candidate_threshold__is_exact_to_the_last_float32(threshold: float) -> None:
    exact = math.log(threshold) - math.log1p(-threshold)
    nearest = np.float32(exact)
    neighbours = [np.nextafter(nearest, np.float32(side)) for side in (-np.inf, np.inf)]
    for logit in (nearest, *neighbours):
        raw = background()
        raw.logits.values[:] = -np.inf
        put(raw, FIRST_OF_P3, 1, float(logit))
        assert len(detect(raw, candidate_threshold=threshold)) == (float(logit) > exact)


# --- ranking -----------------------------------------------------------------------------------------


def test_order__descends_and_ties_keep_location_then_class() -> None:
    raw = background()
    for location, label, logit in [
        (40, 0, 1),
        (32, 2, 1),
        (5, 2, 1),
        (5, 0, 1),
        (5, 1, 3),
        (0, 1, 1),
        (9, 0, 2),
    ]:
        put(raw, location, label, logit)
    found = detect(raw, nms_iou=1.0)
    assert found.labels.tolist() == [1, 0, 1, 0, 2, 2, 0]  # 5:1, 9:0, then 0:1, 5:0, 5:2, 32:2, 40:0


def test_topk__counts_each_level_alone_and_ties_keep_the_first() -> None:
    raw = background()
    for location in range(L):
        put(raw, location, location % 3, 1)
    put(raw, 20, 0, 3)
    found = detect(raw, pre_nms_topk_per_level=3, nms_iou=1.0)
    # 20 beats its level; of the ties, 0 and 1 of P3, 32..34 of P4, 40 and 41 of P5.
    assert found.labels.tolist() == [0, 0, 1, 32 % 3, 33 % 3, 34 % 3, 40 % 3, 41 % 3]


def test_topk__ranks_by_score_not_by_class_probability() -> None:
    raw = background()
    put(raw, 0, 0, 4, centerness=-4)
    put(raw, 5, 1, 2, centerness=4)
    assert detect(raw, pre_nms_topk_per_level=1).labels.tolist() == [1]


@pytest.mark.parametrize("max_detections", [1, 2, 41, 42, 100])
def test_max_detections__keeps_the_first(max_detections: int) -> None:
    raw = background()
    for location in range(L):
        put(raw, location, 0, 1)
    found = detect(raw, nms_iou=1.0, max_detections=max_detections)
    assert len(found) == min(max_detections, L)
    np.testing.assert_array_equal(found.boxes_xyxy[0], [0, 0, 12, 12])


@pytest.mark.parametrize(("nms_per_class", "labels"), [(True, [1, 0]), (False, [1])])
def test_nms__of_two_classes_at_one_location(nms_per_class: bool, labels: list[int]) -> None:
    raw = background()
    put(raw, FIRST_OF_P3, 0, 1)
    put(raw, FIRST_OF_P3, 1, 2)
    assert detect(raw, nms_per_class=nms_per_class).labels.tolist() == labels


def test_nms__works_on_clipped_boxes() -> None:
    # Unclipped, the IoU of the two is 1/4; inside the picture both are the whole picture.
    raw = background()
    put(raw, FIRST_OF_P5, 0, 3, (10, 10, 10, 10))
    put(raw, FIRST_OF_P4, 0, 2, (40, 40, 40, 40))
    assert len(detect(raw)) == 1


# --- batches, shapes, dtypes -------------------------------------------------------------------------


def test_batch__each_picture_has_its_own_letterbox_and_detections() -> None:
    raw = background(pictures=3)
    put(raw, FIRST_OF_P3, 0, 5, picture=0)
    put(raw, FIRST_OF_P3, 2, 5, picture=2)
    letterboxes = [Letterbox.from_spec(SMALL_SPEC, size) for size in ((32, 64), (32, 64), (64, 128))]
    first, second, third = PostProcessor(SMALL_SPEC)(raw, letterboxes)
    assert (first.labels.tolist(), second.labels.tolist(), third.labels.tolist()) == ([0], [], [2])
    np.testing.assert_array_equal(third.boxes_xyxy, first.boxes_xyxy * 2)


def test_empty__background_gives_no_rows() -> None:
    found = detect(background())
    assert found.boxes_xyxy.shape == (0, 4)


@pytest.mark.parametrize("branch", ["logits", "ltrb", "centerness"])
@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda b: Branch(b.values[:, :-1]), "found shape"),  # another input size
        (lambda b: Branch(b.values[..., None]), "found shape"),  # a forgotten squeeze
        (lambda b: Branch(np.concatenate([b.values] * 2)), "found shape"),  # another batch
        (lambda b: Branch(b.values.astype(np.float64)), "found float64"),
        (lambda b: Branch(b.values.astype(np.int8)), "found int8 with 0 quantized levels"),
        (lambda b: Branch(b.values, [(1.0, 0)] * 3), "found float32 with 3 quantized levels"),
        (lambda b: Branch(b.values.astype(np.int8), [(1.0, 0)] * 2), "found int8 with 2 quantized levels"),
        (lambda b: Branch(b.values.astype(np.int16), [(1.0, 0)] * 3), "found int16"),
    ],
)
def test_outputs__that_do_not_fit_the_spec(
    branch: str, spoil: Callable[[Branch], Branch], message: str
) -> None:
    raw = background()
    spoilt = raw._replace(**{branch: spoil(getattr(raw, branch))})
    with pytest.raises(SpecError, match=f"{branch}: {message}"):
        PostProcessor(SMALL_SPEC)(spoilt, [SAME_SIZE])


def test_outputs__may_be_read_only_views_of_a_larger_buffer() -> None:
    raw = background()
    put(raw, 7, 1, 2, (1, 2, 3, 4), centerness=1)
    buffers = []
    for branch in raw:
        buffer = np.zeros((*branch.values.shape, 2), np.float32)
        buffer[..., 1] = branch.values
        buffer.setflags(write=False)
        buffers.append(Branch(buffer[..., 1]))
    wanted, found = detect(raw), detect(RawOutputs(*buffers))
    np.testing.assert_array_equal(found.boxes_xyxy, wanted.boxes_xyxy)
    np.testing.assert_array_equal(found.scores, wanted.scores)


def test_detections__do_not_change_with_the_next_run() -> None:
    raw = background()
    put(raw, 7, 1, 2)
    found = detect(raw)
    before = found.boxes_xyxy.copy()
    for branch in raw:
        branch.values[:] = 0
    np.testing.assert_array_equal(found.boxes_xyxy, before)


# --- integers ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
@pytest.mark.parametrize(
    ("threshold", "scale", "zero", "count"),
    [
        # zero: zero point minus the lowest integer. The level holds each of the 256 integers once.
        (0.5, 0.1, 128, 127),  # logits -12.8..12.7, those above 0
        (0.05, 0.1, 128, 157),  # above -2.944: -2.9..12.7
        (0.05, 1.0, 255, 3),  # -255..0: -2, -1, 0
        (0.05, 1.0, 0, 256),  # 0..255: all
        (0.05, 0.001, 255, 256),  # -0.255..0: all
        (0.001, 0.05, 128, 256),  # -6.4..6.35, all above -6.907, which wraps to integer 118 of int8
        (0.999, 0.05, 128, 0),  # 6.907 is above the range, and wraps to integer -118 of int8
        (0.999, 0.1, 255, 0),  # -25.5..0
        (0.999, 1e-9, 128, 0),  # 7e9 would not even fit an int32
        (0.5, 1e-50, 128, 0),  # the scale is 0 in float32: every logit is 0
    ],
)
def test_integers__threshold_table(
    dtype: type[np.integer[Any]], threshold: float, scale: float, zero: int, count: int
) -> None:
    spec = replace(
        SMALL_SPEC, classes=class_names(8), candidate_threshold=threshold, nms_iou=1.0, max_detections=1000
    )
    lowest = int(np.iinfo(dtype).min)
    values = np.full((1, L, 8), lowest, dtype)
    values[0, :32] = (np.arange(256) + lowest).reshape(32, 8)
    # The other levels: logit -255 everywhere.
    quantization = [(scale, lowest + zero), (1.0, lowest + 255), (1.0, lowest + 255)]
    raw = background(spec)._replace(logits=Branch(values, quantization))
    assert len(detect(raw, spec)) == count


def test_integers__each_level_has_its_own_scale() -> None:
    logits = np.full((1, L, 3), -100, np.int8)
    logits[0, [FIRST_OF_P3, FIRST_OF_P4, FIRST_OF_P5], [0, 1, 2]] = 20
    ltrb = np.full((1, L, 4), 4, np.uint8)
    centerness = np.full((1, L), 10, np.int8)
    raw = RawOutputs(
        Branch(logits, [(0.1, 10), (0.2, 10), (0.4, 10)]),  # 1, 2, 4
        Branch(ltrb, [(0.25, 0), (0.125, 2), (0.0625, 0)]),  # 1, 0.25, 0.25
        Branch(centerness, [(0.1, 10), (0.1, 0), (0.1, -10)]),  # 0, 1, 2
    )
    found = detect(raw, score="product")
    assert found.labels.tolist() == [2, 1, 0]
    np.testing.assert_array_equal(found.boxes_xyxy, [[8, 8, 24, 24], [4, 4, 12, 12], [0, 0, 12, 12]])
    sigmoids = [oracles.sigmoid(x) * oracles.sigmoid(y) for x, y in ((4, 2), (2, 1), (1, 0))]
    np.testing.assert_allclose(found.scores, sigmoids, rtol=1e-6)  # float32


# --- everything at once ------------------------------------------------------------------------------

SPECIAL = np.array([np.nan, np.inf, -np.inf, 3e38, -3e38, 100, -100], np.float32)


@st.composite
def specs(draw: st.DrawFn) -> ModelSpec:
    return replace(
        SMALL_SPEC,
        classes=class_names(draw(st.sampled_from([1, 20, 80]))),
        # Square, wide and high; all have 42 locations.
        input_hw=draw(st.sampled_from([(32, 64), (64, 32)])),
        resize=draw(st.sampled_from(["letterbox", "stretch"])),
        pad_position=draw(st.sampled_from(["bottom-right", "centre"])),
        location_offset=draw(st.sampled_from([0.0, 0.5, 0.3, 1.0])),
        distance=draw(st.sampled_from(["exp", "relu"])),
        distance_unit=draw(st.sampled_from(["stride", "pixel"])),
        score=draw(st.sampled_from(["sqrt", "product", "class"])),
        threshold_on=draw(st.sampled_from(["class", "score"])),
        candidate_threshold=draw(st.sampled_from([0.05, 0.3, 0.5])),
        # Not 0, which boxes side by side reach by one rounding; `test_nms` has it, on whole pixels.
        nms_iou=draw(st.sampled_from([0.05, 0.3, 0.6])),
        nms_per_class=draw(st.booleans()),
        pre_nms_topk_per_level=draw(st.sampled_from([1, 5, 1000])),
        max_detections=draw(st.sampled_from([1, 7, 100])),
    )


def spread_for(spec: ModelSpec) -> float:
    """Distances of this many units (of the activation's input) make boxes of some pixels."""
    if spec.distance == "relu":
        return 2.0 if spec.distance_unit == "stride" else 16.0
    return 1.0 if spec.distance_unit == "stride" else 3.0


def float_outputs(
    spec: ModelSpec, rng: np.random.Generator, pictures: int, hot: int, special: int
) -> RawOutputs:
    """Coarse values, so that many tie; `hot` candidates a picture, `special` values in each branch."""
    spread = spread_for(spec)
    shapes = ((pictures, L, len(spec.classes)), (pictures, L, 4), (pictures, L))
    logits = np.full(shapes[0], -8, np.float32)
    for picture in logits:
        picture.flat[rng.integers(0, picture.size, hot)] = rng.integers(-8, 9, hot) / 2
    ltrb = (rng.integers(-2, 9, shapes[1]) / 8 * spread).astype(np.float32)
    centerness = (rng.integers(-4, 9, shapes[2]) / 2).astype(np.float32)
    for values in (logits, ltrb, centerness):
        values.flat[rng.integers(0, values.size, special)] = rng.choice(SPECIAL, special)
    return RawOutputs(Branch(logits), Branch(ltrb), Branch(centerness))


def integer_outputs(
    spec: ModelSpec, rng: np.random.Generator, pictures: int, hot: int, dtype: type[np.integer[Any]]
) -> RawOutputs:
    """What a quantized network returns: its own scale and zero point per branch and level."""
    real = float_outputs(spec, rng, pictures, hot, special=0)
    lowest = int(np.iinfo(dtype).min)
    branches = []
    for branch, half_range in zip(real, (rng.choice([3, 9]), 2 * spread_for(spec), 6), strict=True):
        scales = (half_range / rng.integers(20, 128, 3)).tolist()
        zero_points = (lowest + rng.integers(60, 200, 3)).tolist()
        shape = (1, L, *(1,) * (branch.values.ndim - 2))
        quantized = np.round(branch.values / np.array(scales)[LEVELS].reshape(shape))
        quantized = np.clip(quantized + np.array(zero_points)[LEVELS].reshape(shape), lowest, lowest + 255)
        branches.append(Branch(quantized.astype(dtype), list(zip(scales, zero_points, strict=True))))
    return RawOutputs(*branches)


def to_float(branch: Branch) -> Array:
    """(q - zero_point) * scale in float32, as every runtime's DequantizeLinear computes it."""
    if not branch.quantization:
        return branch.values
    found = branch.values.astype(np.float32)
    for level, (scale, zero_point) in enumerate(branch.quantization):
        found[:, level == LEVELS] = (found[:, level == LEVELS] - np.float32(zero_point)) * np.float32(scale)
    return found


@settings(deadline=None)  # the oracle is slow, and machines are shared
@given(
    spec=specs(),
    dtype=st.sampled_from([np.float32, np.int8, np.uint8]),
    seed=st.integers(0, 2**32 - 1),
    hot=st.sampled_from([0, 1, 10, 60]),
    special=st.sampled_from([0, 0, 20]),
    sizes=st.lists(st.tuples(st.integers(8, 200), st.integers(8, 200)), min_size=1, max_size=3),
)
def test_everything__equals_oracle(
    spec: ModelSpec, dtype: Any, seed: int, hot: int, special: int, sizes: list[tuple[int, int]]
) -> None:
    rng = np.random.default_rng(seed)
    if dtype is np.float32:
        raw = float_outputs(spec, rng, len(sizes), hot, special)
    else:
        raw = integer_outputs(spec, rng, len(sizes), hot, dtype)
    logits, ltrb, centerness = map(to_float, raw)

    found = PostProcessor(spec)(raw, [Letterbox.from_spec(spec, size) for size in sizes])
    assert len(found) == len(sizes)
    for picture, size in enumerate(sizes):
        judge = oracles.Judge()
        wanted = oracles.detect(
            spec, logits[picture].tolist(), ltrb[picture].tolist(), centerness[picture].tolist(), size, judge
        )
        assume(not judge.close_calls)
        assert found[picture].labels.tolist() == [one.label for one in wanted]
        # A logit below -80 counts as -80, and the root of its sigmoid is 4e-18.
        np.testing.assert_allclose(
            found[picture].scores, [one.score for one in wanted], rtol=1e-5, atol=1e-17
        )
        boxes = np.array([one.box_xyxy for one in wanted]).reshape(-1, 4)
        # float32 of a pixel up to 200, computed in five roundings.
        np.testing.assert_allclose(found[picture].boxes_xyxy, boxes, rtol=1e-5, atol=1e-3)


@settings(deadline=None)
@given(
    spec=specs(), dtype=st.sampled_from([np.int8, np.uint8]), seed=st.integers(0, 2**32 - 1),
    hot=st.sampled_from([1, 60]),
)  # fmt: skip
def test_integers__give_the_bits_of_their_float_values(
    spec: ModelSpec, dtype: Any, seed: int, hot: int
) -> None:
    raw = integer_outputs(spec, np.random.default_rng(seed), 1, hot, dtype)
    floats = RawOutputs(*(Branch(to_float(branch)) for branch in raw))
    found, wanted = detect(raw, spec), detect(floats, spec)
    np.testing.assert_array_equal(found.labels, wanted.labels)
    np.testing.assert_array_equal(found.scores, wanted.scores)
    np.testing.assert_array_equal(found.boxes_xyxy, wanted.boxes_xyxy)


# --- ways that are faster and must not matter --------------------------------------------------------


@settings(deadline=None)
@given(
    spec=specs(), seed=st.integers(0, 2**32 - 1), special=st.sampled_from([0, 20]),
    least_score=st.sampled_from([0.0, 0.06, 0.4, 0.7, 1.0]),
)  # fmt: skip
def test_least_score__is_the_same_as_filtering_afterwards(
    spec: ModelSpec, seed: int, special: int, least_score: float
) -> None:
    raw = float_outputs(spec, np.random.default_rng(seed), 1, 60, special)
    letterboxes = [Letterbox.from_spec(spec, (48, 48))]
    (found,) = PostProcessor(spec)(raw, letterboxes, least_score)
    (wanted,) = PostProcessor(spec)(raw, letterboxes)
    assert_same(found, wanted.filtered(least_score))


@pytest.mark.parametrize("top_k", [5, 70, 1000])
@pytest.mark.parametrize("max_detections", [3, 50, 10_000])
@pytest.mark.parametrize("portion", [1, 16, 100])
def test_portions__do_not_matter(
    portion: int, max_detections: int, top_k: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = replace(
        SMALL_SPEC, classes=class_names(20), max_detections=max_detections, pre_nms_topk_per_level=top_k
    )
    raw = float_outputs(spec, np.random.default_rng(7), 1, hot=800, special=20)
    monkeypatch.setattr(postprocess, "_PORTION", 10**6)
    wanted = detect(raw, spec)
    monkeypatch.setattr(postprocess, "_PORTION", portion)
    assert len(wanted) > 0
    assert_same(detect(raw, spec), wanted)


@pytest.mark.parametrize("num_classes", [79, 80, 81])  # flat size: all remainders by a word's eight bytes
@pytest.mark.parametrize("dtype", [np.float32, np.int8, np.uint8])
def test_large_outputs__are_searched_word_by_word(num_classes: int, dtype: Any) -> None:
    spec = replace(SMALL_SPEC, classes=class_names(num_classes), input_hw=(288, 512), max_detections=1000)
    rng = np.random.default_rng(3)
    shape = (1, spec.num_locations, num_classes)
    assert math.prod(shape) > 2**16
    # The first, the last, two in one word, and some anywhere; a whole number, so that 1/8 of it is exact.
    hot = np.unique([0, 64, 65, math.prod(shape) - 1, *rng.integers(0, math.prod(shape), 30)])
    integers = rng.permutation(len(hot))
    if dtype is np.float32:
        logits = Branch(np.full(shape, -20, dtype))
        logits.values.flat[hot] = integers / 8
    else:
        logits = Branch(np.zeros(shape, dtype), [(0.125, 64)] * 3)  # -8 everywhere
        logits.values.flat[hot] = integers + 64
    ltrb = np.full((*shape[:2], 4), 0.25, np.float32)
    found = detect(RawOutputs(logits, Branch(ltrb), Branch(np.zeros(shape[:2], np.float32))), spec)
    assert found.labels.tolist() == (hot % num_classes)[np.argsort(-integers)].tolist()


def assert_same(found: Detections, wanted: Detections) -> None:
    np.testing.assert_array_equal(found.boxes_xyxy, wanted.boxes_xyxy)
    np.testing.assert_array_equal(found.scores, wanted.scores)
    np.testing.assert_array_equal(found.labels, wanted.labels)
