"""Where passages come from: corpora in JSONL, and ir_datasets.

Lucene indexes are in `lucene`, files that bring their own passages in `candidates`. A source is
opened for the doc_ids that a run names, finds out at once which of them it cannot serve, and hands
out one text at a time.
"""

from __future__ import annotations

import json
import weakref
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from llmrankers_groupwise.errors import FileError, InputError, MissingDependencyError
from llmrankers_groupwise.textfiles import is_gzip, json_lines, parse_json
from llmrankers_groupwise.trec import json_id

__all__ = [
    "ID_KEYS",
    "IrDatasetPassages",
    "JsonlPassages",
    "Passages",
    "ir_dataset_queries",
    "passage_text",
]

ID_KEYS = ("_id", "id", "docid", "doc_id", "pid")
_TEXT_KEYS = ("text", "contents", "content", "passage", "segment", "body")


class Passages(Protocol):
    """A source of passages, opened for certain doc_ids.

    `missing` tells, for each document without a text there, why.
    """

    @property
    def missing(self) -> Mapping[str, str]:
        """doc_id -> why there is no text."""

    def text(self, query_id: str, doc_id: str) -> str | None:
        """The passage of a document, title first; None if there is none."""


def passage_text(document: object) -> str | None:
    """Title and text of a document record, joined by a blank, or the record if it is a text.

    None if there is no text field, or if its value is no text.
    """
    if isinstance(document, str):
        return document.strip()
    if not isinstance(document, Mapping):
        return None
    body = next((document[key] for key in _TEXT_KEYS if key in document), None)
    title = document.get("title") or ""
    return f"{title} {body}".strip() if isinstance(body, str) else None


class JsonlPassages:
    """Passages from a corpus.jsonl of {"_id", "title", "text"} objects, as BEIR has them.

    One pass finds where the wanted documents are; texts are read when asked for, so memory holds
    one number per wanted document. Of a gzip file, which cannot be read from the middle, the
    wanted texts are kept instead.

    Raises:
        FileError: a malformed line, a wanted document twice, an unreadable file.
    """

    def __init__(self, path: str | Path, doc_ids: Iterable[str]) -> None:
        self._path = Path(path)
        self._offsets: dict[str, int] = {}
        self._texts: dict[str, str] = {}
        self.missing: dict[str, str] = dict.fromkeys(doc_ids, f"not in {path}")
        if self._path.is_fifo():
            raise FileError("is a pipe, but is read twice; save it as a file first", path)
        self._scan()
        self._file = self._path.open("rb")
        weakref.finalize(self, self._file.close)

    def text(self, query_id: str, doc_id: str) -> str | None:
        """The passage of a document, title first; None if there is none."""
        if doc_id not in self._offsets:
            return self._texts.get(doc_id)
        self._file.seek(self._offsets[doc_id])
        return passage_text(parse_json(self._file.readline().decode("utf-8-sig")))

    def _scan(self) -> None:
        found: dict[str, int] = {}
        packed = is_gzip(self._path) if self._path.is_file() else False
        for number, offset, document in json_lines(self._path):
            doc_id = json_id(document, ID_KEYS)
            text = passage_text(document)
            if doc_id is None or text is None:
                known = json.dumps(sorted(document))
                raise FileError(
                    f'a document has "_id" and "text"; this one has {known}; mend the line',
                    self._path,
                    number,
                )
            if doc_id in found:
                raise FileError(
                    f"document {doc_id} stands twice (before at line {found[doc_id]}); keep one",
                    self._path,
                    number,
                )
            if doc_id not in self.missing:
                continue
            found[doc_id] = number
            if not text:
                self.missing[doc_id] = f"empty text at {self._path}:{number}"
                continue
            del self.missing[doc_id]
            if packed:
                self._texts[doc_id] = text
            else:
                self._offsets[doc_id] = offset


class IrDatasetPassages:
    """Passages from a dataset of ir_datasets, by its name.

    Raises:
        MissingDependencyError: ir_datasets is not installed.
        InputError: it has no dataset of this name, or one without documents.
    """

    def __init__(self, name: str, doc_ids: Iterable[str]) -> None:
        self._store = _ir_dataset(name, "docs").docs_store()
        self.missing: dict[str, str] = dict(self._problems(name, list(doc_ids)))

    def text(self, query_id: str, doc_id: str) -> str | None:
        """The passage of a document, title first; None if there is none."""
        return None if doc_id in self.missing else _ir_dataset_text(self._store.get(doc_id))

    def _problems(self, name: str, doc_ids: list[str]) -> Iterator[tuple[str, str]]:
        found = self._store.get_many(doc_ids)
        for doc_id in doc_ids:
            if doc_id not in found:
                yield doc_id, f"not in {name}"
            elif not _ir_dataset_text(found[doc_id]):
                yield doc_id, f"empty text in {name}"


def ir_dataset_queries(name: str) -> dict[str, str]:
    """query_id -> text of a dataset of ir_datasets.

    Raises:
        MissingDependencyError: ir_datasets is not installed.
        InputError: it has no dataset of this name, or one without queries.
    """
    queries = _ir_dataset(name, "queries").queries_iter()
    return {str(each.query_id): each.default_text().strip() for each in queries}


def _ir_dataset_text(document: Any) -> str:
    """Title and text, as llm-rankers joins them; what ir_datasets calls the text otherwise."""
    text = getattr(document, "text", None)
    if text is None:
        return str(document.default_text()).strip()
    return f"{getattr(document, 'title', '') or ''} {text}".strip()


def _ir_dataset(name: str, part: str) -> Any:
    """The dataset, which must have the part: "docs" or "queries"."""
    try:
        import ir_datasets
    except ImportError as error:
        raise MissingDependencyError(
            "ir_datasets is not installed: pip install 'llmrankers-groupwise[ir-datasets]'"
        ) from error
    try:
        dataset = ir_datasets.load(name)
    except KeyError as error:
        raise InputError(
            f"ir_datasets has no dataset {name!r}; see the catalogue at ir-datasets.com"
        ) from error
    if not getattr(dataset, f"has_{part}")():
        raise InputError(f"the dataset {name!r} of ir_datasets has no {part}; choose another")
    return dataset
