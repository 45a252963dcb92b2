"""The setwise method: sorts by the best of several, counted by hand and beside llm-rankers."""

import asyncio
import random
from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from llmrankers.rankers import SearchResult
from support.sorting import (
    QUERY,
    Oracle,
    answering,
    by_worth,
    drawn_worth,
    noise,
    numbers,
    order,
    rank,
    upstream,
)

from llmrankers_groupwise.errors import EngineError, SettingsError
from llmrankers_groupwise.methods.setwise import SetwiseSettings
from llmrankers_groupwise.prompting.prompt_file import load_prompt
from llmrankers_groupwise.testing import ScriptedEngine
from llmrankers_groupwise.types import Reply, Request, Sampling, Status

PROMPT = load_prompt("setwise_best")
SIZES = [0, 1, 2, 19, 20, 21, 95, 100, 101, 500]
SORTS = ["heapsort", "bubblesort"]


def made(**changed: object) -> SetwiseSettings:
    return SetwiseSettings(prompt=PROMPT, **changed)  # type: ignore[arg-type]


def chosen(place: int) -> str:
    return f"<reason>scripted</reason><answer>[{place + 1}]</answer>"


def best_of(worth: Sequence[int]) -> Oracle:
    ranked = by_worth(worth)
    return lambda shown: chosen(ranked(shown)[0])


def best_first(worth: Sequence[int]) -> list[int]:
    return sorted(range(len(worth)), key=lambda number: -worth[number])


# --- Rankings ---------------------------------------------------------------------------------


@pytest.mark.parametrize("upstream_behaviour", [False, True])
@pytest.mark.parametrize("method", SORTS)
@pytest.mark.parametrize("n", SIZES)
def test_a_consistent_judge_gets_the_true_best_and_the_others_in_first_stage_order(
    n, method, upstream_behaviour
):
    worth = drawn_worth(n)
    ranking, usage = rank(
        "setwise",
        n,
        answering(best_of(worth)),
        made(num_child=19, method=method, upstream_behaviour=upstream_behaviour),
    )
    if not (method == "bubblesort" and upstream_behaviour):  # which skips what seems sorted
        best = best_first(worth)[:10]
        assert order(ranking) == best + [number for number in range(n) if number not in best]
    assert sorted(order(ranking)) == list(range(n))
    assert [each.score for each in ranking.documents] == [float(n - place) for place in range(n)]
    assert usage.calls == len(ranking.groups)


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 60), st.integers(1, 9), st.integers(1, 70), st.sampled_from(SORTS),
       st.integers(1, 3), st.integers(0, 10**6))  # fmt: skip
def test_whatever_the_settings_the_best_k_come_first(n, children, k, method, permutations, seed):
    worth = drawn_worth(n, seed)
    engine = answering(best_of(worth))
    ranking, _ = rank(
        "setwise",
        n,
        engine,
        made(num_child=children, method=method, k=k, num_permutation=permutations),
    )
    best = best_first(worth)[:k]
    assert order(ranking) == best + [number for number in range(n) if number not in best]
    for request in engine.requests:
        assert 2 <= len(request.passages) <= children + 1
        assert len(set(request.passages)) == len(request.passages)
    if permutations == 1:
        asked = [request.passages for request in engine.requests]
        assert len(set(asked)) == len(asked), "no comparison is asked twice"


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 40), st.integers(1, 6), st.sampled_from(SORTS), st.integers(1, 3),
       st.booleans(), st.integers(0, 10**6))  # fmt: skip
def test_an_inconsistent_judge_gets_a_permutation(
    n, children, method, permutations, as_upstream, seed
):
    engine = answering(replying(seed, drawn_worth(n, seed), 0.3))
    ranking, _ = rank(
        "setwise",
        n,
        engine,
        made(num_child=children, method=method, num_permutation=permutations,
             upstream_behaviour=as_upstream),
    )  # fmt: skip
    assert sorted(order(ranking)) == list(range(n))


def test_documents_without_text_are_not_shown_and_keep_their_place():
    engine = answering(best_of(range(8)))
    ranking, _ = rank("setwise", 8, engine, made(num_child=2, k=3), untold=(0, 5))
    assert order(ranking) == [0, 7, 6, 4, 1, 5, 2, 3]
    assert not {"number 0", "number 5"} & {p for r in engine.requests for p in r.passages}


def test_a_request_wants_a_choice_and_has_no_form():
    engine = answering(best_of(range(2)))
    rank("setwise", 2, engine, made())
    (request,) = engine.requests
    assert (request.wants, request.form, request.fallback) == ("choice", None, None)
    assert request.origin.doc_ids == ("d0", "d1")


# --- Calls and rounds, by hand ----------------------------------------------------------------

FIRST_IS_BEST = best_of(range(0, -500, -1))
LAST_IS_BEST = best_of(range(500))


def test_a_heap_in_order_is_built_level_by_level_and_each_next_best_is_one_call_more():
    """100 documents of 20 a call: the nodes with children are 0 and 1 to 5.

    The five are asked together, then 0: 6 calls in 2 rounds. Nine times the last leaf comes to the
    root and sinks: below the nodes 1 to 4, which have children, in 2 calls each; below 5, whose
    children are gone by then, and 6 to 9, which are leaves, in 1.
    """
    engine = answering(FIRST_IS_BEST)
    ranking, usage = rank("setwise", 100, engine, made(num_child=19, k=10))
    assert order(ranking)[:10] == list(range(10))
    assert [len(request.passages) for request in engine.requests[:6]] == [20, 20, 20, 20, 5, 20]
    assert (usage.calls, usage.rounds) == (6 + 4 * 2 + 5, 2 + 4 * 2 + 5)


def test_seven_documents_in_pairs_of_children():
    """Nodes 1 and 2 with their leaves, then 0: three calls, two rounds, the best is known."""
    engine = answering(FIRST_IS_BEST)
    ranking, usage = rank("setwise", 7, engine, made(num_child=2, k=1))
    assert [numbers(request) for request in engine.requests] == [[1, 3, 4], [2, 5, 6], [0, 1, 2]]
    assert order(ranking) == [0, 1, 2, 3, 4, 5, 6]
    assert (usage.calls, usage.rounds) == (3, 2)


def test_what_sinks_is_asked_about_further_down():
    """Built from the end: 6 and 4 rise to the nodes 2 and 1, and 0 sinks below 6 and its leaves."""
    engine = answering(LAST_IS_BEST)
    ranking, usage = rank("setwise", 7, engine, made(num_child=2, k=2))
    assert [numbers(request) for request in engine.requests] == [
        [1, 3, 4],  # 4 rises
        [2, 5, 6],  # 6 rises
        [0, 4, 6],  # 6 rises again
        [0, 5, 2],  # 5 rises: the heap is 6, 4, 5, 3, 1, 0, 2
        [2, 4, 5],  # 6 is taken, the last leaf is at the root: 5 rises
        [2, 0],  # and stays above 0
    ]
    assert order(ranking) == [6, 5, 0, 1, 2, 3, 4]
    assert (usage.calls, usage.rounds) == (6, 5)


def test_bubbles_by_windows_that_overlap_by_one():
    """9 documents of 3 a call: windows at 6, 4, 2 and 0, then again from 1 on.

    In the second round what stands as it did is not asked again: nothing moved.
    """
    engine = answering(FIRST_IS_BEST)
    ranking, usage = rank("setwise", 9, engine, made(num_child=2, method="bubblesort", k=2))
    assert [numbers(request) for request in engine.requests] == [
        [6, 7, 8], [4, 5, 6], [2, 3, 4], [0, 1, 2], [1, 2, 3],
    ]  # fmt: skip
    assert order(ranking)[:2] == [0, 1]
    assert usage.calls == usage.rounds == 5


def test_a_bubble_carries_the_best_up():
    engine = answering(LAST_IS_BEST)
    ranking, usage = rank("setwise", 5, engine, made(num_child=2, method="bubblesort", k=2))
    assert [numbers(request) for request in engine.requests] == [
        [2, 3, 4], [0, 1, 4],  # 4 rises twice: 4 1 0 3 2
        [0, 3, 2], [1, 3, 0],  # 3 rises twice
    ]  # fmt: skip
    assert order(ranking) == [4, 3, 0, 1, 2]
    assert usage.calls == 4


@pytest.mark.parametrize("n", [0, 1])
def test_there_is_nothing_to_compare(n):
    _, usage = rank("setwise", n, answering(FIRST_IS_BEST), made())
    assert (usage.calls, usage.rounds) == (0, 0)


def test_k_beyond_the_list_sorts_all_of_it():
    worth = drawn_worth(12)
    for method in SORTS:
        ranking, _ = rank("setwise", 12, answering(best_of(worth)), made(k=50, method=method))
        assert order(ranking) == best_first(worth)


class InLevels(ScriptedEngine):
    """Answers nobody before as many as the next level has have asked."""

    def __init__(self, levels: Sequence[int]) -> None:
        super().__init__(lambda request: FIRST_IS_BEST(numbers(request)))
        self._levels = iter(levels)
        self._waiting = 0
        self._let = asyncio.Event()
        self._wanted = next(self._levels)

    async def answer(self, request: Request, sampling: Sampling) -> Reply:
        let = self._let
        self._waiting += 1
        assert self._waiting <= self._wanted
        if self._waiting == self._wanted:
            let.set()
            self._waiting, self._let, self._wanted = 0, asyncio.Event(), next(self._levels, 1)
        await asyncio.wait_for(let.wait(), 30)
        return await super().answer(request, sampling)


def test_a_level_of_the_heap_is_asked_together():
    ranking, usage = rank("setwise", 15, InLevels([4, 2, 1]), made(num_child=2, k=1))
    assert order(ranking)[0] == 0
    assert (usage.calls, usage.rounds) == (7, 3)


def test_permutations_of_a_comparison_are_asked_together():
    _, usage = rank("setwise", 15, InLevels([12, 6, 3]), made(num_child=2, k=1, num_permutation=3))
    assert (usage.calls, usage.rounds) == (21, 3)


class Shuffled(ScriptedEngine):
    """Answers what is asked at the same time in an order drawn at random."""

    def __init__(self, oracle: Oracle, seed: int) -> None:
        super().__init__(lambda request: oracle(numbers(request)))
        self._rng = random.Random(seed)

    async def answer(self, request: Request, sampling: Sampling) -> Reply:
        for _ in range(self._rng.randrange(20)):
            await asyncio.sleep(0)
        return await super().answer(request, sampling)


@pytest.mark.parametrize("settings_", [
    {"num_child": 2}, {"num_child": 3, "num_permutation": 2},
    {"num_child": 2, "upstream_behaviour": True}, {"num_child": 2, "method": "bubblesort"},
])  # fmt: skip
def test_ranking_and_groups_do_not_depend_on_which_reply_comes_first(settings_):
    oracle = replying(5, drawn_worth(40), 0.2)
    first, usage = rank("setwise", 40, answering(oracle), made(**settings_))
    asked = set()
    for seed in range(8):
        engine = Shuffled(oracle, seed)
        again, used = rank("setwise", 40, engine, made(**settings_))
        assert (used.calls, used.rounds) == (usage.calls, usage.rounds)
        assert again.documents == first.documents
        assert [each.group for each in again.groups] == [each.group for each in first.groups]
        asked.add(tuple(request.passages for request in engine.requests))
    if settings_["num_child"] == 2 and settings_.get("method") != "bubblesort":
        assert len(asked) > 1, "replies came in other orders"


# --- Votes ------------------------------------------------------------------------------------


def test_permutations_vote():
    """Whatever is shown first is chosen: that is no one's vote but the shuffling's."""
    shown = []

    def first_shown(members: Sequence[int]) -> str:
        shown.append(members[0])
        return chosen(0)

    ranking, usage = rank(
        "setwise", 4, answering(first_shown), made(num_child=3, k=1, num_permutation=7)
    )
    votes = Counter(shown)
    most = max(votes.values())
    assert order(ranking)[0] == min(number for number, count in votes.items() if count == most)
    assert usage.calls == 7
    assert len({each.group.members for each in ranking.groups}) > 1
    assert [each.group.repeat for each in ranking.groups] == list(range(7))


def test_of_equal_votes_the_better_one_of_the_first_stage_wins():
    replies = {0: 2, 1: 1, 2: 2, 3: 1}  # each of the documents 1 and 2 twice

    def voting(request: Request) -> str:
        return chosen(numbers(request).index(replies[request.origin.repeat]))

    ranking, _ = rank("setwise", 3, ScriptedEngine(voting), made(k=1, num_permutation=4))
    assert order(ranking) == [1, 0, 2]


def test_what_cannot_be_read_does_not_vote():
    def voting(request: Request) -> str | EngineError:
        if request.origin.repeat == 0:
            return EngineError("out of order")
        return "I cannot." if request.origin.repeat < 4 else chosen(numbers(request).index(2))

    ranking, _ = rank("setwise", 3, ScriptedEngine(voting), made(k=1, num_permutation=5))
    assert order(ranking) == [2, 0, 1]


def test_the_shuffling_follows_from_the_seed():
    def orders(seed: int) -> list[tuple[str, ...]]:
        engine = answering(FIRST_IS_BEST)
        rank("setwise", 20, engine, made(num_child=9, num_permutation=2, seed=seed))
        return [request.passages for request in engine.requests]

    assert orders(1) == orders(1)
    assert orders(1) != orders(2)
    plain = answering(FIRST_IS_BEST)
    rank("setwise", 20, plain, made(num_child=9))
    assert all(numbers(each) == sorted(numbers(each)) for each in plain.requests[:2])


# --- Replies that cannot be read --------------------------------------------------------------


@pytest.mark.parametrize("reply", ["", "I cannot.", "<answer>[77]</answer>", EngineError("no")])
@pytest.mark.parametrize("method", SORTS)
@pytest.mark.parametrize("permutations", [1, 3])
def test_unreadable_replies_leave_the_first_stage(reply, method, permutations):
    ranking, _ = rank(
        "setwise",
        60,
        ScriptedEngine(lambda request: reply),
        made(num_child=4, method=method, num_permutation=permutations),
    )
    assert order(ranking) == list(range(60))
    assert {each.scores.status for each in ranking.groups} == {Status.FAILED}


# --- llm-rankers' own code --------------------------------------------------------------------


def replying(seed: int, worth: Sequence[int], failing: float) -> Oracle:
    """Replies of a noisy judge that contradicts itself, some of them unreadable.

    They follow from which documents are shown, and not from their order: that is drawn, and in
    llm-rankers from the global random generator.
    """

    def oracle(shown: Sequence[int]) -> str:
        rng = noise(seed, sorted(shown))
        if rng.random() < failing:
            return rng.choice(["I cannot say.", "", "<answer>[77]</answer>", "[1] or [2]"])
        best = max(sorted(shown), key=lambda number: worth[number] + 9 * rng.random())
        return chosen(shown.index(best))

    return oracle


def theirs(n: int, oracle: Oracle, children: int, k: int, method: str) -> tuple[list[int], int]:
    """The order of llm-rankers' setwise ranker with these replies, and how often it compared."""
    ranker_class = upstream("setwise").SetwiseLlmRanker
    compared = []

    class Told(ranker_class):  # type: ignore[misc, valid-type]
        def __init__(self) -> None:
            self.num_child, self.k, self.method = children, k, method

        def compare(self, query: str, docs: list[SearchResult]) -> str:
            if len(docs) < 2:
                return str(self.CHARACTERS[0])
            shown = [int(each.docid) for each in docs]
            compared.append(tuple(shown))
            read = made().read(Reply(oracle(shown)), len(shown))
            return str(self.CHARACTERS[next(iter(read.scores)) - 1]) if read.scores else "none"

    docs = [SearchResult(str(number), float(-number), "") for number in range(n)]
    ranked = [int(each.docid) for each in Told().rerank(QUERY.text, docs)]
    return ranked, len(set(compared))


@settings(max_examples=250, deadline=None)
@given(st.integers(0, 45), st.integers(1, 19), st.integers(1, 15), st.sampled_from(SORTS),
       st.sampled_from([0.0, 0.2, 1.0]), st.integers(0, 10**6))  # fmt: skip
def test_upstream_behaviour_is_llm_rankers_ranking(n, children, k, method, failing, seed):
    oracle = replying(seed, drawn_worth(n, seed), failing)
    ranking, usage = rank(
        "setwise",
        n,
        answering(oracle),
        made(num_child=children, k=k, method=method, upstream_behaviour=True),
    )
    assert (order(ranking), usage.calls) == theirs(n, oracle, children, k, method)


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 45), st.integers(1, 19), st.integers(1, 15), st.integers(0, 10**6))
def test_where_all_replies_can_be_read_a_heapsort_is_llm_rankers(n, children, k, seed):
    oracle = replying(seed, drawn_worth(n, seed), 0.0)
    ranking, _ = rank("setwise", n, answering(oracle), made(num_child=children, k=k))
    assert order(ranking) == theirs(n, oracle, children, k, "heapsort")[0]


def test_upstream_promotes_the_worst_where_nothing_can_be_read():
    oracle = replying(0, range(20), 1.0)
    worst_first, _ = theirs(20, oracle, 3, 10, "heapsort")
    assert worst_first[:4] == [0, 19, 18, 17]
    ranking, _ = rank("setwise", 20, answering(oracle), made(upstream_behaviour=True))
    assert order(ranking) == worst_first
    ranking, _ = rank("setwise", 20, answering(oracle), made())
    assert order(ranking) == list(range(20))


def test_as_upstream_documents_are_shuffled_for_every_comparison():
    engine = answering(FIRST_IS_BEST)
    ranking, _ = rank("setwise", 20, engine, made(num_child=19, k=1, upstream_behaviour=True))
    (request,) = engine.requests
    assert numbers(request) != sorted(numbers(request))
    assert order(ranking) == list(range(20))


# --- Settings ---------------------------------------------------------------------------------

BAD = {
    "num_child": [0, -1, True, 3.0, "3"],
    "k": [0, False, None],
    "num_permutation": [0, True, 1.0],
    "method": ["quicksort", "", None],
    "upstream_behaviour": ["yes", 1, None],
}


@pytest.mark.parametrize(("name", "value"), [(n, v) for n, values in BAD.items() for v in values])
def test_a_setting_out_of_its_range_is_refused_by_name(name, value):
    with pytest.raises(SettingsError, match=f"^{name} is {value!r}"):
        made(**{name: value})
