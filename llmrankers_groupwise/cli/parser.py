"""The grammar of `run-groupwise`: which commands there are, and how their words are read."""

from __future__ import annotations

import argparse
import difflib
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NoReturn

from llmrankers_groupwise import __version__
from llmrankers_groupwise.cli.common.config import Config, add_config, config_of
from llmrankers_groupwise.cli.common.options import Help, add_settings
from llmrankers_groupwise.cli.compare import add_compare_parser, run_compare
from llmrankers_groupwise.cli.fuse import add_fuse_parser, run_fuse
from llmrankers_groupwise.cli.journal import add_journal_parser, run_journal
from llmrankers_groupwise.cli.merge import add_merge_parser, run_merge
from llmrankers_groupwise.cli.prepare import add_prepare_parser, run_prepare
from llmrankers_groupwise.cli.prompts import add_prompts_parser, run_prompts
from llmrankers_groupwise.cli.run import add_run_parser, run_rerank
from llmrankers_groupwise.cli.train.command import add_train_parser, run_train
from llmrankers_groupwise.methods.registry import METHODS, SHARED
from llmrankers_groupwise.pipeline.recorded_run import Recorded
from llmrankers_groupwise.rankers.presets import preset_options

__all__ = ["COMMANDS", "Grammar", "make_grammar", "parse_arguments"]

Parsers = dict[str, argparse.ArgumentParser]

COMMANDS: Mapping[str, tuple[Callable[[Any], Parsers], Callable[[argparse.Namespace], None]]] = {
    "run": (add_run_parser, run_rerank),
    "merge": (add_merge_parser, run_merge),
    "journal": (add_journal_parser, run_journal),
    "prompts": (add_prompts_parser, run_prompts),
    "compare": (add_compare_parser, run_compare),
    "fuse": (add_fuse_parser, run_fuse),
    "prepare": (add_prepare_parser, run_prepare),
    "train": (add_train_parser, run_train),
}
"""Command -> what adds its parsers, by their words after the command's ("" for its own), and what
it does."""

_BY_METHOD = ("run", "merge")
_CONFIGURED: Sequence[tuple[str, ...]] = (
    ("run",), ("merge",), ("train", "synthesize"), ("train", "sft"), ("train", "grpo"),
)  # fmt: skip
"""The words of the commands that read configurations."""


class _Parser(argparse.ArgumentParser):
    """Shows what is wrong in two lines, with a hint where an option is misspelt or misplaced."""

    options: ClassVar[dict[str, tuple[set[str], dict[str, set[str]]]]] = {}
    """Command -> its options before the word of a method or an action, and each one's after it."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        self._words = list(sys.argv[1:] if args is None else args)
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        """Exit with 2."""
        hint = self._hint(message)
        page = self.prog
        if " " not in page and self._words and self._words[0] in self.options:
            page = f"{page} {self._words[0]}"
        self.exit(2, f"{self.prog}: {hint or message}\nsee {page} --help\n")

    def _hint(self, message: str) -> str | None:
        """What is wrong with the first option that does not belong where it is."""
        words = [*self.prog.split()[1:], *self._words]
        if words and words[0] not in self.options:
            return self._without_command(words[0].partition("=")[0])
        before, after = self.options.get(words[0] if words else "", (set(), {}))
        known = before.union(*after.values())
        problem, _, named = message.partition(": ")
        options = {word.partition("=")[0].rstrip(",") for word in named.split()}
        unrecognized = options if problem == "unrecognized arguments" else set()
        required = options if problem == "the following arguments are required" else set()
        method = None
        for word in words:
            method = word if word in after else method
            name = word.partition("=")[0]
            if not name.startswith("--"):
                continue
            if name not in known:
                close = difflib.get_close_matches(name, known, n=1)
                return f"unknown option {name}" + (f"; did you mean {close[0]}?" if close else "")
            methods = [each for each, options in after.items() if name in options]
            if "METHOD" in message and name not in before:
                return f"{name} belongs after the word {' or '.join(methods)}"
            if name in unrecognized and name not in before:
                return f"{name} is an option of {' and '.join(methods)}, not of {method}"
            if (name in unrecognized and after) or (name in required and method):
                return f"{name} belongs before the word {method}"
        return f"{message}, one of {', '.join(after)}" if "METHOD" in required else None

    def _without_command(self, word: str) -> str | None:
        """What is wrong where the first word should be a command."""
        before, after = self.options["run"]
        if word in after:
            return f"{word} is a method, not a command: run OPTIONS... {word} OPTIONS..."
        if word in before:
            return f"{word} belongs after the word run"
        return None


@dataclass
class Grammar:
    """The parsers of all commands.

    Attributes:
        parser: of the whole command line.
        commands: command -> its parsers by the word after it, an action's, or "" for its own.
        methods: command -> method -> the parser of what comes after its word.
        configured: the words of a command that reads configurations -> its parser.
    """

    parser: argparse.ArgumentParser
    commands: Mapping[str, Parsers]
    methods: Mapping[str, Parsers]
    configured: Mapping[tuple[str, ...], argparse.ArgumentParser]

    def find(
        self, words: Sequence[str]
    ) -> tuple[argparse.ArgumentParser, Mapping[str, argparse.ArgumentParser]] | None:
        """The parser that reads the configuration of a command line, and those of its methods.

        None for a command that reads none.
        """
        for command, parser in self.configured.items():
            if tuple(words[: len(command)]) == command:
                return parser, self.methods.get(command[0], {})
        return None

    def parse(
        self, words: Sequence[str], config: Config, others: Mapping[str, Any]
    ) -> argparse.Namespace:
        """Parse a command line; what it does not give is of the configuration, else of others."""
        if found := self.find(words):
            parser, methods = found
            _set_defaults(parser, {**others, **config.values})
            for method, each in methods.items():
                _set_defaults(each, {**others, **config.methods.get(method, {})})
        return self.parser.parse_args(words)

    def resolved(
        self, words: Sequence[str], arguments: argparse.Namespace
    ) -> dict[str, Any] | None:
        """The configuration that gives these arguments again; None where none is read."""
        found = self.find(words)
        if found is None:
            return None
        parser, methods = found
        config = config_of(parser, arguments)
        if methods:
            config[arguments.ranked_by] = config_of(methods[arguments.ranked_by], arguments)
        return config


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """What the command is given.

    An option has the value of the command line, else of the last --config FILE that has it, else
    of the preset or of the run to merge, else its own default. `resolved` is the configuration
    that gives the same again; None where none is read.

    Raises:
        InputError: a configuration file is wrong.
        JournalError: the journals to merge cannot be read.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    if words in ([], ["run"]):
        words.append("--help")
    config = _config(words)

    def parsed(defaults: Mapping[str, Any]) -> argparse.Namespace:
        grammar = make_grammar(method_required=not config.methods)
        arguments = grammar.parse(words, config, defaults)
        if getattr(arguments, "ranked_by", "") is None:
            words.append(config.method())
            return parsed(defaults)
        arguments.resolved = grammar.resolved(words, arguments)
        return arguments

    arguments = parsed({})
    config.check_method(getattr(arguments, "ranked_by", None))
    if arguments.command == "merge":
        return parsed(_recorded_defaults(arguments.journal))
    if getattr(arguments, "preset", None) is not None:
        chosen = parsed({"group_size": None, "final_round": None})
        return parsed(preset_options(arguments.preset, vars(chosen)))
    return arguments


def _config(words: Sequence[str]) -> Config:
    """What the configuration files of a command line have."""
    finder = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    finder.add_argument("--config", action="append", default=[])
    try:
        paths = finder.parse_known_args(words)[0].config
    except argparse.ArgumentError:  # the grammar reports what is wrong
        paths = []
    found = make_grammar().find(words) if paths else None
    return Config() if found is None else Config.read(paths, *found)


def _recorded_defaults(journals: Sequence[str]) -> dict[str, Any]:
    """What the run to merge has instead of the options' own defaults."""
    with Recorded(journals) as recorded:
        run = recorded.described.run
        kept = {name: run[name] for name in ("tag", "max_failure_rate", "allow_missing")}
        return {**recorded.described.settings, **kept}


def make_grammar(*, method_required: bool = True) -> Grammar:
    """The grammar: run and merge OPTIONS... METHOD OPTIONS..., and the other commands.

    It is made anew for each use, as `Grammar.parse` sets defaults in it.

    Args:
        method_required: whether run and merge need the word of a method.
    """
    parser = _Parser(
        prog="run-groupwise",
        allow_abbrev=False,
        description="Rerank a first-stage run with a language model, groupwise or as others do it.",
        epilog="Options: run-groupwise run --help, and run-groupwise run groupwise --help.",
    )
    parser.add_argument("--version", action="version", version=__version__)
    words = parser.add_subparsers(
        title="commands", dest="command", required=True, metavar="COMMAND"
    )
    commands = {name: add_parsers(words) for name, (add_parsers, _) in COMMANDS.items()}
    configured = {each: commands[each[0]]["".join(each[1:])] for each in _CONFIGURED}
    for parser_of_command in configured.values():
        add_config(parser_of_command)
    methods = {
        command: _add_methods(commands[command][""], required=method_required)
        for command in _BY_METHOD
    }
    _Parser.options = {
        name: (
            _options(parsers.get("")),
            {word: _options(each) for word, each in (methods.get(name) or parsers).items() if word},
        )
        for name, parsers in commands.items()
    }
    return Grammar(parser, commands, methods, configured)


def _add_methods(parser: argparse.ArgumentParser, *, required: bool) -> Parsers:
    """Add the methods to a command; gives the parser of each."""
    words = parser.add_subparsers(
        title="methods", dest="ranked_by", required=required, metavar="METHOD"
    )
    parsers = {}
    for name, method in METHODS.items():
        parsers[name] = words.add_parser(
            name, help=method.about, allow_abbrev=False, formatter_class=Help
        )
        add_settings(parsers[name], method.options, without=SHARED)
    return parsers


def _options(parser: argparse.ArgumentParser | None) -> set[str]:
    return set() if parser is None else set(parser._option_string_actions)


def _set_defaults(parser: argparse.ArgumentParser, values: Mapping[str, Any]) -> None:
    actions = {action.dest: action for action in parser._actions}
    for name, value in values.items():
        if name in actions:
            actions[name].default = value
            actions[name].required = False
    if "save_path" in actions and (values.get("dry_run") or values.get("explain")):
        actions["save_path"].required = False  # as these options do on the command line
