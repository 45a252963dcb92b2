"""The groupwise method: one round of questions, and a ranking that holds every candidate once."""

import asyncio
import copy
import random
import statistics
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmrankers_groupwise.concurrency import gather
from llmrankers_groupwise.errors import EngineError, SettingsError
from llmrankers_groupwise.methods.groupwise.method import GroupwiseSettings, groupwise
from llmrankers_groupwise.prompting.prompt_file import load_prompt
from llmrankers_groupwise.prompting.render import render
from llmrankers_groupwise.rankers.ask import EngineCaller
from llmrankers_groupwise.testing import ScriptedEngine, filled_reply, json_reply
from llmrankers_groupwise.types import Candidate, Query, Reply, Sampling, ScoreForm, Status

PROMPT = load_prompt("groupwise")
QUERY = Query("q1", "how long does a flea live?")
STRATEGIES = ("random", "strided", "sorted", "mixed")


class Rounds:
    """An `ask` with an engine behind it that records the requests of every round."""

    def __init__(self, script):
        self.engine = ScriptedEngine(script)
        self.asked = []
        self._ask = EngineCaller(self.engine, Sampling())

    async def __call__(self, requests):
        self.asked.append(list(requests))
        return await self._ask(requests)


def candidates(*worths):
    """Documents a, b, c, ... whose text says their worth, "no text" for None."""
    return [
        Candidate(f"d{rank}", None if worth is None else f"worth {worth}", 100.0 - rank)
        for rank, worth in enumerate(worths)
    ]


def worth(text):
    return int(text.split()[-1])


def by_worth(request):
    return json_reply([worth(passage) for passage in request.passages])


def by_place(request):
    """Scores that depend on the order in the prompt alone."""
    return json_reply([place % 11 for place in range(len(request.passages))])


def rank(documents, ask, query=QUERY, **settings):
    settings = GroupwiseSettings(**({"prompt": PROMPT} | settings))
    return asyncio.run(groupwise(query, documents, ask, settings))


def ids(ranking):
    return [document.doc_id for document in ranking.documents]


# --- One round --------------------------------------------------------------------------------


def test_all_groups_of_all_repeats_are_asked_about_in_one_round():
    ask = Rounds(by_worth)
    ranking = rank(candidates(*[3] * 45), ask, group_size=20, num_repeat=4)
    assert [len(requests) for requests in ask.asked] == [3 * 4]
    assert [len(request.passages) for request in ask.asked[0]] == [15] * 12
    assert [scored.group.repeat for scored in ranking.groups] == [0] * 3 + [1] * 3 + [2] * 3 + [
        3
    ] * 3


def test_requests_hold_the_query_and_the_texts_of_the_group_in_its_order():
    ask = Rounds(by_worth)
    ranking = rank(candidates(0, 1, 2, 3, 4), ask)
    (request,) = ask.asked[0]
    (scored,) = ranking.groups
    assert request.query == QUERY.text
    assert request.passages == tuple(f"worth {position}" for position in scored.group.members)
    assert "how long does a flea live?" in request.messages[-1]["content"]


def test_documents_are_ranked_by_their_scores():
    ranking = rank(candidates(2, 9, 5), Rounds(by_worth))
    assert ids(ranking) == ["d1", "d2", "d0"]
    assert [document.model_score for document in ranking.documents] == [9.0, 5.0, 2.0]
    assert [document.score for document in ranking.documents] == [9.0, 5.0, 2.0]
    assert [document.first_stage_rank for document in ranking.documents] == [2, 3, 1]


def test_equal_scores_keep_the_first_stage_order_and_are_written_apart():
    ranking = rank(candidates(4, 7, 4, 7), Rounds(by_worth))
    assert ids(ranking) == ["d1", "d3", "d0", "d2"]
    assert [document.score for document in ranking.documents] == [7.0, 6.999999, 4.0, 3.999999]
    assert [document.model_score for document in ranking.documents] == [7.0, 7.0, 4.0, 4.0]


def test_the_scores_of_repeats_are_averaged():
    seen = []

    def script(request):
        seen.append(request)
        return by_place(request) if len(seen) == 1 else by_worth(request)

    ranking = rank(candidates(6, 1, 8), Rounds(script), num_repeat=2, grouping="sorted")
    # by place 0, 1, 2; by worth 6, 1, 8
    assert {document.doc_id: document.model_score for document in ranking.documents} == {
        "d0": (0 + 6) / 2,
        "d1": (1 + 1) / 2,
        "d2": (2 + 8) / 2,
    }


def test_the_first_stage_is_mixed_in_by_its_weight():
    ranking = rank(candidates(2, 10, 6), Rounds(by_worth), first_stage_weight=0.25)
    # scores 2, 10, 6 -> 0, 1, 1/2; first stage 100, 99, 98 -> 1, 1/2, 0
    assert ids(ranking) == ["d1", "d2", "d0"]
    assert [document.model_score for document in ranking.documents] == [
        0.75 * 1 + 0.25 * 0.5,
        0.75 * 0.5 + 0.25 * 0,
        0.75 * 0 + 0.25 * 1,
    ]


def test_rrf_fuses_the_rankings():
    ranking = rank(candidates(2, 10), Rounds(by_worth), fusion="rrf")
    assert ids(ranking) == ["d1", "d0"]
    assert [document.model_score for document in ranking.documents] == [1 / 61, 1 / 62]


# --- Every candidate once ---------------------------------------------------------------------


@pytest.mark.parametrize("final_round", [0, 5])
@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("n", [0, 1, 19, 20, 21, 101])
def test_the_ranking_is_a_permutation_of_the_candidates(n, strategy, final_round):
    documents = candidates(*[(7 * position) % 11 for position in range(n)])
    ranking = rank(
        documents,
        Rounds(by_worth),
        grouping=strategy,
        num_repeat=2,
        overlap=3,
        final_round=final_round,
    )
    assert sorted(ids(ranking)) == sorted(document.doc_id for document in documents)
    scored = [document.model_score for document in ranking.documents]
    assert scored == sorted(scored, reverse=True)
    scores = [document.score for document in ranking.documents]
    assert all(above > below for above, below in pairwise(scores))


@given(st.data())
def test_the_ranking_is_a_permutation_whatever_the_replies(data):
    documents = candidates(*data.draw(st.lists(st.none() | st.integers(0, 10), max_size=25)))
    replies = (
        st.text(max_size=20)
        | st.just(EngineError("no"))
        | st.lists(st.integers(-1, 11), max_size=6).map(json_reply)
    )
    ranking = rank(
        documents,
        Rounds(lambda _: data.draw(replies)),
        group_size=5,
        num_repeat=data.draw(st.integers(1, 2)),
        overlap=data.draw(st.integers(0, 4)),
        grouping=data.draw(st.sampled_from(STRATEGIES)),
        fusion=data.draw(st.sampled_from(["mean", "rrf"])),
        first_stage_weight=data.draw(st.sampled_from([0.0, 0.4, 1.0])),
        final_round=data.draw(st.sampled_from([0, 2, 5])),
    )
    assert sorted(ids(ranking)) == sorted(document.doc_id for document in documents)
    for document in ranking.documents:
        assert documents[document.first_stage_rank - 1].doc_id == document.doc_id
    scores = [document.score for document in ranking.documents]
    assert all(above > below for above, below in pairwise(scores))


def test_the_candidates_are_not_mutated():
    documents = candidates(2, 9, None, 5)
    before = copy.deepcopy(documents)
    rank(documents, Rounds(by_worth), group_size=2, num_repeat=3, final_round=2)
    assert documents == before


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_same_inputs_and_replies_give_the_same_ranking(strategy):
    documents = candidates(*[1] * 50)
    settings = {"num_repeat": 2, "grouping": strategy, "seed": 3, "final_round": 10}
    first = rank(documents, Rounds(by_place), **settings)
    assert rank(documents, Rounds(by_place), **settings) == first
    assert rank(tuple(documents), Rounds(by_place), **settings) == first


def test_another_seed_and_another_query_give_other_groups():
    documents = candidates(*[1] * 50)
    first = rank(documents, Rounds(by_place))
    other_seed = rank(documents, Rounds(by_place), seed=1)
    other_query = rank(documents, Rounds(by_place), query=Query("q1", "another query"))
    assert other_seed.groups != first.groups
    assert other_query.groups != first.groups


def test_the_query_id_does_not_shape_the_groups():
    documents = candidates(*[1] * 50)
    first = rank(documents, Rounds(by_place))
    assert rank(documents, Rounds(by_place), query=Query("q2", QUERY.text)) == first


def test_the_global_random_state_is_neither_read_nor_written():
    documents = candidates(*[1] * 50)
    before = random.getstate()
    try:
        random.seed(1)
        state = random.getstate()
        first = rank(documents, Rounds(by_place), num_repeat=2, final_round=5)
        assert random.getstate() == state
        random.seed(2)
        assert rank(documents, Rounds(by_place), num_repeat=2, final_round=5) == first
    finally:
        random.setstate(before)


# --- Documents without text -------------------------------------------------------------------


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_document_without_text_keeps_its_place_and_is_not_asked_about(strategy):
    ask = Rounds(by_worth)
    ranking = rank(candidates(1, None, 5, 9, None), ask, grouping=strategy)
    assert ids(ranking) == ["d3", "d1", "d2", "d0", "d4"]
    assert [document.model_score for document in ranking.documents] == [9.0, None, 5.0, 1.0, None]
    assert sorted(ask.asked[0][0].passages) == ["worth 1", "worth 5", "worth 9"]


def test_documents_without_text_do_not_take_room_in_the_groups():
    ask = Rounds(by_worth)
    rank(candidates(*[None, 3] * 20), ask, group_size=20)
    assert [len(request.passages) for request in ask.asked[0]] == [20]


def test_without_any_text_nothing_is_asked_and_the_first_stage_stays():
    ask = Rounds([])
    ranking = rank(candidates(None, None, None), ask, final_round=2)
    assert ask.engine.requests == []
    assert ids(ranking) == ["d0", "d1", "d2"]
    assert ranking.groups == ()


def test_without_candidates_nothing_is_asked():
    ask = Rounds([])
    ranking = rank([], ask, final_round=2)
    assert (ranking.documents, ranking.groups, ask.engine.requests) == ((), (), [])


def test_an_empty_text_is_a_text():
    ask = Rounds(lambda request: json_reply([3] * len(request.passages)))
    rank([Candidate("d0", "", 2.0), Candidate("d1", "text", 1.0)], ask)
    assert sorted(ask.asked[0][0].passages) == ["", "text"]


# --- Groups that fail -------------------------------------------------------------------------


def failing_for(text, answer):
    """A script that gives this answer to the group with this passage."""
    return lambda request: answer if text in request.passages else by_worth(request)


def test_a_group_that_cannot_be_read_falls_back_to_the_first_stage():
    ask = Rounds(failing_for("worth 1", "I cannot say."))
    ranking = rank(candidates(1, 2, 3, 9), ask, group_size=2, grouping="sorted")
    assert ids(ranking) == ["d0", "d1", "d3", "d2"]
    assert [document.model_score for document in ranking.documents] == [None, None, 9.0, 3.0]
    assert [scored.scores.status for scored in ranking.groups] == [Status.FAILED, Status.EXACT]
    assert [scored.reply.error for scored in ranking.groups] == [None, None]


def test_a_group_with_an_error_counts_as_failed_and_carries_the_error():
    ask = Rounds(failing_for("worth 9", EngineError("429 Too Many Requests")))
    ranking = rank(candidates(1, 2, 3, 9), ask, group_size=2, grouping="sorted")
    assert ids(ranking) == ["d1", "d0", "d2", "d3"]
    assert [scored.scores.status for scored in ranking.groups] == [Status.EXACT, Status.FAILED]
    assert [scored.reply.error for scored in ranking.groups] == [None, "429 Too Many Requests"]
    assert ranking.groups[1].scores.missing == (1, 2)


def test_a_reply_with_both_an_error_and_a_text_counts_as_failed():
    reply = Reply(text=json_reply([9, 1]), error="cut off")
    ranking = rank(candidates(1, 9), Rounds([reply]))
    assert ids(ranking) == ["d0", "d1"]
    (scored,) = ranking.groups
    assert (scored.scores.status, scored.reply.error) == (Status.FAILED, "cut off")


def test_a_document_left_out_of_a_reply_keeps_its_place():
    ask = Rounds(['{"[1]": 2, "[3]": 9}'])
    ranking = rank(candidates(0, 0, 0), ask, grouping="sorted")
    assert ids(ranking) == ["d2", "d1", "d0"]
    assert ranking.groups[0].scores.missing == (2,)


def test_a_failed_repeat_does_not_halve_the_scores_of_the_other():
    ask = Rounds([json_reply([2, 9, 4]), "I cannot say."])
    ranking = rank(candidates(0, 0, 0), ask, num_repeat=2, grouping="sorted")
    assert ids(ranking) == ["d1", "d2", "d0"]
    assert [document.model_score for document in ranking.documents] == [9.0, 4.0, 2.0]


@pytest.mark.parametrize("fusion", ["mean", "rrf"])
@pytest.mark.parametrize("final_round", [0, 3])
def test_when_every_group_fails_the_first_stage_stays(fusion, final_round):
    ask = Rounds(lambda _: EngineError("down"))
    ranking = rank(
        candidates(1, 2, 3, 4, 5), ask, group_size=3, fusion=fusion, final_round=final_round
    )
    assert ids(ranking) == ["d0", "d1", "d2", "d3", "d4"]
    assert {scored.scores.status for scored in ranking.groups} == {Status.FAILED}
    assert {scored.reply.error for scored in ranking.groups} == {"down"}


# --- Calibration ------------------------------------------------------------------------------


def drifting(request):
    """A judge that scores a group with the best document four lower than others."""
    worth = [int(passage.split()[1]) for passage in request.passages]
    return json_reply([x - 4 if max(worth) > 8 else x for x in worth])


def test_a_shift_of_a_group_is_found_by_what_it_shares():
    documents = candidates(9, 5, 7, 6, 4, 8, 3, 5)
    asked = {"group_size": 5, "grouping": "sorted", "anchors": 2}
    drifted = rank(documents, Rounds(drifting), **asked)
    assert ids(drifted) != ["d0", "d5", "d2", "d3", "d1", "d7", "d4", "d6"]
    ranking = rank(documents, Rounds(drifting), calibration="shared_shift", **asked)
    assert ids(ranking) == ["d0", "d5", "d2", "d3", "d1", "d7", "d4", "d6"]


@pytest.mark.parametrize("calibration", ["zscore", "borda", "bradley_terry"])
def test_a_calibration_ranks_one_group_as_its_scores_do(calibration):
    documents = candidates(2, 9, 5, None, 5)
    plain = rank(documents, Rounds(by_worth))
    assert ids(rank(documents, Rounds(by_worth), calibration=calibration)) == ids(plain)


def test_the_variance_of_a_documents_scores_is_reported_with_it():
    seen = []

    def script(request):
        seen.append(request)
        return by_place(request) if len(seen) == 1 else by_worth(request)

    documents = candidates(6, 1, 8, None)
    ranking = rank(documents, Rounds(script), num_repeat=2, grouping="sorted")
    variance = {document.doc_id: document.variance for document in ranking.documents}
    assert variance.pop("d3") is None
    by_document = {"d0": 0, "d1": 1, "d2": 2}
    second = {0: 6, 1: 1, 2: 8}
    assert variance == {
        doc_id: statistics.variance([position, second[position]])
        for doc_id, position in by_document.items()
    }
    once = rank(documents, Rounds(by_worth))
    assert {document.variance for document in once.documents} == {None}


def test_shrinkage_lets_the_first_stage_decide_among_equals_and_less_where_scores_differ():
    documents = candidates(9, 5, 5, 6, 2, 2, 1, 0)
    assert ids(rank(documents, Rounds(by_worth), shrinkage=50.0)) == [f"d{x}" for x in range(8)]
    assert ids(rank(documents, Rounds(by_worth), shrinkage=0.01))[:2] == ["d0", "d3"]


# --- The final round --------------------------------------------------------------------------


def final_scores(scores, first=by_worth):
    """A script: `first` for groups of other sizes, these scores by text for the final group."""
    return lambda request: (
        json_reply([scores[passage] for passage in request.passages])
        if len(request.passages) == len(scores)
        else first(request)
    )


def test_the_best_are_asked_about_once_more_as_one_group():
    ask = Rounds(by_worth)
    ranking = rank(candidates(1, 8, 3, 9, 7, 2), ask, group_size=5, num_repeat=2, final_round=3)
    assert [len(requests) for requests in ask.asked] == [4, 1]
    assert sorted(ask.asked[1][0].passages) == ["worth 7", "worth 8", "worth 9"]
    assert sorted(ranking.groups[-1].group.members) == [1, 3, 4]
    assert [scored.group.repeat for scored in ranking.groups] == [0, 0, 1, 1, 2]


def test_the_final_scores_join_the_mean_as_one_more_appearance():
    documents = candidates(8, 6, 7, 1)
    ask = Rounds(final_scores({"worth 8": 5, "worth 6": 9, "worth 7": 6}))
    ranking = rank(documents, ask, num_repeat=2, final_round=3)
    assert {document.doc_id: document.model_score for document in ranking.documents} == {
        "d0": (8 + 8 + 5) / 3,
        "d1": (6 + 6 + 9) / 3,
        "d2": (7 + 7 + 6) / 3,
        "d3": (1 + 1) / 2,
    }
    # 7, 7, 6.67: the tie goes by first-stage rank
    assert ids(ranking) == ["d0", "d1", "d2", "d3"]


def test_the_final_round_can_turn_the_order_of_the_best():
    ask = Rounds(final_scores({"worth 8": 0, "worth 7": 9}))
    ranking = rank(candidates(8, 7, 1), ask, final_round=2)
    assert ids(ranking) == ["d1", "d0", "d2"]
    assert [document.model_score for document in ranking.documents] == [
        (7 + 9) / 2,
        (8 + 0) / 2,
        1.0,
    ]


def test_final_calls_are_asked_together_and_each_joins_the_mean():
    ask = Rounds(by_worth)
    ranking = rank(candidates(1, 8, 3, 9, 7, 2), ask, final_round=3, final_calls=2)
    assert [len(requests) for requests in ask.asked] == [1, 2]
    assert ranking.groups[1].group.members != ranking.groups[2].group.members
    assert [scored.group.repeat for scored in ranking.groups] == [0, 1, 2]


def test_documents_around_a_rank_are_asked_about_once_more_and_stay_around_it():
    documents = candidates(9, 8, 7, 6, 5, 4, 3, 2)
    again = {"worth 7": 0, "worth 6": 1, "worth 5": 9, "worth 4": 10}

    def script(request):
        asked = set(request.passages)
        return (final_scores(again) if asked == set(again) else by_worth)(request)

    ranking = rank(documents, Rounds(script), group_size=4, grouping="sorted", boundary=4)
    assert sorted(ranking.groups[-1].group.members) == [2, 3, 4, 5]
    # the means are 3.5, 3.5, 7 and 7
    assert ids(ranking) == ["d0", "d1", "d4", "d5", "d2", "d3", "d6", "d7"]


def test_documents_outside_the_final_round_keep_their_place_below_it():
    ask = Rounds(final_scores({"worth 8": 0, "worth 7": 9}))
    ranking = rank(candidates(6, 8, 5, 7), ask, final_round=2)
    assert ids(ranking) == ["d3", "d1", "d0", "d2"]
    assert [document.model_score for document in ranking.documents] == [8.0, 4.0, 6.0, 5.0]
    assert [document.score for document in ranking.documents] == [8.0, 4.0, 3.999999, 3.999998]


def test_the_final_group_is_shuffled_by_seed_and_query():
    documents = candidates(*[5] * 10)

    def final_order(**settings):
        ranking = rank(documents, Rounds(by_worth), final_round=10, group_size=10, **settings)
        return ranking.groups[-1].group.members

    orders = {
        final_order(),
        final_order(seed=1),
        final_order(query=Query("q1", "another query")),
        tuple(range(10)),
    }
    assert len(orders) == 4
    assert final_order() == final_order()


def test_a_final_round_that_fails_changes_nothing():
    without = rank(candidates(2, 9, 5, 7), Rounds(by_worth))
    ask = Rounds(lambda request: "no" if len(request.passages) == 3 else by_worth(request))
    ranking = rank(candidates(2, 9, 5, 7), ask, final_round=3)
    assert ranking.documents == without.documents
    assert ranking.groups[-1].scores.status is Status.FAILED


def test_a_document_without_text_among_the_best_is_not_asked_about_in_the_final_round():
    ask = Rounds(by_worth)
    ranking = rank(candidates(None, 2, 9, 5), ask, final_round=3)
    assert sorted(ask.asked[1][0].passages) == ["worth 5", "worth 9"]
    assert ids(ranking) == ["d0", "d2", "d3", "d1"]


def test_a_final_round_over_fewer_documents_than_it_allows_asks_about_all():
    ask = Rounds(by_worth)
    rank(candidates(2, 9), ask, final_round=10)
    assert [len(requests) for requests in ask.asked] == [1, 1]
    assert sorted(ask.asked[1][0].passages) == ["worth 2", "worth 9"]


def test_one_document_alone_is_not_asked_about_again():
    ask = Rounds(by_worth)
    rank(candidates(2), ask, final_round=5)
    assert len(ask.engine.requests) == 1


@pytest.mark.parametrize("final_round", [-1, 1, 6])
def test_a_final_round_out_of_range_is_refused(final_round):
    with pytest.raises(SettingsError) as caught:
        GroupwiseSettings(prompt=PROMPT, group_size=5, final_round=final_round)
    assert str(caught.value) == (
        f"final_round is {final_round}: give 0 for none, or 2 to group_size (5)"
    )


@pytest.mark.parametrize("final_round", [0, 2, 5])
def test_a_final_round_in_range_is_accepted(final_round):
    settings = GroupwiseSettings(prompt=PROMPT, group_size=5, final_round=final_round)
    assert settings.final_round == final_round


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        pytest.param({"group_size": 0}, "group_size is 0", id="group_size"),
        pytest.param({"num_repeat": 0}, "num_repeat is 0", id="num_repeat"),
        pytest.param({"overlap": 20}, "overlap is 20", id="overlap"),
        pytest.param({"grouping": "best"}, "grouping is 'best'", id="grouping"),
        pytest.param({"fusion": "max"}, "fusion is 'max'", id="fusion"),
        pytest.param({"first_stage_weight": 2.0}, "first_stage_weight is 2.0", id="weight"),
    ],
)
def test_a_setting_out_of_range_is_refused_before_anything_is_asked(wrong, message):
    with pytest.raises(SettingsError, match=message):
        GroupwiseSettings(prompt=PROMPT, **wrong)


# --- Scoring ----------------------------------------------------------------------------------


def test_likelihood_attaches_a_form_to_every_request():
    ask = Rounds(lambda request: filled_reply([worth(passage) for passage in request.passages]))
    rank(candidates(2, 9, 5), ask, group_size=2, scoring="likelihood", final_round=2)
    assert [request.form for request in ask.engine.requests] == [
        ScoreForm(("[1]", "[2]")),
        ScoreForm(("[1]",)),
        ScoreForm(("[1]", "[2]")),
    ]


def test_generation_attaches_none():
    ask = Rounds(by_worth)
    rank(candidates(2, 9, 5), ask, group_size=2, scoring="generation", final_round=2)
    assert [request.form for request in ask.engine.requests] == [None, None, None]


def test_filled_blanks_rank_by_their_expected_scores():
    ask = Rounds([filled_reply([2.25, 7.5, 7.75])])
    ranking = rank(candidates(0, 0, 0), ask, scoring="likelihood", grouping="sorted")
    assert ids(ranking) == ["d2", "d1", "d0"]
    assert [document.model_score for document in ranking.documents] == [7.75, 7.5, 2.25]


def test_blanks_that_were_not_asked_for_are_an_error_of_the_group():
    ranking = rank(candidates(1, 9), Rounds([filled_reply([1, 9])]))
    assert ids(ranking) == ["d0", "d1"]
    (scored,) = ranking.groups
    assert scored.scores.status is Status.FAILED
    assert scored.reply.error == "the engine filled 2 slots, the request has 0"


def test_a_defect_in_the_engine_is_not_taken_for_a_failed_group():
    def broken(request):
        raise ZeroDivisionError("a defect")

    with pytest.raises(ZeroDivisionError, match="a defect"):
        rank(candidates(1, 9), Rounds(broken))


# --- Until the best are stable ----------------------------------------------------------------


def by_repeat(*rounds):
    """Scores by document, another mapping for every repeat; the last one stays."""

    def answer(request):
        scores = rounds[min(request.origin.repeat, len(rounds) - 1)]
        return json_reply([scores[worth(passage)] for passage in request.passages])

    return answer


def test_repeats_are_asked_one_after_another_until_two_leave_the_best_as_they_were():
    ask = Rounds(by_worth)
    ranking = rank(candidates(1, 5, 9, 2, 7), ask, num_repeat=10, group_size=3, until_stable=2)
    assert [len(requests) for requests in ask.asked] == [2, 2, 2]
    assert (len(ranking.groups), ranking.skipped_groups) == (6, 14)
    assert ids(ranking) == ["d2", "d4", "d1", "d3", "d0"]


def test_a_change_among_the_best_counts_the_repeats_anew():
    turned = [{0: 9, 1: 8, 2: 0}, {0: 9, 1: 8, 2: 0}, {0: 0, 1: 9, 2: 0}, {0: 0, 1: 9, 2: 0}]
    ask = Rounds(by_repeat(*turned))
    ranking = rank(candidates(0, 1, 2), ask, num_repeat=9, until_stable=1)
    # repeats 0 and 1 have d0 first, 2 turns it to d1, 3 and 4 leave it
    assert (len(ask.asked), ranking.skipped_groups) == (5, 4)
    assert ids(ranking)[0] == "d1"


def test_a_change_below_the_best_does_not_count():
    below = [{0: 9, 1: 5, 2: 4}, {0: 9, 1: 1, 2: 4}, {0: 9, 1: 4, 2: 1}]
    ask = Rounds(by_repeat(*below))
    rank(candidates(0, 1, 2), ask, num_repeat=9, until_stable=1)
    assert len(ask.asked) == 3


def test_an_order_that_keeps_changing_is_asked_about_in_every_repeat():
    scores = [{0: 0, 1: 10}, {0: 10, 1: 0}] * 2 + [{0: 0, 1: 10}]  # even, it is a tie of means
    ask = Rounds(by_repeat(*scores))
    ranking = rank(candidates(0, 1), ask, num_repeat=5, until_stable=2)
    assert (len(ask.asked), ranking.skipped_groups) == (5, 0)


def test_a_repeat_with_a_failed_group_proves_no_stability():
    def script(request):
        return EngineError("down") if request.origin.repeat in (1, 2) else by_worth(request)

    ask = Rounds(script)
    ranking = rank(candidates(1, 5, 9), ask, num_repeat=9, until_stable=1)
    # 0 answers, 1 and 2 fail, 3 and 4 leave the best as they were
    assert (len(ask.asked), ranking.skipped_groups) == (5, 4)


def test_the_ranking_is_that_of_the_repeats_that_were_asked():
    def script(request):
        return by_place(request)

    stable = rank(candidates(*range(30)), Rounds(script), num_repeat=8, until_stable=30)
    repeats = len({scored.group.repeat for scored in stable.groups})
    whole = rank(candidates(*range(30)), Rounds(script), num_repeat=repeats)
    assert stable.documents == whole.documents


def test_the_final_round_comes_after_the_last_repeat_that_was_asked():
    ask = Rounds(by_worth)
    rank(candidates(1, 5, 9), ask, num_repeat=9, until_stable=2, final_round=2)
    assert [len(requests) for requests in ask.asked] == [1, 1, 1, 1]
    assert len(ask.asked[-1][0].passages) == 2


@pytest.mark.parametrize(
    ("until_stable", "num_repeat", "message"),
    [(-1, 5, "until_stable is -1"), (True, 5, "until_stable is True"), (5, 3, "num_repeat 4")],
)
def test_an_until_stable_that_cannot_be_is_refused(until_stable, num_repeat, message):
    with pytest.raises(SettingsError, match=message):
        GroupwiseSettings(prompt=PROMPT, until_stable=until_stable, num_repeat=num_repeat)


# --- Where a question comes from --------------------------------------------------------------


def test_requests_say_whose_they_are():
    ask = Rounds(by_worth)
    ranking = rank(candidates(0, 1, 2), ask, num_repeat=2, final_round=2)
    origins = [request.origin for requests in ask.asked for request in requests]
    assert [(each.query_id, each.repeat) for each in origins] == [("q1", 0), ("q1", 1), ("q1", 2)]
    for origin, scored in zip(origins, ranking.groups, strict=True):
        assert origin.doc_ids == tuple(f"d{member}" for member in scored.group.members)


# --- Ties -------------------------------------------------------------------------------------


def test_ties_go_as_they_are_told_to():
    documents = candidates(4, 7, 4, 7, 4)
    assert ids(rank(documents, Rounds(by_worth))) == ["d1", "d3", "d0", "d2", "d4"]
    by_doc_id = rank(documents, Rounds(by_worth), ties="doc_id")
    assert ids(by_doc_id) == ["d3", "d1", "d4", "d2", "d0"]
    orders = {
        tuple(ids(rank(documents, Rounds(by_worth), ties="random", seed=seed)))
        for seed in range(40)
    }
    assert all(set(order[:2]) == {"d1", "d3"} for order in orders)
    assert len(orders) == 2 * 6


def test_ties_in_the_final_round_go_the_same_way():
    ranking = rank(candidates(7, 7, 1), Rounds(by_worth), ties="doc_id", final_round=2)
    assert ids(ranking) == ["d1", "d0", "d2"]


def test_an_unknown_rule_for_ties_is_refused():
    with pytest.raises(SettingsError, match="ties is 'fair': give one of first_stage, doc_id"):
        GroupwiseSettings(prompt=PROMPT, ties="fair")


# --- Rounds -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "rounds"),
    [({}, 1), ({"num_repeat": 4}, 1), ({"final_round": 5}, 2),
     ({"num_repeat": 9, "until_stable": 5}, 3)],
)  # fmt: skip
def test_rounds_are_calls_that_wait_for_one_another(settings, rounds):
    ask = EngineCaller(ScriptedEngine(by_worth), Sampling())
    rank(candidates(*range(30)), ask, group_size=10, **settings)
    assert ask.usage.rounds == rounds
    assert ask.usage.calls > rounds


def test_rounds_beside_one_another_count_once():
    ask = EngineCaller(ScriptedEngine(by_worth), Sampling())
    requests = [request_about("worth 1"), request_about("worth 2")]

    async def two_then_one():
        await gather([ask(requests[:1]), ask(requests[1:])])
        await ask(requests)

    asyncio.run(two_then_one())
    assert (ask.usage.calls, ask.usage.rounds) == (4, 2)


def test_asking_nothing_is_no_round():
    ask = EngineCaller(ScriptedEngine(by_worth), Sampling())
    assert asyncio.run(ask([])) == []
    assert ask.usage.rounds == 0


def request_about(*texts):
    return render("a query", texts, PROMPT)
