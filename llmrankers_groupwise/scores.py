"""Scores as several folders use them: means, normalisation, ties, written scores (pure)."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Literal

from llmrankers_groupwise.types import ScoredGroup

__all__ = [
    "Ties",
    "mean_scores",
    "min_max",
    "ranked_positions",
    "seeded",
    "strictly_decreasing",
    "tie_order",
]
Ties = Literal["first_stage", "doc_id", "random"]
TIES = ("first_stage", "doc_id", "random")

RRF_K = 60
"""The constant of reciprocal rank fusion (Cormack, Clarke and Büttcher, SIGIR 2009)."""

_MICRO = 1_000_000


def mean_scores(n: int, scored: Sequence[ScoredGroup]) -> list[float | None]:
    """The mean of each position's scores over its appearances; missing ones do not count."""
    totals = [0.0] * n
    counts = [0] * n
    for each in scored:
        for label, score in each.scores.scores.items():
            position = each.group.members[label - 1]
            totals[position] += score
            counts[position] += 1
    return [total / count if count else None for total, count in zip(totals, counts, strict=True)]


def min_max(values: Sequence[float]) -> list[float]:
    """Values scaled to 0..1; all 0.5 when they are equal, as they then carry no information."""
    if not values:
        return []
    low, high = min(values), max(values)
    if high == low:
        return [0.5] * len(values)
    return [(value - low) / (high - low) for value in values]


def ranked_positions(
    positions: Sequence[int],
    scores: Sequence[float | None],
    ties: Sequence[int] | None = None,
) -> list[int]:
    """`positions` best first: scored ones sorted over the indexes of scored ones, others unmoved.

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


def strictly_decreasing(scores: Sequence[float | None]) -> list[float]:
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


def seeded(*parts: object) -> random.Random:
    """A generator of its own that follows from these parts alone, on every machine."""
    return random.Random("\n".join(map(str, parts)).encode("utf-8", "surrogatepass"))
