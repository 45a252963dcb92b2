"""What is to be reranked, from whichever of the sources the command's options name."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence

from llmrankers_groupwise.data.candidate_files import CandidateFile
from llmrankers_groupwise.data.first_stage import FirstStage
from llmrankers_groupwise.data.passages import Passages
from llmrankers_groupwise.data.run_files import RunFile
from llmrankers_groupwise.data.sources import PASSAGE_SOURCES, QUERY_SOURCES
from llmrankers_groupwise.errors import SettingsError

__all__ = ["first_stage", "passage_source", "query_source"]


def first_stage(arguments: argparse.Namespace, prefix: str = "") -> FirstStage:
    """Read the inputs, from whichever of the sources the options name.

    Args:
        arguments: the options' values.
        prefix: how the options' names begin, for error messages; `arguments` go without it.
    """
    if arguments.candidates:
        for name in _SOURCES:
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


_SOURCES = (
    "run_path", "query_file", "corpus", "pyserini_index", "pyserini_dataset", "ir_dataset_name",
)  # fmt: skip


def query_source(arguments: argparse.Namespace, prefix: str = "") -> Mapping[str, str]:
    """The queries, from the one source that the options name."""
    name = _only_source(arguments, "the queries", tuple(QUERY_SOURCES), prefix)
    return QUERY_SOURCES[name](getattr(arguments, name))


def passage_source(arguments: argparse.Namespace, prefix: str = "") -> Passages:
    """The passages, from the one source that the options name."""
    name = _only_source(arguments, "the passages", tuple(PASSAGE_SOURCES), prefix)
    return PASSAGE_SOURCES[name](getattr(arguments, name))


def _only_source(
    arguments: argparse.Namespace, what: str, names: Sequence[str], prefix: str
) -> str:
    """The one option that is given; a local file goes before the ir_datasets name beside it."""
    given = [name for name in names if getattr(arguments, name)]
    if len(given) > 1 and "ir_dataset_name" in given:
        given.remove("ir_dataset_name")
    if len(given) != 1:
        options = ", ".join(f"--{prefix}{name}" for name in names)
        raise SettingsError(f"give {what} by one of {options}; {len(given) or 'none'} given")
    return given[0]
