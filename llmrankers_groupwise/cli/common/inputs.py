"""What is to be reranked, from whichever of the sources the command's options name."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from llmrankers_groupwise.data.candidate_files import CandidateFile
from llmrankers_groupwise.data.first_stage import FirstStage
from llmrankers_groupwise.data.passages import Passages
from llmrankers_groupwise.data.run_files import RunFile
from llmrankers_groupwise.data.sources import PASSAGE_SOURCES, QUERY_SOURCES
from llmrankers_groupwise.errors import SettingsError
from llmrankers_groupwise.settings import FilePath, Name, Positive

__all__ = ["SOURCES", "Inputs", "first_stage", "passage_source", "query_source"]


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """Where a first stage, its queries, passages and judgements come from.

    Attributes:
        run_path: the first-stage run, TREC format, plain or gzip.
        candidates: queries, first stage and passages in one file: rank_llm's JSONL.
        query_file: the queries: TSV, or JSONL with _id and text.
        pyserini_dataset: the queries: topics of pyserini, for example dl19-passage.
        ir_dataset_name: queries and passages from ir_datasets.
        corpus: the passages: JSONL with _id, title and text.
        pyserini_index: the passages: a Lucene index, or the name of a prebuilt one.
        qrels: relevance judgements.
        hits: the number of documents of each query to rerank.
    """

    run_path: FilePath | None = None
    candidates: FilePath | None = None
    query_file: FilePath | None = None
    pyserini_dataset: Name | None = None
    ir_dataset_name: Name | None = None
    corpus: FilePath | None = None
    pyserini_index: Name | None = None
    qrels: FilePath | None = None
    hits: Positive = 100


SOURCES = (
    "query_file", "pyserini_dataset", "ir_dataset_name", "corpus", "pyserini_index",
)  # fmt: skip
"""The inputs that a file of candidates has in itself."""


def first_stage(arguments: argparse.Namespace | Inputs, prefix: str = "") -> FirstStage:
    """Read the inputs, from whichever of the sources the options name.

    Args:
        arguments: the options' values.
        prefix: how the options' names begin, for error messages; `arguments` go without it.
    """
    if arguments.candidates:
        for name in ("run_path", *SOURCES):
            if getattr(arguments, name):
                raise SettingsError(f"--{prefix}candidates brings it all: drop --{prefix}{name}")
        candidates = CandidateFile(arguments.candidates, arguments.hits)
        return FirstStage(candidates.run, candidates.queries, candidates)
    if not arguments.run_path:
        raise SettingsError(
            f"give the first stage: --{prefix}run_path RUN, or --{prefix}candidates FILE.jsonl"
        )
    run = RunFile(arguments.run_path, arguments.hits)
    return FirstStage(run, query_source(arguments, prefix), passage_source(arguments, prefix))


def query_source(arguments: argparse.Namespace | Inputs, prefix: str = "") -> Mapping[str, str]:
    """The queries, from the one source that the options name."""
    name = _only_source(arguments, "the queries", tuple(QUERY_SOURCES), prefix)
    return QUERY_SOURCES[name](getattr(arguments, name))


def passage_source(arguments: argparse.Namespace | Inputs, prefix: str = "") -> Passages:
    """The passages, from the one source that the options name."""
    name = _only_source(arguments, "the passages", tuple(PASSAGE_SOURCES), prefix)
    return PASSAGE_SOURCES[name](getattr(arguments, name))


def _only_source(
    arguments: argparse.Namespace | Inputs, what: str, names: Sequence[str], prefix: str
) -> str:
    """The one option that is given; a local file goes before the ir_datasets name beside it."""
    given = [name for name in names if getattr(arguments, name)]
    if len(given) > 1 and "ir_dataset_name" in given:
        given.remove("ir_dataset_name")
    if len(given) != 1:
        options = ", ".join(f"--{prefix}{name}" for name in names)
        raise SettingsError(f"give {what} by one of {options}; {len(given) or 'none'} given")
    return given[0]
