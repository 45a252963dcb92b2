"""What all methods share: groups asked about and read, rankings made of scores or an order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from llmrankers_groupwise.scores import strictly_decreasing
from llmrankers_groupwise.types import (
    Ask,
    Candidate,
    Group,
    GroupScores,
    Origin,
    Query,
    RankedDocument,
    Ranking,
    Reply,
    Request,
    ScoredGroup,
)

__all__ = [
    "MethodSettings",
    "ranking_by_order",
    "ranking_by_scores",
    "score_groups",
]


class MethodSettings(Protocol):
    """What the settings of every method can do: put the method's question, and read its reply."""

    @property
    def value_name(self) -> str:
        """What a reply gives for a document, in a word or two, for those who read it."""

    def request(self, query: str, passages: Sequence[str], origin: Origin) -> Request:
        """The question about one group of texts, in prompt order."""

    def read(self, reply: Reply, n: int) -> GroupScores:
        """The scores that a reply gives to n documents. Never raises, whatever the text."""


async def score_groups(
    query: Query,
    candidates: Sequence[Candidate],
    groups: Sequence[Group],
    ask: Ask,
    settings: MethodSettings,
) -> list[ScoredGroup]:
    """Ask about all groups at once and read the replies."""
    requests = []
    for group in groups:
        members = [candidates[member] for member in group.members]
        doc_ids = tuple(str(each.doc_id) for each in members)
        origin = Origin(query.query_id, doc_ids, group.repeat)
        requests.append(settings.request(query.text, [each.text or "" for each in members], origin))
    replies = await ask(requests)
    return [
        ScoredGroup(group, settings.read(reply, len(group.members)), reply)
        for group, reply in zip(groups, replies, strict=True)
    ]


def ranking_by_scores(
    candidates: Sequence[Candidate],
    order: Sequence[int],
    scores: Sequence[float | None],
    scored: Sequence[ScoredGroup],
    skipped_groups: int = 0,
    variances: Sequence[float | None] | None = None,
    calibrated: Sequence[ScoredGroup] = (),
) -> Ranking:
    """The ranking of positions best first, with strictly decreasing scores near their own.

    Args:
        candidates: all of them, in first-stage order.
        order: all positions, best first.
        scores: of each position; None where it has none.
        scored: the calls that they came from.
        skipped_groups: calls that were not needed.
        variances: of each position's scores over its groups; None where nothing is known.
        calibrated: the calls with the scores that were merged, if they are calibrated.
    """
    spread = variances or [None] * len(candidates)
    written = strictly_decreasing([scores[position] for position in order])
    documents = tuple(
        RankedDocument(
            candidates[position].doc_id, score, scores[position], position + 1, spread[position]
        )
        for position, score in zip(order, written, strict=True)
    )
    return Ranking(documents, tuple(scored), skipped_groups, tuple(calibrated))


def ranking_by_order(
    candidates: Sequence[Candidate], order: Sequence[int], scored: Sequence[ScoredGroup]
) -> Ranking:
    """The ranking of an order without scores: n for the first of n documents, 1 for the last.

    Args:
        candidates: all of them, in first-stage order; those without text keep their rank.
        order: positions of those that have a text, best first.
        scored: the calls that it came from.
    """
    best_first = iter(order)
    n = len(candidates)
    positions = [
        position if each.text is None else next(best_first)
        for position, each in enumerate(candidates)
    ]
    documents = tuple(
        RankedDocument(candidates[position].doc_id, float(n - index), None, position + 1)
        for index, position in enumerate(positions)
    )
    return Ranking(documents, tuple(scored))
