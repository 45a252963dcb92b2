"""What combinations of plans and merges give on a collection with a judge: nDCG@10."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from judge_simulator import JudgeParameters
from judges import Collection, collection_of, embedded, made_collection, simulated
from plans import Combination, Plan, combinations, ranked
from study_tables import Measured

from llmrankers_groupwise.evaluation import evaluate_queries

Offered = Callable[[int, int, int], Sequence[Combination]]
"""n, budget, group_size -> what is measured, the baseline first; nothing to leave a budget out."""


@dataclasses.dataclass(frozen=True)
class Task:
    """What is measured on one collection.

    Attributes:
        judge: "embedded", or a simulated judge's parameters.
        name: a collection's, or "made" for lists of n that are made up.
        n: how many candidates of each query, at most.
        strength: of the first stage of lists that are made up.
        group_size: None for 20, or a fifth of lists that are shorter than 40.
    """

    shared: Path
    name: str
    run: str | None
    judge: JudgeParameters | str
    budgets: tuple[int, ...]
    n: int = 100
    group_size: int | None = None
    seeds: int = 10
    queries: int = 100
    strength: float = 1.0


def measured(task: Task, jobs: int = 1, offered: Offered = combinations) -> dict[int, Measured]:
    """Everything that is measured, by budget.

    Args:
        task: on what.
        jobs: at the same time.
        offered: the combinations.
    """
    collection = _collection(task)
    n = max(map(len, collection.doc_ids.values()))
    size = task.group_size or (20 if n >= 40 else max(2, n // 5))
    query_ids = list(collection.queries)
    parts = [query_ids[start::jobs] for start in range(jobs)]
    found = {}
    with ProcessPoolExecutor(jobs) if jobs > 1 else _Here() as pool:
        for budget in task.budgets:
            combined = list(offered(n, budget, size))
            if not combined:
                continue
            work = [(task, collection, combined, part) for part in parts]
            rankings: dict[tuple[int, int, str], list[int]] = {}
            for part in pool.map(_rankings, work):
                rankings.update(part)
            values = np.empty((len(combined), task.seeds, len(query_ids)))
            for which in range(len(combined)):
                values[which] = _ndcg(collection, query_ids, which, task.seeds, rankings)
            found[budget] = Measured(combined, values)
    return found


def first_stage(task: Task) -> float:
    """nDCG@10 of the lists as they are before anything is asked."""
    collection = _collection(task)
    orders = {
        (0, 0, query_id): range(min(10, len(doc_ids)))
        for query_id, doc_ids in collection.doc_ids.items()
    }
    return float(np.mean(_ndcg(collection, list(collection.queries), 0, 1, orders)))


def _collection(task: Task) -> Collection:
    if task.name == "made":
        return made_collection(task.n, task.strength, task.queries)
    return collection_of(task.shared, task.name, task.run, task.n, task.queries)


class _Here:
    """A pool of none: it runs what it is given."""

    map = staticmethod(map)

    def __enter__(self) -> _Here:
        return self

    def __exit__(self, *exception: object) -> None:
        """Nothing to end."""


def _rankings(
    work: tuple[Task, Collection, Sequence[Combination], Sequence[str]],
) -> dict[tuple[int, int, str], list[int]]:
    """(combination, seed, query_id) -> the best ten positions."""
    task, collection, combined, query_ids = work
    make = (
        embedded(collection) if isinstance(task.judge, str) else simulated(collection, task.judge)
    )
    by_plan: dict[Plan, list[int]] = {}
    for which, each in enumerate(combined):
        by_plan.setdefault(each.plan, []).append(which)
    found = {}
    for query_id in query_ids:
        n = len(collection.doc_ids[query_id])
        for seed in range(task.seeds):
            judge = make(query_id, seed)
            for plan, places in by_plan.items():
                merges = [combined[which].merge for which in places]
                orders = ranked(n, plan, merges, judge, seed, collection.queries[query_id])
                for which, order in zip(places, orders, strict=True):
                    found[which, seed, query_id] = order[:10]
    return found


def _ndcg(
    collection: Collection,
    query_ids: Sequence[str],
    which: int,
    seeds: int,
    rankings: Mapping[tuple[int, int, str], Sequence[int]],
) -> Any:
    """nDCG@10 of a combination: shape (seeds, queries)."""
    scores = {
        f"{query_id} {seed}": {
            collection.doc_ids[query_id][x]: -float(rank)
            for rank, x in enumerate(rankings[which, seed, query_id])
        }
        for query_id in query_ids
        for seed in range(seeds)
    }
    qrels = {each: collection.qrels[each.rpartition(" ")[0]] for each in scores}
    values = evaluate_queries(qrels, scores, ["nDCG@10"])["nDCG@10"]
    return [[values[f"{each} {seed}"] for each in query_ids] for seed in range(seeds)]
