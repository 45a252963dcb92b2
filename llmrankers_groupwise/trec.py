"""TREC files: queries and qrels, and runs to be written; `runs` reads those."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from llmrankers_groupwise.errors import FileError
from llmrankers_groupwise.records import RecordFile
from llmrankers_groupwise.textfiles import json_object, lines
from llmrankers_groupwise.types import RankedDocument

__all__ = [
    "Qrels",
    "json_id",
    "read_qrels",
    "read_queries",
    "write_ranking",
]


Qrels = dict[str, dict[str, int]]
"""query_id -> doc_id -> grade."""

_DOC_ID = re.compile(r"\S(?:[^\r\n\v\f]*\S)?")
_WORD = re.compile(r"\S+")
# The doc_id may hold blanks, so the fields around it are taken from both ends.
_QRELS_LINE = re.compile(r"\s*(\S+)\s+(\S+)\s+(\S.*?)\s+(\S+)\s*")


def write_ranking(
    file: IO[str], query_id: str, documents: Iterable[RankedDocument], tag: str
) -> None:
    """Append one query's ranking as run lines, tab-separated as llm-rankers writes them."""
    for rank, document in enumerate(documents, start=1):
        file.write(f"{query_id}\tQ0\t{document.doc_id}\t{rank}\t{document.score:.6f}\t{tag}\n")


def read_queries(path: str | Path, *, hashed: Callable[[str], int] = hash) -> RecordFile[str]:
    """query_id -> text, from a TSV file or, where the name ends so, a JSONL file.

    JSON objects hold the id as "_id", "id" or "qid", and the text as "text" or "query". The file
    is checked at once, a text is read when it is asked for.

    Args:
        path: plain, gzip or a pipe.
        hashed: query_id -> integer of 64 bits with sign.

    Raises:
        FileError: a line without id or text, or a query_id twice.
    """
    path = Path(path)
    parse = _json_query if ".jsonl" in path.suffixes else _tsv_query
    return RecordFile(path, lambda line, number: parse(line, path, number), "query", hashed=hashed)


def json_id(record: Mapping[str, Any], keys: Sequence[str], *, blanks: bool = True) -> str | None:
    """The id under the first of these keys as a run file can hold it, or None if there is none.

    That is text or a whole number, without line ends or blanks at its ends, or, for query_ids,
    any blanks.
    """
    for key in keys:
        if key in record:
            value = record[key]
            break
    else:
        return None
    if not isinstance(value, str | int) or isinstance(value, bool):
        return None
    text = str(value).strip()
    return text if text.isalnum() or (_DOC_ID if blanks else _WORD).fullmatch(text) else None


def _tsv_query(line: str, path: Path, number: int) -> tuple[str, str]:
    query_id, tab, text = line.partition("\t")
    if not tab or not re.fullmatch(r"\S+", query_id.strip()):
        raise FileError(
            "a query line has two columns: query_id TAB text; mend the line", path, number
        )
    return query_id.strip(), text.strip()


def _json_query(line: str, path: Path, number: int) -> tuple[str, str]:
    value = json_object(line, path, number)
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
