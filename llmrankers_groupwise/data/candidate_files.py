"""Candidate files: queries, first stage and passages together, in rank_llm's layout."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from operator import attrgetter
from pathlib import Path
from typing import Any, NamedTuple, NoReturn, TypeVar

from llmrankers_groupwise.data.passages import ID_KEYS, passage_text
from llmrankers_groupwise.data.queries import json_id
from llmrankers_groupwise.data.run_files import Run, RunEntry
from llmrankers_groupwise.errors import FileError
from llmrankers_groupwise.files.record_files import FileMapping, RecordFile
from llmrankers_groupwise.files.text_files import json_object

__all__ = ["CandidateFile"]

T = TypeVar("T")


class _Candidates(NamedTuple):
    """One line of a candidates file."""

    query: str
    entries: list[RunEntry]
    texts: dict[str, str]


class CandidateFile:
    """Queries, first stage and passages from one file in rank_llm's layout.

    A line is {"query": {"text", "qid"}, "candidates": [{"docid", "score", "doc": {...}}, ...]}.
    The file is checked at once; a line is read when its query is asked for, and the last one read
    is kept, so that query, documents and passages are parsed once if they are asked for together.

    Args:
        path: plain, gzip or a pipe.
        hits: how many documents of each query to keep; None keeps all.
        hashed: query_id -> integer of 64 bits with sign.

    Attributes:
        queries: query_id -> text.
        run: query_id -> documents, best first; ties are broken by their order.

    It is itself the source of passages.

    Raises:
        FileError: a malformed line, a query twice, or a document twice for a query. Also later, if
            the file has changed.
    """

    def __init__(
        self, path: str | Path, hits: int | None = None, *, hashed: Callable[[str], int] = hash
    ) -> None:
        self._path = Path(path)
        self._hits = hits
        self._empty: dict[str, int] = {}
        self._lines = RecordFile(path, self._parsed, "query", self._note, hashed)
        self._last: tuple[str, _Candidates | None] = "", None
        self.queries: Mapping[str, str] = _Column(self, attrgetter("query"))
        self.run: Run = _Column(self, attrgetter("entries"))

    def __len__(self) -> int:
        return len(self._lines)

    def texts(self, query_id: str, doc_ids: Sequence[str]) -> list[str | None]:
        """The passage of each document as that query's candidate list has it."""
        texts = self._texts(query_id)
        return [texts.get(doc_id) or None for doc_id in doc_ids]

    def problems(self, query_id: str, doc_ids: Sequence[str]) -> dict[str, str]:
        """doc_id -> why there is no text, for those of the documents that have none."""
        texts = self._texts(query_id)
        return {
            doc_id: f"empty text at {self._path}:{self._empty.get(query_id, '?')}"
            if doc_id in texts
            else f"not in {self._path}"
            for doc_id in doc_ids
            if not texts.get(doc_id)
        }

    def line(self, query_id: str) -> _Candidates | None:
        """What there is for a query; None if there is nothing."""
        if self._last[0] != query_id:
            self._last = query_id, self._lines.records([query_id])[0]
        return self._last[1]

    def lines(self) -> Iterator[tuple[str, _Candidates]]:
        """All queries with what there is for them, in the order of the file."""
        for query_id, line in self._lines.items():
            self._last = query_id, line
            yield query_id, line

    def _texts(self, query_id: str) -> Mapping[str, str]:
        line = self.line(query_id)
        return line.texts if line else {}

    def _parsed(self, text: str, number: int) -> tuple[str, _Candidates]:
        value = json_object(text, self._path, number)
        query_id, query, candidates = _candidate_line(value, self._path, number)
        candidates.sort(key=lambda candidate: -candidate[0].score)
        entries = [entry for entry, _ in candidates[: self._hits]]
        texts = {entry.doc_id: text for entry, text in candidates[: self._hits]}
        return query_id, _Candidates(query, entries, texts)

    def _note(self, query_id: str, line: _Candidates, number: int) -> None:
        if not all(line.texts.values()):
            self._empty[query_id] = number


class _Column(FileMapping[T]):
    """query_id -> one part of its line."""

    def __init__(self, file: CandidateFile, part: Callable[[_Candidates], T]) -> None:
        self._file = file
        self._part = part

    def __len__(self) -> int:
        return len(self._file)

    def __getitem__(self, query_id: str) -> T:
        line = self._file.line(query_id)
        if line is None:
            raise KeyError(query_id)
        return self._part(line)

    def _stream(self) -> Iterator[tuple[str, T]]:
        return ((query_id, self._part(line)) for query_id, line in self._file.lines())


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
    query_id = json_id(query, ("qid", "id", "_id"), spaces=False)
    if query_id is None or not isinstance(query.get("text"), str):
        refuse("the query has no qid or no text")
    entries: list[tuple[RunEntry, str]] = []
    seen: set[str] = set()
    for rank, candidate in enumerate(candidates, start=1):
        doc_id = json_id(candidate, ID_KEYS) if isinstance(candidate, Mapping) else None
        if doc_id is None:
            refuse(f"candidate {rank} has no docid")
        if doc_id in seen:
            refuse(f"document {doc_id} appears twice for {query_id}")
        seen.add(doc_id)
        score, text = candidate.get("score"), passage_text(candidate.get("doc"))
        if (
            isinstance(score, bool)
            or not isinstance(score, int | float)
            or not math.isfinite(score)
        ):
            refuse(f"candidate {rank} has the score {score!r}, which is no finite number")
        if text is None:
            refuse(f"candidate {rank} has no text in its doc")
        entries.append((RunEntry(doc_id, float(score)), text))
    return query_id, query["text"].strip(), entries
