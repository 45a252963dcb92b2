"""The command `run-groupwise prepare`: a test collection as a folder to run on."""

from __future__ import annotations

import argparse
import dataclasses
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llmrankers_groupwise.data.collections.known import KNOWN_SETS, KnownSet, find_known_set
from llmrankers_groupwise.data.collections.prepare import (
    FILES,
    Prepared,
    Ranked,
    prepare,
    ranked_by_run,
    ranked_by_search,
)
from llmrankers_groupwise.data.collections.topics import (
    Topics,
    bright_topics,
    file_topics,
    ir_dataset_topics,
    lucene_index_topics,
    read_excluded,
)
from llmrankers_groupwise.data.ir_datasets import IrDatasetPassages
from llmrankers_groupwise.data.passages import Passages
from llmrankers_groupwise.data.pyserini import LucenePassages
from llmrankers_groupwise.data.run_files import RunFile
from llmrankers_groupwise.data.sources import open_corpus
from llmrankers_groupwise.errors import SettingsError
from llmrankers_groupwise.files.atomic import check_new_folder, new_folder

__all__ = ["add_prepare_parser", "run_prepare"]

_FILES = "files"


def add_prepare_parser(commands: Any) -> dict[str, argparse.ArgumentParser]:
    """Add `prepare` to the commands; gives its parser."""
    parser = commands.add_parser(
        "prepare",
        help="make the folder that a run on a test collection needs",
        description="Make a folder with queries, judgements, excluded ids, a first stage without "
        "these, and its passages.",
        epilog=f"Collections: {', '.join(KNOWN_SETS)}; files, for any other one.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("dataset", metavar="DATASET", help="a collection's name, or the word files")
    add("--save_path", metavar="FOLDER", required=True, help="the folder to make")
    add("--force", action="store_true", help="replace a folder that was prepared before")
    topics = parser.add_argument_group("queries and judgements")
    add = topics.add_argument
    add(
        "--source",
        choices=("pyserini", "ir_datasets"),
        default="pyserini",
        help="who brings what no file is given for (default: pyserini)",
    )
    add("--examples", metavar="FILE", help="BRIGHT's examples of one set, JSON lines")
    add("--query_file", metavar="FILE", help="queries: TSV, or JSONL with _id and text")
    add("--qrels", metavar="FILE", help="judgements, TREC format")
    add(
        "--exclude",
        metavar="FILE",
        help="documents to take out of rankings: query_id TAB doc_id TAB doc_id ...",
    )
    first = parser.add_argument_group("first stage and passages")
    add = first.add_argument
    add("--run_path", metavar="RUN", help="a first-stage run; else BM25 is run on the index")
    add("--no_run", action="store_true", help="no first stage, and no passages")
    add("--hits", type=int, default=100, help="documents of each query (default: 100)")
    add("--k1", type=float, default=0.9, help="of BM25 (default: 0.9)")
    add("--b", type=float, default=0.4, help="of BM25 (default: 0.4)")
    add("--pyserini_index", metavar="INDEX", help="a Lucene index or a prebuilt name")
    add("--corpus", metavar="FILE", help="passages: JSONL, as BRIGHT's documents are")
    return {"": parser}


def run_prepare(arguments: argparse.Namespace) -> None:
    """Do what `prepare` says; the folder is written whole or not at all.

    Raises:
        InputError: a setting or a file is wrong, or the folder cannot be made.
        MissingDependencyError: a source is not installed.
    """
    known_set = None if arguments.dataset == _FILES else find_known_set(arguments.dataset)
    index = _index(arguments, known_set)
    _check(arguments, known_set, index)
    made = FILES["made"]
    check_new_folder(arguments.save_path, made, force=arguments.force)
    topics = _topics(arguments, known_set, index)
    ranked: Ranked | None = None
    passages: Passages | None = None
    if not arguments.no_run:
        lucene = LucenePassages(index) if index else None
        passages = _passages(arguments, known_set, lucene)
        ranked = _ranked(arguments, topics, lucene, _has_underscores(index))
    with new_folder(arguments.save_path, made, force=arguments.force) as folder:
        counted = prepare(folder, topics, _described(arguments), ranked, passages, arguments.hits)
        written = {kind for kind, name in FILES.items() if (folder / name).exists()}
    print(_table(arguments, counted, written))


def _index(arguments: argparse.Namespace, known_set: KnownSet | None) -> str | None:
    """The index to search and to take passages from, where one is needed."""
    if arguments.pyserini_index or arguments.no_run:
        return arguments.pyserini_index or None
    local = arguments.examples or arguments.query_file or arguments.source != "pyserini"
    if known_set is None or local or (arguments.run_path and arguments.corpus):
        return None
    return known_set.index


def _check(arguments: argparse.Namespace, known_set: KnownSet | None, index: str | None) -> None:
    """Find out what is wrong before anything is read or downloaded."""
    given = {name for name in ("examples", "query_file", "qrels") if getattr(arguments, name)}
    if given not in (set(), {"examples"}, {"query_file", "qrels"}):
        raise SettingsError("give --query_file and --qrels together, or --examples alone")
    if known_set is None and not given:
        raise SettingsError(
            "files are local files: give --query_file and --qrels, or BRIGHT's --examples"
        )
    if "examples" in given and known_set is not None and not known_set.bright:
        raise SettingsError(f"--examples are BRIGHT's, and {arguments.dataset} is none of it")
    if arguments.hits < 1:
        raise SettingsError(f"--hits is {arguments.hits}: give 1 or more documents")
    if not (0.0 <= arguments.k1 < math.inf and 0.0 <= arguments.b <= 1.0):
        raise SettingsError(
            f"--k1 is {arguments.k1:g} and --b {arguments.b:g}: give k1 from 0 and b of 0..1"
        )
    first = [name for name in ("run_path", "corpus") if getattr(arguments, name)]
    if arguments.no_run:
        if first or arguments.pyserini_index:
            raise SettingsError("--no_run makes no first stage: drop what is given for one")
        return
    if index is None and "run_path" not in first:
        raise SettingsError(
            "there is no first stage: give --run_path RUN or --pyserini_index INDEX, or --no_run "
            "for queries, judgements and excluded ids alone"
        )
    if index is None and "corpus" not in first and not _by_ir_datasets(arguments, known_set):
        raise SettingsError("there are no passages: give --corpus FILE or --pyserini_index INDEX")


def _by_ir_datasets(arguments: argparse.Namespace, known_set: KnownSet | None) -> bool:
    return known_set is not None and arguments.source == "ir_datasets"


def _topics(arguments: argparse.Namespace, known_set: KnownSet | None, index: str | None) -> Topics:
    if arguments.examples:
        topics = bright_topics(arguments.examples, underscores=_has_underscores(index))
    elif arguments.query_file or known_set is None:
        topics = file_topics(arguments.query_file, arguments.qrels)
    elif arguments.source == "ir_datasets":
        topics = ir_dataset_topics(known_set.ir_dataset)
    else:
        topics = lucene_index_topics(known_set)
    if arguments.exclude:
        return dataclasses.replace(topics, excluded=read_excluded(arguments.exclude))
    return topics


def _passages(
    arguments: argparse.Namespace, known_set: KnownSet | None, lucene: LucenePassages | None
) -> Passages:
    if arguments.corpus:
        return open_corpus(arguments.corpus)
    if lucene is not None:
        return lucene
    assert known_set is not None  # else `_check` has refused it
    return IrDatasetPassages(known_set.ir_dataset)


def _has_underscores(index: str | None) -> bool:
    """Whether this is a prebuilt index in which spaces of document ids became underscores."""
    return any(each.bright and each.index == index for each in KNOWN_SETS.values())


def _ranked(
    arguments: argparse.Namespace, topics: Topics, lucene: LucenePassages | None, underscores: bool
) -> Ranked:
    if arguments.run_path or lucene is None:
        return ranked_by_run(RunFile(arguments.run_path), underscores=underscores)
    return ranked_by_search(
        topics,
        lambda query, hits: lucene.search(query, hits, arguments.k1, arguments.b),
        arguments.hits,
    )


def _described(arguments: argparse.Namespace) -> dict[str, Any]:
    left_out = ["command", "save_path", "force"]
    if arguments.examples or arguments.query_file:  # which are the source themselves
        left_out.append("source")
    return {name: value for name, value in vars(arguments).items() if name not in left_out}


def _table(arguments: argparse.Namespace, counted: Prepared, written: set[str]) -> str:
    """What was written, with counts, and the command that reads it."""
    folder = Path(arguments.save_path)
    unjudged = f" ({counted.unjudged:,} without judgements left out)" if counted.unjudged else ""
    lines = {
        "queries": f"{counted.queries:,} queries{unjudged}",
        "qrels": f"{counted.judgements:,} judgements",
        "excluded": f"{counted.excluded:,} excluded documents of {counted.excluding:,} queries",
        "run": _first_stage(arguments, counted),
        "passages": f"{counted.passages:,} passages"
        + (f"; {counted.unknown:,} relevant ones are not in the source" if counted.unknown else ""),
    }
    rows = [f"{FILES[kind]:<17} {text}" for kind, text in lines.items() if kind in written]
    if "run" in written:
        rows += ["rerank it by", _command(folder)]
    return "\n".join([*rows, f"saved {folder}"])


def _first_stage(arguments: argparse.Namespace, counted: Prepared) -> str:
    parts = [
        f"{counted.documents:,} candidates of {counted.queries - counted.absent:,} queries",
        f"{counted.removed:,} excluded ones taken out",
    ]
    told: Mapping[str, int] = {
        f"queries have fewer than {arguments.hits}": counted.short,
        "judged queries have none": counted.absent,
        "queries of the run are not judged and left out": counted.foreign,
    }
    return "; ".join([*parts, *(f"{count:,} {what}" for what, count in told.items() if count)])


def _command(folder: Path) -> str:
    options = {"run_path": "run", "query_file": "queries", "corpus": "passages", "qrels": "qrels"}
    inputs = " ".join(
        f"--{option} {os.path.join(folder, FILES[kind])}" for option, kind in options.items()
    )
    return f"    run-groupwise run {inputs} --save_path OUT groupwise"
