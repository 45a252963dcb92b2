"""A comparison as the data of a report's first page (pure)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from llmrankers_groupwise.evaluation.comparison import ComparedRun, Comparison
from llmrankers_groupwise.evaluation.significance import SAME

__all__ = ["overview"]


def overview(comparison: Comparison, made_by: Mapping[str, str]) -> dict[str, Any]:
    """Measures, tests and costs of all runs, ready for JSON.

    Args:
        comparison: what to show.
        made_by: run -> what its groups were read from, or why there are none, as a sentence.
    """
    return {
        "measures": comparison.measures,
        "baseline": comparison.baseline,
        "same": SAME,
        "query_ids": comparison.query_ids,
        "runs": [_run(run, made_by.get(run.name, "")) for run in comparison.runs],
    }


def _run(run: ComparedRun, journal: str) -> dict[str, Any]:
    return {
        "name": run.name,
        "path": str(run.path),
        "means": run.means,
        "intervals": run.intervals,
        "values": {measure: list(values.values()) for measure, values in run.per_query.items()},
        "against": {measure: asdict(tests) for measure, tests in run.against.items()},
        "costs": None if run.costs is None else asdict(run.costs),
        "missing": run.missing,
        "unjudged_queries": run.unjudged_queries,
        "unjudged_at_10": run.unjudged_at_10,
        "ties": run.ties,
        "journal": journal,
    }
