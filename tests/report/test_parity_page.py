"""The page and the comment of a parity report, read without a browser."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fcos_edge.errors import DataError
from fcos_edge.report.page import MARK
from fcos_edge.report.parity import bench_page, parity_markdown, parity_page
from fcos_edge.report.parity_pictures import worst_pairs
from tests.report.page_reader import PageReader, read_page

HOSTILE = "<script>alert(1)</script>\"'&|`*_@x#1\n${{7*7}}"
MAX_BYTES = 6_000_000


@pytest.fixture(scope="module")
def reader(page: str) -> PageReader:
    return read_page(page)


def numbers_of(value: Any) -> Iterator[float]:
    if isinstance(value, dict):
        for one in value.values():
            yield from numbers_of(one)
    elif isinstance(value, list):
        for one in value:
            yield from numbers_of(one)
    elif isinstance(value, (int, float)):
        yield float(value)


def fail(document: dict[str, Any], index: int = 1) -> dict[str, Any]:
    """The report with a failed gate, as gates.py writes one."""
    one = document["artifacts"][index]
    (gate,) = (gate for gate in one["gates"] if gate["name"] == "ap_drop")
    figure = f"{gate['what']}: {gate['figure']} is 3.2, allowed at most 1.5"
    gate |= {"value": 3.2, "limit": 1.5, "passed": False, "is_judged": True, "why": "", "description": figure}
    one["passed"] = document["passed"] = False
    document["failed"] = [f"{one['name']}: ap_drop: {figure}"]
    return document


def test_numbers__every_one_is_the_json_s(
    reader: PageReader, document: dict[str, Any], bench: dict[str, Any]
) -> None:
    known = {*numbers_of(document), *numbers_of(bench)}
    assert len(reader.values) > 500
    assert [value for value in reader.values if value not in known] == []


def test_artifact_table__row_by_row(reader: PageReader, document: dict[str, Any]) -> None:
    rows = reader.tables["artifact-table"]
    assert len(rows) == len(document["artifacts"])
    for row, one in zip(rows, document["artifacts"], strict=True):
        ratio = one["latency_ratio"] and one["latency_ratio"]["median"]
        assert [text for text, _ in row][:3] == [one["file"], one["precision"], one["package"]]
        assert [value for _, value in row][3:] == [
            one["accuracy"]["figures"]["AP"], one["difference"]["figures"]["AP"]["value"],
            one["agreement"]["detections"]["both"]["rate"], one["latency_ms"]["whole"]["p50_ms"], ratio,
            one["bytes"], one["memory_mib"]["peak"], None,
        ]  # fmt: skip
        # What is shown is that value rounded, in the column's unit.
        assert row[3][0] == f"{one['accuracy']['figures']['AP']:.4f}"
        assert row[8][0] == f"{one['bytes'] / 1e6:.2f}"
        assert row[10][0] == "passed"


def test_page__has_all_parts_in_order_and_every_link_leads_somewhere(reader: PageReader) -> None:
    sections = [link.removeprefix("#") for link in reader.links if re.fullmatch("#[a-z]+", link)]
    assert [name for name in sections if name != "main"] == [
        "artifacts", "tradeoff", "curves", "classes", "latency", "bench", "scores", "raw", "sensitivity",
        "pictures", "gates", "conditions", "commands",
    ]  # fmt: skip
    assert len(reader.ids) == len(set(reader.ids)), "an id stands twice"
    inner = {link.removeprefix("#") for link in reader.links if link.startswith("#")}
    assert inner <= set(reader.ids)
    # Nothing leads out of the file.
    assert {link[:5] for link in reader.links if not link.startswith("#")} <= {"data:", *(
        f"{table}"[:5] for table in reader.tables
    )}  # fmt: skip


def test_page__is_small(page: str) -> None:
    assert len(page.encode()) <= MAX_BYTES


def test_page__of_twelve_artifacts_is_small(document: dict[str, Any], free_data: Path) -> None:
    document["artifacts"] += [
        {**one, "name": f"{one['name']}, board{number}.jsonl"}
        for number, one in enumerate(document["artifacts"][:4])
    ]
    assert len(document["artifacts"]) == 12
    assert len(parity_page(document, data=free_data).encode()) <= MAX_BYTES


def test_verdict__ship(page: str, document: dict[str, Any]) -> None:
    assert '<p class="headline">SHIP</p>' in page
    assert "<title>SHIP: street8-lite0-320, parity</title>" in page
    assert f"All {len(document['artifacts'])} exported models" in page


def test_verdict__do_not_ship_says_what_was_found_and_what_is_allowed(document: dict[str, Any]) -> None:
    text = parity_markdown(fail(document))
    name = document["artifacts"][1]["name"]
    assert text.splitlines()[1] == "## DO NOT SHIP: street8-lite0-320"
    others = len(document["artifacts"]) - 1
    assert f"{name} failed on 36 pictures" in text
    assert f"; the other {others} models passed and may ship." in text
    (line,) = (line for line in text.splitlines() if line.startswith("- ") and "allowed" in line)
    assert line.startswith(f"- {name}: ")
    assert line.endswith("is 3.2, allowed at most 1.5 (gate ap\\_drop)")


def test_failed__an_artifact_that_did_not_run_has_no_figures(document: dict[str, Any]) -> None:
    one = fail(document)["artifacts"][1]
    one |= {
        "failure": "crashed", "accuracy": None, "difference": None, "agreement": None, "latency_ms": None,
        "latency_ratio": None, "raw": [], "worst_pictures": [], "memory_mib": {}, "load_ms": None,
        "first_ms": None,
    }  # fmt: skip
    document |= {"noise": None, "sensitivity": None, "pairs": []}
    rows = read_page(parity_page(document)).tables["artifact-table"]
    assert [text for text, _ in rows[1]][3:8] == ["–"] * 5
    assert rows[1][-1][0] == "failed ap_drop"


def test_names__of_others_are_shown_and_never_run(document: dict[str, Any], bench: dict[str, Any]) -> None:
    one = document["artifacts"][1]
    for part in (document["reference"]["accuracy"], one["accuracy"]):
        for table in ("classes", "curves"):
            part[table][HOSTILE] = part[table].pop("cat")
    one["difference"]["classes"][HOSTILE] = one["difference"]["classes"].pop("cat")
    one |= {"name": HOSTILE, "file": HOSTILE}
    document["bundle"]["name"] = document["data"]["name"] = document["command"] = HOSTILE
    for artifact in document["artifacts"]:
        for worst in artifact["worst_pictures"]:
            worst["file"] = HOSTILE
            for record in worst["found"]:
                record["class_name"] = HOSTILE
    bench["remarks"] = [HOSTILE]
    html = parity_page(document, bench=bench)
    assert "<script>alert" not in html
    assert read_page(html).tags.count("script") == 1
    assert "${{7*7}}" in html
    assert "The pictures themselves were not at hand: give --data." in html
    markdown = parity_markdown(document, bench=bench)
    outside = re.sub(r"^```.*?^```", "", markdown, flags=re.MULTILINE | re.DOTALL)
    assert "<script>" not in outside
    for line in outside.splitlines():
        if line.startswith("| "):
            assert len(re.findall(r"(?<!\\)\|", line)) in (4, 8, 9, 12, 13), "a name made a column"


def test_pictures__without_data_are_boxes_on_a_frame(document: dict[str, Any]) -> None:
    pairs = worst_pairs(document, None)
    assert pairs
    assert all(str(side.figure).startswith("<svg") for pair in pairs for side in pair.sides)


def test_pictures__with_data_are_the_worst_first(document: dict[str, Any], free_data: Path) -> None:
    pairs = worst_pairs(document, free_data)
    worst = [one for artifact in document["artifacts"] for one in artifact["worst_pictures"]]
    assert pairs[0].file == max(worst, key=lambda one: (one["unmatched"], one["drift"]))["file"]
    assert len({pair.file for pair in pairs}) == len(pairs) <= 8
    for side in pairs[0].sides:
        assert str(side.figure).startswith('<img src="data:image/jpeg;base64,')


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"pictures": 35}, "36 pictures in val, but the report is of 35"),
        ({"name": "free-data/train"}, "train"),
    ],
)
def test_pictures__of_other_data_are_refused(
    document: dict[str, Any], free_data: Path, change: dict[str, Any], said: str
) -> None:
    document["data"] |= change
    with pytest.raises(DataError, match=said):
        worst_pairs(document, free_data)


def test_markdown__has_the_table_and_the_mark(document: dict[str, Any], bench: dict[str, Any]) -> None:
    lines = parity_markdown(document, bench=bench).splitlines()
    assert MARK in lines[0]
    assert lines[1] == "## SHIP: street8-lite0-320"
    rows = [line for line in lines if line.startswith("| model.")]
    assert len(rows) == len(document["artifacts"]) + len(bench["cases"])
    assert "fcos-edge parity street8-lite0-320 --data free-data --json" in lines


def test_bench__alone_is_a_page(bench: dict[str, Any]) -> None:
    reader = read_page(bench_page(bench))
    assert len(reader.tables["bench-table"]) == len(bench["cases"])
    assert set(reader.values) <= set(numbers_of(bench))
