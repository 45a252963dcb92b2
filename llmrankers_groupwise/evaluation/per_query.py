"""A run file measured query by query, and what is odd about it."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from llmrankers_groupwise.data.qrels import Qrels
from llmrankers_groupwise.data.run_files import RunEntry, RunFile
from llmrankers_groupwise.errors import InputError
from llmrankers_groupwise.evaluation.measures import evaluate_queries

__all__ = ["PerQueryMeasures", "trec_eval_order"]

TOP = 10

_BATCH = 256
"""The number of queries that are measured together, and held in memory."""


class PerQueryMeasures:
    """A run file's values, query by query.

    Args:
        name: what errors call the run.
        path: plain or gzip.
        qrels: query_id -> doc_id -> grade.
        measures: names of ir_measures.

    Attributes:
        name, path: as given.
        per_query: measure -> query_id -> value, of all judged queries in the order of the qrels;
            one that is not in the run has 0.
        missing: judged queries that are not in the run.
        unjudged_queries: queries of the run that are not judged.
        unjudged_at_10: how many of a query's first ten documents are not judged, 0..10: the mean
            over the judged queries of the run.
        ties: documents of judged queries whose score another document of the query has, too.

    Scores are compared in single precision and equal ones ordered by doc_id, the later one first:
    so does trec_eval, which computes the measures.

    Raises:
        FileError: the file is malformed or empty.
        InputError: none of the judged queries is in it.
    """

    def __init__(self, name: str, path: Path, qrels: Qrels, measures: Sequence[str]) -> None:
        self.name, self.path, self._qrels = name, path, qrels
        self.per_query = {measure: dict.fromkeys(qrels, 0.0) for measure in measures}
        self.ties = 0
        self._unjudged = 0
        unjudged_queries: list[str] = []
        found: set[str] = set()
        batch: dict[str, Sequence[RunEntry]] = {}
        for query_id, entries in RunFile(path).items():
            if query_id not in qrels:
                unjudged_queries.append(query_id)
                continue
            found.add(query_id)
            batch[query_id] = entries
            if len(batch) == _BATCH:
                self._add(batch)
                batch = {}
        if not found:
            raise InputError(
                f"run {name} ({path}) has none of the {len(qrels)} judged queries; are the qrels "
                f"of another collection?"
            )
        if batch:
            self._add(batch)
        self.missing = tuple(query_id for query_id in qrels if query_id not in found)
        self.unjudged_queries = tuple(unjudged_queries)
        self.unjudged_at_10 = self._unjudged / len(found)

    def _add(self, batch: Mapping[str, Sequence[RunEntry]]) -> None:
        """Measure these queries."""
        qrels = {query_id: self._qrels[query_id] for query_id in batch}
        scores = {
            query_id: {each.doc_id: each.score for each in entries}
            for query_id, entries in batch.items()
        }
        for measure, values in evaluate_queries(qrels, scores, list(self.per_query)).items():
            self.per_query[measure].update(values)
        for query_id, entries in batch.items():
            single = array("f", [each.score for each in entries])
            self.ties += sum(count for count in Counter(single).values() if count > 1)
            top = trec_eval_order(entries)[:TOP]
            self._unjudged += sum(each.doc_id not in qrels[query_id] for each in top)


def trec_eval_order(entries: Sequence[RunEntry]) -> list[RunEntry]:
    """A query's documents as trec_eval orders them, best first.

    That is by score in single precision, and of equal ones the later doc_id first.
    """
    single = array("f", [each.score for each in entries])
    ordered = sorted(zip(single, (each.doc_id for each in entries), entries, strict=True))
    return [entry for _, _, entry in reversed(ordered)]
