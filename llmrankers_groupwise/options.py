"""The grammar of `run-groupwise`; the options themselves are in `option_groups`."""

from __future__ import annotations

import argparse
import difflib
import sys
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NoReturn

from llmrankers_groupwise import __version__
from llmrankers_groupwise.compare_command import add_compare_parser
from llmrankers_groupwise.fuse_command import add_fuse_parser
from llmrankers_groupwise.journal_command import add_journal_parser
from llmrankers_groupwise.merging import Recorded
from llmrankers_groupwise.option_groups import (
    add_checks,
    add_engine,
    add_groupwise,
    add_inputs,
    add_journal,
    add_merged,
    add_outputs,
    add_presets,
)
from llmrankers_groupwise.prepare_command import add_prepare_parser
from llmrankers_groupwise.presets import PRESETS
from llmrankers_groupwise.prompt_command import add_prompts_parser
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
    "group_size", "num_repeat", "overlap", "grouping", "fusion", "first_stage_weight", "ties",
    "final_round", "until_stable",
)  # fmt: skip


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in two lines, with a hint where an option is misspelt or misplaced."""

    places: ClassVar[dict[str, tuple[set[str], set[str]]]] = {}
    """Command -> its options before and behind the word that names a method."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        self._words = list(sys.argv[1:] if args is None else args)
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        """Exit with 2."""
        hint = self._hint(message)
        self.exit(2, f"{self.prog}: {hint or message}\nsee {self.prog} --help\n")

    def _hint(self, message: str) -> str | None:
        """What is wrong with the first option that its place does not have."""
        command = [*self.prog.split()[1:], *self._words][:1]
        before, after = self.places.get(command[0] if command else "", (set(), set()))
        known = before | after
        for word in self._words:
            name = word.partition("=")[0]
            if not name.startswith("--"):
                continue
            if name not in known:
                close = difflib.get_close_matches(name, known, n=1)
                return f"unknown option {name}" + (f"; did you mean {close[0]}?" if close else "")
            if "METHOD" in message and name not in before:
                return f"{name} belongs behind the word groupwise"
            if (
                "unrecognized" in message
                and name in message.split()
                and after
                and name not in after
            ):
                return f"{name} belongs before the word groupwise"
        return None


class _Help(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Shows the defaults that say something, and descriptions line by line."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        says_something = action.default not in (None, []) and action.default is not False
        return super()._get_help_string(action) if says_something else action.help


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """What the command is given; of a preset, or of the run to merge, come the defaults.

    Raises:
        JournalError: the journals to merge cannot be read.
    """
    arguments = make_parser().parse_args(argv)
    defaults: Mapping[str, Any]
    if arguments.command == "merge":
        with Recorded(arguments.journal) as recorded:
            run = recorded.described["run"]
            kept = {name: run[name] for name in ("tag", "max_failure_rate")}
            defaults = {**recorded.described["settings"], **kept}
    elif getattr(arguments, "preset", None) is not None:
        defaults = PRESETS[arguments.preset].options
    else:
        return arguments
    return make_parser(defaults).parse_args(argv)


def make_parser(defaults: Mapping[str, Any] | None = None) -> argparse.ArgumentParser:
    """The grammar: run and merge OPTIONS... groupwise OPTIONS..., journal, prompts,
    compare, fuse, prepare.

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
    add_inputs(run.add_argument_group("what to rerank"))
    outputs = run.add_argument_group("what to make of it")
    add_outputs(outputs)
    add_checks(outputs)
    add_journal(run.add_argument_group("what to keep"))
    add_engine(run.add_argument_group("engine"))
    add_worker_options(run.add_argument_group("scale out"))
    add_presets(run)
    merge = commands.add_parser(
        "merge",
        help="make a ranking again from replies in journals: merge OPTIONS... groupwise OPTIONS...",
        allow_abbrev=False,
        formatter_class=_Help,
    )
    add_merged(merge.add_argument_group("what to merge"))
    add_outputs(merge.add_argument_group("what to make of it"))
    places = {
        name: (_with_methods(each, defaults or {}))
        for name, each in (("run", run), ("merge", merge))
    }
    places["prompts"] = (add_prompts_parser(commands), set())
    places["journal"] = (add_journal_parser(commands), set())
    places["compare"] = (add_compare_parser(commands), set())
    places["fuse"] = (add_fuse_parser(commands), set())
    places["prepare"] = (add_prepare_parser(commands), set())
    _Parser.places = places
    return parser


def _with_methods(
    parser: argparse.ArgumentParser, defaults: Mapping[str, Any]
) -> tuple[set[str], set[str]]:
    """Add the methods to a command, and defaults to both; gives the options of both."""
    methods = parser.add_subparsers(title="methods", dest="method", required=True, metavar="METHOD")
    groupwise = methods.add_parser(
        "groupwise",
        help="score groups of documents in one round of independent calls",
        allow_abbrev=False,
        formatter_class=_Help,
    )
    add_groupwise(groupwise)
    for each in (parser, groupwise):
        own = {action.dest for action in each._actions}
        each.set_defaults(**{name: v for name, v in defaults.items() if name in own})
    return set(parser._option_string_actions), set(groupwise._option_string_actions)
