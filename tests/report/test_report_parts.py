"""Parts of the report that are functions of their arguments: fronts, labels, blocks, SVG."""

import base64
import json
import re
import zlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmrankers_groupwise.journal.run_description import RunDescription
from llmrankers_groupwise.report.embedded_data import PART, TextParts, json_block, packed_block
from llmrankers_groupwise.report.pareto import free_box, pareto_front
from llmrankers_groupwise.report.run_settings import run_settings
from llmrankers_groupwise.report.svg import inline_svg


@pytest.mark.parametrize(
    ("points", "front"),
    [
        ([], []),
        ([(1, 0.5)], [0]),
        ([(2, 0.6), (1, 0.5)], [1, 0]),
        ([(1, 0.5), (2, 0.5)], [0]),  # as good, but dearer
        ([(1, 0.5), (1, 0.6)], [1]),  # as cheap, but worse
        ([(1, 0.5), (3, 0.4), (1, 0.5), (4, 0.9)], [0, 2, 3]),  # equals are both in
    ],
)
def test_the_front_is_what_none_beats(points, front):
    assert pareto_front(points) == front


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5))))
def test_the_front_by_its_definition(points):
    def beaten(point: tuple[int, int]) -> bool:
        return any(
            cost <= point[0] and quality >= point[1] and (cost, quality) != point
            for cost, quality in points
        )

    expected = {number for number, point in enumerate(points) if not beaten(point)}
    assert set(pareto_front(points)) == expected


def test_a_name_goes_where_there_is_room():
    inside = (0.0, 0.0, 100.0, 100.0)
    right, left, out = (60.0, 0.0, 90.0, 10.0), (10.0, 0.0, 40.0, 10.0), (90.0, 0.0, 120.0, 10.0)
    assert free_box([right, left], [], inside) == 0
    assert free_box([right, left], [(80.0, 5.0, 95.0, 20.0)], inside) == 1
    assert free_box([out, left], [], inside) == 1
    assert free_box([right, left], [right, left], inside) == 0  # no room anywhere: the first


@given(st.text())
def test_a_block_of_data_is_broken_by_no_text(text):
    block = json_block("name", [text])
    assert block.count("<") == 2
    assert block.count(">") == 2
    data = re.fullmatch(r'<script type="application/json" id="name">(.*)</script>\n', block)
    assert json.loads(data[1]) == [text.encode("utf-8", "replace").decode()]
    packed = re.fullmatch(r'<script type="text/plain" id="name">(.*)</script>\n',
                          packed_block("name", [text]))  # fmt: skip
    assert json.loads(zlib.decompress(base64.b64decode(packed[1]))) == json.loads(data[1])


def test_texts_are_written_once_in_parts():
    parts = TextParts()
    long = "x" * PART
    assert parts.position("a") == (0, 0)
    assert parts.position("b") == (0, 1)
    assert list(parts.full()) == []
    assert parts.position(long) == (0, 2)
    (first,) = parts.full()
    assert first.startswith('<script type="text/plain" id="texts-0">')
    assert parts.position("a") == (0, 0)
    assert parts.position("c") == (1, 0)
    assert [each.split('"')[3] for each in parts.rest()] == ["texts-1"]
    assert list(parts.rest()) == []


SVG = """<?xml version="1.0"?>
<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" width="9" id="s">
 <metadata/><defs><style type="text/css">*{}</style><path id="m1"/><clipPath id="c"/></defs>
 <g id="run-0"><use xlink:href="#m1" style="fill: #010101; stroke-linejoin: round"/></g>
 <g clip-path="url(#c)"><text style="font: 11px 'DejaVu Sans'; fill: #aabbcc">a &lt; b</text></g>
</svg>"""


def test_a_plot_gets_the_pages_colours_and_no_style_rules():
    svg = inline_svg(SVG, "p-", {"#010101": "var(--ink)"}, {"run-0": "<a> & b"}, 'said "so"')
    assert "style" not in svg
    assert "metadata" not in svg
    assert 'href="#p-m1"' in svg
    assert "xlink" not in svg
    assert 'id="p-m1"' in svg
    assert 'clip-path="url(#p-c)"' in svg
    assert 'fill="var(--ink)"' in svg
    assert 'fill="#aabbcc"' in svg
    assert 'font-size="11"' in svg
    assert "<title>&lt;a&gt; &amp; b</title>" in svg
    assert 'aria-label="said &quot;so&quot;"' in svg
    assert 'id="s"' not in svg


# --- Settings ---------------------------------------------------------------------------------


def described(**values: Any) -> RunDescription:
    return RunDescription(method="groupwise", engine={"engine": "vllm", "model": "m"}, **values)


def test_settings_that_differ_are_told_from_those_that_are_the_same() -> None:
    found = run_settings({
        "one": described(settings={"group_size": 20, "seed": 0}, run={"hits": 100}),
        "none": None,
        "two": described(settings={"group_size": 10, "seed": 0}, run={"hits": 100}, preset="fast"),
    })  # fmt: skip
    assert found["differ"] == [
        ["method", ["groupwise", None, "groupwise"]],
        ["model", ["m", None, "m"]],
        ["group_size", ["20", None, "10"]],
        ["preset", [None, None, "fast"]],
    ]
    same = dict(found["same"])
    assert same["engine"] == "vllm"
    assert (same["seed"], same["hits"]) == ("0", "100")


def test_a_setting_of_one_method_alone_differs() -> None:
    found = run_settings({
        "one": RunDescription(method="groupwise", settings={"group_size": 20}),
        "two": RunDescription(method="listwise", settings={"window_size": 20}),
    })  # fmt: skip
    assert ["group_size", ["20", None]] in found["differ"]
    assert ["window_size", [None, "20"]] in found["differ"]


def test_a_merged_run_has_the_model_that_was_asked() -> None:
    merged = RunDescription(
        engine={"engine": "replay", "replayed": {"engine": "vllm", "model": "m"}}
    )
    found = run_settings({"one": merged})
    assert found["differ"] == [["model", ["m"]]]
    assert ["engine", "vllm"] in found["same"]


def test_without_manifests_there_are_no_settings() -> None:
    assert run_settings({"one": None, "two": None}) == {"differ": [], "same": []}
