"""The messages rendered from a prompt file, a query and a group of passages (pure)."""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence

from llmrankers_groupwise.prompting.prompt_file import PromptFile
from llmrankers_groupwise.prompting.tags import ANSWER, TAG_OF_A_PROMPT
from llmrankers_groupwise.types import Message, Origin, Request, ScoreForm, Wanted

__all__ = ["escape_markers", "render"]


def render(
    query: str,
    passages: Sequence[str],
    prompt: PromptFile,
    *,
    wants: Wanted = "scores",
    form: bool = False,
    choices: tuple[str, ...] | None = None,
    origin: Origin = Origin(),  # noqa: B008  it is immutable
) -> Request:
    """The request for one group: labels [1]..[n], and messages in which all text is neutralised.

    Args:
        query: the query's text.
        passages: the group's texts, in prompt order, at least one.
        prompt: the prompt file to render.
        wants: what the reply is to give.
        form: for scores, whether to ask for a filled-in ScoreForm; else one of numbers is the
            fallback of a text.
        choices: the words of the form, where it is not of the numbers 0..10.
        origin: whose question it is.
    """
    passages = [prompt.shown(passage) for passage in passages]
    docs = prompt.doc_separator.join(
        prompt.doc_prefix.format(num=number) + escape_markers(passage)
        for number, passage in enumerate(passages, start=1)
    )
    user = prompt.prompt_user.format(query=escape_markers(query), num=len(passages), docs=docs)
    messages: list[Message] = [{"role": "user", "content": user}]
    if prompt.prompt_system:
        messages.insert(0, {"role": "system", "content": prompt.prompt_system})
    labels = tuple(f"[{number}]" for number in range(1, len(passages) + 1))
    scores = None
    if wants == "scores":
        scores = ScoreForm(labels) if choices is None else ScoreForm(labels, choices)
    return Request(
        query=query,
        passages=tuple(passages),
        labels=labels,
        messages=tuple(messages),
        form=scores if form else None,
        fallback=None if form or choices else scores,
        answer_start=_answer_start(prompt),
        wants=wants,
        origin=origin,
        rerender=functools.partial(
            render, prompt=prompt, wants=wants, form=form, choices=choices, origin=origin
        ),
    )


def _answer_start(prompt: PromptFile) -> str:
    if prompt.answer_start is not None:
        return prompt.answer_start
    return ANSWER if ANSWER in prompt.prompt_user else ""


_LABEL = re.compile(r"[\[［【](\s*+\d++\s*+)[\]］】]")
# Turn and sequence markers of the chat templates in common use. Engines that know their
# tokenizer's own markers remove those besides.
_CONTROL = re.compile(
    r"<[|｜]([^<>|｜\n]{1,64})[|｜]?>"
    r"|<([^<>|｜\s]{1,64})[|｜]>"
    r"|<(/?(?:s|bos|eos|sop|eop|pad|unk|mask|extra_id_[0-9]++|(?:start|end)_of_[a-z]++))>"
    r"|\[(/?(?:INST|THINK|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_[A-Z]++|IMG|g?MASK|CLS|SEP|PAD|UNK))\]"
    r"|<<(/?SYS)>>",
    re.IGNORECASE,
)


def escape_markers(text: str) -> str:
    """Text in which nothing passes for a label, an answer tag or a chat template's control token.

    Each keeps its words but loses its brackets: `[3]` becomes `(3)`, `</answer>` `(/answer)`.
    Applied until nothing is left, as removing one marker can join the halves of another.
    """
    while True:
        plain = _LABEL.sub(r"(\1)", text)
        plain = TAG_OF_A_PROMPT.sub(r"(\1)", plain)
        plain = _CONTROL.sub(lambda match: f"({match[match.lastindex or 0]})", plain)
        if plain == text:
            return plain
        text = plain
