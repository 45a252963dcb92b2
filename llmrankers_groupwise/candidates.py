"""Candidate files: queries, first stage and passages together, in rank_llm's layout."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from llmrankers_groupwise.errors import FileError
from llmrankers_groupwise.passages import ID_KEYS, passage_text
from llmrankers_groupwise.textfiles import json_lines
from llmrankers_groupwise.trec import Run, RunEntry, json_id

__all__ = ["CandidatePassages", "read_candidates"]


class CandidatePassages:
    """Passages that came with the candidates themselves, by query and document."""

    def __init__(self, texts: Mapping[tuple[str, str], str], missing: Mapping[str, str]) -> None:
        self._texts = texts
        self.missing = missing

    def text(self, query_id: str, doc_id: str) -> str | None:
        """The passage of a document as that query's candidate list has it."""
        return self._texts.get((query_id, doc_id))


def read_candidates(
    path: str | Path, hits: int | None = None
) -> tuple[dict[str, str], Run, CandidatePassages]:
    """Queries, first stage and passages from one file in rank_llm's layout.

    A line is {"query": {"text", "qid"}, "candidates": [{"docid", "score", "doc": {...}}, ...]}.

    Raises:
        FileError: a malformed line, a query twice, or a document twice for a query.
    """
    queries: dict[str, str] = {}
    run: Run = {}
    texts: dict[tuple[str, str], str] = {}
    missing: dict[str, str] = {}
    for number, _, value in json_lines(path):
        query_id, query, entries = _candidate_line(value, path, number)
        if query_id in queries:
            raise FileError(f"query {query_id} stands twice; keep one of them", path, number)
        entries.sort(key=lambda entry: -entry[0].score)
        queries[query_id] = query
        run[query_id] = [entry for entry, _ in entries[:hits]]
        for entry, text in entries[:hits]:
            if text:
                texts[query_id, entry.doc_id] = text
            else:
                missing[entry.doc_id] = f"empty text at {path}:{number}"
    return queries, run, CandidatePassages(texts, missing)


def _candidate_line(
    value: Mapping[str, Any], path: str | Path, number: int
) -> tuple[str, str, list[tuple[RunEntry, str]]]:
    """query_id, query and the candidates with their texts."""

    def refuse(problem: str) -> NoReturn:
        raise FileError(
            f'{problem}; a line is {{"query": {{"qid", "text"}}, "candidates": [{{"docid", '
            f'"score", "doc": {{"contents"}}}}, ...]}}',
            path,
            number,
        )

    query, candidates = value.get("query"), value.get("candidates")
    if not isinstance(query, Mapping) or not isinstance(candidates, list):
        refuse("no query object or no candidates list")
    query_id = json_id(query, ("qid", "id", "_id"), blanks=False)
    if query_id is None or not isinstance(query.get("text"), str):
        refuse("the query has no qid or no text")
    entries: list[tuple[RunEntry, str]] = []
    seen: set[str] = set()
    for place, candidate in enumerate(candidates, start=1):
        doc_id = json_id(candidate, ID_KEYS) if isinstance(candidate, Mapping) else None
        if doc_id is None:
            refuse(f"candidate {place} has no docid")
        if doc_id in seen:
            refuse(f"document {doc_id} stands twice for {query_id}")
        seen.add(doc_id)
        score, text = candidate.get("score"), passage_text(candidate.get("doc"))
        if (
            isinstance(score, bool)
            or not isinstance(score, int | float)
            or not math.isfinite(score)
        ):
            refuse(f"candidate {place} has the score {score!r}, which is no finite number")
        if text is None:
            refuse(f"candidate {place} has no text in its doc")
        entries.append((RunEntry(doc_id, float(score)), text))
    return query_id, query["text"].strip(), entries
