"""How a groupwise run made its ranking of a query, by the method itself from the replies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from llmrankers_groupwise.concurrency import run_in_background
from llmrankers_groupwise.methods.groupwise.method import GroupwiseSettings, groupwise
from llmrankers_groupwise.types import Candidate, Origin, Query, Ranking, Reply, Request

__all__ = ["annotate_rounds", "described_ranking", "rerank_from_replies"]

_CLOSE = 1e-3  # written scores are apart by 1e-6 where merged ones are equal


def rerank_from_replies(
    query: Query,
    candidates: Sequence[Candidate],
    replies: Mapping[Origin, Reply],
    settings: GroupwiseSettings,
) -> Ranking:
    """The ranking that these replies give; a question without one counts as failed."""

    async def ask(requests: Sequence[Request]) -> list[Reply]:
        missing = Reply(error="not in the journal", finish_reason="error")
        return [replies.get(each.origin, missing) for each in requests]

    return run_in_background(groupwise(query, candidates, ask, settings))


def described_ranking(ranking: Ranking) -> dict[str, Any]:
    """What a report shows of it, in first-stage order, ready for JSON.

    `first_stage` has doc_ids; `merged` the merged scores, None for none, where they are not those
    of the run file; `variances` those over calls, where a document has several.
    """
    documents = sorted(ranking.documents, key=lambda each: each.first_stage_rank)
    made: dict[str, Any] = {"first_stage": [each.doc_id for each in documents]}
    if any(
        each.model_score is None or abs(each.model_score - each.score) > _CLOSE
        for each in documents
    ):
        made["merged"] = [_short(each.model_score) for each in documents]
    if any(each.variance is not None for each in documents):
        made["variances"] = [_short(each.variance) for each in documents]
    return made


def annotate_rounds(
    questions: Sequence[dict[str, Any]],
    ranking: Ranking,
    candidates: Sequence[Candidate],
    settings: GroupwiseSettings,
) -> None:
    """Add to questions, as `question_to_json` has them, what became of them.

    `round` is "final" or "boundary" in a second round, "unused" where the ranking was merged
    without the question, and left out in the first round. `calibrated` has the calibrated scores,
    None for none, in prompt order; it is left out where scores are merged as they are.
    """
    after = {
        (each.group.repeat, tuple(candidates[member].doc_id for member in each.group.members)): each
        for each in ranking.calibrated
    }
    for question in questions:
        scored = after.get((question["repeat"], question["docs"]))
        kind = "unused" if scored is None else scored.group.round
        if kind != "first":
            question["round"] = kind
        if scored is not None and settings.calibration != "none":
            labels = range(1, len(question["docs"]) + 1)
            question["calibrated"] = [_short(scored.scores.scores.get(label)) for label in labels]


def _short(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
