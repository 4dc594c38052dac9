"""Debian's chromium, driven by playwright; tests that ask for it are skipped where either is missing."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser

FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update",
    "--disable-sync", "--no-first-run",
]  # fmt: skip

# Every text that is seen: its colour over the first background behind it that hides what is below.
CONTRASTS = """
() => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgba = (color) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = color;
    canvas.fillRect(0, 0, 1, 1);
    return canvas.getImageData(0, 0, 1, 1).data;
  };
  const linear = (value) => (value <= 10 ? value / 3294 : ((value / 255 + 0.055) / 1.055) ** 2.4);
  const light = ([r, g, b]) => 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
  const seen = new Map();
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const element = walk.currentNode.parentElement;
    if (!walk.currentNode.data.trim() || element.closest("script, title, desc")) continue;
    if (!element.checkVisibility()) continue;
    const own = getComputedStyle(element);
    const ink = element.namespaceURI.endsWith("svg") ? own.fill : own.color;
    let behind = element;
    while (behind && rgba(getComputedStyle(behind).backgroundColor)[3] < 255) behind = behind.parentElement;
    const ground = behind ? getComputedStyle(behind).backgroundColor : "white";
    const [low, high] = [light(rgba(ink)), light(rgba(ground))].sort((a, b) => a - b);
    const ratio = (high + 0.05) / (low + 0.05);
    const key = `${element.tagName}.${element.className?.baseVal ?? element.className} ${ink} on ${ground}`;
    seen.set(key, { ratio, text: walk.currentNode.data.trim().slice(0, 40) });
  }
  return [...seen].map(([key, one]) => [key, one.ratio, one.text]);
}
"""

# Elements with text, pictures and tables that reach over the left or right edge of the window.
CUT_OFF = """
() => [...document.querySelectorAll("body *")]
  .filter((one) => one.checkVisibility() && !one.closest(".skip") && !one.closest("svg *"))
  .filter((one) => {
    const box = one.getBoundingClientRect();
    const isOut = box.width > 0 && (box.left < -0.5 || box.right > innerWidth + 0.5);
    const hides = ["hidden", "clip", "auto", "scroll"].includes(getComputedStyle(one).overflowX);
    return isOut || (hides && one.scrollWidth > one.clientWidth + 1);
  })
  .map((one) => `${one.tagName}.${one.className} ${one.textContent.trim().slice(0, 40)}`)
"""


@contextmanager
def open_browser() -> Iterator[Browser]:
    """A headless browser; skips the test where there is none."""
    api = pytest.importorskip("playwright.sync_api")
    executable = shutil.which("chromium")
    if executable is None:
        pytest.skip("chromium is not installed")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=FLAGS)
        yield browser
        browser.close()
