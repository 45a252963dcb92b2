"""The command `run-groupwise`: llm-rankers' grammar, `run OPTIONS... groupwise OPTIONS...`."""

from __future__ import annotations

import argparse
import ast
import json
import logging
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, get_args

from llmrankers_groupwise import __version__
from llmrankers_groupwise.engines.protocol import ENGINES
from llmrankers_groupwise.errors import GroupwiseError, InputError, SettingsError
from llmrankers_groupwise.evaluation import DEFAULT_MEASURES
from llmrankers_groupwise.experiment import Experiment, Ranked
from llmrankers_groupwise.first_stage import FirstStage
from llmrankers_groupwise.fusion import Fusion
from llmrankers_groupwise.grouping import Strategy
from llmrankers_groupwise.lucene import LucenePassages, lucene_topics
from llmrankers_groupwise.passages import (
    IrDatasetPassages,
    JsonlPassages,
    Passages,
    ir_dataset_queries,
    read_candidates,
)
from llmrankers_groupwise.ranker import GroupwiseLlmRanker
from llmrankers_groupwise.summary import side_by_side, summary_table
from llmrankers_groupwise.textfiles import check_writable
from llmrankers_groupwise.trec import Run, read_qrels, read_queries, read_run

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Returns:
        The exit code: 0; 1 when a run failed; 2 for bad input; 130 when interrupted.
    """
    arguments = _parser().parse_args(argv)
    level = logging.DEBUG if arguments.verbose else logging.WARNING
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    logging.getLogger("llmrankers_groupwise").setLevel(level)
    try:
        _run(arguments)
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


def _run(arguments: argparse.Namespace) -> None:
    check_writable(arguments.save_path)
    _check_no_input(arguments)
    qrels = read_qrels(arguments.qrels) if arguments.qrels else None
    shown: list[Ranked] = []

    def watch(ranked: Ranked) -> None:
        if ranked.query.query_id in arguments.show:
            shown.append(ranked)

    first_stage = _first_stage(arguments)
    _check_shown(arguments.show, first_stage.run)
    with _ranker(arguments) as ranker:
        summary = Experiment(
            first_stage=first_stage,
            ranker=ranker,
            save_path=arguments.save_path,
            query_length=arguments.query_length,
            passage_length=arguments.passage_length,
            qrels=qrels,
            measures=arguments.measures,
            allow_missing=arguments.allow_missing,
            max_failure_rate=arguments.max_failure_rate,
            tag=arguments.tag,
            settings={name: getattr(arguments, name) for name in _INPUTS},
            progress=sys.stderr.isatty(),
            watch=watch,
        ).run()
        engine = ranker.engine.describe()
    if arguments.json:
        print(json.dumps(summary.as_dict() | {"engine": engine}, ensure_ascii=False))
        return
    for each in shown:
        print(side_by_side(each, (qrels or {}).get(each.query.query_id)), end="\n\n")
    print(summary_table(summary))
    print(f"engine: {engine['engine']}" + (f" ({engine['note']})" if "note" in engine else ""))
    print(f"saved {arguments.save_path}")


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


def _ranker(arguments: argparse.Namespace) -> GroupwiseLlmRanker:
    names = (*_ENGINE_OPTIONS, *_GROUPWISE_OPTIONS)
    return GroupwiseLlmRanker(
        engine_args=dict(arguments.engine_args),
        **{name: getattr(arguments, name) for name in names},
    )


def _first_stage(arguments: argparse.Namespace) -> FirstStage:
    """Read the inputs, from whichever of the sources the options name."""
    if arguments.candidates:
        for name in _SOURCES:
            if getattr(arguments, name):
                raise SettingsError(f"--candidates brings it all: drop --{name}")
        queries, run, passages = read_candidates(arguments.candidates, arguments.hits)
        return FirstStage(run, queries, passages)
    if not arguments.run_path:
        raise SettingsError("give the first stage: --run_path RUN, or --candidates FILE.jsonl")
    run = read_run(arguments.run_path, arguments.hits)
    return FirstStage(run, _queries(arguments), _passages(arguments, run))


_SOURCES = (
    "run_path", "query_file", "corpus", "pyserini_index", "pyserini_dataset", "ir_dataset_name",
)  # fmt: skip


def _queries(arguments: argparse.Namespace) -> dict[str, str]:
    readers: dict[str, Callable[[str], dict[str, str]]] = {
        "query_file": read_queries,
        "pyserini_dataset": lucene_topics,
        "ir_dataset_name": ir_dataset_queries,
    }
    name = _only_source(arguments, "the queries", tuple(readers))
    return readers[name](getattr(arguments, name))


def _passages(arguments: argparse.Namespace, run: Run) -> Passages:
    sources: dict[str, Callable[[str, Iterable[str]], Passages]] = {
        "corpus": JsonlPassages,
        "pyserini_index": LucenePassages,
        "ir_dataset_name": IrDatasetPassages,
    }
    name = _only_source(arguments, "the passages", tuple(sources))
    doc_ids = dict.fromkeys(entry.doc_id for entries in run.values() for entry in entries)
    return sources[name](getattr(arguments, name), doc_ids)


def _only_source(arguments: argparse.Namespace, what: str, names: Sequence[str]) -> str:
    """The one option that is given; a local file goes before the ir_datasets name beside it."""
    given = [name for name in names if getattr(arguments, name)]
    if len(given) > 1 and "ir_dataset_name" in given:
        given.remove("ir_dataset_name")
    if len(given) != 1:
        options = ", ".join(f"--{name}" for name in names)
        raise SettingsError(f"give {what} by one of {options}; {len(given)} are given")
    return given[0]


# --- The options ------------------------------------------------------------------------------

_INPUTS = (
    "run_path", "candidates", "query_file", "pyserini_dataset", "ir_dataset_name", "corpus",
    "pyserini_index", "qrels", "hits",
)  # fmt: skip
_ENGINE_OPTIONS = (
    "engine", "model_name_or_path", "tokenizer_name_or_path", "lora_name_or_path", "device",
    "cache_dir", "scoring", "prompt_file", "seed", "allow_missing", "max_failure_rate",
)  # fmt: skip
_GROUPWISE_OPTIONS = (
    "group_size", "num_repeat", "overlap", "grouping", "fusion", "first_stage_weight",
    "final_round",
)  # fmt: skip


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="run-groupwise",
        allow_abbrev=False,
        description="Rerank a first-stage run with a language model.",
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    run = commands.add_parser(
        "run",
        help="rerank a run: run OPTIONS... groupwise OPTIONS...",
        allow_abbrev=False,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    _add_inputs(run.add_argument_group("what to rerank"))
    _add_outputs(run.add_argument_group("what to make of it"))
    _add_engine(run.add_argument_group("engine"))
    methods = run.add_subparsers(title="methods", dest="method", required=True, metavar="METHOD")
    groupwise = methods.add_parser(
        "groupwise",
        help="score groups of documents in one round of independent calls",
        allow_abbrev=False,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    _add_groupwise(groupwise)
    return parser


def _add_inputs(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--run_path", metavar="RUN", help="first-stage run, TREC format, plain or gzip")
    add("--candidates", metavar="FILE", help="queries, first stage and passages: rank_llm's JSONL")
    add("--query_file", metavar="FILE", help="queries: TSV, or JSONL with _id and text")
    add("--pyserini_dataset", metavar="NAME", help="queries: topics that pyserini knows")
    add("--ir_dataset_name", metavar="NAME", help="queries and passages from ir_datasets")
    add("--corpus", metavar="FILE", help="passages: JSONL with _id, title and text")
    add("--pyserini_index", metavar="INDEX", help="passages: a Lucene index or a prebuilt name")
    add("--hits", type=_positive, default=100, help="documents of each query to rerank")
    add("--query_length", type=_positive, default=128, help="cut queries to so many tokens")
    add("--passage_length", type=_positive, default=512, help="cut passages to so many tokens")
    add("--allow_missing", action="store_true", help="keep what has no text in its first place")


def _add_outputs(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--save_path", metavar="OUT", required=True, help="the run file to write")
    add("--tag", default="groupwise", type=_word, help="the run's name, its last column")
    add("--qrels", metavar="FILE", help="judgements: print measures before and after")
    add(
        "--measures",
        type=str.split,
        metavar="'NAME ...'",
        default=list(DEFAULT_MEASURES),
        help="names of ir_measures, in one quoted word",
    )
    add(
        "--show",
        action="append",
        default=[],
        metavar="QID",
        help="show this query's list before and after; may be repeated",
    )
    add("--json", action="store_true", help="print the summary as JSON")
    add("--verbose", action="store_true", help="log every prompt and reply")


def _add_engine(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--engine", choices=sorted(ENGINES), default="embedded", help="who answers")
    add("--model_name_or_path", help="the engine's model")
    add("--tokenizer_name_or_path", help="its tokenizer, where it is not the model's own")
    add("--lora_path_or_name", "--lora_path", dest="lora_name_or_path", help="a LoRA adapter")
    add("--device", help="where the model runs")
    add("--cache_dir", help="where downloaded models are kept")
    add(
        "--engine_args",
        action="append",
        default=[],
        type=_assignment,
        metavar="KEY=VALUE",
        help="a further setting of the engine; may be repeated",
    )
    add("--scoring", choices=("generation", "likelihood"), help="default: the engine's own")
    add("--prompt_file", help="a prompt file or the name of a bundled one; default by scoring")
    add("--seed", type=int, default=0, help="for everything drawn at random")
    add("--max_failure_rate", type=float, default=0.1, help="end if more of the groups fail")


def _add_groupwise(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--group_size", type=int, default=20, help="documents of one call")
    add("--num_repeat", type=int, default=1, help="how often every document is scored")
    add("--overlap", type=int, default=0, help="documents that neighbouring groups share")
    add("--grouping", choices=get_args(Strategy), default="random", help="who is judged together")
    add("--fusion", choices=get_args(Fusion), default="mean", help="how scores are merged")
    add("--first_stage_weight", type=float, default=0.0, help="share of the first stage, 0..1")
    add("--final_round", type=int, default=0, metavar="M", help="ask the best M once more")


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is less than 1")
    return value


def _word(text: str) -> str:
    if not text or any(character.isspace() for character in text):
        raise argparse.ArgumentTypeError(f"{text!r} is no word without blanks")
    return text


def _assignment(text: str) -> tuple[str, Any]:
    """KEY=VALUE, the value a Python literal where it reads as one, else text."""
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise argparse.ArgumentTypeError(f"{text!r} is not KEY=VALUE")
    try:
        return key, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return key, value


if __name__ == "__main__":
    sys.exit(main())
