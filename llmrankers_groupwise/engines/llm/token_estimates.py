"""Prompts of a model without a tokenizer: one token is counted for every four bytes of UTF-8.

That is about right for English. Texts in other scripts and texts full of numbers have more tokens,
so a prompt keeps a fifth of its room free.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from llmrankers_groupwise.engines.lengths import (
    answer_budget,
    estimated_beginning,
    estimated_tokens,
    even_lengths,
    form_budget,
    rerendered,
)
from llmrankers_groupwise.engines.llm.dialogue import Dialogue, reply_to
from llmrankers_groupwise.engines.llm.tokenizer import Prompt
from llmrankers_groupwise.errors import EngineError
from llmrankers_groupwise.types import Message, Request, Sampling

__all__ = ["Estimator"]

_TOKENS_PER_MESSAGE = 4  # role and markers


class Estimator:
    """What `prompt_builder.PromptBuilder` does for a model with a tokenizer, by estimates."""

    def __init__(self) -> None:
        self.max_model_len: int | None = None

    def limit_to(self, max_model_len: int) -> None:
        """Take this for the model's length if it is shorter than what is known."""
        self.max_model_len = min(self.max_model_len or max_model_len, max_model_len)

    def count(self, text: str) -> int:
        """About how many tokens `text` has."""
        return estimated_tokens(text)

    def truncate(self, text: str, length: int) -> str:
        """The longest beginning of `text` that counts at most `length` tokens."""
        return estimated_beginning(text, length)

    def prompt(self, request: Request, sampling: Sampling) -> Prompt:
        """The request, its passages cut to leave room for the answer, the longest first.

        Raises:
            EngineError: it does not fit, whatever is cut.
        """
        if self.max_model_len is None:
            return _prompt(request, cut_passages=0)
        limit = self.max_model_len - answer_budget(request, sampling, self.max_model_len)
        limit -= limit // 5
        lengths = [estimated_tokens(passage) for passage in request.passages]
        room = sum(lengths) - (_tokens(request.messages) - limit)
        if room >= sum(lengths):
            return _prompt(request, cut_passages=0)
        while room >= len(lengths):
            wanted = even_lengths(lengths, room)
            shorter = self._with_lengths(request, wanted)
            over = _tokens(shorter.messages) - limit
            if over <= 0:
                cut = sum(new < old for new, old in zip(wanted, lengths, strict=True))
                return _prompt(shorter, cut_passages=cut)
            room -= over
        raise EngineError(
            f"the prompt of {len(lengths)} passages does not fit into {limit} tokens (estimated), "
            f"even with one token of each: use a smaller group_size, a shorter query, or a larger "
            f"max_model_len"
        )

    def dialogue(self, prompt: Prompt, sampling: Sampling) -> Dialogue:
        """The dialogue for a prompt, its text kept within the model's length."""
        form = prompt.request.form or prompt.request.fallback
        if self.max_model_len is not None:
            room = self.max_model_len - prompt.tokens * 5 // 4 - (form_budget(form) if form else 0)
            longest = min(sampling.max_tokens, max(1, room))
            sampling = dataclasses.replace(sampling, max_tokens=longest)
        return reply_to(prompt.request, sampling)

    def _with_lengths(self, request: Request, lengths: Sequence[int]) -> Request:
        passages = list(map(self.truncate, request.passages, lengths))
        return rerendered(request, request.query, passages)


def _prompt(request: Request, *, cut_passages: int) -> Prompt:
    tokens = _tokens(request.messages)
    return Prompt(request, (), cut_passages, thinking=False, estimate=tokens)


def _tokens(messages: Sequence[Message]) -> int:
    return sum(estimated_tokens(each["content"]) + _TOKENS_PER_MESSAGE for each in messages)
