"""Training rows in tokens: the prompt as inference has it, token for token."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from llmrankers_groupwise.engines.llm.tokenizer import ChatTokenizer
from llmrankers_groupwise.errors import InputError, ModelError
from llmrankers_groupwise.prompting.tags import TAGS, THINK, THINK_END
from llmrankers_groupwise.types import Message

__all__ = ["Fitting", "fitting_prompts", "inference_rows", "sft_examples"]

logger = logging.getLogger(__name__)

# An answer's tags, which some models have as control tokens.

IGNORED = -100
"""The label of a token that the loss leaves out, as PyTorch has it."""

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Fitting:
    """The rows to train on, in their order.

    Attributes:
        rows: what the trainer gets.
        too_long: how many are left out, as they are longer than allowed.
        longest: tokens of the longest row, those left out included.
    """

    rows: list[dict[str, Any]]
    too_long: int
    longest: int


def inference_rows(rows: Sequence[Row], chat: ChatTokenizer, prompt: str) -> list[dict[str, Any]]:
    """Rows whose messages are as the engines show them.

    Control tokens of the model that are in a text are none any more, and a system message that
    the chat template refuses is in the user's, as TRL's own rendering does neither.

    Args:
        rows: with messages.
        chat: the model's tokenizer.
        prompt: the prompt file's text, whose own control tokens are meant; so are labels, and an
            answer's tags.
    """
    labels = (f"[{number}]" for number in range(1, 100))
    meant = chat.control.intersection(chat.encode("".join([prompt, *TAGS, *labels])))

    def shown(messages: Sequence[Message]) -> list[Message]:
        return [{**each, "content": chat.clean(each["content"], meant)} for each in messages]

    return [
        {
            **row,
            "prompt": chat.accepted(shown(row["prompt"])),
            **({"completion": shown(row["completion"])} if "completion" in row else {}),
        }
        for row in rows
    ]


def sft_examples(
    rows: Sequence[Row],
    chat: ChatTokenizer,
    ends: Collection[int],
    max_length: int,
    model_length: int | None = None,
) -> Fitting:
    """Rows as `input_ids` and `labels`; only the answer and the token that ends it have labels.

    Args:
        rows: with prompt and completion as chat messages.
        chat: the model's tokenizer.
        ends: tokens that end the assistant's turn.
        max_length: the most tokens of a row.
        model_length: the most that the model takes; None where that is unknown.

    Raises:
        InputError: all rows are longer.
    """
    examples, longest = [], 0
    limit, why = max_length, f"max_length {max_length}"
    if model_length is not None and model_length < limit:
        limit, why = model_length, f"the {model_length} tokens that the model takes"
    for row in rows:
        prompt, answer = _encoded(row, chat, ends)
        longest = max(longest, len(prompt) + len(answer))
        if len(prompt) + len(answer) <= limit:
            labels = [IGNORED] * len(prompt) + answer
            examples.append({"input_ids": prompt + answer, "labels": labels})
    return _fitting(examples, len(rows), longest, why)


def fitting_prompts(
    rows: Sequence[Row],
    chat: ChatTokenizer,
    max_prompt_length: int,
    room: int | None = None,
) -> Fitting:
    """The rows whose prompts are within the limit of tokens, without what only SFT needs.

    Args:
        rows: with prompts as chat messages.
        chat: the model's tokenizer.
        max_prompt_length: the most tokens of a prompt.
        room: the most that the model takes, prompt and reply; None where that is unknown.

    Raises:
        InputError: none has.
    """
    kept, longest = [], 0
    limit, why = max_prompt_length, f"max_prompt_length {max_prompt_length}"
    if room is not None and room < limit:
        limit, why = room, f"the {room} tokens that the longest reply leaves of the model's length"
    for row in rows:
        length = chat.count(chat.rendered(row["prompt"]))
        longest = max(longest, length)
        if length <= limit:
            kept.append({name: value for name, value in row.items() if name != "completion"})
    return _fitting(kept, len(rows), longest, why)


def _encoded(row: Row, chat: ChatTokenizer, ends: Collection[int]) -> tuple[list[int], list[int]]:
    """The tokens of the prompt, and those of the answer up to the one that ends the turn."""
    prompt: Sequence[Message] = row["prompt"]
    completion: Sequence[Message] = row["completion"]
    text = chat.rendered(prompt)
    whole = chat.rendered([*prompt, *completion], add_generation_prompt=False)
    if whole.startswith(text) and not text.rstrip().endswith(THINK):
        answer = whole[len(text) :]
    else:  # the template shows a turn that is over otherwise than one to come
        answer = _after_prompt(text, completion[-1]["content"])
    ids = chat.encode_continuation(answer)
    last = max((index for index, token in enumerate(ids) if token in ends), default=None)
    if last is not None:
        return chat.encode(text), ids[: last + 1]
    end = chat.hugging_face.eos_token_id
    if end is None:
        raise ModelError("the tokenizer has no eos_token to end an answer with: give it one")
    return chat.encode(text), [*ids, end]


def _after_prompt(text: str, content: str) -> str:
    """What an assistant writes after a prompt, which may have opened a thinking block for it."""
    if not text.rstrip().endswith(THINK):
        return content
    if content.lstrip().startswith(THINK):
        return content.lstrip().removeprefix(THINK).lstrip("\n")
    return f"\n{THINK_END}\n\n{content}"


def _fitting(kept: list[dict[str, Any]], n: int, longest: int, limit: str) -> Fitting:
    if not kept:
        raise InputError(
            f"all {n} rows are longer than {limit} (the longest has {longest} tokens): allow more "
            f"tokens, or make rows of smaller groups or shorter passages"
        )
    if too_long := n - len(kept):
        logger.warning("%d of %d rows are longer than %s and left out", too_long, n, limit)
    return Fitting(kept, n - len(kept), longest)
