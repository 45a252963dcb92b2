"""How well the scores of a group agree with gold scores. Pure functions of numbers.

Whole numbers 0..10 over 20 documents always tie, and the order of the prompt must not decide among
equal scores. So the measures of rankings are expected values over all orders of what is tied, each
equally likely, in closed form: each of `tied` documents with `above` others before them is at
each of the ranks above+1..above+tied with probability 1/tied (for NDCG and recall: McSherry and
Najork, ECIR 2008). Sums are rounded once, so the order of the documents does not change a bit.

`scores` and `gold` are equally long, finite and not negative; position i is one document's.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

__all__ = [
    "expected_ndcg",
    "expected_rbo",
    "expected_recall",
    "js_divergence",
    "kl_divergence",
]

CUTOFF = 10
PERSISTENCE = 0.9
SMOOTHING = 1e-6


def expected_ndcg(scores: Sequence[float], gold: Sequence[float], cutoff: int = CUTOFF) -> float:
    """Expected NDCG of the ranking by `scores`: the gains are the gold scores themselves.

    The discount is 1 / log2(rank + 1) (Järvelin and Kekäläinen, TOIS 2002). A gold score must be
    above 0. The greatest value, 1, is that of the gold scores, and of all others whose best
    `cutoff` documents are in the gold's order, up to equal gold.
    """
    wanted = tuple(gold)
    return min(1.0, _discounted_gain(tuple(scores), wanted, cutoff) / _ideal_gain(wanted, cutoff))


def expected_recall(
    scores: Sequence[float], relevant: Sequence[bool], cutoff: int = CUTOFF
) -> float:
    """Expected share of the relevant documents, at least one, that are among the first `cutoff`.

    If there are more than `cutoff` relevant documents, no ranking can have all.
    """
    found = (
        _share_within(cutoff, above, tied)
        for (above, tied), wanted in zip(_spans(tuple(scores)), relevant, strict=True)
        if wanted
    )
    return math.fsum(found) / sum(relevant)


def expected_rbo(
    scores: Sequence[float], gold: Sequence[float], persistence: float = PERSISTENCE
) -> float:
    """Expected rank-biased overlap of the rankings by `scores` and by `gold`, over the gold's own.

    Rank-biased overlap sums persistence^(d-1) * |A_d ∩ B_d| / d over the depths d, here 1..n, A_d
    being the first d documents (Webber, Moffat and Zobel, TOIS 2010). With ties in both rankings
    broken independently, a document is expected in A_d ∩ B_d with the product of its
    probabilities in A_d and in B_d; averaging over orders is RBO^a of Corsi and Urbano (SIGIR
    2024). Our definition divides by what the gold has with itself. That is the greatest value at
    every depth, reached by each order of the gold's: what the gold ties may be in any order.
    So the best is 1, as of NDCG; the worst is above 0, as at depth n all overlap.
    """
    wanted = tuple(gold)
    best = _best_overlap(wanted, persistence)
    return min(1.0, _overlap(tuple(scores), wanted, persistence) / best)


def js_divergence(scores: Sequence[float], gold: Sequence[float]) -> float:
    """Jensen-Shannon divergence of the two distributions, in bits: 0 (equal) to 1."""
    divergence = math.fsum(
        p * math.log2(2.0 * p / (p + q)) + q * math.log2(2.0 * q / (p + q))
        for p, q in zip(_distribution(tuple(scores)), _distribution(tuple(gold)), strict=True)
    )
    return min(1.0, max(0.0, divergence / 2.0))


def kl_divergence(scores: Sequence[float], gold: Sequence[float]) -> float:
    """KL(Q || P) in nats, Q the distribution of the gold scores and P that of `scores`."""
    divergence = math.fsum(
        q * math.log(q / p)
        for p, q in zip(_distribution(tuple(scores)), _distribution(tuple(gold)), strict=True)
    )
    return max(0.0, divergence)


@functools.lru_cache(maxsize=1024)
def _distribution(values: tuple[float, ...]) -> list[float]:
    """(value + 1e-6), scaled to sum 1: our definition. All zero is the uniform distribution."""
    total = math.fsum(values) + len(values) * SMOOTHING
    return [(value + SMOOTHING) / total for value in values]


@functools.lru_cache(maxsize=1024)
def _spans(scores: tuple[float, ...]) -> list[tuple[int, int]]:
    """For each document: how many score higher, and how many the same, itself included."""
    spans: dict[float, tuple[int, int]] = {}
    above = 0
    for score in sorted(set(scores), reverse=True):
        tied = scores.count(score)
        spans[score] = (above, tied)
        above += tied
    return [spans[score] for score in scores]


def _share_within(depth: int, above: int, tied: int) -> float:
    """The probability of one of `tied` documents to be among the first `depth`."""
    return min(1.0, max(0.0, (depth - above) / tied))


@functools.lru_cache(maxsize=1024)
def _ideal_gain(gold: tuple[float, ...], cutoff: int) -> float:
    return _discounted_gain(gold, gold, cutoff)


def _discounted_gain(scores: tuple[float, ...], gold: tuple[float, ...], cutoff: int) -> float:
    return math.fsum(
        gain * _mean_discount(above, tied, cutoff)
        for (above, tied), gain in zip(_spans(scores), gold, strict=True)
    )


@functools.lru_cache(maxsize=4096)
def _mean_discount(above: int, tied: int, cutoff: int) -> float:
    """The mean discount of the ranks above+1..above+tied; none beyond the cutoff."""
    ranks = range(above + 1, min(above + tied, cutoff) + 1)
    return math.fsum(1.0 / math.log2(rank + 1) for rank in ranks) / tied


@functools.lru_cache(maxsize=1024)
def _best_overlap(gold: tuple[float, ...], persistence: float) -> float:
    return _overlap(gold, gold, persistence)


def _overlap(scores: tuple[float, ...], gold: tuple[float, ...], persistence: float) -> float:
    n = len(gold)
    return math.fsum(
        _overlap_of_one(span, wanted, n, persistence)
        for span, wanted in zip(_spans(scores), _spans(gold), strict=True)
    )


@functools.lru_cache(maxsize=1 << 16)  # 20 documents with few ties have some thousand spans
def _overlap_of_one(
    span: tuple[int, int], wanted: tuple[int, int], n: int, persistence: float
) -> float:
    """What a document with these two spans of ranks is expected to add to the overlap."""
    return math.fsum(
        persistence ** (depth - 1)
        * _share_within(depth, *span)
        * _share_within(depth, *wanted)
        / depth
        for depth in range(1, n + 1)
    )
