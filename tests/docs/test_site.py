"""The built site in a real browser: it loads nothing from another host."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.browser import Browser

SITE = Path(__file__).parents[2] / "site"
PAGES = sorted(SITE.glob("**/*.html"))


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if not PAGES:
        pytest.skip("the site is not built: make docs")
    if shutil.which("chromedriver") is None:
        pytest.skip("there is no chromedriver")
    with Browser() as browser:
        yield browser


def test_no_page_asks_another_host_for_anything(browser: Browser) -> None:
    loaded = "performance.getEntriesByType('resource').map((each) => each.name)"
    for page in PAGES:
        browser.open(page.as_uri())
        assert [name for name in browser.js(loaded) if not name.startswith("file:")] == [], page


def test_pages_have_titles_and_words(browser: Browser) -> None:
    browser.open((SITE / "index.html").as_uri())
    assert "llmrankers-groupwise" in browser.js("document.title")
    assert len(browser.js("document.querySelector('article').innerText").split()) > 100
