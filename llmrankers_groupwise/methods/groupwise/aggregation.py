"""Merge the scores of groups and repeats, and the first stage if wanted, into one order.

Positions are 0-based first-stage ranks. All functions are pure. A document without a score keeps
its first-stage position and the scored ones are sorted around it, so a failed group falls back to
the first stage instead of sinking to the bottom.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Sequence
from typing import Literal, get_args

from llmrankers_groupwise.errors import SettingsError
from llmrankers_groupwise.scores import RRF_K, TIES, mean_scores, min_max, ranked_positions
from llmrankers_groupwise.types import Candidate, ScoredGroup

__all__ = ["Fusion", "check_fusion", "fused_scores", "interpolate", "reciprocal_rank"]

Fusion = Literal["mean", "rrf"]


def check_fusion(fusion: str, first_stage_weight: float, ties: str = "first_stage") -> None:
    """Raise SettingsError for an unknown fusion or rule for ties, or a weight outside 0..1."""
    if fusion not in get_args(Fusion):
        raise SettingsError(f"fusion is {fusion!r}: give one of {', '.join(get_args(Fusion))}")
    if not 0.0 <= first_stage_weight <= 1.0:
        raise SettingsError(f"first_stage_weight is {first_stage_weight}: give a number 0..1")
    if ties not in TIES:
        raise SettingsError(f"ties is {ties!r}: give one of {', '.join(TIES)}")


def fused_scores(
    candidates: Sequence[Candidate],
    scored: Sequence[ScoredGroup],
    fusion: Fusion = "mean",
    first_stage_weight: float = 0.0,
) -> list[float | None]:
    """One score per candidate, or None where no group scored it.

    "mean" averages a document's scores over all groups it was in, then interpolates with the
    first stage; "rrf" fuses the rankings of the repeats and, by its weight, of the first stage.
    """
    if fusion == "rrf":
        return reciprocal_rank(len(candidates), scored, first_stage_weight)
    means = mean_scores(len(candidates), scored)
    if first_stage_weight == 0.0:
        return means
    return interpolate(means, [candidate.score for candidate in candidates], first_stage_weight)


def interpolate(
    scores: Sequence[float | None], first_stage: Sequence[float], weight: float
) -> list[float | None]:
    """(1 - weight) * minmax(scores) + weight * minmax(first_stage), None where unscored."""
    scored = min_max([score for score in scores if score is not None])
    normalised = iter(scored)
    return [
        None if score is None else (1.0 - weight) * next(normalised) + weight * first
        for score, first in zip(scores, min_max(first_stage), strict=True)
    ]


def reciprocal_rank(
    n: int, scored: Sequence[ScoredGroup], first_stage_weight: float = 0.0
) -> list[float | None]:
    """Reciprocal rank fusion, 1 / (60 + rank), of the repeats and of the first stage.

    Each repeat ranks the documents that it asked about: by mean score, equal ones in first-stage
    order, those of failed groups at their ranks. A document's reciprocals are averaged over the
    repeats that scored it, rather than summed, so that a missing score is not one of zero; the
    first stage joins by its weight (Cormack et al., SIGIR 2009).
    """
    repeats: dict[int, list[ScoredGroup]] = defaultdict(list)
    for each in scored:
        repeats[each.group.repeat].append(each)
    reciprocals: list[list[float]] = [[] for _ in range(n)]
    for repeat in repeats.values():
        means = mean_scores(n, repeat)
        asked = sorted({member for each in repeat for member in each.group.members})
        for rank, position in enumerate(ranked_positions(asked, means), start=1):
            if means[position] is not None:
                reciprocals[position].append(1.0 / (RRF_K + rank))
    return [
        (1.0 - first_stage_weight) * statistics.fmean(found)
        + first_stage_weight / (RRF_K + position + 1)
        if found
        else None
        for position, found in enumerate(reciprocals)
    ]
