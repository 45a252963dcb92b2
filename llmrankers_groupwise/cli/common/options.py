"""The options of the command by what they are about, named as in llm-rankers where it has them."""

from __future__ import annotations

import argparse
import ast
import contextlib
import dataclasses
import sys
from collections.abc import Mapping
from typing import Any

from llmrankers_groupwise.engines.base import ENGINES, EngineSettings
from llmrankers_groupwise.engines.ray.engine import RayEngine
from llmrankers_groupwise.errors import SettingsError
from llmrankers_groupwise.evaluation.measures import DEFAULT_MEASURES
from llmrankers_groupwise.rankers.presets import PRESETS, find_preset
from llmrankers_groupwise.types import Sampling

__all__ = [
    "INPUT_OPTIONS",
    "RANKER_OPTIONS",
    "SAMPLING_OPTIONS",
    "add_checks",
    "add_engine",
    "add_inputs",
    "add_journal",
    "add_merged",
    "add_outputs",
    "add_presets",
    "add_worker_options",
    "assignment",
    "check_worker_options",
    "clear_output",
    "in_workers",
    "positive",
    "word",
]


class _DryRun(argparse.Action):
    """A flag with which there is nothing to save."""

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, *given: Any
    ) -> None:
        namespace.dry_run = True
        parser._option_string_actions["--save_path"].required = False


class _ExplainOnly(argparse.Action):
    """Adds a query to explain, which can be done without saving anything."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        namespace.explain = [*namespace.explain, values]
        parser._option_string_actions["--save_path"].required = False


_EXPLAINED = "explain this query's ranking: groups, scores, movement; may be repeated"


def add_inputs(group: argparse._ArgumentGroup) -> None:
    """First stage, queries and passages."""
    add = group.add_argument
    add("--run_path", metavar="RUN", help="first-stage run, TREC format, plain or gzip")
    add("--candidates", metavar="FILE", help="queries, first stage and passages: rank_llm's JSONL")
    add("--query_file", metavar="FILE", help="queries: TSV, or JSONL with _id and text")
    add(
        "--pyserini_dataset",
        metavar="NAME",
        help="queries: topics of pyserini, as dl19-passage",
    )
    add("--ir_dataset_name", metavar="NAME", help="queries and passages from ir_datasets")
    add("--corpus", metavar="FILE", help="passages: JSONL with _id, title and text")
    add("--pyserini_index", metavar="INDEX", help="passages: a Lucene index or a prebuilt name")
    add("--hits", type=positive, default=100, help="documents of each query to rerank")
    add("--query_length", type=positive, default=128, help="cut queries to so many tokens")
    add("--passage_length", type=positive, default=512, help="cut passages to so many tokens")


def add_outputs(group: argparse._ArgumentGroup) -> None:
    """Where the result goes, and what is to be shown of it."""
    add = group.add_argument
    add("--save_path", metavar="OUT", required=True, help="the run file to write")
    add("--tag", type=word, help="the run's name, its last column; else the method's")
    add("--qrels", metavar="FILE", help="judgements: print measures before and after")
    add(
        "--measures",
        type=str.split,
        metavar="NAMES",
        default=list(DEFAULT_MEASURES),
        help="names of ir_measures, several in one quoted word",
    )
    add("--json", action="store_true", help="print the summary as JSON")
    add("--allow_missing", action="store_true", help="keep what is missing where it was")
    add("--max_failure_rate", type=float, default=0.1, help="end if a larger share of groups fails")


def add_checks(group: argparse._ArgumentGroup) -> None:
    """What can be done before a run, and seen in it."""
    add = group.add_argument
    add(
        "--dry_run",
        action=_DryRun,
        nargs=0,
        default=False,
        help="ask and write nothing: check the input, and count what would be asked",
    )
    add(
        "--show",
        action="append",
        default=[],
        metavar="QID",
        help="show this query's list before and after; may be repeated",
    )
    add("--explain", action="append", default=[], metavar="QID", help=_EXPLAINED)
    add("--verbose", action="store_true", help="log every prompt and reply")


def add_journal(group: argparse._ArgumentGroup) -> None:
    """Where replies are kept, and which part of the run this is."""
    add = group.add_argument
    add(
        "--journal",
        metavar="FILE",
        help="where replies are kept and looked for; by default OUT.journal.sqlite",
    )
    add("--no_journal", action="store_true", help="keep no replies")
    add(
        "--dataset_number_of_shards",
        type=positive,
        default=1,
        metavar="N",
        help="cut the run into so many parts",
    )
    add(
        "--dataset_shard_index",
        type=int,
        default=0,
        metavar="I",
        help="rerank this part of it, 0 to N - 1",
    )


def add_merged(group: argparse._ArgumentGroup) -> None:
    """Which replies to make a ranking of."""
    group.add_argument(
        "--journal",
        action="append",
        required=True,
        metavar="FILE",
        help="a journal; repeated for those of a run's shards. Of each the run used last is taken",
    )
    group.add_argument(
        "--explain",
        action=_ExplainOnly,
        default=[],
        metavar="QID",
        help=f"{_EXPLAINED}. Without --save_path nothing else is done",
    )


def add_engine(group: argparse._ArgumentGroup) -> None:
    """Who answers, and how."""
    add = group.add_argument
    add("--engine", choices=sorted(ENGINES), default="embedded", help="who answers")
    add("--model_name_or_path", help="the engine's model")
    add("--tokenizer_name_or_path", help="its tokenizer, where it is not the model's own")
    add("--lora_path_or_name", "--lora_path", dest="lora_name_or_path", help="a LoRA adapter")
    add("--recordings", metavar="FILE", help="of engine replay: recorded replies, JSONL")
    add("--device", help="where the model runs")
    add("--cache_dir", help="where downloaded models are kept")
    add(
        "--engine_args",
        action="append",
        default=[],
        type=assignment,
        metavar="KEY=VALUE",
        help="a setting by the engine's own name, as README's table of engines has them; may be "
        "repeated",
    )
    add(
        "--scoring",
        choices=("generation", "likelihood"),
        help="likelihood fills in a form, generation writes and parses; else as the engine does",
    )
    drawing = Sampling()
    add("--temperature", type=float, default=drawing.temperature, help="0 decodes greedily")
    add("--top_p", type=float, default=drawing.top_p, help="draw from this share of probability")
    add("--max_tokens", type=int, default=drawing.max_tokens, help="the longest text of a reply")
    add(
        "--reasoning_tokens",
        type=int,
        metavar="N",
        help="the longest reasoning before the answer; else none before a form, and --max_tokens "
        "before a text",
    )
    add("--prompt_file", help="a file, or a name of `prompts list`; default by scoring")
    add("--seed", type=int, default=0, help="for everything drawn at random")


def add_presets(run: argparse.ArgumentParser) -> None:
    """Defaults by a name."""
    lines = [f"  {name:<10} {preset.about}" for name, preset in PRESETS.items()]
    group = run.add_argument_group(
        "presets", "Defaults by a name; options that are given win.\n" + "\n".join(lines)
    )
    group.add_argument("--preset", type=_preset, metavar="NAME", help="one of the above")


def _preset(name: str) -> str:
    try:
        find_preset(name)
    except SettingsError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return name


def positive(text: str) -> int:
    """A whole number from 1."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is less than 1")
    return value


def word(text: str) -> str:
    """A text that is one word, as the last column of a run file."""
    if not text or any(character.isspace() for character in text):
        raise argparse.ArgumentTypeError(f"{text!r} is not one word without spaces")
    return text


def assignment(text: str) -> tuple[str, Any]:
    """KEY=VALUE, the value a Python literal where it reads as one, else text."""
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise argparse.ArgumentTypeError(f"{text!r} is not KEY=VALUE")
    try:
        return key, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return key, value


# --- Workers --------------------------------------------------------------------------------------


def add_worker_options(group: argparse._ArgumentGroup) -> None:
    """Add them to the group."""
    add = group.add_argument
    add("--distributed", choices=("ray",), help="run copies of the engine in workers of Ray")
    add("--num_workers", type=int, metavar="N", help="how many copies; else one")
    add(
        "--gpus_per_worker",
        type=float,
        metavar="G",
        help="GPUs of each; else as the engine's settings say",
    )
    add(
        "--ray_address",
        metavar="ADDRESS",
        help="a running cluster; else RAY_ADDRESS, or a cluster on this machine for this run",
    )


def check_worker_options(arguments: argparse.Namespace) -> None:
    """Raise SettingsError for one that has no meaning without --distributed, or for no engine."""
    if arguments.distributed is not None and arguments.engine == "replay":
        raise SettingsError("engine replay looks replies up: drop --distributed")
    for name in ("num_workers", "gpus_per_worker", "ray_address"):
        if getattr(arguments, name) is not None and arguments.distributed is None:
            raise SettingsError(f"--{name} is for workers: add --distributed ray, or drop it")


def in_workers(settings: Mapping[str, Any], arguments: argparse.Namespace) -> dict[str, Any]:
    """A ranker's settings with the engine in workers, in place of the engine's own."""
    names = [field.name for field in dataclasses.fields(EngineSettings)]
    own = {name: settings[name] for name in names}
    if arguments.preset:  # which sets nothing of an engine that is made already
        preset = find_preset(arguments.preset).engine_args.get(arguments.engine, {})
        own["engine_args"] = {**preset, **own["engine_args"]}
    engine = RayEngine(
        arguments.engine,
        EngineSettings(**own),
        num_workers=1 if arguments.num_workers is None else arguments.num_workers,
        gpus_per_worker=arguments.gpus_per_worker,
        address=arguments.ray_address,
    )
    return {name: value for name, value in settings.items() if name not in own} | {"engine": engine}


def clear_output(arguments: argparse.Namespace) -> contextlib.AbstractContextManager[object]:
    """Keeps standard output for results: Ray prints there what its nodes report."""
    if arguments.distributed:
        return contextlib.redirect_stdout(sys.stderr)
    return contextlib.nullcontext()


INPUT_OPTIONS = (
    "run_path", "candidates", "query_file", "pyserini_dataset", "ir_dataset_name", "corpus",
    "pyserini_index", "qrels", "hits",
)  # fmt: skip
RANKER_OPTIONS = (
    "engine", "model_name_or_path", "tokenizer_name_or_path", "lora_name_or_path", "device",
    "cache_dir", "scoring", "prompt_file", "seed", "verbose",
)  # fmt: skip
SAMPLING_OPTIONS = ("temperature", "top_p", "max_tokens", "reasoning_tokens")
