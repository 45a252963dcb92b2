"""The page of all options, docs/reference/options.md, made from the grammar of the command.

python -m llmrankers_groupwise.cli.reference > docs/reference/options.md
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator

from llmrankers_groupwise.cli.parser import Grammar, make_grammar

__all__ = ["reference"]

_INTRODUCTION = """# Options

Every option of `run-groupwise`, by command. `make reference` writes this page from the code.
[Configuration](../guides/configuration.md) tells how to give options in a file.
"""


def reference() -> str:
    """The page, in Markdown."""
    return "\n".join([_INTRODUCTION, *_page(make_grammar())])


def _page(grammar: Grammar) -> Iterator[str]:
    for command, parsers in grammar.commands.items():
        for word, parser in parsers.items():
            yield f"## {command} {word}".rstrip() + "\n"
            yield from _tables(parser)
        if command == "run":  # merge has the same methods
            for method, parser in grammar.methods[command].items():
                yield f"## {method}, for run and merge\n"
                yield from _tables(parser)


def _tables(parser: argparse.ArgumentParser) -> Iterator[str]:
    for group in parser._action_groups:
        shown = [each for each in group._group_actions if each.option_strings]
        shown = [each for each in shown if each.dest != "help" and not _section(each)]
        if shown:
            yield from _table("" if group.title == "options" else group.title, shown)
    sections: dict[str, list[str]] = {}
    for action in parser._actions:
        if section := _section(action):
            sections.setdefault(section[0], []).append(f"`{section[1]}`")
    for name, options in sections.items():
        yield f"Section `{name}` of a configuration: {', '.join(options)}.\n"


def _section(action: argparse.Action) -> tuple[str, str] | None:
    section: tuple[str, str] | None = getattr(action, "section", None)
    return section


def _table(title: str | None, actions: Iterable[argparse.Action]) -> Iterator[str]:
    if title:
        yield f"**{title}**\n"
    yield "| option | default | what it does |\n|---|---|---|"
    for action in actions:
        yield "| " + " | ".join(_row(action)) + " |"
    yield ""


def _row(action: argparse.Action) -> Iterator[str]:
    value = action.metavar or (action.choices and "|".join(map(str, action.choices))) or ""
    names = ", ".join(f"`{name}`" for name in action.option_strings)
    yield names + (f" {value}" if value and action.nargs != 0 else "").replace("|", "\\|")
    empty = action.nargs == 0 or action.default in (None, [], {}, ())
    yield "required" if action.required else "" if empty else f"`{action.default}`"
    yield (action.help or "").replace("%%", "%").replace("|", "\\|")


if __name__ == "__main__":
    print(reference(), end="")
