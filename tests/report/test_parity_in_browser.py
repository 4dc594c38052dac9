"""The page of a parity report as people use it: in headless chromium, from the disk."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.report.browser import CONTRASTS, CUT_OFF, open_browser

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

LEAST_CONTRAST = 4.5  # WCAG 2, AA
DESKTOP, PHONE = {"width": 1280, "height": 800}, {"width": 390, "height": 844}
TABLE = "#artifact-table"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with open_browser() as browser:
        yield browser


@pytest.fixture(scope="module")
def url(page: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    path: Path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(page, encoding="utf-8")
    return path.as_uri()


@pytest.fixture
def shown(browser: Browser, url: str) -> Iterator[Page]:
    with browser.new_page(viewport=DESKTOP) as page:  # type: ignore[arg-type]
        page.goto(url)
        yield page


def column(page: Page, index: int) -> list[str]:
    """The texts of a column, of the rows that are shown."""
    texts: list[str] = page.evaluate(
        """([table, index]) => [...document.querySelector(table).tBodies[0].rows]
             .filter((row) => !row.hidden)
             .map((row) => row.cells[index].querySelector(".text").textContent)""",
        [TABLE, index],
    )
    return texts


def test_load__asks_nobody_and_complains_of_nothing(browser: Browser, url: str) -> None:
    requests: list[str] = []
    complaints: list[str] = []
    with browser.new_page(viewport=DESKTOP) as page:  # type: ignore[arg-type]
        page.on("request", lambda request: requests.append(request.url))
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(url)
        page.wait_for_load_state("networkidle")
        broken = page.evaluate("[...document.images].filter((one) => !one.naturalWidth).length")
    assert [one for one in requests if not one.startswith("data:")] == [url]
    assert complaints == []
    assert broken == 0


def test_first_screen__says_whether_to_ship(shown: Page) -> None:
    bottom = shown.evaluate("document.querySelector('.tiles').getBoundingClientRect().bottom")
    assert bottom < DESKTOP["height"]
    assert shown.locator(".headline").inner_text() == "SHIP"
    assert shown.locator("main > .tiles .figure").count() == 3


def test_sort__by_click_there_and_back(shown: Page, document: dict[str, Any]) -> None:
    medians = [one["latency_ms"]["whole"]["p50_ms"] for one in document["artifacts"]]
    head = shown.locator(f"{TABLE} thead th").nth(6)
    files = [one["file"] for one in document["artifacts"]]
    expected = [file for _, file in sorted(zip(medians, files, strict=True))]
    head.locator("button").click()
    assert head.get_attribute("aria-sort") == "ascending"
    assert column(shown, 0) == expected
    head.locator("button").click()
    assert head.get_attribute("aria-sort") == "descending"
    assert column(shown, 0) == expected[::-1]


def test_sort__by_key_and_rows_without_a_figure_come_last(shown: Page, document: dict[str, Any]) -> None:
    ratios = [one["latency_ratio"]["median"] for one in document["artifacts"] if one["latency_ratio"]]
    button = shown.locator(f"{TABLE} thead th").nth(7).locator("button")
    button.focus()
    for key, order in (("Enter", sorted(ratios)), ("Space", sorted(ratios, reverse=True))):
        shown.keyboard.press(key)
        expected = [f"{ratio:.3f}" for ratio in order]
        assert column(shown, 7) == expected + ["–"] * (len(document["artifacts"]) - len(ratios))


def test_filter__by_text_by_list_and_back(shown: Page, document: dict[str, Any]) -> None:
    form = shown.locator("form[data-for=artifact-table]")
    # By keys alone: text, then the list behind it.
    form.locator("input").focus()
    shown.keyboard.type("tflite")
    assert set(column(shown, 0)) == {one["file"] for one in document["artifacts"] if "tflite" in one["file"]}
    shown.keyboard.press("Tab")
    shown.keyboard.type("int8")
    assert column(shown, 0) == ["model.int8.tflite"]
    assert form.locator("output").inner_text() == f"1 of {len(document['artifacts'])}"
    shown.keyboard.press("Escape")
    assert len(column(shown, 0)) == len(document["artifacts"])
    form.locator("select").nth(1).select_option("openvino")
    assert set(column(shown, 2)) == {"openvino"}


def test_theme__is_chosen_by_a_button(shown: Page) -> None:
    ground = "getComputedStyle(document.body).backgroundColor"
    before = shown.evaluate(ground)
    shown.locator("#theme").focus()
    shown.keyboard.press("Enter")
    assert shown.evaluate(ground) != before
    shown.keyboard.press("Enter")
    assert shown.evaluate(ground) == before


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_contrast__of_every_text(browser: Browser, url: str, scheme: Any, size: Any) -> None:
    with browser.new_page(viewport=size, color_scheme=scheme) as page:
        page.goto(url)
        page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
        texts = page.evaluate(CONTRASTS)
    assert len(texts) > 20
    assert [one for one in texts if one[1] < LEAST_CONTRAST] == []


@pytest.mark.parametrize("width", [390, 320, 768, 1280])
def test_width__nothing_is_cut_off(browser: Browser, url: str, width: int) -> None:
    with browser.new_page(viewport={"width": width, "height": 844}) as page:
        page.goto(url)
        page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
        assert page.evaluate("document.documentElement.scrollWidth") == width
        assert page.evaluate(CUT_OFF) == []


def test_without_scripts__all_is_there_but_what_needs_them(
    browser: Browser, url: str, document: dict[str, Any]
) -> None:
    with browser.new_page(viewport=DESKTOP, java_script_enabled=False) as page:  # type: ignore[arg-type]
        page.goto(url)
        assert page.locator(f"{TABLE} tbody tr").count() == len(document["artifacts"])
        assert page.locator(f"{TABLE} tbody tr").first.is_visible()
        assert page.locator("figure svg").first.is_visible()
        for needs_scripts in ("form.filters", "#theme", "thead button"):
            assert not any(one.is_visible() for one in page.locator(needs_scripts).all())
