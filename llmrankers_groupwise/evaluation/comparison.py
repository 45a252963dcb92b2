"""Runs side by side: measures query by query, what they cost, and whether they differ."""

from __future__ import annotations

import logging
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from llmrankers_groupwise.data.manifest import manifest_path, read_manifest
from llmrankers_groupwise.data.qrels import Qrels
from llmrankers_groupwise.errors import FileError, SettingsError
from llmrankers_groupwise.evaluation.measures import check_measures
from llmrankers_groupwise.evaluation.per_query import PerQueryMeasures
from llmrankers_groupwise.evaluation.significance import (
    confidence_interval,
    holm,
    outcomes,
    randomisation_tests,
    t_test,
)

__all__ = [
    "COMPARED_MEASURES",
    "ComparedRun",
    "Comparison",
    "Costs",
    "PairedTests",
    "compare_runs",
    "read_costs",
]

COMPARED_MEASURES = ("nDCG@10", "nDCG@5", "AP", "RR", "R@100", "P@10")

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Costs:
    """What a run cost, by its manifest; None is what that does not say.

    Attributes:
        calls: questions asked of the engine, those answered before included.
        rounds: how many calls its queries waited for one after another, summed over queries.
        prompt_tokens, completion_tokens: of all calls.
        seconds: wall time; None where replies of an earlier run, or recorded ones, were used.
        failed, groups: the groups without a score, and all groups.
        method: e.g. "groupwise".
        model: the model's name, else the engine's.
    """

    calls: int | None = None
    rounds: int | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    seconds: float | None = None
    failed: int | None = None
    groups: int | None = None
    method: str | None = None
    model: str | None = None


@dataclass(frozen=True)
class PairedTests:
    """A run against the baseline by one measure, query by query.

    Attributes:
        difference: of the means, the run's less the baseline's.
        t_p, randomisation_p: p-values, two-sided, of the paired t test and the paired
            randomisation test. The former is None where it says nothing: of one query, or where
            all differences are equal.
        t_p_holm, randomisation_p_holm: the same corrected over all tests of their kind.
        wins, ties, losses: queries in which the run is better, equal, worse.
    """

    difference: float
    t_p: float | None
    t_p_holm: float | None
    randomisation_p: float
    randomisation_p_holm: float
    wins: int
    ties: int
    losses: int


@dataclass(frozen=True)
class ComparedRun:
    """One run of a comparison.

    Attributes:
        name: what the comparison calls it.
        path: the run file.
        means: measure -> mean over all judged queries (also where ir_measures sums up, as NumRet).
        intervals: measure -> the mean's 95 % confidence interval by Student's t distribution;
            empty where only one query is judged.
        per_query: measure -> query_id -> value, of all judged queries in the order of the qrels.
        against: measure -> tests against the baseline; empty for the baseline itself.
        costs: what its manifest says; None without one.
        missing: judged queries that the run does not have; they count 0.
        unjudged_queries: queries of the run that are not judged; they do not count.
        unjudged_at_10: how many of a query's first ten documents are not judged, 0..10: the mean
            over the judged queries that the run has.
        ties: documents of judged queries whose score another document of the query has, too, in
            single precision, in which trec_eval compares them. Those it orders by doc_id.
    """

    name: str
    path: Path
    means: Mapping[str, float]
    intervals: Mapping[str, tuple[float, float]]
    per_query: Mapping[str, Mapping[str, float]]
    against: Mapping[str, PairedTests]
    costs: Costs | None
    missing: tuple[str, ...]
    unjudged_queries: tuple[str, ...]
    unjudged_at_10: float
    ties: int


@dataclass(frozen=True)
class Comparison:
    """Runs compared.

    Attributes:
        measures: names of ir_measures.
        baseline: the name of the run that the others are tested against.
        query_ids: all judged queries, in the order of the qrels.
        runs: in the order in which they were given.
    """

    measures: tuple[str, ...]
    baseline: str
    query_ids: tuple[str, ...]
    runs: tuple[ComparedRun, ...]

    def as_dict(self) -> dict[str, Any]:
        """Everything, ready for JSON."""
        described = asdict(self)
        for run in described["runs"]:
            run["path"] = str(run["path"])
        return described


def compare_runs(
    qrels: Qrels,
    paths: Mapping[str, str | Path],
    measures: Sequence[str] = COMPARED_MEASURES,
    baseline: str | None = None,
    seed: int = 0,
) -> Comparison:
    """Measure runs over every judged query, and test them against one of them.

    Args:
        qrels: query_id -> doc_id -> grade.
        paths: name -> run file, plain or gzip; costs are read from `<file>.manifest.json`.
        measures: names of ir_measures.
        baseline: the name of a run; None for the first.
        seed: of the randomisation tests.

    Raises:
        FileError: a run file is malformed or empty.
        InputError: a run has none of the judged queries.
        SettingsError: no run, an unknown baseline or measure.
    """
    measures = tuple(dict.fromkeys(measures))
    if not paths or not measures:
        raise SettingsError("nothing to compare: give at least one run and one measure")
    baseline = next(iter(paths)) if baseline is None else baseline
    if baseline not in paths:
        raise SettingsError(f"there is no run {baseline!r}: the baseline is one of {_list(paths)}")
    check_measures(measures)
    found = {
        name: PerQueryMeasures(name, Path(path), qrels, measures) for name, path in paths.items()
    }
    tests = _tests(found, baseline, measures, seed)
    runs = tuple(_compared(each, tests[name]) for name, each in found.items())
    return Comparison(measures, baseline, tuple(qrels), runs)


def _compared(run: PerQueryMeasures, against: Mapping[str, PairedTests]) -> ComparedRun:
    values = {measure: list(each.values()) for measure, each in run.per_query.items()}
    intervals = {measure: confidence_interval(each) for measure, each in values.items()}
    return ComparedRun(
        name=run.name,
        path=run.path,
        means={measure: statistics.fmean(each) for measure, each in values.items()},
        intervals={measure: each for measure, each in intervals.items() if each is not None},
        per_query=run.per_query,
        against=against,
        costs=read_costs(run.path),
        missing=run.missing,
        unjudged_queries=run.unjudged_queries,
        unjudged_at_10=run.unjudged_at_10,
        ties=run.ties,
    )


def _tests(
    found: Mapping[str, PerQueryMeasures], baseline: str, measures: Sequence[str], seed: int
) -> dict[str, dict[str, PairedTests]]:
    """Run -> measure -> its tests, corrected over all of them."""
    compared = [(name, measure) for name in found if name != baseline for measure in measures]
    base = {measure: list(found[baseline].per_query[measure].values()) for measure in measures}
    values = [list(found[name].per_query[measure].values()) for name, measure in compared]
    differences = [
        [value - other for value, other in zip(row, base[measure], strict=True)]
        for row, (_, measure) in zip(values, compared, strict=True)
    ]
    t_ps = [t_test(row, base[measure]) for row, (_, measure) in zip(values, compared, strict=True)]
    random_ps = randomisation_tests(differences, seed)
    t_holm, random_holm = _corrected(t_ps), holm(random_ps)
    tests: dict[str, dict[str, PairedTests]] = {name: {} for name in found}
    for at, ((name, measure), row) in enumerate(zip(compared, differences, strict=True)):
        wins, ties, losses = outcomes(row)
        tests[name][measure] = PairedTests(
            difference=statistics.fmean(row),
            t_p=t_ps[at],
            t_p_holm=t_holm[at],
            randomisation_p=random_ps[at],
            randomisation_p_holm=random_holm[at],
            wins=wins,
            ties=ties,
            losses=losses,
        )
    return tests


def _corrected(p_values: Sequence[float | None]) -> list[float | None]:
    """Holm's correction over the tests that there are."""
    corrected = iter(holm([each for each in p_values if each is not None]))
    return [None if each is None else next(corrected) for each in p_values]


def read_costs(path: str | Path) -> Costs | None:
    """What `<path>.manifest.json` says that a run cost, or None.

    A manifest that cannot be read, or is none of this package, is named in a warning.
    """
    try:
        manifest = read_manifest(path)
    except FileError as error:
        logger.warning("%s: what its run cost is unknown", error)
        return None
    if manifest is None:
        return None
    counters, engine = manifest.counters, manifest.run.engine
    if counters is None:
        logger.warning('%s has no "counters": what its run cost is unknown', manifest_path(path))
        return None
    usage, statuses = (
        each if isinstance(each, dict) else {}
        for each in (counters.get("usage"), counters.get("statuses"))
    )
    recorded = "recordings" in engine  # which do not say how many tokens they took
    return Costs(
        calls=_count(usage.get("calls")),
        rounds=_count(usage.get("rounds")),
        prompt_tokens=None if recorded else _count(usage.get("prompt_tokens")),
        completion_tokens=None if recorded else _count(usage.get("completion_tokens")),
        seconds=None if _count(usage.get("reused")) else _number(counters.get("seconds")),
        failed=_count(statuses.get("failed")),
        groups=_count(counters.get("groups")),
        method=manifest.run.method or None,
        model=_text(engine.get("model")) or _text(engine.get("engine")),
    )


def _count(value: object) -> int | None:
    return value if type(value) is int and value >= 0 else None


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if 0.0 <= value <= sys.float_info.max else None


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _list(names: Mapping[str, object]) -> str:
    return ", ".join(names)
