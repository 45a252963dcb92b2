"""Which groups, calibration and second round give the best ranking for the same number of calls.

Every plan with every merge (`plans`) is run on the same judge (`judges`), for so
many calls a query. Half of the queries, every other one, choose: the best combination of each
budget on them is reported on the other half, against random groups at the same cost. Intervals are
of the bootstrap, 95 %, that draws queries and seeds anew together. What may become a
default is held against random groups one change at a time, on all queries, under a wide range of
judges (`decision`).

    python benchmarks/grouping/study.py study --shared DIR --save_path OUT --seeds 10 --jobs 2
    python benchmarks/grouping/study.py study --shared DIR --save_path OUT --judge embedded
    python benchmarks/grouping/study.py study --shared DIR --save_path OUT --set drift=2 noise=3
    python benchmarks/grouping/study.py decide --shared DIR --save_path OUT --seeds 3 --jobs 2
    python benchmarks/grouping/study.py lists --shared DIR --save_path OUT --seeds 3 --queries 40
    python benchmarks/grouping/study.py recorded --shared DIR
"""

from __future__ import annotations

import argparse
import dataclasses
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from decision import Setting, against, changes, settings_of
from decision_tables import (
    decision_table,
    gains_table,
    judges_table,
    places_table,
    save_gains_plot,
)
from judge_fit import fit
from judge_simulator import IDEAL, JudgeParameters
from judges import RUNS, recorded_table
from measure import Task, first_stage, measured
from plans import MERGES, Combination
from study_tables import (
    BASELINE,
    chosen_table,
    common_table,
    every_table,
    save_plot,
)

LENGTHS = (20, 50, 100, 200, 500)
STRENGTHS = (0.5, 0.75, 1.0)
BUDGETS = (5, 6, 10, 15, 30)
FINALS = "a quarter of the calls finals of 20"
FEWER = ({6: 10, 10: 15, 20: 30}, {10: 20, 15: 30}, {10: 30})
"""Calls with finals -> calls of random groups, which are more."""
RIVALS = (
    (FINALS, "mixed groups"),
    (FINALS, "strided groups"),
    (FINALS, "half of the calls finals of 20"),
    ("quarter finals, shrinkage 0.5", FINALS),
    ("quarter finals, rrf", FINALS),
    ("strided, quarter finals", FINALS),
    ("strided, quarter finals", "strided groups"),
)
PLOTTED = (
    FINALS, "quarter finals, rrf", "strided, quarter finals", "strided groups", "shrinkage 0.5",
    "zscore", "minmax", "bradley_terry",
)  # fmt: skip
SWEEP: Mapping[str, Mapping[str, float]] = {
    "as fitted": {},
    "noise 0.5": {"noise": 0.5}, "noise 3": {"noise": 3.0},
    "bias 0.5": {"bias": 0.5}, "bias 3": {"bias": 3.0},
    "drift 0": {"drift": 0.0}, "drift 1.5": {"drift": 1.5}, "drift 3": {"drift": 3.0},
    "contrast 0": {"contrast": 0.0}, "contrast 0.5": {"contrast": 0.5},
    "context 0.5": {"context": 0.5}, "context 1": {"context": 1.0},
    "position -1": {"position": -1.0}, "position 0": {"position": 0.0},
    "position 3": {"position": 3.0},
    "levels 5": {"levels": 5}, "levels 0": {"levels": 0},
    "malformed 0.1": {"malformed": 0.1}, "malformed 0.3": {"malformed": 0.3},
    "missing 0.1": {"missing": 0.1},
}  # fmt: skip


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
    lines = [
        "# Grouping\n",
        f"Judge: {_told(judge)}. {arguments.seeds} seeds, N up to {arguments.n}.",
    ]
    results, rows = {}, []
    for name in arguments.collections:
        started = time.perf_counter()
        results[name] = measured(_task(arguments, name, judge), arguments.jobs)
        seconds = f"\n{time.perf_counter() - started:.0f} s"
        before = f"\nThe first stage: {first_stage(_task(arguments, name, judge)):.4f}"
        lines += _shown([*chosen_table(name, results[name]), before, seconds])
        rows += [f"\n## {name}, everything", *every_table(results[name])]
    save_plot(results, arguments.save_path.with_suffix(".svg"))
    return lines + common_table(results) + rows


def decide(arguments: argparse.Namespace) -> list[str]:
    """One change after the other, on every collection under every judge."""
    judge = fit(arguments.shared)[0]
    settings: list[Setting] = []
    for name, changed in SWEEP.items():
        given: dict[str, Any] = dict(changed)
        for collection in arguments.collections:
            task = _task(arguments, collection, dataclasses.replace(judge, **given))
            settings += _settings(task, name, collection, arguments.jobs)
        _shown([f"{name}: done"])
    told = list(dict.fromkeys(each.change for each in settings))
    plot = arguments.save_path.with_suffix(".svg")
    save_gains_plot(settings, PLOTTED, plot, lambda each: each.judge)
    fewer = [each for calls in FEWER for each in against(settings, FINALS, BASELINE, calls)]
    stages = {name: first_stage(_task(arguments, name, judge)) for name in arguments.collections}
    before = ", ".join(f"{name} {value:.3f}" for name, value in stages.items())
    others = [*fewer, *(each for pair in RIVALS for each in against(settings, *pair))]
    return [
        "# Which changes may become defaults\n",
        *decision_table(settings),
        f"\nnDCG@10 of the first stage: {before}.",
        f"\n## Better / worse, by calls, of {len(SWEEP)} judges and {len(RUNS)} collections\n",
        *places_table(settings, by_collection=False),
        f"\n## Better / worse, of {len(SWEEP)} judges\n",
        *places_table(settings),
        "\n## Finals against other rivals, and for fewer calls\n",
        *decision_table(others),
        f"\nBetter / worse, of {len(SWEEP)} judges:\n",
        *places_table(others),
        "\nThe judge as fitted:\n",
        *gains_table(others, next(iter(SWEEP))),
        "\n## The judge as fitted\n",
        *gains_table(settings, next(iter(SWEEP))),
        "\n## Every judge\n",
        *judges_table(settings, told),
    ]


def lists(arguments: argparse.Namespace) -> list[str]:
    """The same changes on made-up lists of other lengths behind other first stages.

    Budgets go with lengths: one round, one call more, two rounds and four.
    """
    judge = judge_of(arguments)
    lines, everything = ["# Other lengths and first stages\n", f"Judge: {_told(judge)}."], []
    for strength in STRENGTHS:
        settings: list[Setting] = []
        before = []
        for n in LENGTHS:
            groups = -(-n // 20)
            task = dataclasses.replace(
                _task(arguments, "made", judge),
                budgets=tuple(dict.fromkeys((groups, groups + 1, 2 * groups, 4 * groups))),
                n=n,
                group_size=20,
                strength=strength,
            )
            settings += _settings(task, f"first stage {strength:g}", f"N = {n}", arguments.jobs)
            before.append(f"{first_stage(task):.3f} for N = {n}")
        lines.append(f"\n## A first stage of strength {strength:g}\n")
        lines.append(f"nDCG@10 of the first stage: {', '.join(before)}.\n")
        lines += _shown(gains_table(settings, f"first stage {strength:g}"))
        everything += settings
    plot = arguments.save_path.with_suffix(".svg")
    save_gains_plot(everything, PLOTTED, plot, lambda each: f"{each.judge}, {each.collection}")
    return lines


def _told(judge: JudgeParameters | str) -> str:
    if isinstance(judge, str):
        return judge
    return ", ".join(f"{name} {value:.3g}" for name, value in vars(judge).items())


def _settings(task: Task, judge: str, collection: str, jobs: int) -> list[Setting]:
    """All changes against random groups, for every budget that they can be compared for."""
    names: list[list[str]] = []

    def offered(n: int, budget: int, size: int) -> list[Combination]:
        found = changes(n, budget, size)
        if found:
            names.append(list(found))
        return list(found.values())

    found = measured(task, jobs, offered)
    return [
        each
        for (budget, values), known in zip(found.items(), names, strict=True)
        for each in settings_of(judge, collection, budget, known, values.values)
    ]


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
    parser.add_argument("what", choices=("study", "decide", "lists", "recorded"))
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
    commands = {"study": study, "decide": decide, "lists": lists}
    lines = commands[arguments.what](arguments)
    arguments.save_path.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
