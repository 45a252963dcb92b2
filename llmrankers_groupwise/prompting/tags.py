"""The tags of replies, and the patterns that find them.

A reply reasons in <reason> or, as models do by themselves, in <think>, and answers in <answer>.
"""

from __future__ import annotations

import re

__all__ = [
    "ANSWER",
    "ANSWER_BEGINS",
    "ANSWER_BLOCK",
    "ANSWER_END",
    "ANY_TAG",
    "REASON",
    "REASONING_BLOCK",
    "REASONING_END",
    "REASONING_TAG",
    "REASON_AND_ANSWER",
    "REASON_END",
    "TAGS",
    "TAG_OF_A_PROMPT",
    "THINK",
    "THINK_END",
    "THOUGHT_AND_ANSWER",
    "answered",
    "reasoned",
    "without_reasoning",
]

ANSWER = "<answer>"
ANSWER_END = "</answer>"
REASON = "<reason>"
REASON_END = "</reason>"
THINK = "<think>"
THINK_END = "</think>"
TAGS = (REASON, REASON_END, ANSWER, ANSWER_END, THINK, THINK_END)
_REASONING = ("reason", "think")

ANSWER_BLOCK = re.compile(
    rf"{ANSWER}((?:(?!{ANSWER}).)*?)({ANSWER_END}|\Z)", re.DOTALL | re.IGNORECASE
)
"""An answer: what is inside, and its closing tag, empty where the reply is cut off."""

ANSWER_BEGINS = re.compile(rf"""{ANSWER}(?=\s*(?:[{{`\["'0-9]|\Z))""")
"""The tag before an answer, as far as the text goes, and not where the tag is only spoken of."""

REASONING_TAG = re.compile(f"<({'|'.join(_REASONING)})>")
"""An opening tag of reasoning, and its name."""

REASONING_END = re.compile(f"</(?:{'|'.join(_REASONING)})>", re.IGNORECASE)

REASONING_BLOCK = re.compile(f"<({'|'.join(_REASONING)})>(.*?)</\\1>", re.DOTALL | re.IGNORECASE)
"""Closed reasoning: the tag's name, and what is inside."""

ANY_TAG = re.compile(r"<\s*/?\s*(?:reason|think|answer)\b|```", re.IGNORECASE)
"""What a text must not hold that is put into a block."""

TAG_OF_A_PROMPT = re.compile(
    r"[<＜](\s*+(?:/\s*+)?(?:answer|reason|think|tool_call|tool_response)\b[^<>＜＞]*+)[>＞]",
    re.IGNORECASE,
)
"""A tag in a query or passage, and what is between its brackets."""

_INSIDE = r"[^<]*+(?:<(?!/?(?:reason|think|answer)>)[^<]*+)*+"  # text without a tag
_ONE_ANSWER = rf"\s*+({ANSWER}(?P<content>{_INSIDE}){ANSWER_END})\s*+"
REASON_AND_ANSWER = re.compile(rf"\s*+{REASON}{_INSIDE}{REASON_END}{_ONE_ANSWER}", re.IGNORECASE)
THOUGHT_AND_ANSWER = re.compile(
    rf"\s*+(?:{THINK})?{_INSIDE}{THINK_END}{_ONE_ANSWER}", re.IGNORECASE
)
"""A whole reply: one block of reasoning, whose opening <think> may be missing, then an answer."""


def answered(content: str) -> str:
    """An answer with this content."""
    return f"{ANSWER}{content}{ANSWER_END}"


def reasoned(content: str) -> str:
    """Reasoning with this content."""
    return f"{REASON}{content}{REASON_END}"


def without_reasoning(text: str) -> str:
    """Text less its reasoning: from the first opening tag (or the start) to the last closing one.

    Reasoning that is never closed reaches to the next <answer>, or to the end.
    """
    for name in _REASONING:
        opening, closing = re.compile(f"<{name}>", re.I), re.compile(f"</{name}>", re.I)
        closings = list(closing.finditer(text))
        if closings:
            end = closings[-1].end()
            first = opening.search(text, 0, end)
            text = text[: first.start() if first else 0] + text[end:]
        unclosed = opening.search(text)
        if unclosed:
            answer = re.compile(ANSWER, re.I).search(text, unclosed.end())
            text = text[: unclosed.start()] + (text[answer.start() :] if answer else "")
    return text
