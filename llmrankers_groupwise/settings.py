"""Settings, each declared once: a field of a dataclass, and its line in the class's docstring.

The field has the name, the type and the default; a Literal has the choices; the docstring's
"Attributes:" tell what it does. The command's options, configuration files, the arguments of the
rankers and the page of options all follow from that, so a new field is a new option.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import json
import re
import types
import typing
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

from llmrankers_groupwise.errors import SettingsError

__all__ = [
    "ARGUMENTS",
    "INTERNAL",
    "Arguments",
    "FilePath",
    "FolderPath",
    "Form",
    "JsonObject",
    "Name",
    "Names",
    "Positive",
    "Setting",
    "check_choices",
    "name_or_json",
    "settings_of",
    "values_of",
    "word",
]

INTERNAL = "internal"
"""Annotates a field that is no setting: `progress: Annotated[bool, INTERNAL] = False`."""


def _single(value: Any) -> str:
    if isinstance(value, Mapping | list):
        raise ValueError(f"{value!r} is not a single value")
    if isinstance(value, bool):
        raise ValueError(f"{value!r} is true or false: give a value, a text in quotes")
    return str(value)


@dataclass(frozen=True, eq=False)
class Form:
    """How a value is written: as a text on the command line, and in a configuration file.

    Attributes:
        metavar: the name of the value in a help text.
        read: text -> value. It raises ValueError for a text that is none, and tells why.
        choices: the texts that there are; empty where any is good. In Python there may be other
            values.
        write: what a file has -> text. It raises ValueError for what cannot be one.
        shown: value -> what a file has.
    """

    metavar: str
    read: Callable[[str], Any] = str
    choices: Collection[str] = ()
    write: Callable[[Any], str] = _single
    shown: Callable[[Any], Any] = lambda value: value


def positive(text: str) -> int:
    """A whole number from 1."""
    try:
        value = int(text)
    except ValueError:
        raise ValueError(f"{text!r} is not a whole number") from None
    if value < 1:
        raise ValueError(f"{value} is less than 1")
    return value


def word(text: str) -> str:
    """A text that is one word, as the last column of a run file."""
    if not text or any(character.isspace() for character in text):
        raise ValueError(f"{text!r} is not one word without spaces")
    return text


def _switch(text: str) -> bool | None:
    known = {"auto": None, "none": None, "yes": True, "true": True, "no": False, "false": False}
    if text.lower() not in known:
        raise ValueError(f"{text!r} is not one of auto, yes, no")
    return known[text.lower()]


def _json_object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError as error:
        raise ValueError(f"{text!r} is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise ValueError(f"{text!r} is not a JSON object: give names with values")
    return value


def assignment(text: str) -> tuple[str, Any]:
    """KEY=VALUE, the value a Python literal where it reads as one, else text."""
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise ValueError(f"{text!r} is not KEY=VALUE")
    try:
        return key, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return key, value


def _names(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, list) else _single(value)


def _json_text(value: Any) -> str:
    """A text as it is, and names with values or a list as JSON."""
    return json.dumps(value, default=str) if isinstance(value, Mapping | list) else _single(value)


def name_or_json(read: Callable[[str], Any], shown: Callable[[Any], Any] = list) -> Form:
    """The form of a value that is a name, or more than that as JSON.

    Args:
        read: as Form has it.
        shown: what a file has for a value that is no name.
    """
    return Form(
        "NAME|JSON",
        read,
        write=_json_text,
        shown=lambda value: value if isinstance(value, str) else shown(value),
    )


ARGUMENTS = Form("KEY=VALUE", assignment, shown=dict)
"""Names with values, one at a time; in a file all together."""

FilePath = Annotated[str, Form("FILE")]
FolderPath = Annotated[str, Form("FOLDER")]
Name = Annotated[str, Form("NAME")]
Names = Annotated[Sequence[str], Form("NAMES", str.split, write=_names)]
Positive = Annotated[int, Form("N", positive)]
Arguments = Annotated[Mapping[str, Any], ARGUMENTS]
JsonObject = Annotated[Mapping[str, Any], Form("JSON", _json_object, write=_json_text)]
_SWITCH = Form("auto|yes|no", _switch, write=str)

_FORMS: Mapping[Any, Form | None] = {
    bool: None,
    int: Form("N", int),
    float: Form("X", float),
    str: Form("TEXT"),
    Path: Form("FILE", Path),
}


@dataclass(frozen=True)
class Setting:
    """A setting, as its declaration has it.

    Attributes:
        name: the field's.
        default: dataclasses.MISSING where it must be given.
        meaning: what it does.
        form: how a value is written; None for a flag, which is true or false.
        choices: the values that there are, of a Literal; empty where there may be others.
        optional: whether None is a value: the default, then, is found elsewhere.
        many: whether it has several values.
    """

    name: str
    default: Any
    meaning: str
    form: Form | None
    choices: tuple[str, ...] = ()
    optional: bool = False
    many: bool = False


def settings_of(cls: type[Any]) -> tuple[Setting, ...]:
    """The settings that a dataclass declares, in the order of its fields.

    A field is one if a text can give its value: numbers, texts, flags, Literals, paths, sequences
    of these, and what is annotated with a Form. Others, and those marked INTERNAL, are left out.

    Raises:
        TypeError: a setting has no line in the docstring.
    """
    if cls not in _DECLARED:
        _DECLARED[cls] = tuple(_declared(cls))
    return _DECLARED[cls]


_DECLARED: dict[type[Any], tuple[Setting, ...]] = {}
"""What was read already: a docstring and types do not change."""


def _declared(cls: type[Any]) -> Iterator[Setting]:
    hints = typing.get_type_hints(cls, include_extras=True)
    meanings: dict[str, str] = {}
    for each in reversed(cls.__mro__):
        meanings |= _meanings(each)
    for field in dataclasses.fields(cls):
        kind = _kind(hints[field.name])
        if kind is None or not field.init:
            continue
        if field.name not in meanings:
            raise TypeError(f"{cls.__name__}.{field.name} has no line in the docstring")
        default = field.default
        if field.default_factory is not dataclasses.MISSING:
            default = field.default_factory()
        yield Setting(field.name, default, meanings[field.name], **kind)


def check_choices(record: object) -> None:
    """Raise SettingsError where a setting with choices has another value, or a flag is no bool."""
    for each in settings_of(type(record)):
        value = getattr(record, each.name)
        if each.optional and value is None:
            continue
        if each.choices and value not in each.choices:
            raise SettingsError(f"{each.name} is {value!r}: give one of {', '.join(each.choices)}")
        if each.form is None and type(value) is not bool:  # "no" would count as true
            raise SettingsError(f"{each.name} is {value!r}: give True or False")


def values_of(record: object, cls: type[Any], prefix: str = "") -> dict[str, Any]:
    """What a record, or the namespace of a command, has of a class's settings, by their names.

    Args:
        record: it has the settings as attributes.
        cls: the class that declares them.
        prefix: how the names of the attributes begin.
    """
    return {each.name: getattr(record, prefix + each.name) for each in settings_of(cls)}


def _kind(hint: Any) -> dict[str, Any] | None:
    """What a type tells about a setting; None where it is of none."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return _annotated(*arguments)
    if origin in (typing.Union, types.UnionType):
        return _one_of(arguments)
    if origin in (tuple, Sequence, list):
        inner = _kind(arguments[0])
        return inner and {**inner, "many": True}
    if origin is Literal:
        return {"form": Form("NAME"), "choices": arguments}
    return {"form": _FORMS[hint]} if hint in _FORMS else None


def _annotated(base: Any, *extras: Any) -> dict[str, Any] | None:
    if INTERNAL in extras:
        return None
    forms = [each for each in extras if isinstance(each, Form)]
    return {"form": forms[0]} if forms else _kind(base)


def _one_of(hints: Sequence[Any]) -> dict[str, Any] | None:
    rest = [each for each in hints if each is not types.NoneType]
    if set(rest) == {str, Path}:
        rest = [Path]
    kind = _kind(rest[0]) if len(rest) == 1 else None
    if kind is None or len(rest) == len(hints):
        return kind
    return {**kind, "form": kind["form"] or _SWITCH, "optional": True}


_ENTRY = re.compile(r"    (\w+(?:, \w+)*): (.*)")


def _meanings(cls: type[Any]) -> dict[str, str]:
    """Name -> what the class's own docstring has under "Attributes:"."""
    text = inspect.cleandoc(cls.__dict__.get("__doc__") or "")
    _, _, section = text.partition("Attributes:\n")
    meanings: dict[str, str] = {}
    names: list[str] = []
    for line in section.splitlines():
        entry = _ENTRY.fullmatch(line)
        if entry:
            names = entry[1].split(", ")
            meanings |= dict.fromkeys(names, entry[2])
        elif line.startswith("        "):
            for name in names:
                meanings[name] += " " + line.strip()
        else:
            break
    return meanings
