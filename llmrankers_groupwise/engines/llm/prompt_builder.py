"""Requests made into prompts of a local model: tokenizer, length and thinking, by the settings."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from llmrankers_groupwise.concurrency import Lazy
from llmrankers_groupwise.engines.base import Engine, EngineSettings, PromptSize
from llmrankers_groupwise.engines.lengths import answer_budget, form_budget
from llmrankers_groupwise.engines.llm.dialogue import CLOSE_THINKING, Dialogue, reply_to
from llmrankers_groupwise.engines.llm.pretrained import load_tokenizer, model_length
from llmrankers_groupwise.engines.llm.tokenizer import ChatSettings, ChatTokenizer, Prompt
from llmrankers_groupwise.errors import SettingsError
from llmrankers_groupwise.types import Reply, Request, Sampling

__all__ = ["CHAT_ARGS", "LocalPromptEngine", "PromptBuilder", "check_chat_args", "finished"]

CHAT_ARGS: Mapping[str, Any] = {
    "chat_template": None,
    "chat_template_kwargs": {},
    "close_thinking": CLOSE_THINKING,
    "max_model_len": None,
    "revision": None,
    "trust_remote_code": False,
}
"""The engine arguments that this module reads, with their defaults."""


def check_chat_args(args: Mapping[str, Any]) -> None:
    """Raise SettingsError where one of CHAT_ARGS has a wrong type or range.

    A max_model_len of -1, by which vLLM finds out what fits into memory, is as none.
    """
    length = args["max_model_len"]
    if length is not None and (type(length) is not int or (length < 1 and length != -1)):
        raise SettingsError(f"engine_args max_model_len is {length!r}: give a whole number from 1")
    if not isinstance(args["chat_template_kwargs"], Mapping):
        raise SettingsError(
            f"engine_args chat_template_kwargs is {args['chat_template_kwargs']!r}: give names "
            f"with values"
        )
    for name in ("chat_template", "revision"):
        if not isinstance(args[name], str | None):
            raise SettingsError(f"engine_args {name} is {args[name]!r}: give a text")
    if not isinstance(args["close_thinking"], str):
        raise SettingsError(
            f"engine_args close_thinking is {args['close_thinking']!r}: give a text"
        )


class PromptBuilder:
    """Makes prompts for one model. Its tokenizer is loaded when first needed, the model never.

    Args:
        settings: the engine's; model_name_or_path or tokenizer_name_or_path is set.
        args: at least CHAT_ARGS, resolved.
    """

    def __init__(self, settings: EngineSettings, args: Mapping[str, Any]) -> None:
        self._settings = settings
        self._args = args
        # Requests are prepared in many threads; what cannot be loaded is tried once.
        self._tokenizer = Lazy(self._load_tokenizer)
        self._model_length = Lazy(self._find_model_length)
        self._limit: int | None = None

    def prompt(self, request: Request, sampling: Sampling) -> Prompt:
        """The request in the model's tokens, cut to leave room for the answer.

        A form that is filled at once wants no thinking: a template that can leave it out does.

        Raises:
            EngineError: the prompt does not fit, whatever is cut.
            ModelError: the tokenizer cannot be used.
        """
        limit = self.max_model_len
        if limit is not None:
            limit -= answer_budget(request, sampling, limit)
        at_once = request.form is not None and not sampling.reasoning_tokens
        if at_once and self.tokenizer.template_knows("enable_thinking"):
            return self.tokenizer.prompt(request, limit, enable_thinking=False)
        return self.tokenizer.prompt(request, limit)

    def dialogue(self, prompt: Prompt, sampling: Sampling) -> Dialogue:
        """The dialogue for a prompt, its text kept within the model's length."""
        if self.max_model_len is not None:
            form = prompt.request.form or prompt.request.fallback
            room = max(1, self.max_model_len - len(prompt.token_ids) - form_budget(form))
            sampling = dataclasses.replace(sampling, max_tokens=min(sampling.max_tokens, room))
        return reply_to(
            prompt.request,
            sampling,
            thinking=prompt.thinking,
            close_thinking=self._args["close_thinking"],
        )

    def count(self, text: str) -> int:
        """How many of the model's tokens `text` has."""
        return self.tokenizer.count(text)

    def truncate(self, text: str, length: int) -> str:
        """The longest beginning of `text` that has at most `length` tokens."""
        return self.tokenizer.truncate(text, length)

    @property
    def tokenizer(self) -> ChatTokenizer:
        """The model's tokenizer."""
        return self._tokenizer()

    @property
    def max_model_len(self) -> int | None:
        """The most tokens of prompt and answer together; None where nothing limits them."""
        known = [each for each in (self._model_length(), self._limit) if each is not None]
        return min(known, default=None)

    def limit_to(self, max_model_len: int) -> None:
        """Take the model's own word for its length where that is shorter."""
        self._limit = min(self._limit or max_model_len, max_model_len)

    def _load_tokenizer(self) -> ChatTokenizer:
        own = self._settings.tokenizer_name_or_path is None
        tokenizer = load_tokenizer(
            str(self._settings.tokenizer_name_or_path or self._settings.model_name_or_path),
            **self._hub(revision=own),
        )
        chat = ChatSettings(self._args["chat_template"], self._args["chat_template_kwargs"])
        return ChatTokenizer(tokenizer, chat)

    def _find_model_length(self) -> int | None:
        given: int | None = self._args["max_model_len"]
        if given is not None and given > 0:
            return given
        model = self._settings.model_name_or_path
        if model is None:
            return None
        return model_length(model, **self._hub(revision=True))

    def _hub(self, *, revision: bool) -> dict[str, Any]:
        return {
            "revision": self._args["revision"] if revision else None,
            "cache_dir": self._settings.cache_dir,
            "trust_remote_code": self._args["trust_remote_code"],
        }


class LocalPromptEngine(Engine):
    """What the engines of language models have in common: prompts, made without asking anyone.

    `_prompter` is a PromptBuilder, or what replaces one where there is no tokenizer.
    """

    _prompter: Any

    def prompt(self, request: Request, sampling: Sampling) -> Prompt:
        """The request as it would be asked, cut to the model's length; loads no model.

        Raises:
            EngineError: the prompt does not fit, whatever is cut.
            ModelError: the tokenizer cannot be used.
        """
        prompt: Prompt = self._prompter.prompt(request, sampling)
        return prompt

    def prompt_size(self, request: Request, sampling: Sampling) -> PromptSize:
        """Tokens of `prompt`, estimated where there is no tokenizer."""
        prompt = self.prompt(request, sampling)
        return PromptSize(prompt.tokens, not prompt.token_ids, prompt.cut_passages)

    def count_tokens(self, text: str) -> int:
        """Tokens of `text`."""
        count: int = self._prompter.count(text)
        return count

    def truncate(self, text: str, length: int) -> str:
        """The longest beginning of `text` that has at most `length` tokens."""
        beginning: str = self._prompter.truncate(text, length)
        return beginning


def finished(reply: Reply, prompt: Prompt) -> Reply:
    """The reply of a dialogue with what is known of its prompt."""
    return dataclasses.replace(
        reply, prompt_tokens=len(prompt.token_ids), cut_passages=prompt.cut_passages
    )
