"""Best possible recall, ambiguity and anchors against the definitions, location by location."""

from __future__ import annotations

from dataclasses import replace
from math import inf
from pathlib import Path

import numpy as np
import pytest

from fcos_edge.errors import UsageError
from fcos_edge.letterbox import Letterbox
from fcos_edge.spec import ModelSpec
from fcos_edge.train.analyze.analysis import analyze, aspect_ratios, box_sizes, percent
from fcos_edge.train.analyze.anchors import anchor_sizes, count_anchors
from fcos_edge.train.analyze.boxes import DataBoxes, PictureBoxes
from fcos_edge.train.analyze.positives import NOBODY, Level, Rule, count_positives, map_level
from fcos_edge.train.analyze.shape import config_shape, paper_shape, spec_shape
from fcos_edge.train.analyze.views import View, letterbox_view, padded_hw, paper_view, short_side_view
from fcos_edge.train.config import AssignConfig
from fcos_edge.train.presets import PRESETS
from tests.train import oracles_analyze as oracle

LITE0_320 = PRESETS["lite0-320"]
LEVELS = (Level("p3", 8, 0, 24), Level("p4", 16, 24, 48), Level("p5", 32, 48, inf))


def _view(rows: list[list[float]], input_hw: tuple[int, int] = (96, 128), last_pixel: int = 0) -> View:
    """rows: left, top, right, bottom, label."""
    table = np.array(rows, np.float64).reshape(-1, 5)
    return View(input_hw, table[:, :4], table[:, 4].astype(np.int64), last_pixel)


def _random_view(generator: np.random.Generator, last_pixel: int = 0) -> View:
    height, width = (int(side) for side in generator.integers(20, 130, 2))
    count = int(generator.integers(0, 8))
    corner = generator.uniform(-5, (width, height), (count, 2))
    side = np.exp(generator.uniform(0, 5, (count, 2)))
    boxes = np.concatenate([corner, corner + side], axis=1)
    # Whole pixels: edges on locations, distances at the very end of a range, areas that tie.
    if generator.random() < 0.7:
        boxes = (boxes / 4).round() * 4
    if count > 1 and generator.random() < 0.3:
        boxes[-1] = boxes[0]
    return View((height, width), boxes, generator.integers(0, 3, count), last_pixel)


def _seen(view: View) -> oracle.Seen:
    boxes = [(x1, y1, x2, y2) for x1, y1, x2, y2 in view.boxes_xyxy.tolist()]
    return oracle.Seen(view.input_hw, boxes, view.labels.tolist(), view.last_pixel)


RULES = [
    Rule(LEVELS),
    Rule(LEVELS, is_strict=True),
    Rule(LEVELS, center_radius=1.5),
    Rule(LEVELS, is_strict=True, center_radius=0.5),
    Rule(LEVELS, location_offset=0.0),
    Rule(LEVELS).alone("p4"),
]


@pytest.mark.parametrize("rule", RULES, ids=range(len(RULES)))
@pytest.mark.parametrize("last_pixel", [0, 1])
def test_count_positives__is_the_definition(rule: Rule, last_pixel: int) -> None:
    generator = np.random.default_rng(0)
    views = [_random_view(generator, last_pixel) for _ in range(60)]
    found = count_positives(views, rule)
    wanted = oracle.count(
        [_seen(view) for view in views], [level[1:] for level in rule.levels],
        rule.is_strict, rule.center_radius, rule.location_offset,
    )  # fmt: skip
    assert wanted.torn > 0
    assert (found.boxes, found.recalled, sum(found.positives), found.ambiguous, found.torn) == (
        wanted.boxes, wanted.recalled, wanted.positives, wanted.ambiguous, wanted.torn,
    )  # fmt: skip
    for place, level in enumerate(rule.levels):
        alone = oracle.count(
            [_seen(view) for view in views], [level[1:]],
            rule.is_strict, rule.center_radius, rule.location_offset,
        )  # fmt: skip
        assert found.positives[place] == alone.positives


def test_map_level__smallest_box_wins_and_the_first_of_equals() -> None:
    view = _view([[0, 0, 40, 40, 5], [0, 0, 20, 20, 6], [0, 0, 20, 20, 7], [60, 60, 90, 90, 5]])
    found = map_level(view, Rule(LEVELS[:1]).alone("p3"), Level("p3", 8))
    assert found.owner[:3, :3].tolist() == [[1, 1, 0], [1, 1, 0], [0, 0, 0]]  # at 4, 12 and 20 pixels
    assert found.choices[:3, :3].tolist() == [[3, 3, 1], [3, 3, 1], [1, 1, 1]]
    assert found.is_torn[:3, :3].tolist() == [[True, True, False], [True, True, False], [False] * 3]
    assert found.owner[5, 5] == NOBODY
    assert found.owner[8, 8] == 3


TINY = [
    # edges on the locations 12 and 20, or a hair around one of them: inside is strict
    ([12, 12, 20, 20, 0], 0),
    ([11.999, 11.999, 20, 20, 0], 1),
    ([13, 13, 19, 19, 0], 0),
    # taken by a smaller one
    ([0, 0, 8, 8, 0], 1),
]


@pytest.mark.parametrize(("row", "recalled"), TINY, ids=range(len(TINY)))
def test_count_positives__a_box_between_locations_is_lost(row: list[float], recalled: int) -> None:
    assert count_positives([_view([row])], Rule((Level("p3", 8),))).recalled == recalled


def test_count_positives__without_boxes() -> None:
    found = count_positives([_view([])], Rule(LEVELS))
    assert (found.boxes, found.recalled, found.positives, found.ambiguous) == (0, 0, (0, 0, 0), 0)
    assert found.locations == (12 * 16, 6 * 8, 3 * 4)
    assert percent(found.recalled, found.boxes) is None


@pytest.mark.parametrize("last_pixel", [0, 1])
def test_count_anchors__is_the_definition(last_pixel: int) -> None:
    generator = np.random.default_rng(1)
    strides = (8, 16, 32)
    recalled = without = 0
    for _ in range(25):
        view = _random_view(generator, last_pixel)
        found = count_anchors([view], strides)
        low, none = (len(oracle.recalled_by_anchors(_seen(view), strides, q)) for q in (0.4, None))
        assert found == (len(view.labels), low, none)
        recalled, without = recalled + low, without + none
    assert 0 < without < recalled


def test_anchor_sizes__have_their_scales_area_and_ratio() -> None:
    sizes = np.array(anchor_sizes(8))
    assert np.sqrt(sizes.prod(axis=1)).reshape(3, 3) == pytest.approx(
        np.repeat([[32], [32 * 2 ** (1 / 3)], [32 * 2 ** (2 / 3)]], 3, axis=1)
    )
    assert (sizes[:, 1] / sizes[:, 0]).reshape(3, 3) == pytest.approx(np.array([[0.5, 1, 2]] * 3))


ANCHOR_TABLE = [
    # the anchor of p3 at (36, 36), 32 pixels wide
    ([20, 20, 52, 52, 0], (1, 1, 1)),
    # at best an IoU of 0.44 with it: a low-quality match
    ([28, 20, 45.5, 45.5, 0], (1, 1, 0)),
    # smaller than any anchor can match
    ([30, 30, 40, 40, 0], (1, 0, 0)),
]


@pytest.mark.parametrize(("row", "wanted"), ANCHOR_TABLE, ids=range(len(ANCHOR_TABLE)))
def test_count_anchors__table(row: list[float], wanted: tuple[int, int, int]) -> None:
    assert count_anchors([_view([row])], (8,)) == wanted


def _picture(size_hw: tuple[int, int], rows: list[list[float]]) -> PictureBoxes:
    table = np.array(rows, np.float64).reshape(-1, 5)
    return PictureBoxes(Path("a.png"), size_hw, table[:, :4], table[:, 4].astype(np.int64))


def test_paper_view__boxes_end_in_their_last_pixel() -> None:
    # 100x200 becomes 666x1333 (666.5 goes to the even neighbour), padded to 672x1344.
    view = paper_view(_picture((100, 200), [[10, 20, 30, 60, 2], [190, 90, 210, 120, 0], [5, 5, 5.4, 9, 1]]))
    assert view.input_hw == (672, 1344)
    assert view.labels.tolist() == [2, 0, 1]
    x, y = 1333 / 200, 666 / 100
    wanted = [
        [10 * x, 20 * y, 29 * x, 59 * y],
        [190 * x, 90 * y, 199 * x, 99 * y],
        [5 * x, 5 * y, 5 * x, 8 * y],
    ]
    assert view.boxes_xyxy == pytest.approx(np.array(wanted))
    assert view.sides_wh[0] == pytest.approx((19 * x + 1, 39 * y + 1))


def test_letterbox_view__clips_and_drops_what_is_outside() -> None:
    spec = ModelSpec("x", ("a",), (64, 64), (0, 0, 0), (1, 1, 1), pad_position="centre")
    view = letterbox_view(
        _picture((32, 16), [[-4, 2, 8, 40, 0], [20, 0, 30, 9, 1], [4, 4, 4, 8, 1], [1, 1, 3, 5, 3]]),
        Letterbox.from_spec(spec, (32, 16)),
    )
    assert view.input_hw == (64, 64)
    assert view.boxes_xyxy.tolist() == [[16, 4, 32, 64], [18, 2, 22, 10]]
    assert view.labels.tolist() == [0, 3]


def test_short_side_view__is_scaled_and_padded() -> None:
    view = short_side_view(_picture((50, 100), [[10, 10, 20, 30, 4]]), 100, 1333)
    assert view.input_hw == (128, 224)
    assert view.boxes_xyxy.tolist() == [[20, 20, 40, 60]]


@pytest.mark.parametrize(
    ("size_hw", "padded"), [((800, 1333), (800, 1344)), ((1, 32), (32, 32)), ((33, 64), (64, 64))]
)
def test_padded_hw__multiples_of_32(size_hw: tuple[int, int], padded: tuple[int, int]) -> None:
    assert padded_hw(size_hw) == padded


def test_paper_shape__is_the_papers() -> None:
    rule = paper_shape().rule
    assert [tuple(level) for level in rule.levels] == [
        ("p3", 8, 0, 64), ("p4", 16, 64, 128), ("p5", 32, 128, 256), ("p6", 64, 256, 512),
        ("p7", 128, 512, inf),
    ]  # fmt: skip
    assert (rule.is_strict, rule.center_radius, rule.location_offset) == (False, 0, 0.5)
    assert rule.alone("p4").levels == (Level("p4", 16),)


def test_config_shape__follows_the_preset() -> None:
    picture = _picture((100, 200), [])
    shape = config_shape(LITE0_320)
    assert shape.rule.center_radius == 1.5
    assert shape.see(picture).input_hw == (320, 320)
    assert config_shape(LITE0_320, (96, 192)).see(picture).input_hw == (96, 192)
    by_short_side = replace(LITE0_320, short_sides=(64, 96), max_long_side=150)
    assert config_shape(by_short_side).see(picture).input_hw == (96, 160)
    assert config_shape(by_short_side, (64, 64)).see(picture).input_hw == (64, 64)


def test_spec_shape__needs_a_range_for_each_level() -> None:
    spec = ModelSpec("x", ("a",), (64, 64), (0, 0, 0), (1, 1, 1), strides=(8, 16, 32), location_offset=0.0)
    with pytest.raises(UsageError, match="ranges for 5 levels, the model has 3"):
        spec_shape(spec, AssignConfig())
    assert spec_shape(spec, AssignConfig(ranges=AssignConfig().ranges[:3])).rule.location_offset == 0


def test_analyze__counts_all_of_a_data_set() -> None:
    pictures = (_picture((320, 320), [[0, 0, 60, 60, 0], [0, 0, 30, 30, 1]]), _picture((320, 320), []))
    found = analyze(DataBoxes(("a", "b"), pictures, 3), config_shape(LITE0_320), ["p5"])
    document = found.to_dict()
    assert (document["pictures"], document["boxes"], document["left_out"]) == (2, 2, 3)
    assert document["fpn"]["best_possible_recall"] == 100
    assert list(document["p5"]["levels"]) == ["p5"]
    assert document["p5"]["levels"]["p5"]["range"] == [0, None]
    assert document["fpn"]["positives"] == sum(row["positives"] for row in document["fpn"]["levels"].values())
    assert box_sizes(found.sides_wh).tolist() == [60, 30]
    assert aspect_ratios(np.array([[30.0, 60.0]])).tolist() == [0.5]


def test_analyze__no_box_has_no_percentage() -> None:
    document = analyze(DataBoxes(("a",), (_picture((64, 64), []),), 0), paper_shape(), ["p4"]).to_dict()
    for name in ("fpn", "p4"):
        for key in ("best_possible_recall", "ambiguous", "ambiguous_between_classes"):
            assert document[name][key] is None
    assert set(document["box_sizes"].values()) == {None}


def test_analyze__unknown_level() -> None:
    with pytest.raises(UsageError, match="--level p9: is none of the levels p3, p4, p5, p6, p7"):
        analyze(DataBoxes(("a",), (), 0), paper_shape(), ["p9"])
