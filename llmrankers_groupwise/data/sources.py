"""Where texts of queries and passages come from, by the options' names."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from llmrankers_groupwise.data.ir_datasets import IrDatasetPassages, ir_dataset_queries
from llmrankers_groupwise.data.passages import Corpus, JsonlPassages, Passages
from llmrankers_groupwise.data.pyserini import LucenePassages, lucene_topics
from llmrankers_groupwise.data.queries import read_queries

__all__ = ["FILE_SOURCES", "PASSAGE_SOURCES", "QUERY_SOURCES", "open_corpus"]

QUERY_SOURCES: Mapping[str, Callable[[str], Mapping[str, str]]] = {
    "query_file": read_queries,
    "pyserini_dataset": lucene_topics,
    "ir_dataset_name": ir_dataset_queries,
}
"""Option -> what reads its value: query_id -> text."""


def open_corpus(path: str) -> Corpus:
    """A corpus file, by the class that reads its format: today JSONL alone.

    Raises:
        FileError: as the class.
    """
    return JsonlPassages(path)


PASSAGE_SOURCES: Mapping[str, Callable[[str], Passages]] = {
    "corpus": open_corpus,
    "pyserini_index": LucenePassages,
    "ir_dataset_name": IrDatasetPassages,
}
"""Option -> what reads its value."""

FILE_SOURCES = frozenset({"query_file", "corpus", "candidates"})
"""Options whose values are files; the others name something, or an index."""
