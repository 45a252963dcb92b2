"""TREC files: runs, queries and qrels."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from llmrankers_groupwise.errors import FileError
from llmrankers_groupwise.textfiles import json_lines, lines
from llmrankers_groupwise.types import RankedDocument

__all__ = [
    "Qrels",
    "Run",
    "RunEntry",
    "json_id",
    "read_qrels",
    "read_queries",
    "read_run",
    "write_ranking",
]


@dataclass(frozen=True, slots=True)
class RunEntry:
    """One document of a run."""

    doc_id: str
    score: float


Run = dict[str, list[RunEntry]]
"""query_id -> its documents, best first."""

Qrels = dict[str, dict[str, int]]
"""query_id -> doc_id -> grade."""

# The doc_id may hold blanks, so the fields around it are taken from both ends.
_RUN_LINE = re.compile(r"\s*(\S+)\s+(\S+)\s+(\S.*?)\s+(\S+)\s+(\S+)\s+(\S+)\s*")
_QRELS_LINE = re.compile(r"\s*(\S+)\s+(\S+)\s+(\S.*?)\s+(\S+)\s*")


def read_run(path: str | Path, hits: int | None = None) -> Run:
    """A run of six columns: query_id, Q0, doc_id, rank, score, tag.

    Queries keep the order in which they first appear, and may be interleaved. Documents are
    sorted by score; equal scores go by the rank column, then by line. A doc_id may hold blanks.

    Args:
        path: plain or gzip.
        hits: how many documents of each query to keep; None keeps all.

    Raises:
        FileError: a malformed line, a doc_id twice for a query, no line at all; names the line.
    """
    found: dict[str, dict[str, tuple[float, int, int]]] = {}
    for number, _, line in lines(path):
        query_id, doc_id, rank, score = _run_fields(line, path, number)
        documents = found.setdefault(query_id, {})
        if doc_id in documents:
            first = documents[doc_id][2]
            raise FileError(
                f"document {doc_id} stands twice for query {query_id} (before at line {first}); "
                f"keep one of them",
                path,
                number,
            )
        documents[doc_id] = (-score, rank, number)
    return {
        query_id: [
            RunEntry(doc_id, -documents[doc_id][0])
            for doc_id in sorted(documents, key=documents.__getitem__)[:hits]
        ]
        for query_id, documents in found.items()
    }


def _run_fields(line: str, path: str | Path, number: int) -> tuple[str, str, int, float]:
    match = _RUN_LINE.fullmatch(line)
    if match is None:
        raise FileError(
            f"a run line has six columns (query_id Q0 doc_id rank score tag), this one has "
            f"{len(line.split())}: {line[:100]!r}; is this a run file?",
            path,
            number,
        )
    query_id, _, doc_id, rank, score, _ = match.groups()
    try:
        fields = query_id, doc_id, int(rank), float(score)
    except ValueError:
        raise FileError(
            f"rank {rank!r} is no whole number or score {score!r} no number; is this a run file?",
            path,
            number,
        ) from None
    if not math.isfinite(fields[3]):
        raise FileError(f"the score is {score}; give a finite number", path, number)
    return fields


def write_ranking(
    file: IO[str], query_id: str, documents: Iterable[RankedDocument], tag: str
) -> None:
    """Append one query's ranking as run lines, tab-separated as llm-rankers writes them."""
    for rank, document in enumerate(documents, start=1):
        file.write(f"{query_id}\tQ0\t{document.doc_id}\t{rank}\t{document.score:.6f}\t{tag}\n")


def read_queries(path: str | Path) -> dict[str, str]:
    """query_id -> text, from a TSV file or, where the name ends so, a JSONL file.

    JSON objects hold the id as "_id", "id" or "qid", and the text as "text" or "query".

    Raises:
        FileError: a line without id or text, or a query_id twice.
    """
    path = Path(path)
    queries: dict[str, str] = {}
    if ".jsonl" in path.suffixes:
        entries = (
            (number, _json_query(value, path, number)) for number, _, value in json_lines(path)
        )
    else:
        entries = ((number, _tsv_query(line, path, number)) for number, _, line in lines(path))
    for number, (query_id, text) in entries:
        if query_id in queries:
            raise FileError(f"query {query_id} stands twice; keep one of them", path, number)
        queries[query_id] = text
    return queries


def json_id(record: Mapping[str, Any], keys: Sequence[str], *, blanks: bool = True) -> str | None:
    """The id under the first of these keys as a run file can hold it, or None if there is none.

    That is text or a whole number, without line ends or blanks at its ends, or, for query_ids,
    any blanks.
    """
    value = next((record[key] for key in keys if key in record), None)
    if not isinstance(value, str | int) or isinstance(value, bool):
        return None
    text = str(value).strip()
    allowed = r"\S(?:[^\r\n\v\f]*\S)?" if blanks else r"\S+"
    return text if re.fullmatch(allowed, text) else None


def _tsv_query(line: str, path: Path, number: int) -> tuple[str, str]:
    query_id, tab, text = line.partition("\t")
    if not tab or not re.fullmatch(r"\S+", query_id.strip()):
        raise FileError(
            "a query line has two columns: query_id TAB text; mend the line", path, number
        )
    return query_id.strip(), text.strip()


def _json_query(value: Mapping[str, Any], path: Path, number: int) -> tuple[str, str]:
    query_id = json_id(value, ("_id", "id", "qid"), blanks=False)
    text = next((value[key] for key in ("text", "query") if key in value), None)
    if query_id is None or not isinstance(text, str):
        known = json.dumps(sorted(value))
        raise FileError(
            f'a query has "_id" and "text"; this one has {known}; mend the line', path, number
        )
    return query_id, text.strip()


def read_qrels(path: str | Path) -> Qrels:
    """Judgements of four columns: query_id, iteration, doc_id, grade.

    Raises:
        FileError: a malformed line, two grades for one document of a query, no line at all.
    """
    qrels: Qrels = {}
    for number, _, line in lines(path):
        match = _QRELS_LINE.fullmatch(line)
        grade = match[4] if match else ""
        if match is None or not re.fullmatch(r"-?[0-9]+", grade):
            raise FileError(
                f"a qrels line has four columns (query_id 0 doc_id grade), the grade a whole "
                f"number; mend this one: {line[:100]!r}",
                path,
                number,
            )
        judged = qrels.setdefault(match[1], {})
        if judged.setdefault(match[3], int(grade)) != int(grade):
            raise FileError(
                f"document {match[3]} has two different grades for query {match[1]}; keep one",
                path,
                number,
            )
    return qrels
