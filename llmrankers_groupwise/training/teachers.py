"""Two teachers judge pools of documents: one by one, and by their order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from llmrankers_groupwise.experiment import Experiment
from llmrankers_groupwise.first_stage import FirstStage
from llmrankers_groupwise.method_ranker import MethodRanker
from llmrankers_groupwise.results import Ranked, Summary
from llmrankers_groupwise.types import Status

__all__ = ["Judged", "Teacher", "average_ranks", "judge_pools"]


@dataclass
class Judged:
    """What a teacher said of all pools.

    Attributes:
        ranks: query_id -> doc_id -> rank from 1, equal scores sharing the mean of their ranks.
            Documents that the teacher did not judge are not in it.
        summary: calls, tokens and statuses.
        tied: documents whose score another one of their pool has, too.
        unjudged: documents that got no judgement.
    """

    ranks: dict[str, dict[str, float]] = field(default_factory=dict)
    summary: Summary = field(default_factory=Summary)
    tied: int = 0
    unjudged: int = 0


@dataclass(frozen=True)
class Teacher:
    """A teacher: a name for its files, and the ranker that asks it."""

    name: str
    ranker: MethodRanker


def judge_pools(teacher: Teacher, pools: FirstStage, folder: Path, passage_length: int) -> Judged:
    """Have all pools judged; replies are kept in the folder, so that nothing is asked twice.

    Raises:
        GroupwiseError: as `Experiment.run`.
    """
    judged = Judged()

    def note(ranked: Ranked) -> None:
        scores = _scores(ranked)
        ranks = average_ranks(list(scores.values()))
        judged.ranks[ranked.query.query_id] = dict(zip(scores, ranks, strict=True))
        judged.tied += len(ranks) - sum(ranks.count(rank) == 1 for rank in ranks)
        judged.unjudged += len(ranked.candidates) - len(scores)

    experiment = Experiment(
        first_stage=pools,
        ranker=teacher.ranker,
        save_path=folder / f"{teacher.name}.trec",
        passage_length=passage_length,
        tag=teacher.name,
        watch=note,
    )
    judged.summary = experiment.run()
    return judged


def _scores(ranked: Ranked) -> dict[str, float]:
    """doc_id -> score of those that were judged; the higher the better."""
    seen = {
        group.group.members[label - 1]
        for group in ranked.ranking.groups
        if group.scores.status is not Status.FAILED
        for label in group.scores.scores
    }
    return {
        str(each.doc_id): each.score if each.judged is None else each.judged
        for each in ranked.ranking.documents
        if each.first_stage_rank - 1 in seen
    }


def average_ranks(scores: Sequence[float]) -> list[float]:
    """Ranks from 1, the highest first; equal scores share the mean of their ranks."""
    order = sorted(range(len(scores)), key=lambda place: -scores[place])
    ranks = [0.0] * len(scores)
    start = 0
    while start < len(order):
        end = start
        while end < len(order) and scores[order[end]] == scores[order[start]]:
            end += 1
        for place in order[start:end]:
            ranks[place] = (start + 1 + end) / 2
        start = end
    return ranks
