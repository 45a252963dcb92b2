"""The command `run-groupwise merge`: a ranking made again from the replies in journals."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from llmrankers_groupwise.cli.common.options import Help
from llmrankers_groupwise.cli.common.output import (
    EXPLAINED,
    add_output_options,
    check_explain,
    check_other,
    print_summary,
    table_at_any_end,
)
from llmrankers_groupwise.concurrency import run_in_background
from llmrankers_groupwise.data.qrels import read_qrels
from llmrankers_groupwise.errors import SettingsError
from llmrankers_groupwise.methods.registry import METHODS
from llmrankers_groupwise.pipeline.experiment import Experiment
from llmrankers_groupwise.pipeline.explanation import explanation
from llmrankers_groupwise.pipeline.recorded_run import Recorded
from llmrankers_groupwise.pipeline.results import Ranked
from llmrankers_groupwise.rankers.base import MethodRanker

__all__ = ["add_merge_parser", "run_merge"]


def add_merge_parser(commands: Any) -> dict[str, argparse.ArgumentParser]:
    """Add `merge` to the commands; gives its parser."""
    merge: argparse.ArgumentParser = commands.add_parser(
        "merge",
        help="make a ranking again from replies in journals: merge OPTIONS... METHOD OPTIONS...",
        allow_abbrev=False,
        formatter_class=Help,
    )
    group = merge.add_argument_group("what to merge")
    group.add_argument(
        "--journal",
        action="append",
        required=True,
        metavar="FILE",
        help="a journal; repeated for those of a run's shards. The last run of each is taken",
    )
    group.add_argument(
        "--explain",
        action=_ExplainOnly,
        default=[],
        metavar="QID",
        help=f"{EXPLAINED}. Without --save_path nothing else is done",
    )
    add_output_options(merge.add_argument_group("what to make of it"))
    return {"": merge}


class _ExplainOnly(argparse._AppendAction):
    """Adds a query to explain, which can be done without saving anything."""

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, *given: Any
    ) -> None:
        super().__call__(parser, namespace, *given)
        parser._option_string_actions["--save_path"].required = False


def run_merge(arguments: argparse.Namespace) -> None:
    """Run `merge`.

    Raises:
        GroupwiseError: as `Recorded` and `Experiment.run`, and for bad settings.
    """
    check_explain(arguments)
    if arguments.save_path is None and arguments.qrels:
        raise SettingsError("--qrels measures the merged run: give --save_path, too")
    for journal in arguments.journal if arguments.save_path is not None else ():
        check_other(arguments.save_path, journal, "a --journal")
    method = arguments.ranked_by
    settings = {name: getattr(arguments, name) for name in METHODS[method].own}
    with Recorded(arguments.journal) as recorded:
        ranker = recorded.ranker(method, settings, lenient=arguments.allow_missing)
        explained = _ranked(arguments.explain, recorded, ranker)
        if arguments.save_path is None:
            print("\n\n".join(explanation(each, ranker.settings) for each in explained))
            return
        _merge(arguments, recorded, ranker, explained)


def _ranked(query_ids: Sequence[str], recorded: Recorded, ranker: MethodRanker) -> Sequence[Ranked]:
    """Single queries of the recorded run."""
    found = {query_id: recorded.query(query_id) for query_id in query_ids}
    if unknown := [query_id for query_id, each in found.items() if each is None]:
        raise SettingsError(
            f"--explain {', '.join(unknown)}: the run in --journal has no such query, or has not "
            f"come to it: `journal export` lists what was asked"
        )
    return [
        Ranked(*each, *run_in_background(ranker.rank_candidates(*each)))
        for each in found.values()
        if each
    ]


def _merge(
    arguments: argparse.Namespace,
    recorded: Recorded,
    ranker: MethodRanker,
    explained: Sequence[Ranked],
) -> None:
    """The whole run again, as a file."""
    experiment = Experiment(
        first_stage=recorded.first_stage(),
        ranker=ranker,
        save_path=arguments.save_path,
        query_length=recorded.described.asked.query_length,
        passage_length=recorded.described.asked.passage_length,
        qrels=read_qrels(arguments.qrels) if arguments.qrels else None,
        measures=arguments.measures,
        allow_missing=arguments.allow_missing,
        max_failure_rate=arguments.max_failure_rate,
        tag=arguments.tag,
        settings={"journals": arguments.journal, "merged": recorded.described.run},
    )
    with table_at_any_end(experiment):
        summary = experiment.run()
    for each in explained:
        print(explanation(each, ranker.settings), end="\n\n")
    print_summary(arguments, summary, ranker.engine.describe())
