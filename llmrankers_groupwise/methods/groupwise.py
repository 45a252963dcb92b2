"""The groupwise method (GroupRank, arXiv 2511.11653): one round of independent groups."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from llmrankers_groupwise.errors import SettingsError
from llmrankers_groupwise.fusion import (
    Fusion,
    check_fusion,
    fused_scores,
    ranked_positions,
    written_scores,
)
from llmrankers_groupwise.grouping import Strategy, check_grouping, make_groups, seeded
from llmrankers_groupwise.parsing import read_reply
from llmrankers_groupwise.prompts import PromptFile, render
from llmrankers_groupwise.types import (
    Ask,
    Candidate,
    Group,
    JudgedGroup,
    Query,
    RankedDocument,
    Ranking,
    Scoring,
)

__all__ = ["GroupwiseSettings", "groupwise"]


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupwiseSettings:
    """The settings of the groupwise method.

    Attributes:
        prompt: the prompt file that requests are rendered from.
        scoring: "likelihood" gives every request a ScoreForm, "generation" none.
        group_size: the most documents of one call.
        num_repeat: how often every document is scored, in different groups.
        overlap: how many documents neighbouring groups share.
        grouping: "random", "strided", "sorted" or "mixed"; see `grouping.make_groups`.
        fusion: "mean" of a document's scores, or "rrf" over the repeats' rankings.
        first_stage_weight: the first stage's share of the final score, 0..1.
        final_round: if not 0, the best so many documents are asked once more as one group.
        seed: for everything drawn at random.

    Raises:
        SettingsError: a setting is out of its range.
    """

    prompt: PromptFile
    scoring: Scoring = "generation"
    group_size: int = 20
    num_repeat: int = 1
    overlap: int = 0
    grouping: Strategy = "random"
    fusion: Fusion = "mean"
    first_stage_weight: float = 0.0
    final_round: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        check_grouping(self.group_size, self.num_repeat, self.overlap, self.grouping)
        check_fusion(self.fusion, self.first_stage_weight)
        if not (self.final_round == 0 or 2 <= self.final_round <= self.group_size):
            raise SettingsError(
                f"final_round is {self.final_round}: give 0 for none, or 2 to group_size "
                f"({self.group_size})"
            )


async def groupwise(
    query: Query, candidates: Sequence[Candidate], ask: Ask, settings: GroupwiseSettings
) -> Ranking:
    """Score all groups of all repeats in one round, and merge.

    Candidates come best first by the first stage; those without text are not asked about and
    keep their place. The ranking holds every candidate once.
    """
    groups = _groups(query, candidates, settings)
    judged = await _judge(query, candidates, groups, ask, settings)
    scores = fused_scores(candidates, judged, settings.fusion, settings.first_stage_weight)
    order = ranked_positions(range(len(candidates)), scores)
    if settings.final_round:
        final = _final_group(query, candidates, order, settings)
        judged += await _judge(query, candidates, final, ask, settings)
        scores = fused_scores(candidates, judged, settings.fusion, settings.first_stage_weight)
        best, rest = order[: settings.final_round], order[settings.final_round :]
        order = ranked_positions(best, scores) + rest
    return _ranking(candidates, order, scores, judged)


def _groups(
    query: Query, candidates: Sequence[Candidate], settings: GroupwiseSettings
) -> list[Group]:
    """The groups of the first round, over the candidates that have a text."""
    with_text = [position for position, each in enumerate(candidates) if each.text is not None]
    groups = make_groups(
        len(with_text),
        group_size=settings.group_size,
        num_repeat=settings.num_repeat,
        overlap=settings.overlap,
        strategy=settings.grouping,
        seed=settings.seed,
        query=query.text,
    )
    return [
        Group(group.repeat, tuple(with_text[member] for member in group.members))
        for group in groups
    ]


def _final_group(
    query: Query, candidates: Sequence[Candidate], order: Sequence[int], settings: GroupwiseSettings
) -> list[Group]:
    """The best documents as one more group, shuffled so that their order tells nothing.

    It counts as a repeat of its own, so that its scores join the mean as one more appearance.
    """
    best = [each for each in order[: settings.final_round] if candidates[each].text is not None]
    seeded(settings.seed, "final", query.text).shuffle(best)
    return [Group(settings.num_repeat, tuple(best))] if len(best) > 1 else []


async def _judge(
    query: Query,
    candidates: Sequence[Candidate],
    groups: Sequence[Group],
    ask: Ask,
    settings: GroupwiseSettings,
) -> list[JudgedGroup]:
    """Ask about all groups at once and read the replies."""
    form = settings.scoring == "likelihood"
    requests = [
        render(
            query.text,
            [candidates[member].text or "" for member in group.members],
            settings.prompt,
            form=form,
        )
        for group in groups
    ]
    replies = await ask(requests)
    return [
        JudgedGroup(group, read_reply(reply, len(group.members)), reply.error)
        for group, reply in zip(groups, replies, strict=True)
    ]


def _ranking(
    candidates: Sequence[Candidate],
    order: Sequence[int],
    scores: Sequence[float | None],
    judged: Sequence[JudgedGroup],
) -> Ranking:
    written = written_scores([scores[position] for position in order])
    documents = tuple(
        RankedDocument(candidates[position].doc_id, score, scores[position], position + 1)
        for position, score in zip(order, written, strict=True)
    )
    return Ranking(documents, tuple(judged))
