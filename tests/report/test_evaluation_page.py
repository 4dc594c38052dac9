from __future__ import annotations

import json

import pytest

from fcos_edge.report.evaluation import curve_charts, evaluation_page, size_charts
from tests.report.page_reader import read_page
from tests.report.small_documents import make_evaluation


@pytest.fixture(scope="module")
def page() -> str:
    return evaluation_page(make_evaluation())


def test_evaluation_page__says_the_figures(page: str) -> None:
    document = make_evaluation()
    reader = read_page(page)
    for (name, _), (figure, value), _ in reader.tables["figures-table"]:
        expected = document[name]
        assert value == (None if expected < 0 else expected)
        assert figure == ("–" if expected < 0 else f"{expected:.4f}")
    assert "AP 0.353" in page
    assert "0.251 to 0.471 in 95 of 100 draws" in page


def test_evaluation_page__has_a_row_for_each_class_most_boxes_first(page: str) -> None:
    rows = read_page(page).tables["classes-table"]
    assert [row[0][0] for row in rows] == ["person", "cat & <dog>", "nobody"]
    assert [text for text, _ in rows[0]] == [
        "person", "958", "0.228", "0.202 to 0.260", "0.493", "0.444", "430", "55.1", "64.5",
    ]  # fmt: skip
    assert [text for text, _ in rows[2]] == ["nobody", "0", "–", "–", "–", "0.500", "0", "–", "0.0"]


def test_evaluation_page__escapes_names_and_names_what_is_not_measured(page: str) -> None:
    assert "<dog>" not in page
    assert "Nothing to measure, no boxes: nobody." in page
    assert "Fewer than 50 boxes, so that chance decides much: cat &amp; &lt;dog&gt;." in page


def test_evaluation_page__is_the_same_of_the_file_that_eval_wrote(page: str) -> None:
    assert evaluation_page(json.loads(json.dumps(make_evaluation(), sort_keys=True))) == page


def test_evaluation_page__has_no_curves_where_the_file_has_none() -> None:
    document = make_evaluation()
    assert [chart.title for chart in curve_charts(document)] == ["All classes", "person", "cat & <dog>"]
    del document["curves"]
    assert curve_charts(document) == []
    assert "Precision and recall" not in evaluation_page(document)


def test_evaluation_page__of_data_without_boxes() -> None:
    document = make_evaluation()
    for name, row in document["classes"].items():
        document["classes"][name] = {
            **row,
            "boxes": 0,
            "hits": 0,
            "AP": -1,
            "recall": None,
            "AP_interval_95": None,
        }
    for name in ("AP", "AP50", "AP75", "APm", "APl", "ARm", "ARl", "AR1", "AR10", "AR100"):
        document[name] = -1
    document["AP_interval_95"] = None
    assert size_charts(document) == []
    assert "AP –" in evaluation_page(document)
