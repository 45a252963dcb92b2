"""Prompts as others publish them, converted to the TOML text of our prompt files.

Each function takes a published file's bytes and gives TOML, or raises PromptError, which names what
the file lacks. Nothing that is read here is executed.
"""

from __future__ import annotations

import ast
import re
import string
from collections.abc import Mapping
from typing import Any

import yaml

from llmrankers_groupwise.errors import PromptError
from llmrankers_groupwise.prompting.tags import ANSWER, ANSWER_END

__all__ = ["from_grouprank", "from_rank_llm", "from_toml", "toml_text"]

_GROUPRANK_FIELDS = {"TOPK": "{num}", "QUERY": "{query}"}
_RANK_LLM_FIELDS = {"num": "{num}", "query": "{query}"}


def from_toml(content: bytes) -> str:
    """A file with llm-rankers' keys, as published."""
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise PromptError(f"not UTF-8: {error}") from error


def from_grouprank(content: bytes) -> str:
    """GroupRank's prompts, which are constants of the authors' Python code.

    That code puts two newlines after every document, the last one included, makes each run of
    newlines in a document a space, and cuts documents to 3,000 characters.
    """
    constants = _attributes(content, class_name="GroupReranker")
    for name in ("group_system_prompt", "group_user_prompt"):
        if name not in constants:
            raise PromptError(f"GroupReranker.__init__ sets no plain text self.{name}")
    return toml_text(
        {
            "prompt_system": constants["group_system_prompt"],
            "prompt_user": _renamed(
                constants["group_user_prompt"],
                _GROUPRANK_FIELDS | {"PASSAGES": "{docs}\n\n"},
            ),
            "doc_prefix": "[{num}]. ",
            "doc_separator": "\n\n",
            "passage_characters": 3000,
            "passage_in_a_line": True,
            "answer_start": f"{ANSWER}\n```json\n",
            "pattern": f"{ANSWER}(.*?){ANSWER_END}",
        }
    )


def _attributes(content: bytes, class_name: str) -> dict[str, str]:
    """The texts that a class's __init__ assigns to attributes of self, by attribute."""
    try:
        tree = ast.parse(content)
    except (SyntaxError, ValueError, RecursionError) as error:
        raise PromptError(f"not Python: {error}") from error
    found: dict[str, str] = {}
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef)]
    for each in (part for node in classes if node.name == class_name for part in node.body):
        if isinstance(each, ast.FunctionDef) and each.name == "__init__":
            found |= _texts_of_self(each)
    return found


def _texts_of_self(function: ast.FunctionDef) -> dict[str, str]:
    found = {}
    for statement in function.body:
        match statement:
            case ast.Assign(
                targets=[ast.Attribute(value=ast.Name(id="self"), attr=name)],
                value=ast.Constant(value=str(text)),
            ):
                found[name] = text
    return found


def from_rank_llm(content: bytes) -> str:
    """A template of rank_llm for listwise prompts in one turn, a YAML file.

    rank_llm sends prefix, one body for each passage, and suffix, joined without anything between.
    It also makes every run of white space in a passage one space, of which `passage_in_a_line`
    does the newlines.

    Raises:
        MissingDependencyError: PyYAML is not installed.
    """
    template = _yaml(content)
    before, found, after = template["body"].partition("{candidate}")
    if not found:
        raise PromptError("body lacks {candidate}")
    after = _renamed(after, {})
    user = _renamed(template["prefix"], _RANK_LLM_FIELDS) + "{docs}" + after
    return toml_text(
        {
            "prompt_system": template["system_message"],
            "prompt_user": user + _renamed(template["suffix"], _RANK_LLM_FIELDS),
            "doc_prefix": _renamed(before, {"rank": "{num}"}),
            "doc_separator": after.format(),
            "passage_in_a_line": True,
            "answer_start": ANSWER,  # of which only the system message speaks
            "pattern": _unquoted(template["output_extraction_regex"]),
        }
    )


def _yaml(content: bytes) -> Mapping[str, str]:
    try:
        template: Any = yaml.safe_load(content)
    except (yaml.YAMLError, RecursionError) as error:
        raise PromptError(f"not YAML: {error}") from error
    method = template.get("method") if isinstance(template, dict) else None
    if method != "singleturn_listwise":
        raise PromptError(
            "not a template of method singleturn_listwise"
            + (f", but of {method}, for which there are no prompt files" if method else "")
        )
    for key in ("system_message", "prefix", "body", "suffix", "output_extraction_regex"):
        if not isinstance(template.get(key), str):
            raise PromptError(f"the text {key} is missing")
    return dict(template)


def _unquoted(pattern: str) -> str:
    """A pattern without the r"..." around it, which is Python's and means nothing in YAML."""
    written = re.fullmatch(r"""r(["'])(.*)\1""", pattern, re.DOTALL)
    return written[2] if written else pattern


def _renamed(template: str, names: Mapping[str, str]) -> str:
    """A str.format template with its fields replaced, each by a piece of template."""
    pieces = []
    try:
        for text, name, form, conversion in string.Formatter().parse(template):
            pieces.append(text.replace("{", "{{").replace("}", "}}"))
            if name is None:
                continue
            if name not in names or form or conversion:
                raise PromptError(f"unknown placeholder {{{name}}}")
            pieces.append(names[name])
    except ValueError as error:
        raise PromptError(f"unbalanced brace ({error})") from error
    return "".join(pieces)


# TOML takes only two control characters as they are: tabs and newlines.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f]")
_MULTILINE_QUOTE = re.compile(r'"(?="|\Z)')  # leaves no two together, and none at the end


def toml_text(values: Mapping[str, Any]) -> str:
    """A TOML document of texts, whole numbers, and true or false, which reads back the same."""
    return "".join(f"{key} = {_toml_value(value)}\n" for key, value in values.items())


def _toml_value(value: str | int | bool) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):
        return str(value)
    text = value.replace("\\", "\\\\")
    text = _CONTROL.sub(lambda match: f"\\u{ord(match[0]):04x}", text)
    if "\n" in text.strip("\n"):
        return '"""\n' + _MULTILINE_QUOTE.sub(r'\\"', text) + '"""'
    return '"' + text.replace('"', '\\"').replace("\n", "\\n") + '"'
