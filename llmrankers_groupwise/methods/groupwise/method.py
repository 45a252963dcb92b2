"""The groupwise method (GroupRank, arXiv 2511.11653): one round of independent groups."""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from llmrankers_groupwise.errors import SettingsError
from llmrankers_groupwise.methods import base as scoring
from llmrankers_groupwise.methods.base import ranking_by_scores
from llmrankers_groupwise.methods.groupwise.aggregation import (
    Fusion,
    check_fusion,
    fused_scores,
    interpolate,
)
from llmrankers_groupwise.methods.groupwise.calibration import (
    Calibration,
    calibrated,
    check_calibration,
    check_shrinkage,
    shrunk,
    variances,
)
from llmrankers_groupwise.methods.groupwise.final_round import (
    check_final_round,
    final_round_groups,
    rank_spans,
    rerank_spans,
)
from llmrankers_groupwise.methods.groupwise.grouping import Strategy, check_grouping, make_groups
from llmrankers_groupwise.prompting.parse_scores import read_reply
from llmrankers_groupwise.prompting.prompt_file import PromptFile
from llmrankers_groupwise.prompting.render import render
from llmrankers_groupwise.scores import Ties, mean_scores, ranked_positions, seeded, tie_order
from llmrankers_groupwise.types import (
    Ask,
    Candidate,
    Group,
    GroupScores,
    Origin,
    Query,
    Ranking,
    Reply,
    Request,
    ScoredGroup,
    Scoring,
    Status,
)

__all__ = ["GroupwiseOptions", "GroupwiseSettings", "groupwise"]

_UNCHANGED = 2  # this number of repeats in turn must leave the best documents as they were


@dataclass(frozen=True, kw_only=True)
class GroupwiseOptions:
    """What can be chosen of the groupwise method.

    Attributes:
        group_size: the number of documents in one call.
        num_repeat: how many times every document is scored, each time in another group.
        overlap: the number of documents that neighbouring groups share.
        grouping: which documents are in one group: a random sample, every n-th by rank (strided,
            or snake, which deals back and forth), neighbours by rank (sorted), or strided first
            and random in later repeats (mixed).
        anchors: the number of documents that are in every group, for the calibration.
        calibration: how the scores of different groups are made comparable before the fusion.
        fusion: how the scores of one document are merged: by their mean, or by reciprocal ranks.
        first_stage_weight: the share of the first stage in the final score, 0 to 1.
        shrinkage: the number of scores that weigh as much as the score that a document's
            first-stage rank predicts; for the fusion mean.
        ties: how ties are broken: by the first stage, by the later doc_id as in trec_eval, or at
            random.
        final_round: score the best N documents once more as one group; 0 for no final round.
        final_calls: the number of calls of the final round, each with another order of documents.
        boundary: score the group_size documents around this rank once more; 0 for no such group.
        until_stable: ask the repeats one after another, and stop when two in a row have not
            changed the best N documents; 0 asks all repeats at once.
        seed: the seed of everything that is drawn at random.

    Raises:
        SettingsError: a setting is out of its range.
    """

    group_size: int = 20
    num_repeat: int = 1
    overlap: int = 0
    grouping: Strategy = "random"
    anchors: int = 0
    calibration: Calibration = "none"
    fusion: Fusion = "mean"
    first_stage_weight: float = 0.0
    shrinkage: float = 0.0
    ties: Ties = "first_stage"
    final_round: int = 0
    final_calls: int = 1
    boundary: int = 0
    until_stable: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        check_grouping(self.group_size, self.num_repeat, self.overlap, self.grouping, self.anchors)
        check_fusion(self.fusion, self.first_stage_weight, self.ties)
        check_calibration(self.calibration)
        check_shrinkage(self.shrinkage, self.fusion)
        check_final_round(self.group_size, self.final_round, self.final_calls, self.boundary)
        if type(self.until_stable) is not int or self.until_stable < 0:
            raise SettingsError(f"until_stable is {self.until_stable!r}: give 0 for none, or more")
        if self.until_stable and self.num_repeat <= _UNCHANGED + 1:
            raise SettingsError(
                f"until_stable can stop after {_UNCHANGED + 1} repeats at the earliest: give "
                f"num_repeat {_UNCHANGED + 2} or more, or until_stable 0"
            )


@dataclass(frozen=True, kw_only=True)
class GroupwiseSettings(GroupwiseOptions):
    """The settings of the groupwise method: what was chosen, and what the ranker adds.

    Attributes:
        prompt: the prompt file that requests are rendered from.
        scoring: "likelihood" gives every request a ScoreForm, "generation" none.
    """

    prompt: PromptFile
    scoring: Scoring = "generation"

    @property
    def value_name(self) -> str:
        """What a reply gives for a document."""
        return "score"

    @property
    def strengths(self) -> bool:
        """Whether calibrated scores are a model's strengths: the same in all groups."""
        return self.calibration == "bradley_terry"

    def sorted_again(self, n: int) -> list[tuple[int, int]]:
        """The index spans [start, end) of n that the second round sorts; see `rerank_spans`."""
        return rank_spans(
            n,
            final_round=self.final_round,
            boundary=self.boundary,
            group_size=self.group_size,
        )

    def request(self, query: str, passages: Sequence[str], origin: Origin) -> Request:
        """The question about one group."""
        form = self.scoring == "likelihood"
        return render(query, passages, self.prompt, form=form, origin=origin)

    def read(self, reply: Reply, n: int) -> GroupScores:
        """The scores in a reply; see `prompting.parse_scores.read_reply`."""
        return read_reply(reply, n)


async def groupwise(
    query: Query, candidates: Sequence[Candidate], ask: Ask, settings: GroupwiseSettings
) -> Ranking:
    """Score all groups of all repeats in one round, and merge.

    Candidates come best first by the first stage; those without text are not asked about and
    keep their rank. The ranking holds every candidate once.
    """
    groups = _groups(query, candidates, settings)
    rng = seeded(settings.seed, "ties", query.text)
    ties = tie_order([str(each.doc_id) for each in candidates], settings.ties, rng)

    async def score_groups(groups: Sequence[Group]) -> list[ScoredGroup]:
        return await scoring.score_groups(query, candidates, groups, ask, settings)

    def merged(scored: Sequence[ScoredGroup]) -> _Merged:
        comparable = calibrated(scored, settings.calibration)
        scores = _fused(candidates, comparable, settings)
        return _Merged(comparable, scores, ranked_positions(range(len(candidates)), scores, ties))

    if settings.until_stable:
        scored = await _until_stable(
            groups, score_groups, lambda j: merged(j).order[: settings.until_stable]
        )
    else:
        scored = await score_groups(groups)
    skipped_groups = len(groups) - len(scored)
    comparable, scores, order = merged(scored)
    if settings.final_round or settings.boundary:
        second = await score_groups(_second_groups(query, candidates, order, settings))
        scored += second
        comparable, scores, _ = merged(scored)
        order = rerank_spans(order, scores, settings.sorted_again(len(order)), second, ties)
    spread = variances(len(candidates), scored if settings.strengths else comparable)
    return ranking_by_scores(candidates, order, scores, scored, skipped_groups, spread, comparable)


class _Merged(NamedTuple):
    """Groups with comparable scores, one score of each position from them, positions best first."""

    comparable: list[ScoredGroup]
    scores: list[float | None]
    order: list[int]


def _fused(
    candidates: Sequence[Candidate], comparable: Sequence[ScoredGroup], settings: GroupwiseSettings
) -> list[float | None]:
    """One score per candidate, or None where no group scored it."""
    if not settings.shrinkage:
        return fused_scores(candidates, comparable, settings.fusion, settings.first_stage_weight)
    means = shrunk(mean_scores(len(candidates), comparable), comparable, settings.shrinkage)
    if settings.first_stage_weight == 0.0:
        return means
    return interpolate(means, [each.score for each in candidates], settings.first_stage_weight)


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
        anchors=settings.anchors,
        seed=settings.seed,
        query=query.text,
    )
    return [
        Group(group.repeat, tuple(with_text[member] for member in group.members))
        for group in groups
    ]


def _second_groups(
    query: Query, candidates: Sequence[Candidate], order: Sequence[int], settings: GroupwiseSettings
) -> list[Group]:
    """The best documents once more, and those around a rank, shuffled so that order tells nothing.

    Each group counts as a repeat, so that its scores join the mean as one more appearance.
    """
    return final_round_groups(
        order,
        {position for position, each in enumerate(candidates) if each.text is not None},
        final_round=settings.final_round,
        final_calls=settings.final_calls,
        boundary=settings.boundary,
        group_size=settings.group_size,
        first_repeat=settings.num_repeat,
        seed=settings.seed,
        query=query.text,
    )


async def _until_stable(
    groups: Sequence[Group],
    score_groups: Callable[[Sequence[Group]], Awaitable[list[ScoredGroup]]],
    best_of: Callable[[Sequence[ScoredGroup]], list[int]],
) -> list[ScoredGroup]:
    """Score the groups repeat by repeat, until the best documents no longer change.

    A repeat in which a group failed changes less for that reason alone, and proves nothing.
    """
    scored: list[ScoredGroup] = []
    best: list[int] | None = None
    unchanged = 0
    for _, repeat in itertools.groupby(groups, key=lambda group: group.repeat):
        new = await score_groups(list(repeat))
        scored += new
        before, best = best, best_of(scored)
        whole = all(each.scores.status is not Status.FAILED for each in new)
        unchanged = unchanged + 1 if whole and best == before else 0
        if unchanged == _UNCHANGED:
            break
    return scored
