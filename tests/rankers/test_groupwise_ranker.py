"""GroupwiseLlmRanker as a drop-in for llm-rankers' rankers."""

import asyncio
import copy
import itertools
import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass

import pytest
from llmrankers.rankers import LlmRanker, SearchResult

from llmrankers_groupwise import GroupwiseLlmRanker, InputError
from llmrankers_groupwise.errors import EngineError, FailureRateError, SettingsError
from llmrankers_groupwise.testing import ScriptedEngine, filled_reply, json_reply
from llmrankers_groupwise.types import Reply, Request, Sampling

SIZES = [0, 1, 19, 20, 21, 101]


def results(n: int) -> list[SearchResult]:
    return [SearchResult(f"d{i}", float(n - i), f"passage number {i}") for i in range(n)]


def by_number(request: Request) -> str:
    """Later documents are better: the score is the passage's number modulo 11."""
    return json_reply([int(passage.split()[-1]) % 11 for passage in request.passages])


def ranker(
    script: Callable[[Request], object] = by_number, **settings: object
) -> GroupwiseLlmRanker:
    return GroupwiseLlmRanker(engine=ScriptedEngine(script), **settings)  # type: ignore[arg-type]


@pytest.mark.parametrize("n", SIZES)
def test_the_output_is_a_permutation_and_the_input_is_left_alone(n: int) -> None:
    docs = results(n)
    before = copy.deepcopy(docs)
    ranked = ranker().rerank("query", docs)
    assert sorted(each.docid for each in ranked) == sorted(each.docid for each in docs)
    assert docs == before
    assert not any(new is old for new in ranked for old in docs)


@pytest.mark.parametrize("n", SIZES)
def test_scores_strictly_decrease_and_texts_stay(n: int) -> None:
    ranked = ranker().rerank("query", results(n))
    scores = [each.score for each in ranked]
    assert all(higher > lower for higher, lower in itertools.pairwise(scores))
    assert {each.docid: each.text for each in ranked} == {d.docid: d.text for d in results(n)}


def test_it_is_an_llm_ranker_that_takes_and_returns_search_results() -> None:
    instance = ranker()
    assert isinstance(instance, LlmRanker)
    assert all(type(each) is SearchResult for each in instance.rerank("query", results(3)))


def test_a_subclass_of_search_result_keeps_its_own_fields() -> None:
    @dataclass
    class Hit(SearchResult):
        url: str = ""

    ranked = ranker().rerank(
        "query", [Hit("a", 1.0, "passage 3", "u1"), Hit("b", 0.5, "p 9", "u2")]
    )
    assert [(each.docid, each.url) for each in ranked] == [("b", "u2"), ("a", "u1")]


def test_a_loop_like_llm_rankers_run_py_drives_it() -> None:
    """The lines between loading and writing of llm-rankers' run.py, with its variable names."""
    instance = ranker()
    query_map = {"q1": "what is it", "q2": "who was it"}
    first_stage_rankings = []
    for qid, text in query_map.items():
        ranking = [
            SearchResult(each.docid, each.score, instance.truncate(each.text, 2))
            for each in results(30)
        ]
        first_stage_rankings.append((qid, instance.truncate(text, 2), ranking[:25]))
    assert first_stage_rankings[0][1] == "what is"
    assert first_stage_rankings[0][2][7].text == "passage number"

    reranked, total_comparisons, total_prompt_tokens, total_completion_tokens = [], 0, 0, 0
    numbered = [(qid, query, results(25)) for qid, query, _ in first_stage_rankings]
    for qid, query, ranking in numbered:
        reranked.append((qid, query, instance.rerank(query, ranking)))
        total_comparisons += instance.total_compare
        total_prompt_tokens += instance.total_prompt_tokens
        total_completion_tokens += instance.total_completion_tokens
    assert total_comparisons == 4  # two groups for each query
    engine = instance.engine
    assert isinstance(engine, ScriptedEngine)
    words = sum(len(m["content"].split()) for r in engine.requests for m in r.messages)
    assert total_prompt_tokens == words
    assert total_completion_tokens == sum(
        len(by_number(request).split()) for request in engine.requests
    )
    assert [len(ranking) for _, _, ranking in reranked] == [25, 25]


def test_a_batch_gives_what_single_calls_give_and_sums_the_counters() -> None:
    pairs = [(f"query {n}", results(n)) for n in SIZES]
    instance = ranker()
    batch = instance.rerank_batch(pairs)
    assert instance.total_compare == 0 + 1 + 1 + 1 + 2 + 6
    assert batch == [ranker().rerank(query, docs) for query, docs in pairs]


def test_all_groups_of_all_queries_are_in_flight_together() -> None:
    class Waiting(ScriptedEngine):
        """Answers nobody before all six groups have asked."""

        def __init__(self) -> None:
            super().__init__(by_number)
            self.everybody = asyncio.Event()

        async def answer(self, request: Request, sampling: Sampling) -> Reply:
            reply = await super().answer(request, sampling)
            if len(self.requests) == 6:
                self.everybody.set()
            await self.everybody.wait()
            return reply

    instance = GroupwiseLlmRanker(engine=Waiting())
    batch = instance.rerank_batch([(f"query {n}", results(40)) for n in range(3)])
    assert [len(ranking) for ranking in batch] == [40, 40, 40]


def test_it_works_where_an_event_loop_runs_already() -> None:
    async def in_a_notebook() -> list[SearchResult]:
        return ranker().rerank("query", results(25))

    assert len(asyncio.run(in_a_notebook())) == 25


def test_it_works_from_many_threads_at_once() -> None:
    instance = ranker()
    with ThreadPoolExecutor(8) as threads:
        lists = list(threads.map(lambda n: instance.rerank(f"query {n}", results(25)), range(40)))
    assert lists == [ranker().rerank(f"query {n}", results(25)) for n in range(40)]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_it_works_in_a_forked_child_after_the_parent_used_it() -> None:
    program = """
import os
from llmrankers.rankers import SearchResult
from llmrankers_groupwise import GroupwiseLlmRanker
from llmrankers_groupwise.testing import ScriptedEngine, json_reply
ranker = GroupwiseLlmRanker(engine=ScriptedEngine(lambda request: json_reply([1, 2])))
docs = [SearchResult("a", 2.0, "x"), SearchResult("b", 1.0, "y")]
ranker.rerank("q", docs)
child = os.fork()
if not child:
    os._exit(len(ranker.rerank("q", docs)))
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    assert ran.stdout == "2\n"


def test_same_inputs_seed_and_replies_give_the_same_ranking() -> None:
    first, second = (ranker(num_repeat=3, seed=7).rerank("q", results(50)) for _ in range(2))
    assert [asdict(each) for each in first] == [asdict(each) for each in second]


def test_a_document_that_stands_twice_comes_out_twice() -> None:
    docs = [SearchResult("same", 2.0, "passage 1"), SearchResult("same", 1.0, "passage 5")]
    assert [each.text for each in ranker().rerank("query", docs)] == ["passage 5", "passage 1"]


def test_a_failed_group_falls_back_to_the_first_stage_with_a_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    ranked = ranker(lambda request: "no scores here").rerank("query", results(20))
    assert [each.docid for each in ranked] == [each.docid for each in results(20)]
    assert "1 of 1 groups failed" in caplog.text


def test_too_many_failed_groups_raise() -> None:
    instance = ranker(lambda request: EngineError("the server is down"))
    for n in range(19):
        assert len(instance.rerank(f"query {n}", results(5))) == 5
    with pytest.raises(FailureRateError, match=r"20 of 20 groups failed.*the server is down"):
        instance.rerank("query 19", results(5))


def test_good_replies_are_not_discarded_for_bad_ones_before_them() -> None:
    broken = True
    instance = ranker(lambda request: EngineError("down") if broken else by_number(request))
    with pytest.raises(FailureRateError):
        instance.rerank_batch([(f"query {n}", results(5)) for n in range(30)])
    broken = False
    assert instance.rerank("query", results(5))[0].docid == "d4"


def test_few_failed_groups_do_not_raise() -> None:
    replies = iter(["nothing", "nothing"])
    instance = ranker(lambda request: next(replies, by_number(request)))
    lists = instance.rerank_batch([(f"query {n}", results(5)) for n in range(20)])
    assert [ranked[0].docid for ranked in lists] == ["d0"] * 2 + ["d4"] * 18


def test_expected_scores_break_the_ties_of_whole_numbers() -> None:
    engine = ScriptedEngine(lambda request: filled_reply([7.2, 7.4]), scorings=("likelihood",))
    docs = [SearchResult("a", 2.0, "x"), SearchResult("b", 1.0, "y")]
    ranked = GroupwiseLlmRanker(engine=engine, grouping="sorted").rerank("query", docs)
    assert [(each.docid, each.score) for each in ranked] == [("b", 7.4), ("a", 7.2)]


def test_the_first_stage_takes_part_by_its_weight() -> None:
    docs = [
        SearchResult("a", 30.0, "0"),
        SearchResult("b", 20.0, "5"),
        SearchResult("c", 10.0, "10"),
    ]
    instance = ranker(first_stage_weight=0.25)
    ranked = instance.rerank("query", docs)
    # 0.75 * (0, 0.5, 1) + 0.25 * (1, 0.5, 0)
    assert [(each.docid, each.score) for each in ranked] == [("c", 0.75), ("b", 0.5), ("a", 0.25)]


@pytest.mark.parametrize("text", ["", "  \n", None])
def test_a_document_without_text_keeps_its_place_with_a_warning(
    text: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    docs = [*results(3), SearchResult("empty", 0.5, text), SearchResult("last", 0.1, "passage 10")]
    kept = ranker().rerank("query", docs)
    assert [each.docid for each in kept] == ["last", "d2", "d1", "empty", "d0"]
    assert "1 documents without text keep their rank: empty" in caplog.text


@pytest.mark.parametrize("score", [None, float("nan"), float("inf")])
def test_only_interpolation_needs_first_stage_scores(score: float | None) -> None:
    docs = [SearchResult("a", score, "passage 1"), SearchResult("b", score, "passage 2")]
    assert [each.docid for each in ranker().rerank("query", docs)] == ["b", "a"]
    with pytest.raises(InputError, match="document a has the first-stage score"):
        ranker(first_stage_weight=0.5).rerank("query", docs)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"group_size": 0}, "group_size is 0"),
        ({"num_repeat": 0}, "num_repeat is 0"),
        ({"overlap": 20}, "overlap is 20"),
        ({"grouping": "alphabetical"}, "grouping is 'alphabetical'"),
        ({"fusion": "max"}, "fusion is 'max'"),
        ({"first_stage_weight": 1.5}, "first_stage_weight is 1.5"),
        ({"final_round": 21}, "final_round is 21"),
        ({"final_round": 1}, "final_round is 1"),
        ({"scoring": "guessing"}, "scoring is 'guessing'"),
        ({"max_failure_rate": 2}, "max_failure_rate is 2"),
        ({"group_size": 2.5}, "group_size is 2.5"),
        ({"model_name_or_path": "gpt2"}, "not both"),
        ({"lora_name_or_path": "lora"}, "not both"),
        ({"device": "cuda"}, "not both"),
        ({"engine_args": {"threads": 1}}, "not both"),
    ],
)
def test_settings_out_of_range_are_named(settings: dict[str, object], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        ranker(**settings)


def test_an_engine_that_returns_no_reply_is_a_defect_by_name() -> None:
    class Text(ScriptedEngine):
        async def answer(self, request: Request, sampling: Sampling) -> Reply:
            return "a text"  # type: ignore[return-value]

    with pytest.raises(TypeError, match=r"Text.answer returned 'a text', which is no Reply"):
        GroupwiseLlmRanker(engine=Text([])).rerank("query", results(3))


def test_a_query_that_is_no_text_is_refused() -> None:
    with pytest.raises(InputError, match="the query is None"):
        ranker().rerank(None, results(3))  # type: ignore[arg-type]


def test_an_unknown_engine_is_named_with_those_there_are() -> None:
    with pytest.raises(SettingsError, match=r"'warp'.*embedded"):
        GroupwiseLlmRanker(engine="warp")


@pytest.mark.parametrize("engine", [None, 7, ScriptedEngine])
def test_what_is_no_engine_is_refused(engine: object) -> None:
    with pytest.raises(SettingsError, match=r"engine is .*: give one of embedded"):
        GroupwiseLlmRanker(engine=engine)  # type: ignore[arg-type]


def test_a_script_that_runs_out_fails_the_test_that_uses_it() -> None:
    instance = GroupwiseLlmRanker(engine=ScriptedEngine([]))
    with pytest.raises(AssertionError, match="no answer left for 'query'"):
        instance.rerank("query", results(3))


def test_verbose_shows_prompts_and_replies_on_standard_error() -> None:
    program = """
from llmrankers.rankers import SearchResult
from llmrankers_groupwise import GroupwiseLlmRanker
from llmrankers_groupwise.testing import ScriptedEngine, json_reply
ranker = GroupwiseLlmRanker(engine=ScriptedEngine([json_reply([1])]), verbose=True)
ranker.rerank("a query", [SearchResult("a", 2.0, "a passage")])
"""
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert "a passage" in ran.stderr
    assert json_reply([1]).splitlines()[-1] in ran.stderr
    assert ran.stdout == ""


def test_an_exception_that_is_no_engine_error_propagates() -> None:
    def broken(request: Request) -> str:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        ranker(broken).rerank("query", results(30))


def test_closing_closes_the_engine() -> None:
    engine = ScriptedEngine(by_number)
    with GroupwiseLlmRanker(engine=engine) as instance:
        instance.rerank("query", results(3))
    assert engine.closed
