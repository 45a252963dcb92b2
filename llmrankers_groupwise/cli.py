"""The command `run-groupwise`: llm-rankers' grammar, `run OPTIONS... groupwise OPTIONS...`.

`run-groupwise prompts` is in prompt_command.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from llmrankers_groupwise.candidates import CandidateFile
from llmrankers_groupwise.compare_command import run_compare
from llmrankers_groupwise.engines.dry import DryRun, Sizes
from llmrankers_groupwise.errors import (
    GroupwiseError,
    InputError,
    MissingDependencyError,
    SettingsError,
)
from llmrankers_groupwise.evaluation import check_measures
from llmrankers_groupwise.experiment import IN_FLIGHT, Experiment
from llmrankers_groupwise.first_stage import FirstStage
from llmrankers_groupwise.fuse_command import run_fuse
from llmrankers_groupwise.journal import Journal
from llmrankers_groupwise.journal_command import run_journal
from llmrankers_groupwise.lucene import LucenePassages, lucene_topics
from llmrankers_groupwise.merging import Recorded
from llmrankers_groupwise.methods.groupwise import GroupwiseSettings
from llmrankers_groupwise.options import (
    GROUPWISE_OPTIONS,
    INPUT_OPTIONS,
    RANKER_OPTIONS,
    SAMPLING_OPTIONS,
    parse_arguments,
)
from llmrankers_groupwise.passages import (
    IrDatasetPassages,
    JsonlPassages,
    Passages,
    ir_dataset_queries,
)
from llmrankers_groupwise.presets import check_preset
from llmrankers_groupwise.prompt_command import run_prompts
from llmrankers_groupwise.prompts import load_prompt
from llmrankers_groupwise.ranker import GroupwiseLlmRanker
from llmrankers_groupwise.results import Ranked, Summary
from llmrankers_groupwise.runs import Run, RunFile
from llmrankers_groupwise.summary import dry_table, side_by_side, summary_table
from llmrankers_groupwise.tally import check_failure_rate
from llmrankers_groupwise.textfiles import check_writable
from llmrankers_groupwise.trec import read_qrels, read_queries
from llmrankers_groupwise.types import Sampling
from llmrankers_groupwise.worker_options import check_worker_options, clear_output, in_workers

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Returns:
        The exit code: 0; 1 when a run failed; 2 for bad input; 130 when interrupted. Ended by
        SIGTERM it is 143.
    """
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    try:
        arguments = parse_arguments(argv)
        with _ended_in_order():
            _COMMANDS[arguments.command](arguments)
    except BrokenPipeError:  # the reader of our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (InputError, ImportError) as error:
        print(f"run-groupwise: {error}", file=sys.stderr)
        return 2
    except (GroupwiseError, OSError) as error:
        print(f"run-groupwise: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("run-groupwise: interrupted; no run file was written", file=sys.stderr)
        return 130
    return 0


@contextlib.contextmanager
def _ended_in_order() -> Iterator[None]:
    """Let SIGTERM, as of a cluster's time limit, end the run as an exit does: files removed."""

    def end(number: int, frame: object) -> NoReturn:
        sys.exit(128 + number)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _run(arguments: argparse.Namespace) -> None:
    if arguments.save_path is not None:
        check_writable(arguments.save_path)
        _check_no_input(arguments)
    journal = _journal(arguments)
    check_measures(arguments.measures)
    check_failure_rate(arguments.max_failure_rate)
    _check_settings(arguments)
    shown: list[Ranked] = []

    def watch(ranked: Ranked) -> None:
        if ranked.query.query_id in arguments.show:
            shown.append(ranked)

    dry = None
    with clear_output(arguments), _replies_kept(journal), _checked_ranker(arguments) as ranker:
        qrels = read_qrels(arguments.qrels) if arguments.qrels else None
        first_stage = _first_stage(arguments)
        _check_shown(arguments.show, first_stage.run)
        if arguments.dry_run:
            ranker.engine = dry = DryRun(ranker.engine)
        elif journal is not None:
            ranker.journal = Journal(journal)
        experiment = Experiment(
            first_stage=first_stage,
            ranker=ranker,
            save_path=None if dry else arguments.save_path,
            query_length=arguments.query_length,
            passage_length=arguments.passage_length,
            qrels=qrels,
            measures=arguments.measures,
            allow_missing=arguments.allow_missing,
            max_failure_rate=arguments.max_failure_rate,
            number_of_shards=arguments.dataset_number_of_shards,
            shard_index=arguments.dataset_shard_index,
            tag=arguments.tag,
            settings={name: getattr(arguments, name) for name in INPUT_OPTIONS},
            in_flight=IN_FLIGHT * (arguments.num_workers or 1),
            progress=sys.stderr.isatty(),
            watch=watch,
        )
        with _table_at_any_end(experiment):
            summary = experiment.run()
        engine = ranker.engine.describe()
    if dry:
        _report_dry(summary, dry.sizes, engine, as_json=arguments.json)
        return
    if not arguments.json:
        for each in shown:
            print(side_by_side(each, (qrels or {}).get(each.query.query_id)), end="\n\n")
    _report(arguments, summary, engine)


def _merge(arguments: argparse.Namespace) -> None:
    check_writable(arguments.save_path)
    check_measures(arguments.measures)
    check_failure_rate(arguments.max_failure_rate)
    qrels = read_qrels(arguments.qrels) if arguments.qrels else None
    settings = {name: getattr(arguments, name) for name in GROUPWISE_OPTIONS}
    with Recorded(arguments.journal) as recorded:
        ranker = recorded.ranker(settings, lenient=arguments.allow_missing)
        experiment = Experiment(
            first_stage=recorded.first_stage(),
            ranker=ranker,
            save_path=arguments.save_path,
            query_length=recorded.described["run"]["query_length"],
            passage_length=recorded.described["run"]["passage_length"],
            qrels=qrels,
            measures=arguments.measures,
            allow_missing=arguments.allow_missing,
            max_failure_rate=arguments.max_failure_rate,
            tag=arguments.tag,
            settings={"journals": arguments.journal, "merged": recorded.described["run"]},
        )
        with _table_at_any_end(experiment):
            summary = experiment.run()
    _report(arguments, summary, ranker.engine.describe())


@contextlib.contextmanager
def _table_at_any_end(experiment: Experiment) -> Iterator[None]:
    """A run that does not end well shows what it did until then."""
    try:
        yield
    except BaseException:
        if experiment.summary.queries:
            print(f"until then: {summary_table(experiment.summary)}", file=sys.stderr)
        raise


@contextlib.contextmanager
def _replies_kept(journal: Path | None) -> Iterator[None]:
    """A run that does not end well says where its replies are, if it has any."""
    try:
        yield
    except BaseException:
        if journal is not None and journal.exists():
            print(
                f"replies are kept in {journal}: the same command goes on from there",
                file=sys.stderr,
            )
        raise


def _report(arguments: argparse.Namespace, summary: Summary, engine: dict[str, object]) -> None:
    if arguments.json:
        print(json.dumps(summary.as_dict() | {"engine": engine}, ensure_ascii=False))
        return
    print(summary_table(summary))
    print(_named(engine))
    print(f"saved {arguments.save_path}")


def _journal(arguments: argparse.Namespace) -> Path | None:
    """Where replies are to be kept; None for nowhere."""
    if arguments.no_journal and arguments.journal:
        raise SettingsError("--journal and --no_journal contradict: give one of them")
    if arguments.no_journal or arguments.save_path is None:
        return None
    return Path(arguments.journal or f"{arguments.save_path}.journal.sqlite")


def _report_dry(
    summary: Summary, sizes: Sizes, engine: dict[str, object], *, as_json: bool
) -> None:
    if as_json:
        counted = {name: getattr(summary, name) for name in ("queries", "documents", "groups")}
        report = {"dry_run": True, **counted, **sizes.as_dict(), "skipped": summary.skipped}
        print(json.dumps(report | {"engine": engine}, ensure_ascii=False))
        return
    print(dry_table(summary, sizes), _named(engine), sep="\n")
    print("dry run: nothing was asked, nothing was written")


def _named(engine: dict[str, object]) -> str:
    return f"engine: {engine['engine']}" + (f" ({engine['note']})" if "note" in engine else "")


def _check_settings(arguments: argparse.Namespace) -> None:
    """Find out what is wrong with the settings before large files are read."""
    _sampling(arguments)
    check_worker_options(arguments)
    if arguments.preset:
        check_preset(arguments.preset, arguments.engine, arguments.scoring)
    GroupwiseSettings(
        prompt=load_prompt(arguments.prompt_file or "groupwise"),
        **{name: getattr(arguments, name) for name in GROUPWISE_OPTIONS},
    )


def _check_no_input(arguments: argparse.Namespace) -> None:
    """Saving over an input would lose it."""
    save_path = Path(arguments.save_path)
    for name in ("run_path", "candidates", "query_file", "corpus", "qrels"):
        path = getattr(arguments, name)
        if path and save_path.exists() and Path(path).exists() and save_path.samefile(path):
            raise SettingsError(f"--save_path is the file of --{name}; save under another name")


def _check_shown(show: Sequence[str], run: Run) -> None:
    unknown = [query_id for query_id in show if query_id not in run]
    if unknown:
        raise SettingsError(f"--show {', '.join(unknown)}: the run has no such query")


def _sampling(arguments: argparse.Namespace) -> Sampling:
    given = {name: getattr(arguments, name) for name in SAMPLING_OPTIONS}
    return Sampling(seed=arguments.seed, **given)


def _ranker(arguments: argparse.Namespace) -> GroupwiseLlmRanker:
    names = (*RANKER_OPTIONS, *GROUPWISE_OPTIONS)
    settings = {name: getattr(arguments, name) for name in names}
    settings["engine_args"] = dict(arguments.engine_args)
    settings["sampling"] = _sampling(arguments)
    if arguments.distributed:
        settings = in_workers(settings, arguments)
    if arguments.preset:
        return GroupwiseLlmRanker.from_preset(arguments.preset, **settings)
    return GroupwiseLlmRanker(**settings)


def _checked_ranker(arguments: argparse.Namespace) -> GroupwiseLlmRanker:
    """The ranker, made before large files are read: it loads nothing, and may refuse settings.

    Bad input is found without the packages of the engine.
    """
    try:
        return _ranker(arguments)
    except MissingDependencyError:
        _first_stage(arguments)
        raise


def _first_stage(arguments: argparse.Namespace) -> FirstStage:
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


_COMMANDS: dict[str, Callable[[argparse.Namespace], None]] = {
    "run": _run,
    "merge": _merge,
    "journal": run_journal,
    "prompts": run_prompts,
    "compare": run_compare,
    "fuse": run_fuse,
}


if __name__ == "__main__":
    sys.exit(main())
