"""The grammar of `run-groupwise`; the options themselves are in `common.options`."""

from __future__ import annotations

import argparse
import difflib
import sys
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NoReturn

from llmrankers_groupwise import __version__
from llmrankers_groupwise.cli.common.method_options import METHOD_OPTIONS
from llmrankers_groupwise.cli.common.options import (
    add_checks,
    add_engine,
    add_inputs,
    add_journal,
    add_merged,
    add_outputs,
    add_presets,
    add_worker_options,
)
from llmrankers_groupwise.cli.compare import add_compare_parser
from llmrankers_groupwise.cli.fuse import add_fuse_parser
from llmrankers_groupwise.cli.journal import add_journal_parser
from llmrankers_groupwise.cli.prepare import add_prepare_parser
from llmrankers_groupwise.cli.prompts import add_prompts_parser
from llmrankers_groupwise.cli.train.command import add_train_parser
from llmrankers_groupwise.methods.registry import METHODS
from llmrankers_groupwise.pipeline.recorded_run import Recorded
from llmrankers_groupwise.rankers.presets import preset_options

__all__ = ["make_parser", "parse_arguments"]


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in two lines, with a hint where an option is misspelt or misplaced."""

    places: ClassVar[dict[str, tuple[set[str], dict[str, set[str]]]]] = {}
    """Command -> its options before the word that names a method, and each method's behind it."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        self._words = list(sys.argv[1:] if args is None else args)
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        """Exit with 2."""
        hint = self._hint(message)
        page = self.prog
        if " " not in page and self._words and self._words[0] in self.places:
            page = f"{page} {self._words[0]}"
        self.exit(2, f"{self.prog}: {hint or message}\nsee {page} --help\n")

    def _hint(self, message: str) -> str | None:
        """What is wrong with the first option that its place does not have."""
        words = [*self.prog.split()[1:], *self._words]
        if words and words[0] not in self.places:
            return self._without_command(words[0].partition("=")[0])
        before, behind = self.places.get(words[0] if words else "", (set(), {}))
        known = before.union(*behind.values())
        problem, _, named = message.partition(": ")
        options = {word.partition("=")[0].rstrip(",") for word in named.split()}
        unrecognized = options if problem == "unrecognized arguments" else set()
        required = options if problem == "the following arguments are required" else set()
        method = None
        for word in words:
            method = word if word in behind else method
            name = word.partition("=")[0]
            if not name.startswith("--"):
                continue
            if name not in known:
                close = difflib.get_close_matches(name, known, n=1)
                return f"unknown option {name}" + (f"; did you mean {close[0]}?" if close else "")
            methods = [each for each, options in behind.items() if name in options]
            if "METHOD" in message and name not in before:
                return f"{name} belongs behind the word {' or '.join(methods)}"
            if name in unrecognized and name not in before:
                return f"{name} is an option of {' and '.join(methods)}, not of {method}"
            if (name in unrecognized and behind) or (name in required and method):
                return f"{name} belongs before the word {method}"
        return f"{message}, one of {', '.join(behind)}" if "METHOD" in required else None

    def _without_command(self, word: str) -> str | None:
        """What is wrong where the first word should be a command."""
        before, behind = self.places["run"]
        if word in behind:
            return f"{word} is a method, not a command: run OPTIONS... {word} OPTIONS..."
        if word in before:
            return f"{word} belongs behind the word run"
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
        chosen = make_parser({"group_size": None, "final_round": None}).parse_args(argv)
        defaults = preset_options(arguments.preset, vars(chosen))
    else:
        return arguments
    return make_parser(defaults).parse_args(argv)


def make_parser(defaults: Mapping[str, Any] | None = None) -> argparse.ArgumentParser:
    """The grammar: run and merge OPTIONS... METHOD OPTIONS..., and the other commands.

    Args:
        defaults: for options by their names, in place of their own defaults.
    """
    parser = _Parser(
        prog="run-groupwise",
        allow_abbrev=False,
        description="Rerank a first-stage run with a language model, groupwise or as others do it.",
        epilog="Options: run-groupwise run --help, and run-groupwise run groupwise --help.",
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(
        title="commands", dest="command", required=True, metavar="COMMAND"
    )
    run = commands.add_parser(
        "run",
        help="rerank a run: run OPTIONS... METHOD OPTIONS...",
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
        help="make a ranking again from replies in journals: merge OPTIONS... METHOD OPTIONS...",
        allow_abbrev=False,
        formatter_class=_Help,
    )
    add_merged(merge.add_argument_group("what to merge"))
    add_outputs(merge.add_argument_group("what to make of it"))
    places = {
        name: (_with_methods(each, defaults or {}))
        for name, each in (("run", run), ("merge", merge))
    }
    places["prompts"] = (add_prompts_parser(commands), {})
    places["journal"] = (add_journal_parser(commands), {})
    places["compare"] = (add_compare_parser(commands), {})
    places["fuse"] = (add_fuse_parser(commands), {})
    places["prepare"] = (add_prepare_parser(commands), {})
    places["train"] = (set(), add_train_parser(commands))
    _Parser.places = places
    return parser


def _with_methods(
    parser: argparse.ArgumentParser, defaults: Mapping[str, Any]
) -> tuple[set[str], dict[str, set[str]]]:
    """Add the methods to a command, and defaults to all; gives the options of all."""
    methods = parser.add_subparsers(
        title="methods", dest="ranked_by", required=True, metavar="METHOD"
    )
    behind = {}
    for name, method in METHODS.items():
        each = methods.add_parser(
            name, help=method.about, allow_abbrev=False, formatter_class=_Help
        )
        METHOD_OPTIONS[name](each)
        behind[name] = each
    for each in (parser, *behind.values()):
        own = {action.dest for action in each._actions}
        each.set_defaults(**{name: v for name, v in defaults.items() if name in own})
    options = {name: set(each._option_string_actions) for name, each in behind.items()}
    return set(parser._option_string_actions), options
