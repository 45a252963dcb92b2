"""What a test collection holds: queries, judgements, and ids that do not count.

BRIGHT (arXiv 2407.12883) has a list of documents for some of its queries that are to be taken out
of a ranking before it is measured, as they are the query's own source, or close to it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from llmrankers_groupwise.data.collections.known import KnownSet
from llmrankers_groupwise.data.ir_datasets import ir_dataset, ir_dataset_files, ir_dataset_queries
from llmrankers_groupwise.data.pyserini import lucene_qrels, lucene_topics, lucene_topics_file
from llmrankers_groupwise.data.qrels import Qrels, read_qrels
from llmrankers_groupwise.data.queries import json_id, read_queries
from llmrankers_groupwise.errors import FileError
from llmrankers_groupwise.files.record_files import RecordColumn, RecordFile
from llmrankers_groupwise.files.text_files import json_object

__all__ = [
    "Topics",
    "bright_topics",
    "file_topics",
    "ir_dataset_topics",
    "lucene_index_topics",
    "read_excluded",
]

Excluded = Mapping[str, Sequence[str]]
"""query_id -> documents that are to be taken out of its ranking."""

_EXCLUDED_GRADE = -100  # what ir_datasets gives documents that BRIGHT excludes
_NONE = "N/A"  # what BRIGHT's lists hold where they hold nothing


@dataclass(frozen=True)
class Topics:
    """Queries, query_id -> text; judgements; and excluded ids."""

    queries: Mapping[str, str]
    qrels: Qrels
    excluded: Excluded = field(default_factory=dict)


def file_topics(query_file: str | Path, qrels: str | Path) -> Topics:
    """Topics of local files.

    Raises:
        FileError: a file is malformed.
    """
    return Topics(read_queries(query_file), read_qrels(qrels))


def lucene_index_topics(known_set: KnownSet) -> Topics:
    """Topics that pyserini brings; document ids are those of its prebuilt index.

    Raises:
        MissingDependencyError: no pyserini, or no JDK for it.
        InputError: pyserini has them not, or could not download them.
    """
    if not known_set.bright:
        return Topics(lucene_topics(known_set.topics), read_qrels(lucene_qrels(known_set.qrels)))
    published = bright_topics(lucene_topics_file(known_set.topics), underscores=True)
    qrels = read_qrels(lucene_qrels(known_set.qrels))
    return Topics(published.queries, qrels, published.excluded)


def ir_dataset_topics(name: str) -> Topics:
    """Topics of a dataset of ir_datasets. Its judgements are held, excluded ids among them.

    Raises:
        MissingDependencyError: ir_datasets is not installed, or what it reads the files with.
        InputError: it has no such dataset.
        DownloadError: it could not download it.
    """
    qrels: Qrels = {}
    excluded: dict[str, dict[str, None]] = {}
    judged = ir_dataset(name, "qrels").qrels_iter()
    with ir_dataset_files(name):
        for each in judged:
            query_id, doc_id = str(each.query_id), str(each.doc_id)
            if each.relevance == _EXCLUDED_GRADE:
                excluded.setdefault(query_id, {})[doc_id] = None
            elif doc_id != _NONE:
                qrels.setdefault(query_id, {})[doc_id] = int(each.relevance)
    queries = ir_dataset_queries(name)
    return Topics(queries, qrels, {query_id: list(ids) for query_id, ids in excluded.items()})


class _Example(NamedTuple):
    query: str
    relevant: list[str]
    excluded: list[str]


def bright_topics(path: str | Path, *, underscores: bool = False) -> Topics:
    """Topics of BRIGHT's own records, one JSON object a line.

    A record is {"id", "query", "gold_ids": [...], "excluded_ids": [...], ...}; a list without an
    id is ["N/A"]. Only the judgements are held.

    Args:
        path: plain, gzip or a pipe.
        underscores: write spaces of document ids as "_", as pyserini's prebuilt indexes do.

    Raises:
        FileError: a malformed record, or a document both relevant and excluded; names the line.
    """
    path = Path(path)
    if path.suffix == ".parquet":
        raise FileError(
            'is in parquet; make JSON lines of it: python -c "import pandas, sys; pandas.'
            "read_parquet(sys.argv[1]).to_json(sys.argv[2], orient='records', lines=True)\" "
            "FILE.parquet FILE.jsonl",
            path,
        )
    qrels: Qrels = {}
    records: RecordFile[_Example] = RecordFile(
        path,
        lambda line, number: _example(line, path, number, underscores),
        "query",
        lambda query_id, each, _: qrels.update({query_id: dict.fromkeys(each.relevant, 1)}),
    )
    return Topics(
        RecordColumn(records, lambda each: each.query),
        qrels,
        RecordColumn(records, lambda each: each.excluded),
    )


def _example(line: str, path: Path, number: int, underscores: bool) -> tuple[str, _Example]:
    record = json_object(line, path, number)
    query_id, query = json_id(record, ("id",), spaces=False), record.get("query")
    if query_id is None or not isinstance(query, str) or not query.strip():
        raise FileError(
            f'a record of BRIGHT has "id", "query", "gold_ids" and "excluded_ids"; this one has '
            f"{json.dumps(sorted(record))}, or no text in them; give its examples",
            path,
            number,
        )
    relevant, excluded = (
        _ids(record, key, path, number, underscores) for key in ("gold_ids", "excluded_ids")
    )
    if both := set(relevant) & set(excluded):
        raise FileError(
            f"document {min(both)} is both relevant and excluded for query {query_id}; keep one",
            path,
            number,
        )
    return query_id, _Example(query.strip(), relevant, excluded)


def _ids(
    record: Mapping[str, Any], key: str, path: Path, number: int, underscores: bool
) -> list[str]:
    """The ids of a list, each once."""
    values = record.get(key)
    ids = [json_id({key: each}, (key,)) for each in values] if isinstance(values, list) else [None]
    found = [each for each in ids if each is not None]
    if len(found) < len(ids):
        raise FileError(f'"{key}" is no list of document ids; fix the record', path, number)
    if underscores:
        found = [each.replace(" ", "_") for each in found]
    return [each for each in dict.fromkeys(found) if each != _NONE]


def read_excluded(path: str | Path) -> RecordFile[list[str]]:
    """query_id -> excluded ids, of a file with one query a line: query_id TAB doc_id TAB doc_id...

    The file is checked at once; a line is read when its query is asked for.

    Raises:
        FileError: a malformed line, or a query twice.
    """
    path = Path(path)

    def parse(line: str, number: int) -> tuple[str, list[str]]:
        query_id, *doc_ids = (each.strip() for each in line.split("\t"))
        if not re.fullmatch(r"\S+", query_id) or not doc_ids or not all(doc_ids):
            raise FileError(
                "a line has a query and all its excluded documents: query_id TAB doc_id TAB "
                "doc_id ...; fix the line",
                path,
                number,
            )
        return query_id, doc_ids

    return RecordFile(path, parse, "query")
