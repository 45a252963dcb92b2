"""Fuse finished runs: weighted sums of normalised scores, or of reciprocal ranks.

Scores are normalised for each query within each run (Fox and Shaw, TREC-2, 1994, CombSUM, on
min-max or z-scores), or ranks are taken instead (reciprocal rank fusion: Cormack, Clarke and
Büttcher, SIGIR 2009). All functions are pure but for the reading that a `Run` does.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, NamedTuple, get_args

from llmrankers_groupwise.data.run_files import Run, RunEntry
from llmrankers_groupwise.errors import SettingsError
from llmrankers_groupwise.scores import RRF_K, min_max

__all__ = [
    "FusedQuery",
    "RunFusion",
    "check_run_fusion",
    "fuse_query",
    "fuse_runs",
    "z_scores",
]

RunFusion = Literal["min_max", "z_score", "rrf"]

_HIGHEST = 16.0
"""Below it, numbers that differ by 0.000001 differ in single precision, too."""


class FusedQuery(NamedTuple):
    """The documents of one query, best first, and the indexes of the runs that lack the query."""

    query_id: str
    documents: list[RunEntry]
    lacking: tuple[int, ...]


def check_run_fusion(method: str, weights: Sequence[float], runs: int, rrf_k: int = RRF_K) -> None:
    """Raise SettingsError for a fusion that cannot be done.

    Scores are written with six decimals, strictly decreasing, and trec_eval compares them in single
    precision; so weights are refused whose scores would be too large for that.
    """
    if method not in get_args(RunFusion):
        raise SettingsError(f"method is {method!r}: give one of {', '.join(get_args(RunFusion))}")
    if runs < 2:
        raise SettingsError(f"there is nothing to fuse in {runs} run: give two or more")
    if len(weights) != runs:
        raise SettingsError(f"{len(weights)} weights for {runs} runs: give one for each run")
    if not all(0.0 <= weight < math.inf for weight in weights) or not any(weights):
        raise SettingsError(
            f"weights are {' '.join(f'{each:g}' for each in weights)}: give numbers from 0, not "
            f"all of them 0"
        )
    if rrf_k < 0:
        raise SettingsError(f"rrf_k is {rrf_k}: give 0 or more")
    if sum(weights) / (rrf_k + 1 if method == "rrf" else 1) >= _HIGHEST:
        raise SettingsError(
            f"the weights sum to {sum(weights):g}, and trec_eval does not tell such large scores "
            f"apart where they are close: divide the weights, for instance by their sum"
        )


def fuse_query(
    lists: Sequence[Sequence[RunEntry]],
    method: RunFusion,
    weights: Sequence[float],
    rrf_k: int = RRF_K,
) -> list[RunEntry]:
    """One query's documents of all runs, best first, with the weighted sum of the runs' scores.

    A run without any document adds nothing. A document that a run does not have gets the run's
    minimum: 0 with min_max, its lowest z with z_score; with rrf 0, as for an infinite rank. Equal
    sums keep the order of the first run, then that of what the second one adds, and so on.

    Args:
        lists: for each run the query's documents, best first; none where it lacks the query.
        method: "min_max" scales a run's scores to 0..1 (all 0.5 where they are equal), "z_score"
            to mean 0 and standard deviation 1 (all 0), "rrf" takes 1 / (rrf_k + rank).
        weights: one for each run.
        rrf_k: the constant of rrf.
    """
    parts: dict[str, list[float]] = {
        entry.doc_id: [0.0] * len(lists) for entries in lists for entry in entries
    }
    for index, (entries, weight) in enumerate(zip(lists, weights, strict=True)):
        values = _normalised(entries, method, rrf_k)
        if method == "z_score" and values:
            for each in parts.values():
                each[index] = weight * min(values)
        for entry, value in zip(entries, values, strict=True):
            parts[entry.doc_id][index] = weight * value
    # An exact sum is the same whatever run gives which of its parts, so that ties are ties.
    fused = [RunEntry(doc_id, math.fsum(each)) for doc_id, each in parts.items()]
    return sorted(fused, key=lambda entry: -entry.score)


def _normalised(entries: Sequence[RunEntry], method: RunFusion, rrf_k: int) -> list[float]:
    """A run's normalised score of each of its documents."""
    if method == "rrf":
        return [1.0 / (rrf_k + rank) for rank in range(1, len(entries) + 1)]
    normalise = min_max if method == "min_max" else z_scores
    return normalise([entry.score for entry in entries])


def z_scores(values: Sequence[float]) -> list[float]:
    """Values less their mean, over their standard deviation (of all, n); 0 where they are equal."""
    if not values or min(values) == max(values):
        return [0.0] * len(values)
    mean = math.fsum(values) / len(values)
    deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / len(values))
    return [(value - mean) / deviation for value in values]


def fuse_runs(
    runs: Sequence[Run],
    method: RunFusion,
    weights: Sequence[float] | None = None,
    rrf_k: int = RRF_K,
) -> Iterator[FusedQuery]:
    """Every query of any run, fused: those of the first run in its order, then what others add.

    Runs are read query by query, so of RunFiles no more than one query is in memory.

    Args:
        runs: query_id -> documents, best first.
        method: as of `fuse_query`.
        weights: one for each run; None weighs all 1.
        rrf_k: as of `fuse_query`.

    Raises:
        SettingsError: as `check_run_fusion`.
        FileError: a file of a run has changed.
    """
    given = [1.0] * len(runs) if weights is None else weights
    check_run_fusion(method, given, len(runs), rrf_k)
    return _fused(runs, method, given, rrf_k)


def _fused(
    runs: Sequence[Mapping[str, Sequence[RunEntry]]],
    method: RunFusion,
    weights: Sequence[float],
    rrf_k: int,
) -> Iterator[FusedQuery]:
    for index, run in enumerate(runs):
        for query_id, entries in run.items():
            if any(query_id in earlier for earlier in runs[:index]):
                continue
            later = [each.get(query_id, ()) for each in runs[index + 1 :]]
            lists = [*[()] * index, entries, *later]
            lacking = tuple(at for at, each in enumerate(lists) if not each)
            yield FusedQuery(query_id, fuse_query(lists, method, weights, rrf_k), lacking)
