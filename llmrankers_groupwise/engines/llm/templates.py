"""A chat template, and messages and texts as it takes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from llmrankers_groupwise.errors import ModelError
from llmrankers_groupwise.types import Message

__all__ = ["template_of", "without_brackets", "without_system"]

_BRACKETS = str.maketrans("<>[]{}＜＞【】", "()()()()()")


def without_system(messages: Sequence[Message]) -> list[Message]:
    """The system message at the head of the user's, for templates that refuse that role."""
    system, user, *rest = messages
    merged = {"role": "user", "content": f"{system['content']}\n\n{user['content']}"}
    return [merged, *rest]


def without_brackets(token: str) -> str:
    """A control token's text as plain text."""
    plain = token.translate(_BRACKETS)
    if plain != token:
        return plain
    inside = len(token) - len(token.lstrip()) + 1
    return f"{token[:inside]} {token[inside:]}" if len(token.strip()) > 1 else " "


def template_of(tokenizer: Any, given: str | None) -> str:
    """The chat template: as given, as text or by path, or the tokenizer's own."""
    if given is not None:
        if "{" in given:
            return given
        try:
            return Path(given).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ModelError(f"cannot read the chat template {given}: {error}") from error
    own = tokenizer.chat_template
    if isinstance(own, Mapping):  # several, by name
        own = own.get("default")
    if not own:
        raise ModelError(
            f"the tokenizer {tokenizer.name_or_path} has no chat template: use an instruct or "
            f"chat model, or give a template by --engine_args chat_template=FILE"
        )
    return str(own)
