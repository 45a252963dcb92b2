"""What rerank takes as documents."""

import math
from typing import Any

import pytest
from llmrankers.rankers import SearchResult

from llmrankers_groupwise import GroupwiseLlmRanker, ListwiseLlmRanker
from llmrankers_groupwise.errors import InputError
from llmrankers_groupwise.rankers.documents import search_results
from llmrankers_groupwise.testing import ScriptedEngine, json_reply

TEXTS = ["a short one", "one that is longer", "the longest one of all of them"]
LONGEST_FIRST = ["the longest one of all of them", "one that is longer", "a short one"]


def longest(request: Any) -> str:
    if request.wants == "order":
        order = sorted(range(len(request.passages)), key=lambda n: -len(request.passages[n]))
        return " > ".join(request.labels[n] for n in order)
    return json_reply([min(10, len(passage) // 3) for passage in request.passages])


@pytest.fixture(params=[GroupwiseLlmRanker, ListwiseLlmRanker])
def ranker(request: pytest.FixtureRequest) -> Any:
    return request.param(engine=ScriptedEngine(longest))


@pytest.mark.parametrize(
    ("documents", "ids"),
    [
        (TEXTS, ["2", "1", "0"]),
        (tuple(TEXTS), ["2", "1", "0"]),
        (dict.fromkeys(TEXTS).keys(), ["2", "1", "0"]),
        (list(zip("abc", TEXTS, strict=True)), ["c", "b", "a"]),
        ([[7, TEXTS[0]], (8, TEXTS[1]), (9, TEXTS[2])], [9, 8, 7]),
        ([{"id": "x", "text": TEXTS[0]}, {"_id": "y", "contents": TEXTS[1]},
          {"docid": "z", "passage": TEXTS[2]}], ["z", "y", "x"]),
        ([{"text": text} for text in TEXTS], ["2", "1", "0"]),
        ([SearchResult("r", 1.0, TEXTS[0]), TEXTS[1], ("p", TEXTS[2])], ["p", "1", "r"]),
    ],
)  # fmt: skip
def test_documents_of_every_kind_are_ranked(ranker: Any, documents: Any, ids: list[Any]) -> None:
    ranked = ranker.rerank("a query", documents)
    assert [each.docid for each in ranked] == ids
    assert [each.text for each in ranked] == LONGEST_FIRST
    assert all(isinstance(each, SearchResult) for each in ranked)
    assert ranked[0].score > ranked[1].score > ranked[2].score


def test_a_batch_takes_them_too() -> None:
    ranker = GroupwiseLlmRanker(engine=ScriptedEngine(longest))
    first, second = ranker.rerank_batch([("a", TEXTS[:2]), ("b", iter([("d", TEXTS[2])]))])
    assert [each.docid for each in first] == ["1", "0"]
    assert [each.docid for each in second] == ["d"]


def test_title_and_score_of_a_record_are_used() -> None:
    (found,) = search_results([{"title": "Title", "text": "text", "score": 2.5}])
    assert found == SearchResult("0", 2.5, "Title text")
    ranker = GroupwiseLlmRanker(engine=ScriptedEngine(longest), first_stage_weight=1.0)
    scored = [{"id": n, "text": text, "score": -n} for n, text in enumerate(TEXTS)]
    assert [each.docid for each in ranker.rerank("a query", scored)] == [0, 1, 2]


@pytest.mark.parametrize("score", [None, math.nan])
def test_interpolation_needs_scores(score: Any) -> None:
    ranker = GroupwiseLlmRanker(engine=ScriptedEngine(longest), first_stage_weight=0.5)
    with pytest.raises(InputError, match="document x has the first-stage score"):
        ranker.rerank("a query", [{"id": "x", "text": "t", "score": score}])


@pytest.mark.parametrize(
    ("documents", "problem"),
    [
        ("a text", "the documents are 'a text': give a list of documents"),
        ({"id": 1, "text": "t"}, "the documents are {'id': 1, 'text': 't'}: give a list"),
        (None, "the documents are None: give a list of documents"),
        (5, "the documents are 5: give a list of documents"),
        (["t", 3], "document 1 is 3: give a text, a pair"),
        ([None], "document 0 is None: give a text, a pair"),
        ([b"t"], "document 0 is b't': give a text"),
        ([("a", 1)], r"document 0 is \('a', 1\): give a text"),
        ([("a", "b", "c")], r"document 0 is \('a', 'b', 'c'\): give a text"),
        ([{"id": 1, "txt": "t"}], r'document 0 has no "text" among its keys \(id, txt\): give'),
        ([{"id": 1, "text": 2}], 'document 0 has no "text" among its keys'),
        ([["x" * 100] * 9], r"document 0 is \['x{55}\.\.\.: give a text"),
    ],
)
def test_what_is_no_document_is_refused_by_its_index(documents: Any, problem: str) -> None:
    ranker = GroupwiseLlmRanker(engine=ScriptedEngine([]))
    with pytest.raises(InputError, match=problem):
        ranker.rerank("a query", documents)


def test_a_text_that_is_empty_keeps_its_place(caplog: pytest.LogCaptureFixture) -> None:
    ranker = GroupwiseLlmRanker(engine=ScriptedEngine(longest))
    ranked = ranker.rerank("a query", ["", TEXTS[0], TEXTS[1], ("n", None)])
    assert [each.docid for each in ranked] == ["0", "2", "1", "n"]
    assert "2 documents without text" in caplog.text
