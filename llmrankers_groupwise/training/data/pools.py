"""Pools of documents to be scored, and what teachers' scores or judgements make of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Annotated

from llmrankers_groupwise.data.first_stage import FirstStage
from llmrankers_groupwise.data.qrels import Qrels
from llmrankers_groupwise.data.run_files import RunEntry
from llmrankers_groupwise.errors import InputError
from llmrankers_groupwise.scores import seeded
from llmrankers_groupwise.settings import INTERNAL
from llmrankers_groupwise.training.data.labels import (
    Labelled,
    average_ranks,
    fused_labels,
    gold_scores,
    pool_ranks,
)
from llmrankers_groupwise.training.data.teachers import TeacherScores
from llmrankers_groupwise.types import Candidate, Query

__all__ = ["Cut", "PoolSettings", "Pools", "judged_pools", "labelled_pools", "make_pools"]

Cut = Callable[[str, Sequence[RunEntry]], tuple[Query, list[Candidate]]]
"""A query of the pools, and its documents: their texts as training rows show them."""


@dataclass(frozen=True, kw_only=True)
class PoolSettings:
    """Which documents make a pool: see `labels.pool_ranks`, whose defaults these are.

    Attributes:
        top: the number of best candidates that are in every pool.
        sampled: the number of candidates that are drawn from the ranks after those.
        deepest: the last rank to draw from, and the number of candidates taken of each source.
        seed: with the query_id what the sample follows from, so that one query more or less changes
            no other one's.
    """

    top: int = 10
    sampled: int = 40
    deepest: int = 200
    seed: Annotated[int, INTERNAL] = 0

    def __post_init__(self) -> None:
        pool_ranks(0, seeded(self.seed), top=self.top, sampled=self.sampled, deepest=self.deepest)

    @property
    def size(self) -> int:
        """The most documents of a pool."""
        return self.top + self.sampled


@dataclass
class Pools:
    """Pools of all queries, and what was left out.

    Attributes:
        stage: the pools as a run, with texts.
        counts: what -> how many.
    """

    stage: FirstStage
    counts: Counter[str] = field(default_factory=Counter)


def make_pools(stage: FirstStage, settings: PoolSettings, *, allow_missing: bool = False) -> Pools:
    """Draw a pool for every query; the best ranked one of equal texts in a pool is kept.

    Texts that differ in their spaces alone are equal.

    Args:
        stage: the candidates, best first.
        settings: which of them make a pool.
        allow_missing: leave out what has no text, and count it, instead of raising.

    Raises:
        InputError: something has no text.
    """
    counts: Counter[str] = Counter(queries=len(stage.run))
    run: dict[str, list[RunEntry]] = {}
    problems: list[str] = []
    for query_id, entries in stage.run.items():
        if not stage.queries.get(query_id):
            problems.append(f"query {query_id} has no text")
            counts["queries_without_text"] += 1
            continue
        if not entries:
            counts["queries_without_candidates"] += 1
            continue
        rng = seeded(settings.seed, "pool", query_id)
        ranks = pool_ranks(
            len(entries), rng, top=settings.top, sampled=settings.sampled, deepest=settings.deepest
        )
        drawn = [entries[rank] for rank in ranks]
        texts = stage.passages.texts(query_id, [entry.doc_id for entry in drawn])
        kept: dict[str, RunEntry] = {}
        for entry, whole in zip(drawn, texts, strict=True):
            text = " ".join((whole or "").split())
            if not text:
                problems.append(f"document {entry.doc_id} of query {query_id} has no text")
                counts["documents_without_text"] += 1
            elif text in kept:
                counts["duplicate_documents"] += 1
            else:
                kept[text] = entry
        if kept:
            run[query_id] = list(kept.values())
            counts["documents"] += len(kept)
    if problems and not allow_missing:
        raise InputError(
            f"{len(problems)} texts are missing, the first: {'; '.join(problems[:5])}; fix the "
            f"files, or give --allow_missing to leave these out"
        )
    if not run:
        raise InputError("no query has candidates with texts, so there are no pools")
    counts["pools"] = len(run)
    return Pools(FirstStage(run, stage.queries, stage.passages), counts)


def labelled_pools(
    pools: Pools,
    pointwise: TeacherScores,
    listwise: TeacherScores,
    beta: float,
    smallest: int,
    cut: Cut,
) -> Iterator[Labelled]:
    """The pools with labels, one at a time, and what is left out counted in `pools.counts`.

    A document that the pointwise teacher did not score is left out; one that the listwise teacher
    did not rank has the mean of the ranks that were left. A query is left out whose order the
    listwise teacher did not give, whose labels are all equal, or whose pool is too small.

    Args:
        pools: what was scored.
        pointwise: the scores of the one teacher.
        listwise: those of the other.
        beta: see `labels.fused_labels`.
        smallest: the fewest documents of a pool.
        cut: gives the texts.
    """
    for query_id, entries in pools.stage.run.items():
        if query_id not in listwise.ranks:
            pools.counts["queries_without_order"] += 1
            continue
        points, order = pointwise.ranks.get(query_id, {}), listwise.ranks[query_id]
        scored = [entry for entry in entries if entry.doc_id in points]
        pools.counts["documents_unjudged"] += len(entries) - len(scored)
        query, candidates = cut(query_id, scored)
        different = _different(candidates, pools.counts)
        scored = [scored[index] for index in different]
        if len(scored) < max(2, smallest):
            pools.counts["pools_too_small"] += 1
            continue
        # Again as ranks, as documents were left out of the order.
        ranks = average_ranks([-order[entry.doc_id] for entry in scored])
        labels = fused_labels([points[entry.doc_id] for entry in scored], ranks, beta)
        if min(labels) == max(labels):
            pools.counts["pools_all_equal"] += 1
            continue
        shown = [candidates[index] for index in different]
        yield _labelled(query, shown, gold_scores(labels), pools.counts)


def judged_pools(
    pools: Pools, qrels: Qrels, smallest: int, cut: Cut, *, seed: int
) -> Iterator[Labelled]:
    """Pools made of judgements: a relevant document, with gold 10, and others that are not, with 0.

    One of the relevant documents of the highest grade is drawn; it need not be in the pool.
    What is left out is counted in `pools.counts`.

    Args:
        pools: the first stage; documents that are relevant are no others.
        qrels: the judgements; grades from 1 on are relevant.
        smallest: the fewest documents of a pool.
        cut: gives the texts.
        seed: draws the relevant one.
    """
    for query_id, entries in pools.stage.run.items():
        grades = qrels.get(query_id, {})
        best = max(grades.values(), default=0)
        if best < 1:
            pools.counts["queries_without_relevant"] += 1
            continue
        relevant = sorted(doc_id for doc_id, grade in grades.items() if grade == best)
        chosen = seeded(seed, "relevant", query_id).choice(relevant)
        others = [entry for entry in entries if grades.get(entry.doc_id, 0) < 1]
        query, candidates = cut(query_id, [RunEntry(chosen, 0.0), *others])
        if not candidates[0].text:
            pools.counts["queries_whose_relevant_has_no_text"] += 1
            continue
        shown = [candidates[index] for index in _different(candidates, pools.counts)]
        if len(shown) < max(2, smallest):
            pools.counts["pools_too_small"] += 1
            continue
        gold = [10.0] + [0.0] * (len(shown) - 1)
        yield _labelled(query, shown, gold, pools.counts)


def _different(candidates: Sequence[Candidate], counts: Counter[str]) -> list[int]:
    """Indexes of the documents that still differ when they are cut; the first of equal ones."""
    seen: dict[str, int] = {}
    for index, each in enumerate(candidates):
        if each.text:
            seen.setdefault(each.text, index)
    counts["duplicate_documents"] += len(candidates) - len(seen)
    return list(seen.values())


def _labelled(
    query: Query, candidates: Sequence[Candidate], gold: Sequence[float], counts: Counter[str]
) -> Labelled:
    """In label order; ties are broken by the first stage."""
    order = sorted(range(len(gold)), key=lambda index: -gold[index])
    counts["labelled_pools"] += 1
    counts["labelled_documents"] += len(gold)
    counts["tied_labels"] += sum(gold.count(each) > 1 for each in gold)
    return Labelled(
        query_id=query.query_id,
        query=query.text,
        doc_ids=tuple(str(candidates[index].doc_id) for index in order),
        texts=tuple(candidates[index].text or "" for index in order),
        gold=tuple(gold[index] for index in order),
        first_stage=tuple(index + 1 for index in order),
    )
