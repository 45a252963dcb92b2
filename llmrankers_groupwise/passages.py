"""Where passages come from: corpora in JSONL, ir_datasets, and candidate files with text.

Lucene indexes are in `lucene`. A source is opened for the doc_ids that a run names, finds out at
once which of them it cannot serve, and hands out one text at a time.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Protocol

from llmrankers_groupwise.errors import FileError, InputError, MissingDependencyError
from llmrankers_groupwise.textfiles import is_gzip, json_lines
from llmrankers_groupwise.trec import Run, RunEntry

__all__ = [
    "CandidatePassages",
    "IrDatasetPassages",
    "JsonlPassages",
    "Passages",
    "ir_dataset_queries",
    "passage_text",
    "read_candidates",
]

_ID_KEYS = ("_id", "id", "docid", "doc_id", "pid")
_TEXT_KEYS = ("text", "contents", "content", "passage", "segment", "body")


class Passages(Protocol):
    """A source of passages, opened for certain doc_ids.

    `missing` tells, for each doc_id without a text there, why.
    """

    @property
    def missing(self) -> Mapping[str, str]:
        """doc_id -> why there is no text."""

    def text(self, query_id: str, doc_id: str) -> str:
        """The passage of a document, title first; not called for doc_ids in `missing`."""


def passage_text(document: Mapping[str, Any]) -> str | None:
    """Title and text of a document record joined by a blank; None if it has no text field."""
    body = next((document[key] for key in _TEXT_KEYS if key in document), None)
    if body is None:
        return None
    title = document.get("title") or ""
    return f"{title} {body}".strip()


class JsonlPassages:
    """Passages from a corpus.jsonl of {"_id", "title", "text"} objects, as BEIR has them.

    One pass finds where the wanted documents are; texts are read when asked for, so memory holds
    one number per wanted document. Of a gzip file, which cannot be read from the middle, the
    wanted texts are kept instead.

    Raises:
        FileError: a malformed line, a wanted document twice, an unreadable file.
    """

    def __init__(self, path: str | Path, doc_ids: Collection[str]) -> None:
        self._path = Path(path)
        self._offsets: dict[str, int] = {}
        self._texts: dict[str, str] = {}
        self.missing: dict[str, str] = dict.fromkeys(doc_ids, f"not in {path}")
        self._scan()
        self._file = self._path.open("rb")

    def text(self, query_id: str, doc_id: str) -> str:
        """The passage of a document, title first."""
        if doc_id in self._texts:
            return self._texts[doc_id]
        self._file.seek(self._offsets[doc_id])
        return passage_text(json.loads(self._file.readline().decode("utf-8-sig"))) or ""

    def _scan(self) -> None:
        keep_texts: bool | None = None
        found: dict[str, int] = {}
        for number, offset, document in json_lines(self._path):
            if keep_texts is None:
                keep_texts = is_gzip(self._path)
            doc_id = next((str(document[key]) for key in _ID_KEYS if key in document), None)
            text = passage_text(document)
            if doc_id is None or text is None:
                known = json.dumps(sorted(document))
                raise FileError(
                    f'a document has "_id" and "text"; this one has {known}', self._path, number
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
            if keep_texts:
                self._texts[doc_id] = text
            else:
                self._offsets[doc_id] = offset


class CandidatePassages:
    """Passages that came with the candidates themselves, by query and document."""

    def __init__(self, texts: Mapping[tuple[str, str], str], missing: Mapping[str, str]) -> None:
        self._texts = texts
        self.missing = missing

    def text(self, query_id: str, doc_id: str) -> str:
        """The passage of a document as that query's candidate list has it."""
        return self._texts[query_id, doc_id]


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
        try:
            query_id, query = str(value["query"]["qid"]), str(value["query"]["text"]).strip()
            entries = [
                (str(each["docid"]), float(each["score"]), passage_text(each["doc"]))
                for each in value["candidates"]
            ]
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise FileError(
                f'a line has {{"query": {{"qid", "text"}}, "candidates": [{{"docid", "score", '
                f'"doc": {{"contents"}}}}]}}; here {type(error).__name__}: {error}',
                path,
                number,
            ) from error
        _check_unique(query_id, queries, [doc_id for doc_id, _, _ in entries], path, number)
        queries[query_id] = query
        entries.sort(key=lambda entry: -entry[1])
        run[query_id] = [RunEntry(doc_id, score) for doc_id, score, _ in entries][:hits]
        for doc_id, _, text in entries[:hits]:
            if text:
                texts[query_id, doc_id] = text
            else:
                missing[doc_id] = f"empty text at {path}:{number}"
    return queries, run, CandidatePassages(texts, missing)


def _check_unique(
    query_id: str, queries: Mapping[str, str], doc_ids: list[str], path: str | Path, number: int
) -> None:
    if query_id in queries:
        raise FileError(f"query {query_id} stands twice; keep one of them", path, number)
    seen: set[str] = set()
    for doc_id in doc_ids:
        if doc_id in seen:
            raise FileError(f"document {doc_id} stands twice for {query_id}", path, number)
        seen.add(doc_id)


class IrDatasetPassages:
    """Passages from a dataset of ir_datasets, by its name.

    Raises:
        MissingDependencyError: ir_datasets is not installed.
        InputError: it has no dataset of this name.
    """

    def __init__(self, name: str, doc_ids: Collection[str]) -> None:
        self._store = _ir_dataset(name).docs_store()
        found = self._store.get_many(doc_ids)
        self.missing: dict[str, str] = {
            doc_id: f"not in {name}" if doc_id not in found else f"empty text in {name}"
            for doc_id in doc_ids
            if doc_id not in found or not _ir_dataset_text(found[doc_id])
        }

    def text(self, query_id: str, doc_id: str) -> str:
        """The passage of a document, title first."""
        return _ir_dataset_text(self._store.get(doc_id))


def ir_dataset_queries(name: str) -> dict[str, str]:
    """query_id -> text of a dataset of ir_datasets."""
    return {str(each.query_id): each.default_text() for each in _ir_dataset(name).queries_iter()}


def _ir_dataset_text(document: Any) -> str:
    """Title and text, as llm-rankers joins them; what ir_datasets calls the text otherwise."""
    text = getattr(document, "text", None)
    if text is None:
        return str(document.default_text()).strip()
    return f"{getattr(document, 'title', '')} {text}".strip()


def _ir_dataset(name: str) -> Any:
    try:
        import ir_datasets
    except ImportError as error:
        raise MissingDependencyError(
            "ir_datasets is not installed: pip install 'llmrankers-groupwise[ir_datasets]'"
        ) from error
    try:
        return ir_datasets.load(name)
    except KeyError as error:
        raise InputError(
            f"ir_datasets has no dataset {name!r}; see the catalogue at ir-datasets.com"
        ) from error
