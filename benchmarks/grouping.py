"""Which groups, calibration and second round give the best ranking for the same number of calls.

Every plan with every merge (`grouping_plans`) is run on the same judge (`grouping_judges`), for so
many calls a query. Half of the queries, every other one, choose: the best combination of each
budget on them is reported on the other half, against random groups at the same cost. Intervals are
of the bootstrap, 95 %, that draws queries and seeds anew together.

    python benchmarks/grouping.py study --shared DIR --save_path OUT --seeds 10 --jobs 2
    python benchmarks/grouping.py study --shared DIR --save_path OUT --judge embedded --seeds 3
    python benchmarks/grouping.py study --shared DIR --save_path OUT --set drift=2 noise=3
    python benchmarks/grouping.py sweep --shared DIR --save_path OUT --seeds 3 --jobs 2
    python benchmarks/grouping.py lists --shared DIR --save_path OUT --seeds 3 --queries 40
    python benchmarks/grouping.py recorded --shared DIR
"""

from __future__ import annotations

import argparse
import dataclasses
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from grouping_judges import (
    RUNS,
    Collection,
    collection_of,
    embedded,
    made_collection,
    recorded_table,
    simulated,
)
from grouping_plans import MERGES, Combination, Plan, combinations, ranked
from grouping_report import (
    SWEEP_HEADER,
    Measured,
    chosen_table,
    common_table,
    every_table,
    save_plot,
    sweep_rows,
)
from judge_fit import fit
from judge_simulator import IDEAL, JudgeParameters

from llmrankers_groupwise.evaluation import evaluate_queries

LENGTHS = (20, 50, 100, 200, 500)
STRENGTHS = (0.5, 1.0, 2.0)
BUDGETS = (5, 6, 10, 15, 30)
SWEEP: Mapping[str, Mapping[str, float]] = {
    "as fitted": {},
    "noise 0.5": {"noise": 0.5}, "noise 3": {"noise": 3.0},
    "bias 0.5": {"bias": 0.5}, "bias 3": {"bias": 3.0},
    "drift 0": {"drift": 0.0}, "drift 1.5": {"drift": 1.5}, "drift 3": {"drift": 3.0},
    "contrast 0": {"contrast": 0.0}, "contrast 0.5": {"contrast": 0.5},
    "context 0.5": {"context": 0.5}, "context 1": {"context": 1.0},
    "position 0": {"position": 0.0}, "position 3": {"position": 3.0},
    "levels 5": {"levels": 5}, "levels 0": {"levels": 0},
    "malformed 0.1": {"malformed": 0.1}, "malformed 0.3": {"malformed": 0.3},
    "missing 0.1": {"missing": 0.1},
}  # fmt: skip


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


def measured(task: Task, jobs: int = 1) -> dict[int, Measured]:
    """Everything that is measured, by budget."""
    if task.name == "made":
        collection = made_collection(task.n, task.strength, task.queries)
    else:
        collection = collection_of(task.shared, task.name, task.run, task.n, task.queries)
    n = max(map(len, collection.doc_ids.values()))
    size = task.group_size or (20 if n >= 40 else max(2, n // 5))
    query_ids = list(collection.queries)
    parts = [query_ids[start::jobs] for start in range(jobs)]
    found = {}
    with ProcessPoolExecutor(jobs) if jobs > 1 else _Here() as pool:
        for budget in task.budgets:
            combined = combinations(n, budget, size)
            work = [(task, collection, combined, part) for part in parts]
            rankings: dict[tuple[int, int, str], list[int]] = {}
            for part in pool.map(_rankings, work):
                rankings.update(part)
            values = np.empty((len(combined), task.seeds, len(query_ids)))
            for which in range(len(combined)):
                values[which] = _ndcg(collection, query_ids, which, task.seeds, rankings)
            found[budget] = Measured(combined, values)
    return found


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


def judge_of(arguments: argparse.Namespace) -> JudgeParameters | str:
    """The judge that was asked for; of the simulated one with what was set."""
    if arguments.judge == "embedded":
        return "embedded"
    parameters = IDEAL if arguments.judge == "ideal" else fit(arguments.shared)[0]
    given = dict(each.split("=", 1) for each in arguments.set)
    changed: dict[str, Any] = {
        name: int(value) if name == "levels" else float(value) for name, value in given.items()
    }
    return dataclasses.replace(parameters, **changed)


def study(arguments: argparse.Namespace) -> list[str]:
    """Every combination on every collection."""
    judge = judge_of(arguments)
    lines = ["# Grouping\n", f"Judge: {judge}. {arguments.seeds} seeds, N up to {arguments.n}."]
    results, rows = {}, []
    for name in arguments.collections:
        started = time.perf_counter()
        results[name] = measured(_task(arguments, name, judge), arguments.jobs)
        lines += chosen_table(name, results[name])
        lines.append(f"\n{time.perf_counter() - started:.0f} s")
        rows += [f"\n## {name}, everything", *every_table(results[name])]
        print("\n".join(lines[-10:]), flush=True)
    save_plot(results, arguments.save_path.with_suffix(".svg"))
    return lines + common_table(results) + rows


def sweep(arguments: argparse.Namespace) -> list[str]:
    """What is best under one change of the fitted judge after the other, on one collection."""
    judge = fit(arguments.shared)[0]
    lines = list(SWEEP_HEADER)
    for name, changed in SWEEP.items():
        given: dict[str, Any] = dict(changed)
        task = _task(arguments, arguments.collections[0], dataclasses.replace(judge, **given))
        lines += _shown(sweep_rows(name, measured(task, arguments.jobs)))
    return lines


def lists(arguments: argparse.Namespace) -> list[str]:
    """What is best for made-up lists of other lengths and first stages; budgets go with lengths."""
    judge = judge_of(arguments)
    lines = list(SWEEP_HEADER)
    for n in LENGTHS:
        groups = -(-n // 20)
        for strength in STRENGTHS:
            task = dataclasses.replace(
                _task(arguments, "made", judge),
                budgets=(groups, groups + 1, 2 * groups),
                n=n,
                group_size=20,
                strength=strength,
            )
            found = measured(task, arguments.jobs)
            lines += _shown(sweep_rows(f"N = {n}, first stage {strength:g}", found))
    return lines


def _shown(lines: list[str]) -> list[str]:
    print("\n".join(lines), flush=True)
    return lines


def _task(arguments: argparse.Namespace, name: str, judge: JudgeParameters | str) -> Task:
    return Task(
        arguments.shared, name, arguments.run, judge, tuple(arguments.budgets), arguments.n,
        seeds=arguments.seeds, queries=arguments.queries,
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", choices=("study", "sweep", "lists", "recorded"))
    parser.add_argument("--shared", required=True, type=Path)
    parser.add_argument("--save_path", type=Path, help="a Markdown file; the plot is beside it")
    parser.add_argument("--judge", choices=("fitted", "ideal", "embedded"), default="fitted")
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE")
    parser.add_argument("--collections", nargs="+", default=list(RUNS))
    parser.add_argument("--run", help="another first stage, e.g. splade_pp_ed")
    parser.add_argument("--budgets", nargs="+", type=int, default=list(BUDGETS))
    parser.add_argument("--n", type=int, default=100)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--queries", type=int, default=100, help="of a collection, at most")
    parser.add_argument("--jobs", type=int, default=1)
    arguments = parser.parse_args()
    if arguments.what == "recorded":
        print("\n".join(recorded_table(arguments.shared, MERGES)))
        return
    if arguments.save_path is None:
        parser.error(f"{arguments.what} needs --save_path")
    lines = {"study": study, "sweep": sweep, "lists": lists}[arguments.what](arguments)
    arguments.save_path.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
