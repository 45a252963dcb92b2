"""The report in a real browser: opened, sorted, filtered, read by keyboard, in dark and light."""

import datetime
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from support.browser import Browser
from support.reports import QUERIES, REPLY, TEXTS, make_files, rerank

from llmrankers_groupwise.data.qrels import read_qrels
from llmrankers_groupwise.evaluation.comparison import compare_runs
from llmrankers_groupwise.report.page import write_report

pytest.importorskip("matplotlib", reason="the extra [report] is not installed")

TAB, ENTER, ESCAPE, DOWN, RIGHT = "\ue004", "\ue007", "\ue00c", "\ue015", "\ue014"
NAMES = ("first", "tied", 'a<b>&"c"')
ADDRESS = "#query=q%2F4%23x%3F%2541"


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three runs; the third, of an awkward name, has manifest, journal and texts."""
    folder = tmp_path_factory.mktemp("report")
    files = make_files(folder)
    paths = dict(zip(NAMES, (files.first, files.tied, files.reranked), strict=True))
    qrels = read_qrels(files.qrels)
    html = folder / "report.html"
    write_report(html, compare_runs(qrels, paths, ["RR", "P@1"]), qrels)
    return html


@pytest.fixture
def opened(browser: Browser, report: Path) -> Callable[..., Browser]:
    """Opens the report; at the end nothing was on the console or asked of a network."""

    def opens(address: str = "", **how: object) -> Browser:
        browser.open(report, address, **how)
        return browser

    yield opens
    assert browser.said() == []
    assert [
        url for url in browser.requested() if not url.startswith((report.as_uri(), "about:"))
    ] == []


def shown_ids(page: Browser) -> list[str]:
    return page.texts("#queries tbody th")


def focus(page: Browser, selector: str) -> None:
    """Press Tab until the focus is on an element."""
    for _ in range(200):
        if page.js("document.activeElement.matches(arguments[0])", selector):
            return
        page.press(TAB)
    raise AssertionError(f"Tab never reaches {selector}")


def open_query(page: Browser) -> None:
    page.until("document.querySelector('#lists li') && !document.getElementById('query').hidden")


# --- The first page ---------------------------------------------------------------------------


def test_the_first_page_has_the_comparison_in_tables(opened):
    page = opened()
    assert page.js("document.title") == f"Comparison of {', '.join(NAMES)}"
    assert page.texts("#means thead th") == ["run", "RR", "P@1"]
    assert page.texts("#means tbody th") == list(NAMES)
    assert page.texts("#tests tbody tr:nth-child(1) td")[-1] == "baseline"
    assert page.texts("#tests tbody tr:nth-child(3) td")[3] == "2 / 0 / 2"
    assert page.texts("#costs tbody tr:nth-child(3) td")[0] == "8"
    assert page.texts("#costs tbody tr:nth-child(1) td") == ["–"] * 6
    assert any(
        "tied: 1 judged query is not in the run and counts 0 (q2)" in each
        for each in page.texts("#notices li")
    )
    assert shown_ids(page) == list(QUERIES)
    assert page.texts("#queries tbody tr:nth-child(2) td")[2] == "0.0000 †"
    assert page.texts("#queries td.text") == list(QUERIES.values())


def test_the_top_says_what_was_compared_when_and_by_which_settings(opened):
    page = opened()
    assert page.texts("#title") == [f"Comparison of {NAMES[0]}, {NAMES[1]} and {NAMES[2]}"]
    today = datetime.date.today().isoformat()
    assert page.texts("#about")[0].endswith(f"baseline {NAMES[0]}, {today}")
    assert page.texts("#differ thead th") == ["setting", *NAMES]
    assert page.texts("#differ tbody tr:nth-child(1) > *")[-1] == "groupwise"
    assert "query_length 128" in page.js("document.getElementById('same').textContent")


def test_a_passage_begins_beside_its_id(opened):
    page = opened()
    page.click("#queries tbody tr:nth-child(1) a")
    open_query(page)
    shown = page.texts("#lists .beginning")
    assert "<script>alert(1)</script>" in shown
    assert len(shown) == len(page.texts("#lists summary"))
    assert all(len(each) <= 80 for each in shown)


def test_one_plot_is_shown_and_costs_and_measures_choose_it(opened):
    page = opened()
    shown = (
        "[...document.querySelectorAll('#plots figure:not([hidden])')]"
        ".map((each) => [each.dataset.measure, each.dataset.cost])"
    )
    assert page.js(shown) == [["RR", "calls"]]
    page.click("#cost-choice input[value=seconds]")
    page.choose("measure", "P@1")
    assert page.js(shown) == [["P@1", "seconds"]]
    assert page.js("document.querySelectorAll('#differences figure:not([hidden])').length") == 1
    label = page.js(
        "document.querySelector('#plots figure:not([hidden]) svg').getAttribute('aria-label')"
    )
    assert label.startswith("P@1 against seconds. first: P@1 ")
    assert page.texts("#plots figure:not([hidden]) title")[0].startswith('a<b>&"c": P@1 ')
    assert "what they cost is not known: first, tied." in page.texts("#plot-legend")[0]
    names = page.texts("#plots figure:not([hidden]) text")
    assert set(NAMES) <= set(names)
    assert page.texts("#plots figure:not([hidden]) text[font-weight]") == ['a<b>&"c"']  # the front


def test_marks_and_lines_of_a_plot_are_seen(opened):
    page = opened()
    sizes = page.js(
        "[...document.querySelectorAll('#plots figure:not([hidden]) use')]"
        ".map((each) => each.getBoundingClientRect().width)"
    )
    assert len([width for width in sizes if width > 4]) >= 1


def test_queries_are_sorted_both_ways(opened):
    page = opened()
    heads = "[...document.querySelectorAll('#queries th[aria-sort]')].map((each) => each.ariaSort)"
    assert set(page.js(heads)) == {"none"}
    page.click("[data-key=id]")
    assert [each for each in shown_ids(page) if "/" not in each] == ["q1", "q2", "q10"]
    up = shown_ids(page)
    assert page.js(heads)[0] == "ascending"
    page.click("[data-key=id]")
    assert shown_ids(page) == up[::-1]
    assert page.js(heads)[0] == "descending"
    page.click("[data-key=difference-2]")
    differences = [
        float(text.replace("−", "-")) for text in page.texts("#queries td.difference:last-child")
    ]
    assert differences == sorted(differences, reverse=True)
    page.click("[data-key=difference-2]")
    assert page.js(heads)[-1] == "ascending"
    assert page.js("document.activeElement.dataset.key") == "difference-2"


def test_queries_are_filtered_by_words_and_outcome(opened):
    page = opened()
    page.driver.find_element("id", "find").send_keys("FLEA long")
    assert shown_ids(page) == ["q10"]
    assert page.texts("#shown") == ["1 of 4 queries"]
    page.choose("find", "")
    for kind, count in (("better", 2), ("equal", 0), ("worse", 2)):  # as the tests count
        page.choose("outcome", f"{kind}-2")
        assert len(shown_ids(page)) == count
        assert page.texts("#shown") == [f"{count} of 4 queries"]


# --- A query ----------------------------------------------------------------------------------


def test_a_query_is_opened_read_and_left_by_keyboard_alone(opened):
    page = opened()
    focus(page, "#queries tbody tr:nth-child(3) a")
    page.press(ENTER)
    open_query(page)
    assert page.js("location.hash") == "#query=q10"
    assert page.js("document.activeElement.id") == "query-title"
    assert page.texts("#query-title") == [QUERIES["q10"]]
    focus(page, "#lists summary")
    page.press(DOWN, DOWN, DOWN)
    assert page.js("document.activeElement.querySelector('.doc').textContent") == "d4"
    page.press(ENTER)
    page.until("document.activeElement.parentElement.querySelector('.passage p:nth-child(2)')")
    passage = page.js(
        "document.activeElement.parentElement.querySelector('.passage p:nth-child(2)').textContent"
    )
    assert passage == TEXTS["d4"]
    page.press(RIGHT)
    assert (
        page.js("document.activeElement.closest('.list').getAttribute('aria-label')")
        == "list of tied"
    )
    page.press("k")
    page.until(
        "location.hash === '#query=q2' && document.getElementById('query-title').textContent.length"
    )
    page.press("j")
    page.until("location.hash === '#query=q10'")
    page.press("k", "j", "j", "k")  # faster than queries are drawn
    page.until("location.hash === '#query=q10'")
    page.press(ESCAPE)
    page.until("!document.getElementById('overview').hidden")
    assert page.js("document.activeElement.textContent") == "q10"


def test_whatever_has_the_focus_shows_it(opened):
    page = opened()
    for _ in range(15):
        page.press(TAB)
        style = page.js(
            "(({outlineStyle, outlineWidth}) => [outlineStyle, outlineWidth])"
            "(getComputedStyle(document.activeElement))"
        )
        assert style[0] != "none"
        assert float(style[1].removesuffix("px")) >= 1


def test_a_query_can_be_linked_to(opened):
    page = opened(ADDRESS)
    open_query(page)
    assert page.texts("#query-title") == [QUERIES["q/4#x?%41"]]
    page = opened("#query=nothing")
    assert page.texts("#notices li")[-1] == "There is no query nothing in this report."


def test_texts_stay_texts(opened):
    page = opened("#query=q1")
    open_query(page)
    assert page.texts("#query-title") == [QUERIES["q1"]]
    page.js(
        "document.querySelectorAll('#lists .list:first-child summary')"
        ".forEach((each) => each.click())"
    )
    page.until("document.querySelectorAll('#lists .passage p:nth-child(2)').length === 6")
    assert page.texts("#lists .passage p:nth-child(2)") == list(TEXTS.values())
    assert page.texts("#lists .list:first-child .doc") == list(TEXTS)
    page.click(".run-groups > summary")
    page.until("document.querySelector('.group pre')")
    assert page.texts(".group pre")[0].startswith(REPLY)
    assert page.js("document.querySelectorAll('img, iframe, main script').length") == 0
    assert page.js("document.title") == f"Comparison of {', '.join(NAMES)}"
    assert page.js("document.querySelectorAll('.passage')[2].matches(':dir(rtl)')")


def test_lists_show_judgements_and_movement_as_text(opened):
    page = opened("#query=q1")
    open_query(page)
    grades = dict(zip(page.texts("#lists .list:first-child .doc"),
                      page.texts("#lists .list:first-child .grade"), strict=True))  # fmt: skip
    assert grades == {"d1": "judged 3", "d2": "judged 0", "d3": "not judged?", "d4": "not judged?",
                      "<i>d5</i>": "judged 1", "d6": "judged −1"}  # fmt: skip
    assert page.texts("#lists .list:first-child .move") == []
    moved = dict(zip(page.texts("#lists .list:last-child .doc"),
                     page.texts("#lists .list:last-child .move"), strict=True))  # fmt: skip
    order = page.texts("#lists .list:last-child .doc")
    for rank, doc in enumerate(order):
        by = list(TEXTS).index(doc) - rank
        assert moved[doc] == ("=" if by == 0 else f"{'▲up ' if by > 0 else '▼down '}{abs(by)}")
    page.choose("against", "2")
    assert page.texts("#lists .list:last-child .move") == []
    assert len(page.texts("#lists .list:first-child .move")) == 6


def test_tied_scores_and_what_a_run_lacks_are_told(opened):
    page = opened("#query=q1")
    open_query(page)
    page.click("#lists .list:nth-child(2) li:nth-child(2) summary")
    page.until("document.querySelector('#lists .passage p')")
    assert page.texts("#lists .passage p")[0] == "score 1, shared with another document"
    page = opened("#query=q2")
    open_query(page)
    assert page.texts("#lists .list:nth-child(2) p") == [
        "This run does not have the query; it counts 0."
    ]
    assert page.js("getComputedStyle(document.getElementById('query-title')).direction") == "rtl"


def test_groups_show_scores_and_why_there_are_none(opened):
    page = opened("#query=q1")
    open_query(page)
    without = page.texts("#query > section:last-child > p")
    assert len(without) == 2
    assert without[0].startswith("first: no replies, there is no ")
    wrapped = (
        "getComputedStyle(document.querySelector('#query > section:last-child > p')).overflowWrap"
    )
    assert page.js(wrapped) == "anywhere"  # of a long path, on a narrow screen
    assert page.texts(".run-groups > summary") == ['a<b>&"c" 2 questions: 2 partial']
    page.click(".run-groups > summary")
    page.until("document.querySelector('.group td.score')")
    assert page.texts(".group:first-child td.score") == ["4", "none", "6"]
    assert page.texts(".group:first-child .doc") == ["d1", "d2", "d3"]
    page.click(".group .reply summary")
    assert page.js("document.querySelector('.group pre').checkVisibility()")


def test_a_calibrated_run_is_explained(browser, tmp_path):
    files = make_files(tmp_path)
    rerank(files, "wide", num_repeat=2, calibration="minmax", final_round=2)
    qrels = read_qrels(files.qrels)
    html = tmp_path / "report.html"
    paths = {name: getattr(files, name) for name in ("first", "wide", "reranked")}
    write_report(html, compare_runs(qrels, paths, ["RR"]), qrels)
    page = browser
    page.open(html, "#query=q1")
    open_query(page)
    page.click(".run-groups > summary")
    page.until("document.querySelector('.group td.calibrated')")
    assert page.texts(".group:first-child thead th")[-2:] == ["score", "calibrated"]
    assert page.texts(".group:first-child td.calibrated") == ["0", "none", "1"]
    assert page.js(
        "[...document.querySelectorAll('.group .scroll')]"
        ".every(({scrollWidth, clientWidth}) => scrollWidth <= clientWidth)"
    )  # all is in sight
    said = [text.split(" · ")[0] for text in page.texts(".group > p:first-of-type")]
    assert said == [
        *["first round, repeat 1"] * 2, *["first round, repeat 2"] * 2, "final round, call 1",
    ]  # fmt: skip
    page.choose("against", "-1")
    assert page.texts("#lists .list:first-child .move") == []  # it has no journal
    for number in (2, 3):
        docs = page.texts(f"#lists .list:nth-child({number}) .doc")
        ups = [list(TEXTS).index(doc) - rank for rank, doc in enumerate(docs)]
        assert page.texts(f"#lists .list:nth-child({number}) .move") == [
            "=" if up == 0 else f"{'▲up ' if up > 0 else '▼down '}{abs(up)}" for up in ups
        ]
    page.js("document.querySelectorAll('#lists .list:nth-child(2) summary')"
            ".forEach((each) => each.click())")  # fmt: skip
    page.until("document.querySelectorAll('#lists .passage p:nth-child(2)').length === 6")
    facts = page.texts("#lists .passage p:first-child")
    docs = page.texts("#lists .list:nth-child(2) .doc")
    for doc, fact in zip(docs, facts, strict=True):
        assert f" · first-stage rank {list(TEXTS).index(doc) + 1}" in fact
    assert " · merged score " in facts[0]
    varies = {doc for doc, fact in zip(docs, facts, strict=True) if " · variance of its" in fact}
    assert {"d1", "d4"} <= varies < set(docs)  # a document that one call scored has none
    page.press("j")
    page.until("location.hash === '#query=q2' && document.querySelector('#lists .move')")
    assert page.js("document.getElementById('against').value") == "-1"
    assert page.said() == []


# --- How it looks -----------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("address", ["", "#query=q1"])
def test_texts_have_the_contrast_of_wcag_aa(opened, scheme, address):
    page = opened(address, scheme=scheme)
    if address:
        open_query(page)
        page.click(".run-groups > summary")
        page.click("#lists summary")
        page.until(
            "document.querySelector('.group td.score') && document.querySelector('.passage p')"
        )
    contrasts = page.contrasts()
    assert len(contrasts) > 50
    assert [each for each in contrasts if each[0] < 4.5] == []


def test_dark_and_light_differ(opened):
    colours = []
    for scheme in ("light", "dark"):
        page = opened(scheme=scheme)
        colours.append(page.js("getComputedStyle(document.documentElement).backgroundColor"))
    assert colours == ["rgb(255, 255, 255)", "rgb(20, 23, 27)"]


@pytest.mark.parametrize("address", ["", "#query=q1"])
def test_a_narrow_screen_is_not_widened(opened, address):
    page = opened(address, width=360)
    if address:
        open_query(page)
    assert page.js("document.documentElement.scrollWidth") <= 360
    ends = page.js(
        "[...document.querySelectorAll('select, input')].filter((each) => each.checkVisibility())"
        ".map((each) => each.getBoundingClientRect().right)"
    )
    assert max(ends) <= 360


# --- Odd comparisons --------------------------------------------------------------------------


def test_one_query_and_one_run_and_nothing_else(browser, tmp_path):
    files = make_files(tmp_path)
    files.qrels.write_text("q1 0 d1 1\n")
    qrels = read_qrels(files.qrels)
    html = tmp_path / "report.html"
    for names in (("first",), ("first", "tied")):
        paths = {name: getattr(files, name) for name in names}
        write_report(html, compare_runs(qrels, paths, ["RR"]), qrels)
        browser.open(html)
        assert shown_ids(browser) == ["q1"]
        assert browser.texts("#tests tbody tr:first-child td")[1] == "–"  # no interval of one query
        assert browser.texts("#queries td.text") == ["text not found"]
        assert "No plot" in browser.texts("#plot-legend")[0]
        browser.click("#queries a")
        open_query(browser)
        assert browser.texts("#query-title") == ["text not found"]
        browser.click("#lists summary")
        browser.until("document.querySelector('.passage p:nth-child(2)')")
        assert browser.texts(".passage p:nth-child(2)") == ["text not found"]
        assert browser.said() == []
    assert browser.texts(".move") != []
    browser.open(html)
    assert browser.texts("#tests tbody tr:last-child td")[4:6] == ["–", "–"]


def test_documents_past_the_twentieth_are_shown_when_asked_for(browser, tmp_path):
    run = tmp_path / "long.trec"
    run.write_text("".join(f"q1 Q0 d{n} {n} {100 - n} t\n" for n in range(1, 61)))
    qrels = {"q1": {"d30": 1}}
    html = tmp_path / "report.html"
    write_report(
        html, compare_runs(qrels, {"a": run, "b": shutil.copy(run, f"{run}2")}, ["RR"]), qrels
    )
    browser.open(html, "#query=q1")
    open_query(browser)
    assert len(browser.texts("#lists li")) == 40
    browser.click("#query button[aria-pressed=false]")
    assert len(browser.texts("#lists li")) == 120
    assert browser.js("document.querySelector('#query button').ariaPressed") == "true"


def test_a_browser_that_cannot_unpack_says_so(browser, report):
    browser.open(report)
    browser.js("delete window.DecompressionStream")
    browser.click("#queries a")
    browser.until("document.querySelector('#query p.worse')")
    assert "a browser of 2023 or later is needed" in browser.texts("#query p.worse")[0]
    assert browser.said() == []
