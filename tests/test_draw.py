"""Drawings: what must be there at any size, and what must not change."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from fcos_edge import draw
from fcos_edge.detections import Detections
from fcos_edge.draw import ascii_name, color_bgr, contrast, draw_detections, ink_bgr
from fcos_edge.errors import ImageError
from fcos_edge.label_places import Placed, Rect, Size, Wanted, place_labels

CLASSES = ("person", "bicycle", "traffic light")


def found(*rows: tuple[float, ...]) -> Detections:
    """Rows of left, top, right, bottom, label; scores 0.9, 0.8, ..."""
    table = np.array(rows, np.float32).reshape(-1, 5)
    scores = np.linspace(0.9, 0.9 - 0.1 * (len(rows) - 1), len(rows)) if rows else np.empty(0)
    return Detections(table[:, :4].copy(), scores.astype(np.float32), table[:, 4].astype(np.int64))


def is_color(image_bgr: npt.NDArray[Any], label: int) -> npt.NDArray[np.bool_]:
    return np.asarray((image_bgr == color_bgr(label)).all(axis=2))


def test_draw__returns_a_new_picture() -> None:
    image_bgr = np.zeros((120, 200, 3), np.uint8)
    drawn = draw_detections(image_bgr, found((20, 40, 180, 110, 0)), CLASSES)
    assert not image_bgr.any()
    assert drawn.shape == image_bgr.shape
    assert drawn.any()


def test_draw__no_detections_change_nothing() -> None:
    image_bgr = np.random.default_rng(0).integers(0, 256, (50, 60, 3), np.uint8)
    np.testing.assert_array_equal(draw_detections(image_bgr, Detections.empty(), CLASSES), image_bgr)


def test_draw__sides_lie_where_the_box_is() -> None:
    drawn = draw_detections(np.zeros((300, 300, 3), np.uint8), found((100, 120, 250, 280, 1)), CLASSES)
    rows, columns = np.nonzero(is_color(drawn, 1))
    below_label = rows > 125
    # Lines are two pixels wide here, so they may stand out by one.
    np.testing.assert_allclose(
        [columns[below_label].min(), columns.max(), rows.max()], [100, 250, 280], atol=1
    )
    assert not drawn[140:260, 120:230].any()  # the inside stays


@pytest.mark.parametrize("size_hw", [(1, 1), (8, 300), (300, 8), (48, 64), (480, 640), (2000, 3000)])
@pytest.mark.parametrize("box", [(0, 0, 1, 1), (0.99, 0.99, 1, 1), (0.2, 0.2, 0.8, 0.8), (0, 0, 0.5, 0)])
def test_draw__any_picture_and_box(size_hw: tuple[int, int], box: tuple[float, ...]) -> None:
    height, width = size_hw
    left, top, right, bottom = box
    rows = (left * width, top * height, right * width, bottom * height, 2)
    drawn = draw_detections(np.zeros((*size_hw, 3), np.uint8), found(rows), CLASSES)
    assert is_color(drawn, 2).any()


@pytest.mark.parametrize("size_hw", [(72, 96), (480, 640), (2160, 3840)])
def test_draw__labels_grow_with_the_picture_and_stay_readable(size_hw: tuple[int, int]) -> None:
    height, width = size_hw
    box = (0.2 * width, 0.5 * height, 0.9 * width, 0.9 * height, 0)
    drawn = draw_detections(np.zeros((*size_hw, 3), np.uint8), found(box), CLASSES)
    above = is_color(drawn, 0)[: int(0.5 * height) - 1].any(axis=1).sum()
    assert above >= 9  # pixels: smaller letters run together
    assert above >= (height * width) ** 0.5 / 45


def test_draw__a_label_at_the_border_stays_inside() -> None:
    drawn = draw_detections(np.zeros((100, 300, 3), np.uint8), found((280, 0, 300, 100, 2)), CLASSES)
    columns = np.nonzero(is_color(drawn, 2)[3:12].any(axis=0))[0]
    assert columns.min() < 230  # moved left of its box
    assert columns.max() == 299


def test_draw__labels_of_boxes_in_one_corner_do_not_cover_each_other() -> None:
    boxes = [(40, 40, 260, 260, label) for label in range(3)]
    drawn = draw_detections(np.zeros((300, 300, 3), np.uint8), found(*boxes), CLASSES)
    # The first box's lines lie on the others', so of those only the bars are seen.
    assert min(int(is_color(drawn, label).sum()) for label in range(3)) > 300


def test_draw__the_best_is_on_top() -> None:
    drawn = draw_detections(
        np.zeros((100, 200, 3), np.uint8), found((50, 50, 150, 90, 0), (50, 50, 150, 90, 1)), CLASSES
    )
    assert is_color(drawn, 0)[90, 100]


def random_scene(seed: int, size_hw: tuple[int, int]) -> Detections:
    """2 to 40 boxes from 4 pixels to most of the picture."""
    rng = np.random.default_rng(seed)
    count = int(rng.choice([2, 10, 40]))
    size_wh = np.exp(rng.uniform(np.log(0.01), np.log(0.9), (count, 2)))
    corner = rng.uniform(0, 1, (count, 2)) * (1 - size_wh)
    boxes = np.concatenate([corner, corner + size_wh], axis=1) * [*size_hw[::-1], *size_hw[::-1]]
    scores = np.sort(rng.uniform(0.2, 1, count))[::-1]
    return Detections(
        boxes.astype(np.float32), scores.astype(np.float32), rng.integers(0, len(CLASSES), count)
    )


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("size_hw", [(240, 320), (700, 900)])  # lines of 1 pixel to 3
def test_draw__labels_hide_no_small_box_and_no_other_label(
    size_hw: tuple[int, int], seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rects: list[Rect] = []

    def place(wanted: list[Wanted], picture_wh: Size, keep_free: list[Rect]) -> list[Placed | None]:
        places = place_labels(wanted, picture_wh, keep_free)
        rects.extend(place.rect for place in places if place is not None)
        return places

    scene = random_scene(seed, size_hw)
    monkeypatch.setattr(draw, "place_labels", place)
    black = np.zeros((*size_hw, 3), np.uint8)
    draw_detections(black, scene, CLASSES)
    # Each label's pixels once; each small box's pixels, of a drawing of it alone without its label, never.
    times = np.zeros(size_hw, int)
    for left, top, right, bottom in rects:
        assert (left >= 0, top >= 0, right <= size_hw[1], bottom <= size_hw[0]) == (True,) * 4
        times[top:bottom, left:right] += 1
    assert times.max() == 1
    monkeypatch.setattr(draw, "place_labels", lambda wanted, *_: [None] * len(wanted))
    for index, (left, top, right, bottom) in enumerate(scene.boxes_xyxy):
        if max(right - left, bottom - top) > 32:  # COCO's small ones, and in large pictures more
            continue
        alone = Detections(*(values[index : index + 1] for values in vars(scene).values()))
        rows, columns = np.nonzero(draw_detections(black, alone, CLASSES).any(axis=2))
        assert not times[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1].any()


def test_draw__small_boxes_lie_on_large_ones() -> None:
    # The large one is the better; the small one's side lies on its side all the same.
    drawn = draw_detections(
        np.zeros((300, 300, 3), np.uint8), found((50, 50, 250, 250, 0), (50, 120, 80, 150, 1)), CLASSES
    )
    assert is_color(drawn, 1)[125:145, 50].all()


def test_draw__lines_are_finer_on_small_boxes_and_grow_with_the_picture() -> None:
    def line_px(size: int, box_part: float) -> int:
        box = (0.1 * size, 0.5 * size, (0.1 + box_part) * size, (0.5 + box_part) * size, 0)
        drawn = draw_detections(np.zeros((size, size, 3), np.uint8), found(box), CLASSES)
        return int(is_color(drawn, 0)[round((0.5 + box_part / 2) * size)].sum()) // 2

    assert [line_px(size, 0.4) for size in (200, 600, 2000)] == [2, 3, 11]
    assert [line_px(2000, part) for part in (0.4, 0.04, 0.005)] == [11, 7, 1]


@pytest.mark.parametrize("moved_px", [1, 2, 3])
def test_draw__label_moves_with_its_box(moved_px: int) -> None:
    black = np.zeros((200, 300, 3), np.uint8)
    first = draw_detections(black, found((50, 60, 120, 160, 0), (200, 100, 220, 120, 1)), CLASSES)
    then = draw_detections(
        black, found((50 + moved_px, 60, 120 + moved_px, 160, 0), (200, 100, 220, 120, 1)), CLASSES
    )
    np.testing.assert_array_equal(then[:, moved_px:180], first[:, : 180 - moved_px])
    np.testing.assert_array_equal(then[:, 190:], first[:, 190:])


def test_draw__emphasized_ones_stand_out() -> None:
    grey = np.full((300, 400, 3), 128, np.uint8)
    both = found((20, 60, 150, 250, 0), (220, 60, 350, 250, 0))
    drawn = draw_detections(grey, both, CLASSES, emphasized=np.array([False, True]))
    changed = (drawn != grey).any(axis=2)
    assert is_color(drawn, 0)[:, :200].sum() == 0
    assert changed[100:200, :200].sum() == 2 * 100  # a line of one pixel on either side
    assert is_color(drawn, 0)[100:200, 200:].sum() == 2 * 3 * 100
    assert not changed[:60, :200].any()  # no label
    assert changed[:59, 200:].any()
    alike = draw_detections(grey, both, CLASSES, emphasized=np.array([True, True]))
    np.testing.assert_array_equal(alike[:, 200:], drawn[:, 200:])


def test_color__of_100_classes_differ() -> None:
    assert len({color_bgr(label) for label in range(100)}) == 100


def test_color__of_neighbours_is_told_apart() -> None:
    colors = np.array([[color_bgr(label) for label in range(100)]], np.float32) / 255
    lab = cv2.cvtColor(colors, cv2.COLOR_BGR2LAB)[0]
    # CIE 1976: 2.3 is what the eye just sees; ten times that is seen at a glance.
    for step in (1, 2, 3, 4, 5):
        assert np.linalg.norm(lab[step:] - lab[:-step], axis=1).min() > 23


def test_color__does_not_depend_on_what_else_is_found() -> None:
    black = np.zeros((300, 300, 3), np.uint8)
    for others in ((), ((150, 150, 250, 250, 0),), ((150, 150, 250, 250, 2), (200, 20, 250, 60, 0))):
        drawn = draw_detections(black, found((20, 120, 100, 220, 1), *others), CLASSES)
        assert is_color(drawn, 1)[220, 30:90].all()


def test_ink__has_contrast() -> None:
    # 4.5:1 is what WCAG wants of small text.
    assert min(contrast(color_bgr(label), ink_bgr(color_bgr(label))) for label in range(1000)) >= 4.5
    assert contrast((0, 0, 0), (255, 255, 255)) == pytest.approx(21)  # by definition
    assert contrast((0, 0, 255), (255, 255, 255)) == pytest.approx(4.0, abs=0.005)  # red on white, published


@pytest.mark.parametrize(("name", "expected"), [
    ("traffic light", "traffic light"),
    ("café", "cafe"),
    ("Straßenschild", "Strassenschild"),
    ("smørbrød", "smorbrod"),
    ("Łódź", "Lodz"),
    ("wheel–chair", "wheel-chair"),
    ("ｃａｒ", "car"),  # full-width letters
    ("犬", "class 0"),
    ("犬 dog", "class 0"),  # half a name would be another's
    ("собака", "class 0"),
    ("", "class 0"),
    ("two\nlines", "class 0"),
])  # fmt: skip
def test_ascii_name__has_no_question_marks(name: str, expected: str) -> None:
    assert ascii_name([name], 0) == expected


def test_draw__name_wider_than_the_picture_is_cut() -> None:
    box = found((10, 30, 90, 90, 0))
    drawn = draw_detections(np.zeros((100, 100, 3), np.uint8), box, ["a name as long as three pictures"])
    cut = draw_detections(np.zeros((100, 100, 3), np.uint8), box, ["a name"])
    bar = is_color(drawn, 0)[:28].any(axis=0)
    assert bar.sum() > is_color(cut, 0)[:28].any(axis=0).sum()


def test_draw__refuses_what_is_no_picture() -> None:
    with pytest.raises(ImageError):
        draw_detections(np.zeros((10, 10), np.uint8), Detections.empty(), CLASSES)
