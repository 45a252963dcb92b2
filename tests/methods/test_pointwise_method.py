"""The pointwise method: one round of single documents, yes or no or a grade."""

import asyncio
import dataclasses
import itertools
import random

import pytest
from support.sorting import QUERY, candidates, order, rank

from llmrankers_groupwise.errors import EngineError, SettingsError
from llmrankers_groupwise.methods.groupwise.method import GroupwiseSettings
from llmrankers_groupwise.methods.pointwise import PointwiseSettings, pointwise, read_yes_no
from llmrankers_groupwise.prompting.prompt_file import load_prompt
from llmrankers_groupwise.rankers.ask import EngineCaller
from llmrankers_groupwise.testing import ScriptedEngine, filled_reply
from llmrankers_groupwise.types import GroupScores, Reply, Request, Sampling, ScoreForm, Status

SIZES = [0, 1, 2, 19, 20, 21, 101]
JUDGEMENTS = ["yes_no", "graded"]


def made(method: str = "yes_no", **changed: object) -> PointwiseSettings:
    prompt = load_prompt(f"pointwise_{method}")
    return PointwiseSettings(prompt=prompt, method=method, **changed)  # type: ignore[arg-type]


def number(request: Request) -> int:
    return int(request.passages[0].split()[1])


def likelihood(request: Request) -> Reply:
    """Every third document is good, the later the better; of 3 the others are."""
    chance = (number(request) % 3) / 4 + number(request) / 1000
    if request.form is not None and request.form.of_words:
        return Reply(slot_probabilities=((1 - chance, chance),))
    return filled_reply([10 * chance])


def by_likelihood(n: int) -> list[int]:
    return sorted(range(n), key=lambda each: -((each % 3) / 4 + each / 1000))


@pytest.mark.parametrize("method", JUDGEMENTS)
@pytest.mark.parametrize("n", SIZES)
def test_every_document_is_asked_about_alone_in_one_round(n, method):
    engine = ScriptedEngine(likelihood)
    ranking, usage = rank("pointwise", n, engine, made(method))
    assert order(ranking) == by_likelihood(n)
    assert [request.passages for request in engine.requests] == [
        (f"number {each}",) for each in range(n)
    ]
    assert usage.calls == n
    assert usage.rounds == (1 if n else 0)
    scores = [each.score for each in ranking.documents]
    assert all(higher > lower for higher, lower in itertools.pairwise(scores))


class AllAtOnce(ScriptedEngine):
    """Answers nobody before all have asked."""

    def __init__(self, wanted: int) -> None:
        super().__init__(likelihood)
        self._wanted, self._all = wanted, asyncio.Event()

    async def answer(self, request: Request, sampling: Sampling) -> Reply:
        self._wanted -= 1
        if not self._wanted:
            self._all.set()
        await asyncio.wait_for(self._all.wait(), 30)
        return await super().answer(request, sampling)


def test_all_documents_are_in_flight_together():
    ranking, _ = rank("pointwise", 100, AllAtOnce(100), made())
    assert order(ranking) == by_likelihood(100)


def test_what_is_asked_for():
    forms = {}
    for method in JUDGEMENTS:
        for scoring in ("likelihood", "generation"):
            engine = ScriptedEngine(["Yes 5"])
            rank("pointwise", 1, engine, made(method, scoring=scoring))
            (request,) = engine.requests
            assert request.wants == "scores"
            assert request.labels == ("[1]",)
            forms[method, scoring] = request.form, request.fallback
    assert forms == {
        ("yes_no", "likelihood"): (ScoreForm(("[1]",), ("No", "Yes")), None),
        ("yes_no", "generation"): (None, None),
        ("graded", "likelihood"): (ScoreForm(("[1]",)), None),
        ("graded", "generation"): (None, ScoreForm(("[1]",))),
    }


def test_the_form_of_words_is_written_in_quotes():
    form = ScoreForm(("[1]", "[2]"), ("No", "Yes"))
    assert form.of_words
    assert not ScoreForm(("[1]",)).of_words
    assert form.filled(["Yes", "No"]) == '{"[1]": "Yes", "[2]": "No"}'
    assert form.fixed == ('{"[1]": "', '", "[2]": "', '"}')


def test_the_score_is_the_probability_of_yes_and_the_expected_grade():
    engine = ScriptedEngine(
        [Reply(slot_probabilities=((0.9, 0.1),)), Reply(slot_probabilities=((0.3, 0.7),))]
    )
    ranking, _ = rank("pointwise", 2, engine, made())
    assert [(each.doc_id, each.model_score) for each in ranking.documents] == [
        ("d1", 0.7),
        ("d0", 0.1),
    ]
    row = [0.0] * 11
    row[3], row[10] = 0.5, 0.5
    engine = ScriptedEngine([filled_reply([6.0]), Reply(slot_probabilities=(tuple(row),))])
    ranking, _ = rank("pointwise", 2, engine, made("graded"))
    assert [(each.doc_id, each.model_score) for each in ranking.documents] == [
        ("d1", 6.5),
        ("d0", 6.0),
    ]


def test_words_are_sorted_and_equal_ones_go_by_first_stage():
    replies = ["No", "yes", "No.", "Yes.", "<think>no</think>\nYes"]
    ranking, _ = rank("pointwise", 5, ScriptedEngine(replies), made(scoring="generation"))
    assert order(ranking) == [1, 3, 4, 0, 2]
    assert [each.model_score for each in ranking.documents] == [1.0, 1.0, 1.0, 0.0, 0.0]


def test_a_document_whose_reply_cannot_be_read_keeps_its_place():
    replies = ["No", EngineError("out of order"), "Yes", "Perhaps", "Yes"]
    ranking, usage = rank("pointwise", 5, ScriptedEngine(replies), made(scoring="generation"))
    assert order(ranking) == [2, 1, 4, 3, 0]
    assert usage.errors == 1
    assert [each.scores.status.value for each in ranking.groups] == [
        "exact", "failed", "exact", "failed", "exact",
    ]  # fmt: skip


def test_documents_without_text_are_not_asked_about_and_keep_their_place():
    engine = ScriptedEngine(likelihood)
    ranking, usage = rank("pointwise", 4, engine, made(), untold=(1,))
    assert order(ranking) == [2, 1, 3, 0]
    assert usage.calls == 3


def test_an_order_of_arrival_changes_nothing():
    class Delayed(ScriptedEngine):
        async def answer(self, request: Request, sampling: Sampling) -> Reply:
            for _ in range(rng.randrange(9)):
                await asyncio.sleep(0)
            return await super().answer(request, sampling)

    rng = random.Random(1)
    rankings = [rank("pointwise", 30, Delayed(likelihood), made())[0] for _ in range(3)]
    assert [each.group.members for each in rankings[0].groups] == [(i,) for i in range(30)]
    plain = [dataclasses.replace(each, groups=()) for each in rankings]
    assert plain[0] == plain[1] == plain[2]


# --- Replies ----------------------------------------------------------------------------------

WORDS = {
    "Yes": (1.0, Status.EXACT), "no": (0.0, Status.EXACT), " YES.\n": (1.0, Status.EXACT),
    '{"[1]": "Yes"}': (1.0, Status.EXACT), 'So {"[1]": "No"}': (0.0, Status.REPAIRED),
    "Yes, it does.": (1.0, Status.REPAIRED),
    "Yes, there is no doubt.": (1.0, Status.REPAIRED), "No.\nA yes would": (0.0, Status.REPAIRED),
    "**Yes**. No other": (1.0, Status.REPAIRED), "Yes as no other": (1.0, Status.REPAIRED),
    "Yes or no? No.": (0.0, Status.REPAIRED),
    '{"[1]": "Yes"}, as no other does': (1.0, Status.REPAIRED),
    "<answer>No</answer> not yes": (0.0, Status.REPAIRED), "No doubt: yes": (1.0, Status.REPAIRED),
    "No? No: Yes": (1.0, Status.REPAIRED), "<reason>no</reason> Yes": (1.0, Status.EXACT),
    "<think>Yes</think>No": (0.0, Status.EXACT), "**Yes**": (1.0, Status.REPAIRED),
}  # fmt: skip


@pytest.mark.parametrize("text", WORDS)
def test_a_word_is_read(text):
    score, status = WORDS[text]
    assert read_yes_no(Reply(text)) == GroupScores({1: score}, (), status)


@pytest.mark.parametrize("text", ["", "Perhaps", "Norway knows", "yesterday", "<think>Yes"])
def test_a_text_without_the_word_fails(text):
    assert read_yes_no(Reply(text)) == GroupScores({}, (1,), Status.FAILED)


def test_an_error_fails_whatever_it_says():
    assert read_yes_no(Reply("Yes", error="no")).status is Status.FAILED


def test_a_form_behind_reasoning_that_was_cut_off_is_forced():
    read = read_yes_no(Reply(slot_probabilities=((0.25, 0.75),), forced=True))
    assert read == GroupScores({1: 0.75}, (), Status.FORCED)


NAN = float("nan")


@pytest.mark.parametrize(
    "slot_probabilities",
    [
        (),
        ((0.5,),),
        ((0.2, 0.2),),
        ((NAN, 1.0),),
        ((-0.5, 1.5),),
        ((0.1,) * 10,),
        ((0.5, 0.5), (0.5, 0.5)),
    ],
)
def test_blanks_that_are_no_probabilities_of_no_and_yes_fail(slot_probabilities):
    read = read_yes_no(Reply(slot_probabilities=slot_probabilities))
    assert (read.scores, read.missing, read.status) == ({}, (1,), Status.FAILED)
    assert "not those of No and Yes" in read.refused[0]


def test_words_are_no_grade():
    read = made("graded").read(Reply(slot_probabilities=((0.2, 0.8),)), 1)
    assert read.status is Status.FAILED
    assert read.refused == ("[1]: 2 choices, not those 0..10",)


# --- Settings, and a group of one -------------------------------------------------------------


@pytest.mark.parametrize("method", ["qlm", "", None, ["yes_no"]])
def test_an_unknown_judgement_is_refused(method):
    with pytest.raises(SettingsError, match=r"method is .*: give one of yes_no, graded"):
        PointwiseSettings(prompt=load_prompt("groupwise"), method=method)


def test_grades_are_groupwise_scores_of_groups_of_one():
    """The same questions and rankings, whichever of the two asks."""
    prompt = load_prompt("pointwise_graded")
    asked = []
    for method, settings in (
        ("pointwise", made("graded")),
        ("groupwise", GroupwiseSettings(
            prompt=prompt, scoring="likelihood", group_size=1, grouping="sorted")),
    ):  # fmt: skip
        engine = ScriptedEngine(likelihood)
        ranking, _ = rank(method, 12, engine, settings)
        asked.append((engine.requests, ranking.documents))
    assert asked[0] == asked[1]


def test_the_input_is_not_changed():
    given, copied = candidates(5), candidates(5)
    asyncio.run(
        pointwise(QUERY, given, EngineCaller(ScriptedEngine(likelihood), Sampling()), made())
    )
    assert given == copied
