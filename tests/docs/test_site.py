"""The built site in a real browser: it loads nothing from another host."""

from pathlib import Path

import pytest
from support.browser import Browser

SITE = Path(__file__).parents[2] / "site"
PAGES = sorted(SITE.glob("**/*.html"))

pytestmark = pytest.mark.skipif(not PAGES, reason="the site is not built: make docs")


def test_no_page_asks_another_host_for_anything(browser: Browser) -> None:
    for page in PAGES:
        browser.driver.get_log("performance")
        browser.driver.get(page.as_uri())
        asked = browser.requested()
        assert page.as_uri() in asked
        assert [each for each in asked if not each.startswith(("file:", "data:", "blob:"))] == []


def test_the_first_page_has_its_title_its_words_and_its_picture(browser: Browser) -> None:
    browser.driver.get((SITE / "index.html").as_uri())
    assert "llmrankers-groupwise" in browser.js("document.title")
    assert len(browser.js("document.querySelector('article').innerText").split()) > 100
    shown = "[...document.querySelectorAll('article img')].every((each) => each.naturalWidth > 0)"
    assert browser.js(shown)
