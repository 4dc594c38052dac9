"""The worst pictures of `eval`: what is drawn, and what is said beneath."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from fcos_edge.errors import DataError
from fcos_edge.report.evaluation import evaluation_page
from fcos_edge.report.mistakes import reasons_in_words, worst_pictures
from tests.coco_sets import CLASSES, SIDE, make_coco_set
from tests.report.page_reader import read_page
from tests.report.small_documents import make_evaluation


@pytest.fixture(scope="module")
def page() -> str:
    return evaluation_page(make_evaluation())


def test_words__say_what_and_why() -> None:
    shown = worst_pictures(make_evaluation(), None)
    said = {name: [f"{mark.what}: {mark.why}" for mark in one.marks] for name, (one,) in shown.items()}
    assert said["missed"] == [
        "missed person, 100 × 200 px: found with 0.431, the threshold is 0.444",
        "missed cat & <dog>, 100 × 100 px: found as person 0.50 (IoU 0.81)",
        "missed person, 60 × 90 px: person 0.61 lies on it (IoU 0.59), and is the hit of another box",
        "missed person, 40 × 30 px: person 0.77 has IoU 0.42",
        "missed person, 16 × 16 px: nothing found there",
        "missed person, 15 × 16 px: nothing found there",
    ]
    assert shown["missed"][0].rest == "2 more missed, at most 14 × 16 px, 1 hit."
    assert said["alarms"] == [
        "person 0.91: nothing labelled there",
        "person 0.88: a second box on the same person (IoU 0.66)",
        "cat & <dog> 0.72: labelled person (IoU 0.71)",
        "person 0.63: IoU 0.42 with a labelled person",
        "person 0.52: IoU 0.25 with a labelled cat & <dog>",
    ]
    assert shown["alarms"][0].rest == "0 hits."


def test_figures__have_each_box_and_differ_by_more_than_colour(page: str) -> None:
    shown = worst_pictures(make_evaluation(), None)
    missed, alarms = (str(shown[name][0].figure) for name in ("missed", "alarms"))
    assert (missed.count('<g class="missed">'), missed.count('<g class="hit">')) == (8, 1)
    assert alarms.count('<g class="alarm">') == 5
    # Six have a number, and each false alarm a letter.
    assert re.findall(r"<text[^>]*>(.*?)</text>", missed) == ["1", "2", "3", "4", "5", "6"]
    assert re.findall(r"<text[^>]*>(.*?)</text>", alarms) == ["A", "B", "C", "D", "E"]
    assert 'viewBox="0 0 320 240"' in missed
    assert 'viewBox="0 0 260 190"' in alarms  # of unknown size: as large as all its boxes
    (rule,) = re.findall(r"\.missed rect \+ rect {[^}]*}", page)
    assert "stroke-dasharray" in rule


def test_page__shows_each_reason_of_each_class(page: str) -> None:
    tables = read_page(page).tables
    assert [text for text, _ in tables["misses-table"][0]] == ["person", "528", "215", "2", "", "38", "273"]
    assert [row[0][0] for row in tables["misses-table"]] == ["person", "cat & <dog>"]
    assert [value for _, value in tables["alarms-table"][2]] == [None, 3, 0, 0, 3, 0, 0]
    said = (
        "532 missed boxes: 51 % unseen, 41 % low score; 246 false alarms: 51 % badly placed, 24 % background."
    )
    assert reasons_in_words(make_evaluation()) == said
    assert said in page
    assert "The pictures themselves were not at hand: give --data." in page
    assert "crowd &lt;1&gt;.jpg" in page


def test_page__without_mistakes_has_no_such_parts() -> None:
    document: dict[str, Any] = make_evaluation() | {"worst_misses": [], "worst_false_alarms": []}
    for row in document["classes"].values():
        row |= {
            "misses": dict.fromkeys(row["misses"], 0),
            "false_alarms": dict.fromkeys(row["false_alarms"], 0),
        }
    ids = read_page(evaluation_page(document)).ids
    assert not {"reasons", "missed", "alarms"} & set(ids)
    assert reasons_in_words(document) == ""


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_coco_set(tmp_path_factory.mktemp("shapes"), "val", 2)


def _of_shapes() -> dict[str, Any]:
    document = make_evaluation() | {"data": "shapes", "pictures": 2}
    rows = list(document["classes"].values())
    del document["curves"]
    document["classes"] = dict(zip(CLASSES, rows, strict=False))
    for place, key in enumerate(("worst_misses", "worst_false_alarms")):
        (worst,) = document[key]
        worst |= {"file": f"val{place}.png", "picture": place, "size_hw": [SIDE, SIDE]}
        for record in [*worst["misses"], *worst["false_alarms"], *worst["hits"]]:
            record["class_name"] = CLASSES[record["label"]]
    return document


def test_pictures__of_the_data_are_beneath_the_boxes(shapes: Path) -> None:
    document = _of_shapes()
    for (one,) in worst_pictures(document, shapes).values():
        figure = str(one.figure)
        assert figure.count('<image href="data:image/jpeg;base64,') == 1
        assert figure.index("<image") < figure.index("<rect")
    assert "give --data" not in evaluation_page(document, shapes)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"pictures": 3}, "2 pictures in val, but the report is of 3"),
        ({"split": "train"}, "train"),
        ({"file": "other.png"}, "picture 0 is val0.png, but in the report other.png; give the data set"),
    ],
)
def test_pictures__of_other_data_are_refused(shapes: Path, change: dict[str, Any], said: str) -> None:
    document = _of_shapes()
    if "file" in change:
        document["worst_misses"][0] |= change
    else:
        document |= change
    with pytest.raises(DataError, match=said):
        worst_pictures(document, shapes)
