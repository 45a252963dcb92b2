"""Relevance judgements (qrels) from files in TREC's format."""

from __future__ import annotations

import re
from pathlib import Path

from llmrankers_groupwise.errors import FileError
from llmrankers_groupwise.files.text_files import lines

__all__ = ["Qrels", "read_qrels"]


Qrels = dict[str, dict[str, int]]
"""query_id -> doc_id -> grade."""
# The doc_id may hold spaces, so the fields around it are taken from both ends.
_QRELS_LINE = re.compile(r"\s*(\S+)\s+(\S+)\s+(\S.*?)\s+(\S+)\s*")


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
                f"number; fix this one: {line[:100]!r}",
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
