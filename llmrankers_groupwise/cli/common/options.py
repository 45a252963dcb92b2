"""Options of the command, made from the settings that dataclasses declare."""

from __future__ import annotations

import argparse
import dataclasses
import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from llmrankers_groupwise.settings import ARGUMENTS, Form, Setting, settings_of

__all__ = ["Help", "add_settings", "add_short_help", "reader"]

logger = logging.getLogger(__name__)

_NAMES: Mapping[str, Sequence[str]] = {
    "lora_name_or_path": ("lora_path_or_name", "lora_path"),
    "number_of_shards": ("dataset_number_of_shards",),
    "shard_index": ("dataset_shard_index",),
}
"""Settings whose options have other names, those of llm-rankers."""


class Help(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Shows the defaults that have a value, and descriptions line by line."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        has_value = action.default not in (None, [], {}) and action.nargs != 0
        return super()._get_help_string(action) if has_value else action.help


def add_short_help(parser: argparse.ArgumentParser, shown: Collection[str]) -> None:
    """Add --help, which shows the options that most people need, and --help_all.

    Args:
        parser: made with add_help=False.
        shown: the settings whose options --help shows.
    """

    class ShortHelp(argparse.Action):
        def __call__(self, parser: argparse.ArgumentParser, *given: Any) -> None:
            formatter = parser._get_formatter()
            formatter.add_text(parser.description)
            for group in parser._action_groups:
                actions = [each for each in group._group_actions if each.dest in shown]
                if actions:
                    formatter.start_section(group.title)
                    formatter.add_text(group.description)
                    formatter.add_arguments(actions)
                    formatter.end_section()
            formatter.add_text(parser.epilog)
            print(formatter.format_help(), end="")
            parser.exit()

    parser.add_argument(
        "-h", "--help", action=ShortHelp, nargs=0, help="show the most used options, and exit"
    )
    parser.add_argument("--help_all", action="help", help="show all options, and exit")


def add_settings(
    group: argparse._ActionsContainer,
    cls: type[Any],
    *,
    prefix: str = "",
    only: Collection[str] | None = None,
    without: Collection[str] = (),
    section: str | None = None,
) -> None:
    """Add an option for every setting of a dataclass.

    Args:
        group: the parser, or a group of it.
        cls: the dataclass; see `settings.settings_of`.
        prefix: how the options' names begin.
        only: the settings to add; by default all.
        without: settings to leave out.
        section: the section of a configuration file that they are for. As options they are
            deprecated, and left out of the help.
    """
    for each in settings_of(cls):
        if each.name not in without and (only is None or each.name in only):
            _add(group, each, prefix, section)


def _add(
    group: argparse._ActionsContainer, setting: Setting, prefix: str, section: str | None
) -> None:
    names = [f"--{prefix}{name}" for name in _NAMES.get(setting.name, (setting.name,))]
    required = setting.default is dataclasses.MISSING
    options: dict[str, Any] = {
        "dest": prefix + setting.name,
        "default": None if required else setting.default,
        "required": required,
        "help": setting.meaning.removesuffix(".").replace("%", "%%"),
        "action": "store",
    }
    form = setting.form
    if form is None:
        options["action"] = "store_false" if setting.default else "store_true"
        if setting.default:
            names = [f"--no_{prefix}{setting.name}"]
            options["help"] = f"turn off what is on by default: {options['help']}"
    elif form is ARGUMENTS:
        options |= {"action": "append", "type": reader(form.read), "metavar": form.metavar}
        options["default"] = []
    else:
        options |= _value_options(setting, form)
    if section is not None:
        options["default"] = [] if options["action"] == "append" else None
        options |= {"help": argparse.SUPPRESS, "action": _deprecated(group, options["action"])}
    added = group.add_argument(*names, **options)
    vars(added).update(form=form, section=section and (section, setting.name))


def _value_options(setting: Setting, form: Form) -> dict[str, Any]:
    if choices := setting.choices or tuple(form.choices):
        return {"choices": choices}
    options: dict[str, Any] = {"type": reader(form.read), "metavar": form.metavar}
    if isinstance(setting.default, tuple) and not setting.many:  # one text gives all of it
        options["default"] = form.write(list(setting.default))
    elif setting.many:
        options["nargs"] = "+"
    return options


def reader(read: Callable[[str], Any]) -> Callable[[str], Any]:
    """What reads an option's text, for argparse to show what is wrong with it in our words."""
    if isinstance(read, type):
        return read

    def told(text: str) -> Any:
        try:
            return read(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    return told


def _deprecated(group: argparse._ActionsContainer, action: str) -> type[argparse.Action]:
    """The action of this name, which warns first."""
    known: type[argparse.Action] = group._registry_get("action", action)

    class Deprecated(known):  # type: ignore[misc,valid-type]
        def __call__(
            self,
            parser: argparse.ArgumentParser,
            namespace: argparse.Namespace,
            values: Any,
            option_string: str | None = None,
        ) -> None:
            section, name = vars(self)["section"]
            logger.warning(
                "%s is deprecated and goes with the next version: give %s in the section %s of a "
                "--config file",
                option_string,
                name,
                section,
            )
            super().__call__(parser, namespace, values, option_string)

    return Deprecated
