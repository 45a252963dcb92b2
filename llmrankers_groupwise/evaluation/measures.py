"""Measures of a run against judgements, by ir_measures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import ir_measures

from llmrankers_groupwise.data.qrels import Qrels
from llmrankers_groupwise.errors import SettingsError

__all__ = ["DEFAULT_MEASURES", "check_measures", "evaluate", "evaluate_queries"]

DEFAULT_MEASURES = ("nDCG@10", "AP", "R@100")


def check_measures(measures: Sequence[str]) -> None:
    """Raise SettingsError for a measure that ir_measures does not know or cannot compute."""
    for measure in measures:
        try:
            if _parsed(measure).params.get("cutoff", 1) < 1:
                raise SettingsError(f"the cutoff of {measure!r} is less than 1")
            evaluate({"1": {"d": 1}}, {"1": {"d": 1.0}}, [measure])
        except SettingsError:
            raise
        except Exception as error:  # each of its providers raises its own
            raise SettingsError(
                f"ir_measures cannot compute {measure!r} ({type(error).__name__}: {error}); "
                f"give for instance nDCG@10, AP, R@100"
            ) from error


def evaluate(
    qrels: Qrels,
    scores: Mapping[str, Mapping[str, float]],
    measures: Sequence[str] = DEFAULT_MEASURES,
) -> dict[str, float]:
    """The mean of each measure over every judged query; one that is not in the run counts 0.

    Args:
        qrels: query_id -> doc_id -> grade.
        scores: query_id -> doc_id -> score.
        measures: names of ir_measures, e.g. "nDCG@10" or "AP(rel=2)".
    """
    parsed = [_parsed(measure) for measure in measures]
    values = ir_measures.calc_aggregate(parsed, qrels, scores)
    return {name: values[measure] for name, measure in zip(measures, parsed, strict=True)}


def evaluate_queries(
    qrels: Qrels, scores: Mapping[str, Mapping[str, float]], measures: Sequence[str]
) -> dict[str, dict[str, float]]:
    """Each measure of every judged query: measure -> query_id -> value, in the order of the qrels.

    Arguments as of `evaluate`; a query that is not in the run has 0.
    """
    parsed = {name: _parsed(name) for name in measures}
    values: dict[ir_measures.Measure, dict[str, float]] = {
        measure: dict.fromkeys(qrels, 0.0) for measure in parsed.values()
    }
    for query_id, measure, value in ir_measures.iter_calc(list(values), qrels, scores):
        values[measure][query_id] = float(value)
    return {name: values[measure] for name, measure in parsed.items()}


def _parsed(measure: str) -> ir_measures.Measure:
    try:
        return ir_measures.parse_measure(measure)
    except (NameError, ValueError, TypeError, SyntaxError) as error:
        raise SettingsError(
            f"ir_measures has no measure {measure!r} ({error}); for instance nDCG@10, AP, R@100"
        ) from error
