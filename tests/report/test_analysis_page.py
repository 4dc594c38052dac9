from __future__ import annotations

import json

import pytest

from fcos_edge.report.analysis import analysis_page
from tests.report.page_reader import read_page
from tests.report.small_documents import make_analysis


@pytest.fixture(scope="module")
def page() -> str:
    return analysis_page(make_analysis())


def test_analysis_page__says_recall_and_ambiguity(page: str) -> None:
    rows = [[text for text, _ in row] for row in read_page(page).tables["recall-table"]]
    assert rows == [
        ["all levels", "91.80", "6.28", "1.53", "5,526"],
        ["p4 alone", "91.80", "6.28", "1.53", "5,526"],
        ["9 anchors, IoU of at least 0.5", "58.73", "–", "–", "–"],
        ["... and low-quality matches of at least 0.4", "63.26", "–", "–", "–"],
        ["20,554 detections of the model", "–", "1.14", "0.43", "–"],
    ]
    assert "Best possible recall 91.80 %" in page
    assert {91.8012, 6.2843, 1.5321, 63.26} <= set(read_page(page).values)


def test_analysis_page__says_what_each_level_learns(page: str) -> None:
    rows = [[text for text, _ in row] for row in read_page(page).tables["levels-table"]]
    assert rows == [
        ["p3", "8", "0 to 64", "368,000", "5,515", "99.80"],
        ["p4", "16", "from 64", "92,000", "11", "0.20"],
    ]
    assert "Fewer than 0.5 % of the positives are on p4: see Levels." in page


def test_analysis_page__draws_sizes_with_the_levels_starts(page: str) -> None:
    assert "64 to 128: 1,100" in page
    assert "0.25 to 0.5: 146" in page
    assert "<title>p3: 5,515 of 368,000 locations are positive</title>" in page
    # p4 begins with boxes of 128 pixels, twice its least distance; p3 with all.
    assert ">p4</text>" in page
    assert ">p3</text>" not in page


def test_analysis_page__is_the_same_of_the_file_that_analyze_wrote(page: str) -> None:
    assert analysis_page(json.loads(json.dumps(make_analysis(), sort_keys=True))) == page
    rows = read_page(page).tables["quantiles-table"]
    assert [text for text, _ in rows[0]] == ["box size, pixels", "4.74", "13.2", "25.3", "53.7", "148"]


def test_analysis_page__of_data_without_boxes() -> None:
    document = make_analysis()
    document["boxes"] = 0
    for count in ("fpn", "p4"):
        document[count] = {
            **document[count], "best_possible_recall": None, "ambiguous": None,
            "ambiguous_between_classes": None, "positives": 0,
            "levels": {name: {**level, "positives": 0, "share_of_positives": None}
                       for name, level in document[count]["levels"].items()},
        }  # fmt: skip
    for name in ("box_sizes", "aspect_ratios"):
        document[name] = dict.fromkeys(document[name])
    assert "Best possible recall –" in analysis_page(document)
