"""One query explained: its calls, scores before and after calibration, the merge, movement."""

import asyncio
import dataclasses
from typing import Any

import pytest

from llmrankers_groupwise import GroupwiseLlmRanker
from llmrankers_groupwise.errors import EngineError
from llmrankers_groupwise.methods.groupwise.calibration import calibrated
from llmrankers_groupwise.pipeline.explanation import explanation
from llmrankers_groupwise.pipeline.results import Ranked
from llmrankers_groupwise.testing import ScriptedEngine, json_reply
from llmrankers_groupwise.types import Candidate, Query, Request


def by_worth(request: Request) -> str:
    return json_reply([int(passage.split()[-1]) for passage in request.passages])


def ranked(*worths: int | None, script: Any = by_worth, **settings: Any) -> tuple[Ranked, Any]:
    """Documents d1, d2, ... whose text says their worth, None for no text; and the settings."""
    candidates = [
        Candidate(f"d{rank}", None if worth is None else f"worth {worth}", 100.0 - rank)
        for rank, worth in enumerate(worths, 1)
    ]
    query = Query("q1", "how long\tdoes a flea live")
    with GroupwiseLlmRanker(
        engine=ScriptedEngine(script), **{"grouping": "sorted", **settings}
    ) as ranker:
        return Ranked(query, candidates, *asyncio.run(ranker.rank_candidates(query, candidates))), (
            ranker.settings
        )


def explained(*worths: int | None, **settings: Any) -> list[str]:
    return explanation(*ranked(*worths, **settings)).splitlines()


def test_one_round_without_calibration_to_the_letter():
    assert explained(2, 9, 4, group_size=2) == [
        "query q1: how long does a flea live",
        "group_size 2, num_repeat 1, grouping sorted, calibration none, fusion mean",
        "",
        "first round, call 1 of 2: exact",
        "  label  first stage  score  document",
        "    [1]            1      2  d1",
        "    [2]            2      9  d2",
        "",
        "first round, call 2 of 2: exact",
        "  label  first stage  score  document",
        "    [1]            3      4  d3",
        "",
        "merged: the mean of a document's scores; equal ones by first_stage",
        "  rank  first stage  moved  merged score  document",
        "     1            2     +1             9  d2",
        "     2            3     +1             4  d3",
        "     3            1     -2             2  d1",
    ]


def test_scores_before_and_after_calibration_stand_side_by_side():
    lines = explained(2, 9, 4, 5, 8, 6, group_size=3, calibration="minmax")
    at = lines.index("first round, call 1 of 2: exact")
    assert lines[at + 1 : at + 5] == [
        "  label  first stage  score  calibrated  document",
        "    [1]            1      2           0  d1",
        "    [2]            2      9           1  d2",
        "    [3]            3      4      0.2857  d3",
    ]
    assert (
        "merged: the mean of a document's scores calibrated by minmax; equal ones by first_stage"
        in lines
    )
    assert "     2            5     +3             1  d5" in lines


def test_a_second_round_says_which_call_it_was_and_what_it_moved():
    lines = explained(
        *range(1, 10), group_size=4, num_repeat=2, final_round=2, final_calls=2, boundary=5
    )
    assert [line for line in lines if "round, " in line] == [
        *(f"first round, repeat {repeat} of 2, call {call} of 3: exact"
          for repeat in (1, 2) for call in (1, 2, 3)),
        "final round, call 1 of 2: exact",
        "final round, call 2 of 2: exact",
        "boundary round, call 1 of 1: exact",
    ]  # fmt: skip
    assert "  ranks 1 to 2 were asked about again, and sorted among themselves" in lines
    assert "  ranks 4 to 7 were asked about again, and sorted among themselves" in lines
    assert "     1            9     +8             9         0  d9" in lines


def test_a_second_round_says_what_was_sorted_together_and_nothing_where_there_was_none():
    lines = explained(*range(1, 10), group_size=4, final_round=4, boundary=6)
    assert [line for line in lines if "sorted among themselves" in line] == [
        "  ranks 1 to 4 were asked about again, and sorted among themselves",
        "  ranks 5 to 8 were asked about again, and sorted among themselves",
    ]
    alone = explained(5, None, group_size=4, final_round=4)
    assert not [line for line in alone if "again" in line or "first round;" in line]


def test_variances_are_there_where_a_document_has_several_scores():
    script = [json_reply([2, 6]), json_reply([4]), json_reply([5, 6]), json_reply([8])]
    text = explanation(*ranked(0, 0, 0, script=script, group_size=2, num_repeat=2))
    assert "variance: of a document's scores over its calls" in text
    table = text.split("document\n")[-1].splitlines()
    columns = {line.split()[-1]: line.split()[3:5] for line in table}
    assert columns == {"d1": ["3.5000", "4.5000"], "d2": ["6", "0"], "d3": ["6", "8"]}
    shifted = ranked(1, 2, 3, group_size=3, num_repeat=2, calibration="zscore")
    assert "variance: of a document's calibrated scores over its calls" in explanation(*shifted)
    strengths = ranked(1, 2, 3, group_size=3, num_repeat=2, calibration="bradley_terry")
    assert "variance: of a document's scores before calibration" in explanation(*strengths)


def test_what_has_no_score_is_said():
    def script(request: Request) -> str | EngineError:
        if any("9" in passage for passage in request.passages):
            return EngineError("out\nof order")
        return '<answer>{"[1]": 5, "[2]": 77}</answer>'

    lines = explained(1, 2, 9, 9, None, script=script, group_size=2, calibration="zscore")
    at = lines.index("first round, call 1 of 2: partial")
    assert lines[at + 3 : at + 6] == [
        "    [2]            2   none        none  d2",
        "  the reply has no score for [2]",
        "  not taken: [2]: 77: outside 0..10",
    ]
    at = lines.index("first round, call 2 of 2: failed")
    assert lines[at + 2] == "    [1]            3   none        none  d3"
    assert lines[at + 4 : at + 6] == [
        "  no answer: out of order",
        "  so this call says nothing of its documents",
    ]
    unscored = "  (no call scored it: left to the first stage)"
    assert lines[-4:] == [
        f"     2            2      =          none  d2{unscored}",
        f"     3            3      =          none  d3{unscored}",
        f"     4            4      =          none  d4{unscored}",
        "     5            5      =          none  d5  (it has no text: left to the first stage)",
    ]


@pytest.mark.parametrize(
    ("settings", "phrase"),
    [
        (
            {"shrinkage": 0.5, "first_stage_weight": 0.25, "ties": "doc_id"},
            "merged: the mean of a document's scores, drawn to its first-stage rank by 0.5, 0..1, "
            "with the first stage's by 0.25; equal ones by doc_id",
        ),
        (
            {"fusion": "rrf", "first_stage_weight": 0.25},
            "merged: reciprocal ranks of the repeats, the first stage's by 0.25; equal",
        ),
        ({"fusion": "rrf"}, "merged: reciprocal ranks of the repeats; equal ones by first_stage"),
        (
            {"fusion": "rrf", "calibration": "zscore"},
            "merged: reciprocal ranks of the repeats by scores calibrated by zscore; equal ones",
        ),
        ({"fusion": "rrf"}, "      0.016393  d3"),
        ({"num_repeat": 6, "until_stable": 2}, "groups not asked about: the best were stable"),
        ({"anchors": 1, "overlap": 0}, "anchors 1"),
    ],
)
def test_the_merge_is_said_in_words(settings, phrase):
    text = explanation(*ranked(1, 2, 9, 4, group_size=3, **settings))
    assert phrase in text


@pytest.mark.parametrize("calibration", ["none", "zscore", "shared_shift", "bradley_terry"])
def test_calibrated_scores_are_those_that_were_merged(calibration):
    """Of the method itself: nothing is computed a second time."""
    result, settings = ranked(
        3, 9, 4, 5, 8, 6, 1, group_size=3, anchors=1, final_round=2, calibration=calibration,
    )  # fmt: skip
    ranking = result.ranking
    assert ranking.calibrated == tuple(calibrated(ranking.groups, calibration))
    by_document: dict[int, list[float]] = {}
    for each in ranking.calibrated:
        for label, score in each.scores.scores.items():
            by_document.setdefault(each.group.members[label - 1], []).append(score)
    for document in ranking.documents:
        scores = by_document[document.first_stage_rank - 1]
        assert document.model_score == pytest.approx(sum(scores) / len(scores))
    shown = explanation(result, settings)
    assert ("calibrated  document" in shown) == (calibration != "none")


def test_a_query_without_candidates_is_explained_too():
    assert explained()[-1] == "  rank  first stage  moved  merged score  document"


def test_a_query_without_text_was_not_asked_about():
    result, settings = ranked(None, None)
    unknown = dataclasses.replace(result, query=Query("q1", ""))
    lines = explanation(unknown, settings).splitlines()
    assert lines[0] == "query q1:"
    assert lines[2:] == [
        "",
        "it has no text: nothing was asked, and the first stage's order stands",
    ]
