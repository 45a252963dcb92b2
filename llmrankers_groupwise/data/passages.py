"""Where passages come from: corpora in JSONL.

`pyserini` has Lucene indexes, `ir_datasets` its collections, `candidate_files` files that bring
their own passages. A source holds no texts: it reads those of one query when they are asked for.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from llmrankers_groupwise.data.queries import json_id
from llmrankers_groupwise.errors import FileError
from llmrankers_groupwise.files.record_files import RecordFile
from llmrankers_groupwise.files.text_files import json_object

__all__ = ["ID_KEYS", "Corpus", "JsonlPassages", "MemoryPassages", "Passages", "passage_text"]

ID_KEYS = ("_id", "id", "docid", "doc_id", "pid")
_TEXT_KEYS = ("text", "contents", "content", "passage", "segment", "body")


class Passages(Protocol):
    """A source of passages, asked for those of one query at a time."""

    def texts(self, query_id: str, doc_ids: Sequence[str]) -> list[str | None]:
        """The passage of each document, title first; None where there is none."""

    def problems(self, query_id: str, doc_ids: Sequence[str]) -> Mapping[str, str]:
        """doc_id -> why there is no text, for those of the documents that have none."""


class Corpus(Passages, Protocol):
    """Passages that can also be gone through, as a search does."""

    def documents(self) -> Iterator[tuple[str, str]]:
        """doc_id and passage of every document that has a text."""


class MemoryPassages:
    """Passages that are at hand, (query_id, doc_id) -> text; for few."""

    def __init__(self, texts: Mapping[tuple[str, str], str]) -> None:
        self._texts = texts

    def texts(self, query_id: str, doc_ids: Sequence[str]) -> list[str | None]:
        """The passage of each document; None where there is none."""
        return [self._texts.get((query_id, doc_id)) or None for doc_id in doc_ids]

    def problems(self, query_id: str, doc_ids: Sequence[str]) -> dict[str, str]:
        """doc_id -> why there is no text, for those of the documents that have none."""
        return {
            doc_id: f"no text for query {query_id}"
            for doc_id in doc_ids
            if not self._texts.get((query_id, doc_id))
        }


def passage_text(document: object) -> str | None:
    """Title and text of a document record, joined by a space, or the record if it is a text.

    None if there is no text field, or if its value is no text.
    """
    if isinstance(document, str):
        return document.strip()
    if not isinstance(document, Mapping):
        return None
    for key in _TEXT_KEYS:
        if key in document:
            title, body = document.get("title") or "", document[key]
            return f"{title} {body}".strip() if isinstance(body, str) else None
    return None


class JsonlPassages:
    """Passages from a corpus.jsonl of {"_id", "title", "text"} objects, as BEIR has them.

    One pass finds where the documents are; texts are read when asked for, so memory holds two
    numbers for each document.

    Args:
        path: plain, gzip or a pipe.
        hashed: doc_id -> integer of 64 bits with sign.

    Raises:
        FileError: a malformed line, a document twice, an unreadable file. Also later, if the file
            has changed.
    """

    def __init__(self, path: str | Path, *, hashed: Callable[[str], int] = hash) -> None:
        self._path = Path(path)
        self._empty: dict[str, int] = {}
        self._documents = RecordFile(path, self._parsed, "document", self._note, hashed)

    def texts(self, query_id: str, doc_ids: Sequence[str]) -> list[str | None]:
        """The passage of each document, title first; None where there is none."""
        return [text or None for text in self._documents.records(doc_ids)]

    def problems(self, query_id: str, doc_ids: Sequence[str]) -> dict[str, str]:
        """doc_id -> why there is no text, for those of the documents that have none.

        No text is read for it, so a document that is not there is overlooked in the rare case of
        `RecordFile.known`; its text is None then.
        """
        found = {}
        for doc_id, known in zip(doc_ids, self._documents.known(doc_ids), strict=True):
            if not known:
                found[doc_id] = f"not in {self._path}"
            elif doc_id in self._empty:
                found[doc_id] = f"empty text at {self._path}:{self._empty[doc_id]}"
        return found

    def documents(self) -> Iterator[tuple[str, str]]:
        """Every document that has a text, in the order of the file, read as it is asked for."""
        return ((doc_id, text) for doc_id, text in self._documents.items() if text)

    def _parsed(self, line: str, number: int) -> tuple[str, str]:
        document = json_object(line, self._path, number)
        doc_id = json_id(document, ID_KEYS)
        text = passage_text(document)
        if doc_id is None or text is None:
            known = json.dumps(sorted(document))
            raise FileError(
                f'a document has "_id" and "text"; this one has {known}; fix the line',
                self._path,
                number,
            )
        return doc_id, text

    def _note(self, doc_id: str, text: str, number: int) -> None:
        if not text:
            self._empty[doc_id] = number
