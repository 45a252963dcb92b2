"""Merge the scores of groups and repeats, and the first stage if wanted, into one order.

Positions are 0-based first-stage ranks. All functions are pure. A document without a score keeps
its first-stage position and the scored ones are sorted around it, so a failed group falls back to
the first stage instead of sinking to the bottom.
"""

from __future__ import annotations

import random
import statistics
from collections import defaultdict
from collections.abc import Sequence
from typing import Literal

from llmrankers_groupwise.errors import SettingsError
from llmrankers_groupwise.types import Candidate, JudgedGroup

__all__ = [
    "Fusion",
    "Ties",
    "check_fusion",
    "fused_scores",
    "interpolate",
    "mean_scores",
    "min_max",
    "ranked_positions",
    "reciprocal_rank",
    "tie_order",
    "written_scores",
]

Fusion = Literal["mean", "rrf"]
_FUSIONS = ("mean", "rrf")
Ties = Literal["first_stage", "doc_id", "random"]
_TIES = ("first_stage", "doc_id", "random")

RRF_K = 60
"""The constant of reciprocal rank fusion (Cormack, Clarke and Büttcher, SIGIR 2009)."""

_MICRO = 1_000_000


def check_fusion(fusion: str, first_stage_weight: float, ties: str = "first_stage") -> None:
    """Raise SettingsError for an unknown fusion or rule for ties, or a weight outside 0..1."""
    if fusion not in _FUSIONS:
        raise SettingsError(f"fusion is {fusion!r}: give one of {', '.join(_FUSIONS)}")
    if not 0.0 <= first_stage_weight <= 1.0:
        raise SettingsError(f"first_stage_weight is {first_stage_weight}: give a number 0..1")
    if ties not in _TIES:
        raise SettingsError(f"ties is {ties!r}: give one of {', '.join(_TIES)}")


def fused_scores(
    candidates: Sequence[Candidate],
    judged: Sequence[JudgedGroup],
    fusion: Fusion = "mean",
    first_stage_weight: float = 0.0,
) -> list[float | None]:
    """One score per candidate, or None where no group scored it.

    "mean" averages a document's scores over all groups it was in, then interpolates with the
    first stage; "rrf" fuses the rankings of the repeats and, by its weight, of the first stage.
    """
    if fusion == "rrf":
        return reciprocal_rank(len(candidates), judged, first_stage_weight)
    means = mean_scores(len(candidates), judged)
    if first_stage_weight == 0.0:
        return means
    return interpolate(means, [candidate.score for candidate in candidates], first_stage_weight)


def mean_scores(n: int, judged: Sequence[JudgedGroup]) -> list[float | None]:
    """The mean of each position's scores over its appearances; missing ones do not count."""
    totals = [0.0] * n
    counts = [0] * n
    for each in judged:
        for label, score in each.scores.scores.items():
            position = each.group.members[label - 1]
            totals[position] += score
            counts[position] += 1
    return [total / count if count else None for total, count in zip(totals, counts, strict=True)]


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


def min_max(values: Sequence[float]) -> list[float]:
    """Values scaled to 0..1; all 0.5 when they are equal, as they then say nothing."""
    if not values:
        return []
    low, high = min(values), max(values)
    if high == low:
        return [0.5] * len(values)
    return [(value - low) / (high - low) for value in values]


def reciprocal_rank(
    n: int, judged: Sequence[JudgedGroup], first_stage_weight: float = 0.0
) -> list[float | None]:
    """Reciprocal rank fusion, 1 / (60 + rank), of the repeats and of the first stage.

    Each repeat ranks the documents that it asked about: by mean score, equal ones in first-stage
    order, those of failed groups at their places. A document's reciprocals are averaged over the
    repeats that scored it, rather than summed, so that a missing score is not one of zero; the
    first stage joins by its weight (Cormack et al., SIGIR 2009).
    """
    repeats: dict[int, list[JudgedGroup]] = defaultdict(list)
    for each in judged:
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


def ranked_positions(
    positions: Sequence[int],
    scores: Sequence[float | None],
    ties: Sequence[int] | None = None,
) -> list[int]:
    """`positions` best first: scored ones sorted over the places of scored ones, others unmoved.

    Equal scores go by `ties`, each position's rank among them, or by first-stage rank. Both are
    unique, so that nothing else has to decide within one query.
    """

    def key(position: int) -> tuple[float, int]:
        return -(scores[position] or 0.0), ties[position] if ties else position

    scored = [position for position in positions if scores[position] is not None]
    best_first = iter(sorted(scored, key=key))
    return [position if scores[position] is None else next(best_first) for position in positions]


def tie_order(doc_ids: Sequence[str], ties: Ties, rng: random.Random) -> list[int]:
    """For each position its rank among equal scores.

    Args:
        doc_ids: the candidates', in first-stage order.
        ties: "first_stage" keeps that; "doc_id" puts the later one first, as trec_eval does;
            "random" draws an order.
        rng: what "random" draws from.
    """
    order = list(range(len(doc_ids)))
    if ties == "doc_id":
        order.sort(key=lambda position: doc_ids[position], reverse=True)
    elif ties == "random":
        rng.shuffle(order)
    ranks = [0] * len(order)
    for rank, position in enumerate(order):
        ranks[position] = rank
    return ranks


def written_scores(scores: Sequence[float | None]) -> list[float]:
    """Scores for a ranking in this order: six decimals, each below the one before it.

    trec_eval and its kin sort by score and break ties by doc_id, so a tie would undo the order.
    A score that is missing, or not below its predecessor, becomes the predecessor less 1e-6.
    """
    top = next((score for score in scores if score is not None), 0.0)
    unscored = next((i for i, score in enumerate(scores) if score is not None), 0)
    previous = round(top * _MICRO) + unscored + 1
    written = []
    for score in scores:
        previous -= 1
        if score is not None:
            previous = min(previous, round(score * _MICRO))
        written.append(previous / _MICRO)
    return written
