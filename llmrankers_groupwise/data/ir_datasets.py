"""Queries, passages and files through ir_datasets."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from typing import Any

from llmrankers_groupwise.errors import DownloadError, InputError, MissingDependencyError

__all__ = ["IrDatasetPassages", "ir_dataset", "ir_dataset_files", "ir_dataset_queries"]


class IrDatasetPassages:
    """Passages from a dataset of ir_datasets, by its name.

    Raises:
        MissingDependencyError: ir_datasets is not installed.
        InputError: it has no dataset of this name, or one without documents.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._store = ir_dataset(name, "docs").docs_store()

    def texts(self, query_id: str, doc_ids: Sequence[str]) -> list[str | None]:
        """The passage of each document, title first; None where there is none."""
        found = self._found(doc_ids)
        return [
            _ir_dataset_text(found[doc_id]) or None if doc_id in found else None
            for doc_id in doc_ids
        ]

    def problems(self, query_id: str, doc_ids: Sequence[str]) -> dict[str, str]:
        """doc_id -> why there is no text, for those of the documents that have none."""
        found = self._found(doc_ids)
        return {
            doc_id: f"empty text in {self._name}" if doc_id in found else f"not in {self._name}"
            for doc_id in doc_ids
            if doc_id not in found or not _ir_dataset_text(found[doc_id])
        }

    def _found(self, doc_ids: Sequence[str]) -> Mapping[str, Any]:
        with ir_dataset_files(self._name):
            found: Mapping[str, Any] = self._store.get_many(doc_ids)
        return found


def ir_dataset_queries(name: str) -> dict[str, str]:
    """query_id -> text of a dataset of ir_datasets.

    Raises:
        MissingDependencyError: ir_datasets is not installed.
        InputError: it has no dataset of this name, or one without queries.
        DownloadError: it could not download them.
    """
    queries = ir_dataset(name, "queries").queries_iter()
    with ir_dataset_files(name):
        return {str(each.query_id): _ir_dataset_query(each).strip() for each in queries}


@contextlib.contextmanager
def ir_dataset_files(name: str) -> Iterator[None]:
    """Raise DownloadError where ir_datasets, which downloads files as they are read, cannot."""
    try:
        yield
    except RuntimeError as error:
        why = " ".join(map(str, error.args))[:200]
        raise DownloadError(
            f"ir_datasets could not get a file of {name!r} ({why}...); check the network, or put "
            f"the file where its catalogue expects it"
        ) from error


def _ir_dataset_query(query: Any) -> str:
    """What ir_datasets calls the query's text; those of BRIGHT have only a field of that name."""
    default_text = getattr(query, "default_text", None)
    return str(query.text if default_text is None else default_text())


def _ir_dataset_text(document: Any) -> str:
    """Title and text, as llm-rankers joins them; what ir_datasets calls the text otherwise."""
    text = getattr(document, "text", None)
    if text is None:
        return str(document.default_text()).strip()
    return f"{getattr(document, 'title', '') or ''} {text}".strip()


def ir_dataset(name: str, part: str) -> Any:
    """The dataset of ir_datasets by this name, which must have the part.

    Args:
        name: as in its catalogue.
        part: "docs", "queries" or "qrels".

    Raises:
        MissingDependencyError: ir_datasets is not installed, or what it reads BRIGHT with.
        InputError: it has no dataset of this name, or one without that part.
    """
    try:
        import ir_datasets
    except ImportError as error:
        raise MissingDependencyError("ir_datasets is not installed", "ir-datasets") from error
    try:
        dataset = ir_datasets.load(name)
    except KeyError as error:
        raise InputError(
            f"ir_datasets has no dataset {name!r}; see the catalogue at ir-datasets.com, or take a "
            f"later version"
        ) from error
    if name.startswith("bright/") and find_spec("pyarrow") is None:
        raise MissingDependencyError(
            "ir_datasets reads the files of BRIGHT with pyarrow: pip install pyarrow"
        )
    if not getattr(dataset, f"has_{part}")():
        raise InputError(f"the dataset {name!r} of ir_datasets has no {part}; choose another")
    return dataset
