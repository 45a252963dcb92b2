"""What is to be reranked, from whichever of the sources the command's options name."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence

from llmrankers_groupwise.candidates import CandidateFile
from llmrankers_groupwise.errors import SettingsError
from llmrankers_groupwise.first_stage import FirstStage
from llmrankers_groupwise.lucene import LucenePassages, lucene_topics
from llmrankers_groupwise.passages import (
    IrDatasetPassages,
    JsonlPassages,
    Passages,
    ir_dataset_queries,
)
from llmrankers_groupwise.runs import RunFile
from llmrankers_groupwise.trec import read_queries

__all__ = ["first_stage"]


def first_stage(arguments: argparse.Namespace) -> FirstStage:
    """Read the inputs, from whichever of the sources the options name."""
    if arguments.candidates:
        for name in _SOURCES:
            if getattr(arguments, name):
                raise SettingsError(f"--candidates brings it all: drop --{name}")
        candidates = CandidateFile(arguments.candidates, arguments.hits)
        return FirstStage(candidates.run, candidates.queries, candidates)
    if not arguments.run_path:
        raise SettingsError("give the first stage: --run_path RUN, or --candidates FILE.jsonl")
    run = RunFile(arguments.run_path, arguments.hits)
    return FirstStage(run, _queries(arguments), _passages(arguments))


_SOURCES = (
    "run_path", "query_file", "corpus", "pyserini_index", "pyserini_dataset", "ir_dataset_name",
)  # fmt: skip


def _queries(arguments: argparse.Namespace) -> Mapping[str, str]:
    readers: dict[str, Callable[[str], Mapping[str, str]]] = {
        "query_file": read_queries,
        "pyserini_dataset": lucene_topics,
        "ir_dataset_name": ir_dataset_queries,
    }
    name = _only_source(arguments, "the queries", tuple(readers))
    return readers[name](getattr(arguments, name))


def _passages(arguments: argparse.Namespace) -> Passages:
    sources: dict[str, Callable[[str], Passages]] = {
        "corpus": JsonlPassages,
        "pyserini_index": LucenePassages,
        "ir_dataset_name": IrDatasetPassages,
    }
    name = _only_source(arguments, "the passages", tuple(sources))
    return sources[name](getattr(arguments, name))


def _only_source(arguments: argparse.Namespace, what: str, names: Sequence[str]) -> str:
    """The one option that is given; a local file goes before the ir_datasets name beside it."""
    given = [name for name in names if getattr(arguments, name)]
    if len(given) > 1 and "ir_dataset_name" in given:
        given.remove("ir_dataset_name")
    if len(given) != 1:
        options = ", ".join(f"--{name}" for name in names)
        raise SettingsError(f"give {what} by one of {options}; {len(given) or 'none'} given")
    return given[0]
