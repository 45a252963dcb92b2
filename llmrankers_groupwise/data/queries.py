"""Queries from files: TSV and JSONL."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from llmrankers_groupwise.errors import FileError
from llmrankers_groupwise.files.record_files import RecordFile
from llmrankers_groupwise.files.text_files import json_object

__all__ = ["json_id", "read_queries"]

_DOC_ID = re.compile(r"\S(?:[^\r\n\v\f]*\S)?")
_WORD = re.compile(r"\S+")


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


def json_id(record: Mapping[str, Any], keys: Sequence[str], *, spaces: bool = True) -> str | None:
    """The id under the first of these keys as a run file can hold it, or None if there is none.

    That is text or a whole number, without line ends or spaces at its ends, or, for query_ids,
    any spaces.
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
    return text if text.isalnum() or (_DOC_ID if spaces else _WORD).fullmatch(text) else None


def _tsv_query(line: str, path: Path, number: int) -> tuple[str, str]:
    query_id, tab, text = line.partition("\t")
    if not tab or not re.fullmatch(r"\S+", query_id.strip()):
        raise FileError(
            "a query line has two columns: query_id TAB text; fix the line", path, number
        )
    return query_id.strip(), text.strip()


def _json_query(line: str, path: Path, number: int) -> tuple[str, str]:
    value = json_object(line, path, number)
    query_id = json_id(value, ("_id", "id", "qid"), spaces=False)
    text = next((value[key] for key in ("text", "query") if key in value), None)
    if query_id is None or not isinstance(text, str):
        known = json.dumps(sorted(value))
        raise FileError(
            f'a query has "_id" and "text"; this one has {known}; fix the line', path, number
        )
    return query_id, text.strip()
