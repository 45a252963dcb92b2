"""The options of `run-groupwise`, named as in llm-rankers where it has them."""

from __future__ import annotations

import argparse
import ast
import difflib
import sys
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NoReturn, get_args

from llmrankers_groupwise import __version__
from llmrankers_groupwise.engines.protocol import ENGINES
from llmrankers_groupwise.errors import SettingsError
from llmrankers_groupwise.evaluation import DEFAULT_MEASURES
from llmrankers_groupwise.fusion import Fusion
from llmrankers_groupwise.grouping import Strategy
from llmrankers_groupwise.presets import PRESETS, find_preset
from llmrankers_groupwise.prompt_command import add_prompts_parser
from llmrankers_groupwise.types import Sampling
from llmrankers_groupwise.worker_options import add_worker_options

__all__ = [
    "GROUPWISE_OPTIONS",
    "INPUT_OPTIONS",
    "RANKER_OPTIONS",
    "SAMPLING_OPTIONS",
    "make_parser",
    "parse_arguments",
]

INPUT_OPTIONS = (
    "run_path", "candidates", "query_file", "pyserini_dataset", "ir_dataset_name", "corpus",
    "pyserini_index", "qrels", "hits",
)  # fmt: skip
RANKER_OPTIONS = (
    "engine", "model_name_or_path", "tokenizer_name_or_path", "lora_name_or_path", "device",
    "cache_dir", "scoring", "prompt_file", "seed", "verbose",
)  # fmt: skip
SAMPLING_OPTIONS = ("temperature", "top_p", "max_tokens", "reasoning_tokens")
GROUPWISE_OPTIONS = (
    "group_size", "num_repeat", "overlap", "grouping", "fusion", "first_stage_weight",
    "final_round",
)  # fmt: skip


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in two lines, with a hint where an option is misspelt or misplaced."""

    places: ClassVar[dict[str, set[str]]] = {}

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        self._words = list(sys.argv[1:] if args is None else args)
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        """Exit with 2."""
        hint = self._hint(message)
        self.exit(2, f"{self.prog}: {hint or message}\nsee {self.prog} --help\n")

    def _hint(self, message: str) -> str | None:
        """What is wrong with the first option that its place does not have."""
        before, after = self.places.get("before", set()), self.places.get("after", set())
        prompts = [*self.prog.split()[1:], *self._words][:1] == ["prompts"]
        known = self.places.get("prompts", set()) if prompts else before | after
        for word in self._words:
            name = word.partition("=")[0]
            if not name.startswith("--"):
                continue
            if name not in known:
                close = difflib.get_close_matches(name, known, n=1)
                return f"unknown option {name}" + (f"; did you mean {close[0]}?" if close else "")
            if prompts:
                continue
            if "METHOD" in message and name not in before:
                return f"{name} belongs behind the word groupwise"
            if "unrecognized" in message and name in message.split() and name not in after:
                return f"{name} belongs before the word groupwise"
        return None


class _DryRun(argparse.Action):
    """A flag with which there is nothing to save."""

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, *given: Any
    ) -> None:
        namespace.dry_run = True
        parser._option_string_actions["--save_path"].required = False


class _Help(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Shows the defaults that say something, and descriptions line by line."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        says_something = action.default not in (None, []) and action.default is not False
        return super()._get_help_string(action) if says_something else action.help


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """What the command is given; where it names a preset, the defaults are the preset's."""
    arguments = make_parser().parse_args(argv)
    if getattr(arguments, "preset", None) is None:
        return arguments
    return make_parser(PRESETS[arguments.preset].options).parse_args(argv)


def make_parser(defaults: Mapping[str, Any] | None = None) -> argparse.ArgumentParser:
    """The grammar: run OPTIONS... groupwise OPTIONS..., prompts list, prompts pull NAME.

    Args:
        defaults: for options by their names, in place of their own defaults.
    """
    parser = _Parser(
        prog="run-groupwise",
        allow_abbrev=False,
        description="Rerank a first-stage run, groups of documents at a time.",
        epilog="Options: run-groupwise run --help, and run-groupwise run groupwise --help.",
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(
        title="commands", dest="command", required=True, metavar="COMMAND"
    )
    run = commands.add_parser(
        "run",
        help="rerank a run: run OPTIONS... groupwise OPTIONS...",
        allow_abbrev=False,
        formatter_class=_Help,
    )
    _add_inputs(run.add_argument_group("what to rerank"))
    _add_outputs(run.add_argument_group("what to make of it"))
    _add_engine(run.add_argument_group("engine"))
    add_worker_options(run.add_argument_group("scale out"))
    _add_presets(run)
    methods = run.add_subparsers(title="methods", dest="method", required=True, metavar="METHOD")
    groupwise = methods.add_parser(
        "groupwise",
        help="score groups of documents in one round of independent calls",
        allow_abbrev=False,
        formatter_class=_Help,
    )
    _add_groupwise(groupwise)
    for each in (run, groupwise):
        own = {action.dest for action in each._actions}
        each.set_defaults(**{name: v for name, v in (defaults or {}).items() if name in own})
    _Parser.places = {
        "before": set(run._option_string_actions),
        "after": set(groupwise._option_string_actions),
        "prompts": add_prompts_parser(commands),
    }
    return parser


def _add_inputs(group: argparse._ArgumentGroup) -> None:
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
    add("--hits", type=_positive, default=100, help="documents of each query to rerank")
    add("--query_length", type=_positive, default=128, help="cut queries to so many tokens")
    add("--passage_length", type=_positive, default=512, help="cut passages to so many tokens")
    add(
        "--allow_missing",
        action="store_true",
        help="keep what has no text where it was",
    )


def _add_outputs(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--save_path", metavar="OUT", required=True, help="the run file to write")
    add("--tag", default="groupwise", type=_word, help="the run's name, its last column")
    add("--qrels", metavar="FILE", help="judgements: print measures before and after")
    add(
        "--measures",
        type=str.split,
        metavar="NAMES",
        default=list(DEFAULT_MEASURES),
        help="names of ir_measures, several in one quoted word",
    )
    add(
        "--show",
        action="append",
        default=[],
        metavar="QID",
        help="show this query's list before and after; may be repeated",
    )
    add("--json", action="store_true", help="print the summary as JSON")
    add(
        "--dry_run",
        action=_DryRun,
        nargs=0,
        default=False,
        help="ask and write nothing: check the input, and count what would be asked",
    )
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
    add("--max_failure_rate", type=float, default=0.1, help="end if a larger share of groups fails")


def _add_presets(run: argparse.ArgumentParser) -> None:
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
