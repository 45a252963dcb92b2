"""Options from a configuration file, and the configuration that repeats a command."""

from __future__ import annotations

import argparse
import difflib
import json
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import yaml

from llmrankers_groupwise.engines.base import shown_args
from llmrankers_groupwise.errors import FileError, SettingsError
from llmrankers_groupwise.settings import ARGUMENTS, Form

__all__ = ["Config", "add_config", "config_of", "to_yaml"]

MASKED = "***"
_NO_OPTIONS = ("help", "help_all", "config", "print_config")


def add_config(parser: argparse.ArgumentParser) -> None:
    """Add the options that give and show a configuration."""
    group = parser.add_argument_group("configuration")
    group.add_argument(
        "--config",
        action="append",
        default=[],
        metavar="FILE",
        help="take options from a file, YAML, TOML or the manifest of a run; options of the "
        "command line win, and so do later files",
    )
    group.add_argument(
        "--print_config",
        action="store_true",
        help="print all options as a configuration file, and stop",
    )


@dataclass
class Config:
    """What configuration files have.

    Attributes:
        values: option -> value, of the command itself.
        methods: method -> option -> value, of its section.
        paths: method -> the file that has its section.
    """

    values: dict[str, Any] = field(default_factory=dict)
    methods: dict[str, dict[str, Any]] = field(default_factory=dict)
    paths: dict[str, str] = field(default_factory=dict)

    @classmethod
    def read(
        cls,
        paths: Sequence[str],
        parser: argparse.ArgumentParser,
        methods: Mapping[str, argparse.ArgumentParser],
    ) -> Self:
        """Read and check configuration files; of what several have the last one is taken.

        Args:
            paths: the files.
            parser: whose options they give.
            methods: the parsers of methods, whose options are in sections of their names.

        Raises:
            InputError: a file cannot be read, or an option is unknown or has no such value.
        """
        config, parsers = cls(), {"": parser, **methods}
        for path in paths:
            given = read_config(path)
            for method in methods:
                if isinstance(given.get(method), Mapping):
                    section = option_values(parsers, method, given.pop(method), path)
                    config.methods.setdefault(method, {}).update(section)
                    config.paths[method] = path
            config.values |= option_values(parsers, "", given, path)
        return config

    def method(self) -> str:
        """The method whose section it has, where the command line names none."""
        if len(self.methods) > 1:
            raise SettingsError(
                f"the configuration has sections of {' and '.join(self.methods)}: give each "
                f"method a file of its own"
            )
        return next(iter(self.methods))

    def check_method(self, method: str | None) -> None:
        """Raise SettingsError if there is a section of another method than this."""
        for each, path in self.paths.items():
            if each != method:
                raise SettingsError(
                    f"{path}: {each}: these are options of {each}, and the method is {method}: "
                    f"give each method a file of its own"
                )


def read_config(path: str) -> dict[str, Any]:
    """What a configuration file has: option -> value, sections as mappings in it.

    Args:
        path: TOML by its name, else YAML, of which JSON is a part. For a manifest it is what the
            manifest has as "config".

    Raises:
        FileError: the file cannot be read.
    """
    try:
        values = _parsed(Path(path).read_text(encoding="utf-8"), toml=path.endswith(".toml"))
    except (OSError, ValueError, yaml.YAMLError, RecursionError) as error:
        raise FileError(f"this configuration cannot be read: {error}", path) from error
    if values is None:
        return {}
    if not isinstance(values, dict) or not all(isinstance(name, str) for name in values):
        raise FileError("this is no configuration: give a line OPTION: VALUE for each option", path)
    if "counters" in values and "versions" in values:
        if "config" not in values:
            raise FileError(
                "this manifest has no configuration: it is of `run` in a version that kept none, "
                "or of another command",
                path,
            )
        return dict(values["config"])
    return dict(values)


def _parsed(text: str, *, toml: bool) -> Any:
    return tomllib.loads(text) if toml else yaml.load(text, _Loader)


def option_values(
    parsers: Mapping[str, argparse.ArgumentParser],
    section: str,
    given: Mapping[str, Any],
    path: str,
) -> dict[str, Any]:
    """The values of options that a configuration gives, as a parser reads them.

    Args:
        parsers: section -> the parser of its options; "" is the file itself.
        section: which of them it is.
        given: option -> value. A mapping that is no option's value is a section: `eval: {hits: 10}`
            is the option `eval_hits`.
        path: the file, for messages.

    Raises:
        SettingsError: an option is unknown, or has no such value.
    """
    parser = parsers[section]
    known = _known(parser)
    values: dict[str, Any] = {}
    for name, option, value in _flat(given, known):
        where = f"{path}: {f'{section}.' if section else ''}{name}"
        if option not in known:
            raise SettingsError(f"{where}: {_unknown(option, parsers, section)}")
        if value is None:
            continue
        action = known[option]
        try:
            values[action.dest] = _value(parser, action, value)
        except argparse.ArgumentError as error:
            raise SettingsError(f"{where}: {error.message}") from error
        except ValueError as error:
            raise SettingsError(f"{where}: {error}") from error
    return values


def config_of(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> dict[str, Any]:
    """A parser's options with their values, as `option_values` reads them. Secrets are masked."""
    config: dict[str, Any] = {}
    for action in _options(parser):
        value = getattr(arguments, action.dest, None)
        value = None if value is None else _form(action).shown(value)
        if isinstance(value, Mapping):
            value = shown_args(value)
        section = getattr(action, "section", None)
        into = config.setdefault(section[0], {}) if section else config
        into[section[1] if section else _key(action)] = value
    plain: dict[str, Any] = json.loads(json.dumps(config, default=str))
    return plain


def to_yaml(config: Mapping[str, Any]) -> str:
    """A configuration as a file has it."""
    return yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True).rstrip()


class _Loader(yaml.SafeLoader):
    """Refuses a key that is given twice, of which YAML would take the last."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for index, key in enumerate(keys):
            if key in keys[:index]:
                raise yaml.constructor.ConstructorError(
                    None, None, f"{key} is given twice", node.value[index][0].start_mark
                )
        return super().construct_mapping(node, deep=deep)


def _options(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    for action in parser._actions:
        if action.option_strings and action.dest not in _NO_OPTIONS:
            yield action


def _key(action: argparse.Action) -> str:
    """An option's name in a file. That of --no_packing is packing."""
    negated = action.nargs == 0 and action.const is False
    return action.dest if negated else action.option_strings[0].removeprefix("--")


def _flat(
    config: Mapping[str, Any], known: Mapping[str, argparse.Action]
) -> Iterator[tuple[str, str, Any]]:
    """Name in the file, option, value; of sections one by one."""
    for name, value in config.items():
        if isinstance(value, Mapping) and name not in known:
            if not any(each.startswith(f"{name}_") for each in known):
                yield name, name, value
                continue
            for inner, each in value.items():
                yield f"{name}.{inner}", f"{name}_{inner}", each
        else:
            yield name, name, value


def _known(parser: argparse.ArgumentParser) -> dict[str, argparse.Action]:
    return {key: action for action in _options(parser) for key in (_key(action), action.dest)}


def _unknown(option: str, parsers: Mapping[str, argparse.ArgumentParser], section: str) -> str:
    """What to do about an option that a section does not have."""
    for name, parser in parsers.items():
        if option in _known(parser) and name != section:
            if section:
                return f"this is an option of {name or 'the command'}, not of {section}"
            return f"this is an option of {name}: put it into a section {name}"
    known = _known(parsers[section])
    close = difflib.get_close_matches(option, known, n=1)
    if not close:
        return "there is no such option"
    names = getattr(known[close[0]], "section", None)
    return f"there is no such option; did you mean {'.'.join(names) if names else close[0]}?"


def _value(parser: argparse.ArgumentParser, action: argparse.Action, value: Any) -> Any:
    """A value read as the text that it would be on the command line."""
    if action.nargs == 0:
        if type(value) is not bool:
            raise ValueError(f"{value!r} is not true or false")
        return value
    form = _form(action)
    if isinstance(value, Mapping):
        _check_no_secret(value)
    if form is ARGUMENTS:
        if not isinstance(value, Mapping):
            raise ValueError(f"{value!r} is no section: give names with values")
        return list(value.items())
    many = isinstance(action, argparse._AppendAction) or action.nargs == "+"
    read = []
    for each in value if many and isinstance(value, list) else [value]:
        read.append(parser._get_value(action, form.write(each)))
        parser._check_value(action, read[-1])
    return read if many else read[0]


def _form(action: argparse.Action) -> Form:
    form: Form | None = getattr(action, "form", None)
    return form or Form("TEXT")


def _check_no_secret(values: Mapping[str, Any]) -> None:
    for name, value in values.items():
        if value == MASKED:
            raise ValueError(f"the value of {name} was left out as a secret: give it here")
        if isinstance(value, Mapping):
            _check_no_secret(value)
