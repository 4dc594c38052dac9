"""The pages of eval, analyze and train in headless chromium, from the disk."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fcos_edge.report.analysis import analysis_page
from fcos_edge.report.evaluation import evaluation_page
from fcos_edge.report.training import read_training, training_page
from tests.report.browser import CONTRASTS, CUT_OFF, open_browser
from tests.report.small_documents import make_analysis, make_evaluation, make_run

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

LEAST_CONTRAST = 4.5  # WCAG 2, AA
PAGES = ("evaluation", "analysis", "training")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with open_browser() as browser:
        yield browser


@pytest.fixture(scope="module")
def folder(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pages")
    run = make_run(folder / "run")
    pages = (
        evaluation_page(make_evaluation()), analysis_page(make_analysis()), training_page(read_training(run)),
    )  # fmt: skip
    for name, page in zip(PAGES, pages, strict=True):
        (folder / f"{name}.html").write_text(page, encoding="utf-8")
    return folder


@pytest.fixture(params=PAGES)
def url(request: pytest.FixtureRequest, folder: Path) -> str:
    return (folder / f"{request.param}.html").as_uri()


def _open_details(page: Page) -> None:
    page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")


def test_load__asks_nobody_complains_of_nothing_and_fits_a_screen(browser: Browser, url: str) -> None:
    requests: list[str] = []
    complaints: list[str] = []
    with browser.new_page(viewport={"width": 1280, "height": 800}) as page:
        page.on("request", lambda request: requests.append(request.url))
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(url)
        page.wait_for_load_state("networkidle")
        # What it is all about is seen first.
        assert page.evaluate("document.querySelector('.tiles').getBoundingClientRect().bottom") < 800
        ids = page.evaluate("[...document.querySelectorAll('[id]')].map((one) => one.id)")
    assert [one for one in requests if not one.startswith("data:")] == [url]
    assert complaints == []
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize("width", [390, 1280])
def test_contrast_and_width__light_and_dark(browser: Browser, url: str, width: int) -> None:
    with browser.new_page(viewport={"width": width, "height": 844}) as page:
        page.goto(url)
        _open_details(page)
        assert page.evaluate("document.documentElement.scrollWidth") == width
        assert page.evaluate(CUT_OFF) == []
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            texts = page.evaluate(CONTRASTS)
            assert len(texts) > 10
            assert [one for one in texts if one[1] < LEAST_CONTRAST] == []


def test_charts__text_can_be_read_on_a_phone(browser: Browser, url: str) -> None:
    with browser.new_page(viewport={"width": 390, "height": 844}) as page:
        page.goto(url)
        texts = page.evaluate("""
            () => [...document.querySelectorAll("svg text")]
              .filter((one) => one.checkVisibility())
              .map((one) => {
                const [box, svg] = [one, one.ownerSVGElement].map((each) => each.getBoundingClientRect());
                const scale = svg.width / one.ownerSVGElement.viewBox.baseVal.width;
                const size = parseFloat(getComputedStyle(one).fontSize) * scale;
                return [one.textContent, size, box.left, box.right];
              })
        """)
    assert len(texts) > 10
    # Pixels; the page's small print has 13.
    assert [one for one in texts if one[1] < 11 or one[2] < 0 or one[3] > 390] == []
