"""Where the command's results go: options, what is printed of a run, checks of paths."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path

from llmrankers_groupwise.cli.common.options import add_settings, reader
from llmrankers_groupwise.data.manifest import manifest_path
from llmrankers_groupwise.engines.dry_run import Sizes
from llmrankers_groupwise.errors import InputError, JournalError, SettingsError
from llmrankers_groupwise.files.atomic import same_file
from llmrankers_groupwise.pipeline.experiment import Experiment
from llmrankers_groupwise.pipeline.results import Summary
from llmrankers_groupwise.pipeline.summary import dry_table, summary_table
from llmrankers_groupwise.settings import word

__all__ = [
    "EXPLAINED",
    "LENGTHS",
    "SHARDS",
    "add_output_options",
    "check_apart",
    "check_explain",
    "check_other",
    "print_dry_run",
    "print_summary",
    "replies_kept",
    "table_at_any_end",
]  # fmt: skip

LENGTHS = ("query_length", "passage_length")
SHARDS = ("number_of_shards", "shard_index")
"""Settings of an experiment that are for a run alone: what is made of its replies has them."""
EXPLAINED = "explain this query's ranking: groups, scores, movement; may be repeated"


def add_output_options(group: argparse._ArgumentGroup) -> None:
    """Where the result of a run goes, and what is shown of it."""
    add = group.add_argument
    add("--save_path", metavar="OUT", required=True, help="the run file to write")
    add(
        "--tag",
        type=reader(word),
        metavar="WORD",
        help="the run's name, its last column; by default the method's name",
    )
    add("--qrels", metavar="FILE", help="relevance judgements: print measures before and after")
    add("--json", action="store_true", help="print the summary as JSON")
    add_settings(group, Experiment, without=(*LENGTHS, *SHARDS))


def print_summary(
    arguments: argparse.Namespace, summary: Summary, engine: dict[str, object]
) -> None:
    """The summary, as JSON or as text."""
    if arguments.json:
        print(json.dumps(summary.as_dict() | {"engine": engine}, ensure_ascii=False))
        return
    print(summary_table(summary))
    print(_named(engine))
    print(f"saved {arguments.save_path}")


def print_dry_run(
    summary: Summary, sizes: Sizes, engine: dict[str, object], *, as_json: bool
) -> None:
    """What a run would ask."""
    if as_json:
        counted = {name: getattr(summary, name) for name in ("queries", "documents", "groups")}
        sized = {"dry_run": True, **counted, **sizes.as_dict(), "skipped": summary.skipped}
        print(json.dumps(sized | {"engine": engine}, ensure_ascii=False))
        return
    print(dry_table(summary, sizes), _named(engine), sep="\n")
    print("dry run: nothing was asked, nothing was written")


@contextlib.contextmanager
def table_at_any_end(experiment: Experiment) -> Iterator[None]:
    """A run that does not end well shows what it did until then."""
    try:
        yield
    except BaseException:
        if experiment.summary.statuses:
            print(
                f"of finished queries until then: {summary_table(experiment.summary)}",
                file=sys.stderr,
            )
        raise


@contextlib.contextmanager
def replies_kept(journal: Path | None) -> Iterator[None]:
    """After a failure, print where the replies are, if there are any.

    Nothing is printed for bad input, or for a journal that another run has.

    Args:
        journal: the file, or a folder of several; None for none.
    """
    try:
        yield
    except BaseException as error:
        refused = isinstance(error, InputError | JournalError)
        if journal is not None and _has_files(journal) and not refused:
            print(
                f"replies are kept in {journal}: the same command goes on from there",
                file=sys.stderr,
            )
        raise


def _has_files(path: Path) -> bool:
    return any(path.iterdir()) if path.is_dir() else path.exists()


def check_explain(arguments: argparse.Namespace) -> None:
    """Raise SettingsError if --explain is given where it has no effect."""
    if not arguments.explain:
        return
    if arguments.ranked_by != "groupwise":
        raise SettingsError(
            f"--explain is of the method groupwise, whose scores are merged, and this is "
            f"{arguments.ranked_by}: compare --html shows its calls"
        )
    if arguments.json:
        raise SettingsError("--explain prints a text and --json nothing but JSON: drop one of them")


def check_other(save_path: str, path: str, option: str) -> None:
    """Raise SettingsError if the result would overwrite what an option names."""
    check_apart(save_path, path, "--save_path", option)
    check_apart(manifest_path(save_path), path, "--save_path's manifest", option)


def check_apart(result: str | Path, path: str | Path, what: str, option: str) -> None:
    """Raise SettingsError if a result, which is called `what`, is the file of an option."""
    if same_file(result, path):
        raise SettingsError(f"{what} is the file of {option}; save under another name")


def _named(engine: dict[str, object]) -> str:
    replayed = engine.get("replayed")
    if isinstance(replayed, dict):
        return f"engine: replay of {replayed.get('engine')} ({replayed.get('model')})"
    return f"engine: {engine['engine']}" + (f" ({engine['note']})" if "note" in engine else "")
