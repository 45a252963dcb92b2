"""Prompt files: found by name or path, read and checked.

A prompt file is TOML with llm-rankers' keys. `prompt_user` and `doc_prefix` are templates with the
semantics of str.format; `prompt_system` is sent as it is.
"""

from __future__ import annotations

import hashlib
import os
import re
import string
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llmrankers_groupwise.errors import PromptError
from llmrankers_groupwise.prompting.conversion import from_rank_llm

__all__ = [
    "PULLABLE",
    "PromptFile",
    "bundled_prompts",
    "load_prompt",
    "prompt_folder",
    "prompt_source",
    "pulled_prompts",
]

# The names of published.SOURCES, which is above this module and cannot be imported here.
PULLABLE = (
    "grouprank", "rank-r1", "rank-r1-v0.2", "rankzephyr", "reasonrank", "setwise",
)  # fmt: skip

# key -> (required placeholders, optional placeholders); None marks a key that is not a template.
_TEMPLATES: Mapping[str, tuple[frozenset[str], frozenset[str]]] = {
    "prompt_user": (frozenset({"query", "docs"}), frozenset({"num"})),
    "doc_prefix": (frozenset({"num"}), frozenset()),
    "ground_truth": (frozenset({"num"}), frozenset()),
}
_PLAIN_KEYS = frozenset({"prompt_system", "doc_separator", "pattern", "answer_start"})
_TYPES: Mapping[str, type] = {"passage_characters": int, "passage_in_a_line": bool}
_KINDS = {str: "text", int: "a whole number", bool: "true or false"}
_PLACEHOLDERS = frozenset({"query", "num", "docs"})


@dataclass(frozen=True, slots=True)
class PromptFile:
    """A prompt file as loaded and checked by `load_prompt`.

    `doc_prefix` and `doc_separator` default to what llm-rankers puts between labels and passages.
    `pattern` is the regular expression that upstream code reads replies with; groupwise replies
    are read by `prompting.parse_scores.parse_scores` instead. `sha256` is of the file's bytes.

    A checkpoint that was trained so wants its passages cut to `passage_characters`, and each run
    of newlines in them made a space (`passage_in_a_line`). `answer_start` is between the
    reasoning and the answer; None means "<answer>" if prompt_user speaks of it, else nothing.
    """

    name: str
    sha256: str
    prompt_user: str
    prompt_system: str = ""
    doc_prefix: str = "[{num}] "
    doc_separator: str = "\n"
    pattern: str | None = None
    ground_truth: str | None = field(default=None, repr=False)
    answer_start: str | None = None
    passage_characters: int | None = None
    passage_in_a_line: bool = False

    def shown(self, passage: str) -> str:
        """As much of a passage as this prompt shows."""
        if self.passage_in_a_line:
            passage = re.sub("\n+", " ", passage)
        return passage[: self.passage_characters]


def load_prompt(name_or_path: str | Path) -> PromptFile:
    """Load a prompt file.

    Args:
        name_or_path: the path of a TOML file, or of a YAML template of rank_llm's; or one of
            `bundled_prompts()` or `pulled_prompts()` by name.

    Raises:
        PromptError: the file is missing or is no TOML, a key is missing, unknown or no text, or a
            placeholder is missing, unknown or unbalanced. Names file, key and placeholder.
    """
    known = bundled_prompts()
    known |= {name: path for name, path in pulled_prompts().items() if name not in known}
    path = known.get(str(name_or_path), Path(name_or_path))
    try:
        content = path.read_bytes()
        values = tomllib.loads(_toml(path, content))
    except OSError as error:
        if str(name_or_path) in PULLABLE and str(name_or_path) not in known:
            raise PromptError(
                f"{name_or_path}: this published prompt is not on this machine yet; fetch it with: "
                f"run-groupwise prompts pull {name_or_path}"
            ) from error
        raise PromptError(
            f"{path}: cannot read the prompt file ({error.strerror}); "
            f"give a path, or one of {', '.join(known)}"
        ) from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise PromptError(f"{path}: not a TOML file in UTF-8: {error}") from error
    _check_keys(path, values)
    _check_pattern(path, values.get("pattern"))
    for key in ("prompt_system", *_TEMPLATES):
        if key in values:
            _check_placeholders(path, key, values[key])
    return PromptFile(name=path.stem, sha256=hashlib.sha256(content).hexdigest(), **values)


def _toml(path: Path, content: bytes) -> str:
    """A prompt file as TOML, converted if it is a template of rank_llm."""
    if path.suffix not in (".yaml", ".yml"):
        return content.decode()
    try:
        return from_rank_llm(content)
    except PromptError as error:
        raise PromptError(f"{path}: {error}") from error


def bundled_prompts() -> dict[str, Path]:
    """The prompt files that come with this package: name -> path."""
    package = Path(__file__).parents[1]
    installed = package / "prompt_files"
    folder = installed if installed.is_dir() else package.parent / "prompts"
    return {path.stem: path for path in sorted(folder.glob("*.toml"))}


def prompt_folder() -> Path:
    """Where pulled prompts are kept: below $XDG_DATA_HOME, by default ~/.local/share."""
    home = os.environ.get("XDG_DATA_HOME", "")
    if not os.path.isabs(home):  # the XDG specification has relative ones ignored
        home = os.path.expanduser("~/.local/share")
    return Path(home, "llmrankers-groupwise", "prompts")


def pulled_prompts() -> dict[str, Path]:
    """The prompt files in `prompt_folder()`: name -> path."""
    return {path.stem: path for path in sorted(prompt_folder().glob("*.toml"))}


def _check_keys(path: Path, values: Mapping[str, Any]) -> None:
    known = sorted(_PLAIN_KEYS | _TEMPLATES.keys() | _TYPES.keys())
    for key, value in values.items():
        if key not in known:
            raise PromptError(f"{path}: unknown key {key!r}; the keys are {', '.join(known)}")
        wanted = _TYPES.get(key, str)
        if type(value) is not wanted:
            raise PromptError(f"{path}: {key} must be {_KINDS[wanted]}, not {type(value).__name__}")
    if values.get("passage_characters", 1) < 1:
        raise PromptError(f"{path}: passage_characters must be 1 or more")
    if "prompt_user" not in values:
        raise PromptError(f"{path}: the key prompt_user is missing")


def _check_pattern(path: Path, pattern: str | None) -> None:
    try:
        re.compile(pattern or "")
    except re.error as error:
        raise PromptError(f"{path}: pattern is no regular expression: {error}") from error


def _check_placeholders(path: Path, key: str, template: str) -> None:
    if key == "prompt_system":
        for name in sorted(_PLACEHOLDERS):
            if f"{{{name}}}" in template:
                raise PromptError(
                    f"{path}: {key} holds {{{name}}}, but is sent as it is; "
                    f"move the placeholder to prompt_user"
                )
    if key not in _TEMPLATES:
        return
    required, optional = _TEMPLATES[key]
    found = _placeholders(path, key, template)
    allowed = sorted(required | optional)
    for name in found:
        if name not in allowed:
            known = ", ".join(f"{{{each}}}" for each in allowed)
            raise PromptError(
                f"{path}: {key} holds the unknown placeholder {{{name}}}; it may hold {known} "
                f"(write {{{{ and }}}} for braces)"
            )
    for name in sorted(required - set(found)):
        raise PromptError(f"{path}: {key} lacks the placeholder {{{name}}}")
    try:
        template.format(query="query", docs="docs", num=1)
    except (ValueError, LookupError, AttributeError) as error:
        raise PromptError(f"{path}: {key} cannot be formatted: {error}; fix the format") from error


def _placeholders(path: Path, key: str, template: str) -> list[str]:
    """Field names as written, so that {query.text} and {0} count as unknown, not as query."""
    try:
        parts = list(string.Formatter().parse(template))
    except ValueError as error:
        raise PromptError(
            f"{path}: {key} has an unbalanced brace ({error}); write {{{{ and }}}} for braces"
        ) from error
    return [name for _, name, _, _ in parts if name is not None]


def prompt_source(name_or_path: str) -> tuple[PromptFile, bytes]:
    """A prompt file, and its bytes as TOML to be kept beside what is made with it.

    Raises:
        PromptError: as `load_prompt`.
    """
    prompt = load_prompt(name_or_path)
    path = {**pulled_prompts(), **bundled_prompts()}.get(name_or_path, Path(name_or_path))
    content = path.read_bytes()
    converted = path.suffix in (".yaml", ".yml")
    return prompt, from_rank_llm(content).encode() if converted else content
