"""From a ranked list to training lists: pool, fused labels, gold scores, sub-lists (pure).

GroupRank (arXiv 2511.11653v3, section on data synthesis). Two teachers score a pool of documents
once; sub-lists of many sizes are cut from the label order that they agree on, so that a pool is
scored twice, whatever number of training lists comes of it.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from llmrankers_groupwise.errors import SettingsError
from llmrankers_groupwise.scores import min_max
from llmrankers_groupwise.types import MAX_SCORE

__all__ = [
    "RL_SIZES",
    "SFT_SIZES",
    "Kind",
    "Labelled",
    "SubList",
    "average_ranks",
    "drawn_size",
    "fused_labels",
    "gold_scores",
    "interval_sample",
    "pool_ranks",
    "setwise_list",
    "size_shares",
    "sub_list",
]

Kind = Literal["sft", "rl"]
SMALLEST, LARGEST = 5, 20

SFT_SIZES: Mapping[int, float] = {10: 9321 / 19262, 20: 8711 / 19262}
RL_SIZES: Mapping[int, float] = {10: 2389 / 5907, 20: 2393 / 5907}
"""The published shares of two sizes; the other sizes of 5..20 share the rest alike (ours)."""


def pool_ranks(n: int, rng: random.Random, *, top: int, sampled: int, deepest: int) -> list[int]:
    """Which of n ranked documents make the pool: 0-based, ascending.

    Args:
        n: how many there are.
        rng: draws the sample.
        top: how many of the best are always in it.
        sampled: how many are drawn from those after them, down to rank `deepest`.
        deepest: counted from 1.

    Raises:
        SettingsError: a number is out of its range.
    """
    if not (top >= 0 and sampled >= 0 and top + sampled >= 1 and deepest >= top):
        raise SettingsError(
            f"a pool of the top {top} and {sampled} more down to rank {deepest} cannot be: give "
            f"numbers from 0, at least one document, and a deepest rank after the top ones"
        )
    rest = range(top, min(n, deepest))
    drawn = rng.sample(rest, min(sampled, len(rest)))
    return [*range(min(top, n)), *sorted(drawn)]


def fused_labels(
    pointwise: Sequence[float], listwise: Sequence[float], beta: float = 0.5
) -> list[float]:
    """S(d) = -beta ln L_p(d) - (1 - beta) ln L_l(d): the higher the better.

    Args:
        pointwise: the rank, from 1, that this teacher gives each document; ties share a mean rank.
        listwise: that of the other teacher.
        beta: the pointwise teacher's share, 0..1.

    Raises:
        SettingsError: beta is out of its range.
    """
    if not 0.0 <= beta <= 1.0:
        raise SettingsError(f"beta is {beta}: give a number 0..1")
    return [
        -beta * math.log(p) - (1.0 - beta) * math.log(q)
        for p, q in zip(pointwise, listwise, strict=True)
    ]


def gold_scores(labels: Sequence[float]) -> list[float]:
    """10 x minmax(S) over the pool: the best document has 10, the worst 0 (our definition)."""
    return [MAX_SCORE * each for each in min_max(labels)]


def average_ranks(scores: Sequence[float]) -> list[float]:
    """Ranks from 1, the highest score first; equal scores share the mean of their ranks."""
    order = sorted(range(len(scores)), key=lambda index: -scores[index])
    ranks = [0.0] * len(scores)
    start = 0
    for _, group in itertools.groupby(order, key=lambda index: scores[index]):
        tied = list(group)
        for index in tied:
            ranks[index] = start + (len(tied) + 1) / 2
        start += len(tied)
    return ranks


def size_shares(kind: Kind) -> dict[int, float]:
    """The published share of each size 5..20 among the rows of this kind."""
    shares = SFT_SIZES if kind == "sft" else RL_SIZES
    rest = (1.0 - sum(shares.values())) / (LARGEST - SMALLEST + 1 - len(shares))
    return {size: shares.get(size, rest) for size in range(SMALLEST, LARGEST + 1)}


def drawn_size(shares: Mapping[int, float], largest: int, rng: random.Random) -> int:
    """The size of a sub-list.

    Args:
        shares: size -> its share, as `size_shares`.
        largest: sizes above it are not drawn, as a pool has no more documents.
        rng: draws it.

    Raises:
        SettingsError: not even the smallest fits.
    """
    sizes = [size for size in shares if size <= largest]
    if not sizes:
        raise SettingsError(
            f"a pool of {largest} documents is too small: a list has {min(shares)} at least"
        )
    return rng.choices(sizes, [shares[size] for size in sizes])[0]


def interval_sample(n: int, size: int, rng: random.Random) -> list[int]:
    """`size` of n indexes in label order, one from each of `size` equal intervals, ascending.

    So that a list spans the whole range of labels, whatever its size.
    """
    cuts = [round(part * n / size) for part in range(size + 1)]
    return [rng.randrange(start, end) for start, end in itertools.pairwise(cuts)]


@dataclass(frozen=True)
class Labelled:
    """A pool with its labels, best first.

    Attributes:
        query_id: the query's.
        query: its text.
        doc_ids: the documents, in the order of their labels.
        texts: their passages.
        gold: their scores 0..10, descending.
        first_stage: their ranks in the pool, from 1.
    """

    query_id: str
    query: str
    doc_ids: tuple[str, ...]
    texts: tuple[str, ...]
    gold: tuple[float, ...]
    first_stage: tuple[int, ...]


@dataclass(frozen=True)
class SubList:
    """A training list in prompt order.

    Attributes:
        members: indexes in the pool's label order.
        gold: their scores 0..10.
        relevant: whether each is relevant: in a groupwise list one of the best min(10, size // 2)
            (our definition), in a setwise list the best.
    """

    members: tuple[int, ...]
    gold: tuple[float, ...]
    relevant: tuple[bool, ...]

    @property
    def best(self) -> int:
        """The label, from 1, of the first relevant document."""
        return self.relevant.index(True) + 1


def sub_list(pool: Labelled, size: int, rng: random.Random) -> SubList:
    """A list of this size by interval sampling, in random order."""
    indexes = interval_sample(len(pool.doc_ids), size, rng)
    return _shuffled(pool, indexes, min(10, size // 2), rng)


def setwise_list(pool: Labelled, size: int, rng: random.Random) -> SubList:
    """The best document of the pool among others, drawn from all with a lower score.

    Args:
        pool: labels and texts.
        size: documents of the list; fewer where not enough score lower.
        rng: draws the others, and the order.
    """
    lower = [index for index, gold in enumerate(pool.gold) if gold < pool.gold[0]]
    others = rng.sample(lower, min(size - 1, len(lower)))
    return _shuffled(pool, [0, *others], 1, rng)


def _shuffled(pool: Labelled, indexes: list[int], relevant: int, rng: random.Random) -> SubList:
    """These indexes, best first, in random order; the first `relevant` are relevant."""
    best = set(indexes[:relevant])
    rng.shuffle(indexes)
    return SubList(
        tuple(indexes),
        tuple(pool.gold[index] for index in indexes),
        tuple(index in best for index in indexes),
    )
