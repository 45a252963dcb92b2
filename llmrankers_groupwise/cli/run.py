"""The command `run-groupwise run`: a first stage reranked into a run file."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from llmrankers_groupwise.cli.common.inputs import Inputs, first_stage
from llmrankers_groupwise.cli.common.options import Help, add_settings, add_short_help, reader
from llmrankers_groupwise.cli.common.output import (
    EXPLAINED,
    LENGTHS,
    SHARDS,
    add_output_options,
    check_explain,
    check_other,
    print_dry_run,
    print_summary,
    replies_kept,
    table_at_any_end,
)
from llmrankers_groupwise.cli.common.workers import (
    add_worker_options,
    check_worker_options,
    clear_output,
    in_workers,
)
from llmrankers_groupwise.data.qrels import Qrels, read_qrels
from llmrankers_groupwise.data.run_files import Run
from llmrankers_groupwise.engines.dry_run import DryRun
from llmrankers_groupwise.errors import MissingDependencyError, SettingsError
from llmrankers_groupwise.evaluation.measures import check_measures
from llmrankers_groupwise.files.atomic import check_writable
from llmrankers_groupwise.journal.journal import Journal
from llmrankers_groupwise.methods.registry import METHODS
from llmrankers_groupwise.pipeline.experiment import IN_FLIGHT, Experiment
from llmrankers_groupwise.pipeline.explanation import explanation
from llmrankers_groupwise.pipeline.results import Ranked
from llmrankers_groupwise.pipeline.summary import side_by_side
from llmrankers_groupwise.prompting.prompt_file import load_prompt
from llmrankers_groupwise.rankers.base import MethodRanker
from llmrankers_groupwise.rankers.baselines import (
    ListwiseLlmRanker,
    PointwiseLlmRanker,
    SetwiseLlmRanker,
)
from llmrankers_groupwise.rankers.failures import check_failure_rate
from llmrankers_groupwise.rankers.groupwise import GroupwiseLlmRanker
from llmrankers_groupwise.rankers.options import RankerOptions
from llmrankers_groupwise.rankers.presets import PRESETS, check_preset, find_preset
from llmrankers_groupwise.settings import values_of
from llmrankers_groupwise.types import Sampling

__all__ = ["add_run_parser", "run_rerank"]


_DESCRIPTION = """Rerank a first-stage run with a language model.

  run-groupwise run --run_path bm25.trec --query_file queries.tsv --corpus corpus.jsonl \\
      --engine vllm --model_name_or_path Qwen/Qwen3-8B --preset balanced \\
      --qrels qrels.txt --save_path reranked.trec groupwise --group_size 20

Options of the method come after its name."""

_MOST_USED = (
    "run_path", "candidates", "query_file", "corpus", "hits",
    "save_path", "qrels", "dry_run", "explain",
    "engine", "model_name_or_path", "engine_args",
    "preset", "config", "ranked_by",
)  # fmt: skip


def add_run_parser(commands: Any) -> dict[str, argparse.ArgumentParser]:
    """Add `run` to the commands; gives its parser."""
    run: argparse.ArgumentParser = commands.add_parser(
        "run",
        help="rerank a run: run OPTIONS... METHOD OPTIONS...",
        description=_DESCRIPTION,
        epilog="All options: --help_all. Those of a method: run groupwise --help.",
        add_help=False,
        allow_abbrev=False,
        formatter_class=Help,
    )
    add_short_help(run, _MOST_USED)
    inputs = run.add_argument_group("what to rerank")
    add_settings(inputs, Inputs, without=("qrels",))
    add_settings(inputs, Experiment, only=LENGTHS)
    outputs = run.add_argument_group("where to write, and what to print")
    add_output_options(outputs)
    _add_checks(outputs)
    _add_journal(run.add_argument_group("where to keep replies, and which part to rerank"))
    _add_engine(run.add_argument_group("which model scores, and how"))
    add_worker_options(run.add_argument_group("how to use several GPUs or machines"))
    _add_presets(run)
    return {"": run}


class _DryRun(argparse.Action):
    """A flag with which there is nothing to save."""

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, *given: Any
    ) -> None:
        namespace.dry_run = True
        parser._option_string_actions["--save_path"].required = False


def _add_checks(group: argparse._ArgumentGroup) -> None:
    """What can be done before a run, and seen in it."""
    add = group.add_argument
    add(
        "--dry_run",
        action=_DryRun,
        nargs=0,
        default=False,
        help="check the input and count the calls; call no engine, and write nothing",
    )
    add(
        "--show",
        action="append",
        default=[],
        metavar="QID",
        help="show this query's list before and after; may be repeated",
    )
    add("--explain", action="append", default=[], metavar="QID", help=EXPLAINED)
    add("--verbose", action="store_true", help="log every prompt and reply")


def _add_journal(group: argparse._ArgumentGroup) -> None:
    """Where replies are kept, and which part of the run this is."""
    group.add_argument(
        "--journal",
        metavar="FILE",
        help="where replies are kept and looked for; by default OUT.journal.sqlite",
    )
    group.add_argument("--no_journal", action="store_true", help="keep no replies")
    add_settings(group, Experiment, only=SHARDS)


def _add_engine(group: argparse._ArgumentGroup) -> None:
    """Which engine answers, and how."""
    add_settings(group, RankerOptions)
    group.add_argument(
        "--recordings", metavar="FILE", help="for the engine replay: recorded replies, JSONL"
    )
    add_settings(group, Sampling, without=("seed",))
    group.add_argument(
        "--seed",
        type=int,
        default=0,
        metavar="N",
        help="the seed of everything that is drawn at random",
    )


def _add_presets(run: argparse.ArgumentParser) -> None:
    """Defaults by a name."""

    def known(name: str) -> str:
        find_preset(name)
        return name

    lines = [f"  {name:<10} {preset.about}" for name, preset in PRESETS.items()]
    group = run.add_argument_group(
        "presets", "Defaults by a name; options that are given win.\n" + "\n".join(lines)
    )
    group.add_argument("--preset", type=reader(known), metavar="NAME", help="one of the above")


def run_rerank(arguments: argparse.Namespace) -> None:
    """Rerank, as the command `run`.

    Raises:
        GroupwiseError: as `Experiment.run`, and for bad settings and files.
    """
    if arguments.save_path is not None:
        check_writable(arguments.save_path)
        _check_no_input(arguments)
    journal = _journal(arguments)
    check_measures(arguments.measures)
    check_failure_rate(arguments.max_failure_rate)
    _check_settings(arguments)
    shown: list[Ranked] = []

    def watch(ranked: Ranked) -> None:
        if ranked.query.query_id in {*arguments.show, *arguments.explain}:
            shown.append(ranked)

    dry = None
    with clear_output(arguments), replies_kept(journal), _checked_ranker(arguments) as ranker:
        qrels = read_qrels(arguments.qrels) if arguments.qrels else None
        stage = first_stage(arguments)
        _check_in_run("--show", arguments.show, stage.run)
        _check_in_run("--explain", arguments.explain, stage.run)
        if arguments.dry_run:
            ranker.engine = dry = DryRun(ranker.engine)
        elif journal is not None:
            ranker.journal = Journal(journal)
        experiment = Experiment(
            first_stage=stage,
            ranker=ranker,
            save_path=None if dry else arguments.save_path,
            qrels=qrels,
            tag=arguments.tag or arguments.ranked_by,
            settings=values_of(arguments, Inputs),
            config=arguments.resolved,
            **values_of(arguments, Experiment),
            in_flight=IN_FLIGHT * (arguments.num_workers or 1),
            progress=sys.stderr.isatty(),
            watch=watch,
        )
        experiment.check_reranked(arguments.explain)
        with table_at_any_end(experiment):
            summary = experiment.run()
        engine = ranker.engine.describe()
    if dry:
        print_dry_run(summary, dry.sizes, engine, as_json=arguments.json)
        return
    if not arguments.json:
        for each in shown:
            _show(each, arguments, qrels, ranker.settings)
    print_summary(arguments, summary, engine)


def _show(
    ranked: Ranked, arguments: argparse.Namespace, qrels: Qrels | None, settings: Any
) -> None:
    """A query's list, and how it came about, as far as that is asked for."""
    query_id = ranked.query.query_id
    if query_id in arguments.show:
        print(side_by_side(ranked, (qrels or {}).get(query_id)), end="\n\n")
    if query_id in arguments.explain:
        print(explanation(ranked, settings), end="\n\n")


def _journal(arguments: argparse.Namespace) -> Path | None:
    """Where replies are to be kept; None for nowhere."""
    if arguments.no_journal and arguments.journal:
        raise SettingsError("--journal and --no_journal contradict: give one of them")
    if arguments.no_journal or arguments.save_path is None:
        return None
    return Path(arguments.journal or f"{arguments.save_path}.journal.sqlite")


def _check_settings(arguments: argparse.Namespace) -> None:
    """Find out what is wrong with the settings before large files are read."""
    _sampling(arguments)
    check_explain(arguments)
    if arguments.explain and arguments.dry_run:
        raise SettingsError("--explain explains replies, and with --dry_run there are none")
    check_worker_options(arguments)
    method = METHODS[arguments.ranked_by]
    if arguments.preset and arguments.ranked_by != "groupwise":
        raise SettingsError(f"--preset {arguments.preset} is of the method groupwise: drop it")
    if arguments.preset:
        check_preset(arguments.preset, arguments.engine, arguments.scoring)
    if arguments.scoring == "likelihood" and "scoring" not in method.fields:
        raise SettingsError(
            f"--scoring likelihood is for groupwise and pointwise; {arguments.ranked_by} is "
            f"answered in text"
        )
    if arguments.recordings and arguments.engine != "replay":
        raise SettingsError(
            f"--recordings is for --engine replay, and the engine is {arguments.engine}"
        )
    load_prompt(arguments.prompt_file or "groupwise")
    method.options(**{name: getattr(arguments, name) for name in method.own})


def _check_no_input(arguments: argparse.Namespace) -> None:
    """Saving over an input would lose it."""
    recordings = _engine_args(arguments).get("recordings")
    if isinstance(recordings, str):
        check_other(arguments.save_path, recordings, "--recordings")
    for name in ("run_path", "candidates", "query_file", "corpus", "qrels", "journal"):
        if path := getattr(arguments, name):
            check_other(arguments.save_path, path, f"--{name}")


def _check_in_run(option: str, query_ids: Sequence[str], run: Run) -> None:
    if unknown := [query_id for query_id in query_ids if query_id not in run]:
        raise SettingsError(f"{option} {', '.join(unknown)}: the run has no such query")


def _sampling(arguments: argparse.Namespace) -> Sampling:
    return Sampling(**values_of(arguments, Sampling))


def _ranker(arguments: argparse.Namespace) -> MethodRanker:
    method = METHODS[arguments.ranked_by]
    settings = {
        **values_of(arguments, RankerOptions),
        **values_of(arguments, method.options),
        "verbose": arguments.verbose,
    }
    settings["engine_args"] = _engine_args(arguments)
    settings["sampling"] = _sampling(arguments)
    if arguments.distributed:
        settings = in_workers(settings, arguments)
    if arguments.preset:
        return GroupwiseLlmRanker.from_preset(arguments.preset, **settings)
    return _RANKERS[arguments.ranked_by](**settings)


_RANKERS: Mapping[str, Callable[..., MethodRanker]] = {
    "groupwise": GroupwiseLlmRanker,
    "setwise": SetwiseLlmRanker,
    "listwise": ListwiseLlmRanker,
    "pointwise": PointwiseLlmRanker,
}


def _engine_args(arguments: argparse.Namespace) -> dict[str, object]:
    args = dict(arguments.engine_args)
    if arguments.engine == "replay":
        args = {"allow_missing": arguments.allow_missing, **args}
    if arguments.recordings:
        args["recordings"] = arguments.recordings
    return args


def _checked_ranker(arguments: argparse.Namespace) -> MethodRanker:
    """The ranker, made before large files are read: it loads nothing, and may refuse settings.

    Bad input is found without the packages of the engine.
    """
    try:
        return _ranker(arguments)
    except MissingDependencyError:
        first_stage(arguments)
        raise
