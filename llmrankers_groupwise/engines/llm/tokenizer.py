"""Requests as the tokens of a chat model: template, control tokens, and cutting to length."""

from __future__ import annotations

import bisect
import functools
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from llmrankers_groupwise.engines.lengths import even_lengths, longest_beginning, rerendered
from llmrankers_groupwise.engines.llm.templates import template_of, without_brackets, without_system
from llmrankers_groupwise.errors import EngineError, ModelError, SettingsError
from llmrankers_groupwise.files.text_files import well_formed
from llmrankers_groupwise.prompting.tags import THINK
from llmrankers_groupwise.types import Message, Request

__all__ = [
    "ChatSettings",
    "ChatTokenizer",
    "Prompt",
]

_NOT_THE_TEMPLATES = {"conversation", "tokenize", "add_generation_prompt", "chat_template"}


@dataclass(frozen=True, slots=True)
class Prompt:
    """A request as the model gets it.

    Attributes:
        request: with the texts as they are shown.
        token_ids: the whole prompt, up to where the assistant begins; empty where only its
            length is known.
        cut_passages: how many passages were cut to fit.
        thinking: the template has opened a thinking block.
        estimate: the length in tokens where there are no token_ids.
    """

    request: Request
    token_ids: tuple[int, ...]
    cut_passages: int
    thinking: bool
    estimate: int = 0

    @property
    def tokens(self) -> int:
        """How many tokens the prompt has."""
        return len(self.token_ids) or self.estimate


@dataclass(frozen=True, slots=True)
class ChatSettings:
    """How messages become a prompt.

    Attributes:
        chat_template: a Jinja template or the path of one, for a tokenizer that has none.
        chat_template_kwargs: passed to the template, e.g. {"enable_thinking": False}.
    """

    chat_template: str | None = None
    chat_template_kwargs: Mapping[str, Any] = field(default_factory=dict)


class ChatTokenizer:
    """A Hugging Face tokenizer with its chat template. May be used from several threads.

    Args:
        tokenizer: a fast tokenizer of transformers, as `pretrained.load_tokenizer` gives.
        settings: the chat template.

    Attributes:
        hugging_face: the tokenizer.
        template: the chat template's text.

    Raises:
        ModelError: there is no chat template, or the tokenizer is not a fast one.
        SettingsError: chat_template_kwargs has an argument that is not the template's.
    """

    def __init__(self, tokenizer: Any, settings: ChatSettings) -> None:
        self.hugging_face = tokenizer
        self.settings = settings
        for name in _NOT_THE_TEMPLATES & settings.chat_template_kwargs.keys():
            raise SettingsError(f"chat_template_kwargs has {name!r}, which is none of a template's")
        self.template = template_of(tokenizer, settings.chat_template)
        self._fast: Any = getattr(tokenizer, "backend_tokenizer", None)
        if self._fast is None:
            raise ModelError(
                f"the tokenizer {tokenizer.name_or_path} has no fast version: save one with "
                f"tokenizer.json, and give its folder by --tokenizer_name_or_path"
            )
        if not self._fast.encode("0", add_special_tokens=False).ids:
            raise ModelError(
                f"the tokenizer {tokenizer.name_or_path} knows no text: is its folder complete? It "
                f"needs tokenizer.json, or what transformers makes one from"
            )
        self._fast.no_truncation()  # as saved in tokenizer.json by some models
        self._fast.no_padding()

    def encode(self, text: str) -> list[int]:
        """Token ids of a text that may hold control tokens; none are added."""
        ids: list[int] = self._fast.encode(well_formed(text), add_special_tokens=False).ids
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        """The text of token ids, control tokens included."""
        text: str = self._fast.decode(list(ids), skip_special_tokens=False)
        return text

    def encode_continuation(self, text: str) -> list[int]:
        """Token ids of a text that continues another text, with no space put before it."""
        anchor = self.encode("0")
        whole = self.encode("0" + text)
        return whole[len(anchor) :] if whole[: len(anchor)] == anchor else self.encode(text)

    def agreeing(self, ids: Sequence[int], text: str) -> list[int]:
        """Token ids of `text`; as many as possible of them are the first of `ids`."""
        kept = len(ids)
        if not text.startswith(self.decode(ids)):
            kept = bisect.bisect_left(
                range(1, kept), True, key=lambda n: not text.startswith(self.decode(ids[:n]))
            )
        while kept and not text.startswith(self.decode(ids[:kept])):
            kept -= 1  # within a character, or a step further than the search looked
        same = list(ids[:kept])
        return same + self.encode_continuation(text[len(self.decode(same)) :])

    def count(self, text: str) -> int:
        """How many tokens `text` has."""
        return len(self.encode(text))

    def truncate(self, text: str, length: int) -> str:
        """The longest beginning of `text` that has at most `length` tokens."""
        return longest_beginning(text, length, self._ends)

    def clean(self, text: str, keep: Collection[int] = ()) -> str:
        """Text that this tokenizer reads without any of its control tokens, but those to keep.

        The brackets of one become round; one without brackets gets a space inside.
        """
        for attempt in range(20):
            encoded = self._fast.encode(well_formed(text), add_special_tokens=False)
            spans = [
                span
                for token, span in zip(encoded.ids, encoded.offsets, strict=True)
                if token in self.control
                and token not in keep
                and self._is_meant(token, text[slice(*span)])
            ]
            if not spans:
                return text
            for start, end in reversed(spans):
                broken = "" if attempt > 10 else without_brackets(text[start:end])
                text = text[:start] + broken + text[end:]
        return ""

    @functools.cached_property
    def texts(self) -> dict[int, str]:
        """The text of each token of the vocabulary after others; empty for control tokens."""
        anchor = self.encode("0")[-1:]
        start = len(self.decode(anchor))
        return {
            number: "" if number in self.control else self.decode([*anchor, number])[start:]
            for number in self._fast.get_vocab(with_added_tokens=True).values()
        }

    @functools.cached_property
    def control(self) -> frozenset[int]:
        """Ids of the tokens that mean something to the model besides text."""
        added = self.hugging_face.added_tokens_decoder
        return frozenset(
            {number for number, token in added.items() if token.special}
            | set(self.hugging_face.all_special_ids)
        )

    def _is_meant(self, token: int, text: str) -> bool:
        """Whether a control token is meant; a character unknown to the model reads as one, too."""
        if token != self.hugging_face.unk_token_id:
            return True
        return self._normal(text) == self._normal(self.hugging_face.unk_token)

    def _normal(self, text: str) -> str:
        normalizer = self._fast.normalizer
        return str(normalizer.normalize_str(text.strip()) if normalizer else text.strip())

    def prompt(self, request: Request, limit: int | None, **template: Any) -> Prompt:
        """The request's prompt, its passages cut to keep `limit` tokens.

        Passages are cut on token borders, the longest first, so that all that are cut become
        equally long.

        Args:
            request: what is asked.
            limit: the most tokens of the prompt; None for no limit.
            template: for the chat template, besides what the settings give.

        Raises:
            EngineError: the prompt does not fit even with a token of each passage.
        """
        request = self._cleaned(request)
        text = self.rendered(request.messages, **template)
        ids = self.encode(text)
        cut = 0
        if limit is not None and len(ids) > limit:
            request, ids, cut = self._cut(request, ids, limit, template)
        thinking = text.rstrip().endswith(THINK)
        return Prompt(request, tuple(ids), cut, thinking)

    def _cleaned(self, request: Request) -> Request:
        query = self.clean(request.query)
        passages = tuple(self.clean(passage) for passage in request.passages)
        if (query, passages) == (request.query, request.passages):
            return request
        return rerendered(request, query, passages)

    def _cut(
        self, request: Request, ids: list[int], limit: int, template: Mapping[str, Any]
    ) -> tuple[Request, list[int], int]:
        """The request with shorter passages, its token ids, and how many passages were cut."""
        lengths = [self.count(passage) for passage in request.passages]
        room = sum(lengths) - (len(ids) - limit)
        while room >= len(lengths):
            wanted = even_lengths(lengths, room)
            passages = tuple(map(self.truncate, request.passages, wanted))
            shorter = rerendered(request, request.query, passages)
            ids = self.encode(self.rendered(shorter.messages, **template))
            if len(ids) <= limit:
                cut = sum(new < old for new, old in zip(wanted, lengths, strict=True))
                return shorter, ids, cut
            room -= len(ids) - limit
        raise EngineError(
            f"the prompt of {len(request.passages)} passages does not fit into {limit} tokens, "
            f"even with one token of each: use a smaller group_size, a shorter query, or a larger "
            f"max_model_len"
        )

    def rendered(
        self, messages: Sequence[Message], *, add_generation_prompt: bool = True, **template: Any
    ) -> str:
        """Messages as the template has them, up to where the assistant begins.

        Args:
            messages: for a template that refuses the role, a system message is put at the head of
                the user's.
            add_generation_prompt: False where the assistant's turn is the last message.
            template: for the chat template, besides what the settings give.

        Raises:
            ModelError: the template fails.
        """
        kwargs = {**template, **self.settings.chat_template_kwargs}
        apply = functools.partial(
            self.hugging_face.apply_chat_template,
            tokenize=False,
            add_generation_prompt=add_generation_prompt,
            chat_template=self.template,
            **kwargs,
        )
        try:
            text: str = apply(list(messages))
        except Exception as error:  # templates raise what they like
            if messages[0]["role"] != "system" or len(messages) < 2:
                raise ModelError(f"the chat template fails: {error}") from error
            merged = without_system(messages)
            return self.rendered(merged, add_generation_prompt=add_generation_prompt, **template)
        return text

    def accepted(self, messages: Sequence[Message]) -> list[Message]:
        """The messages in roles that the template takes, which make the same text by `rendered`."""
        if messages[0]["role"] != "system" or len(messages) < 2:
            return list(messages)
        merged = without_system(messages)
        return merged if self.rendered(merged) == self.rendered(messages) else list(messages)

    def template_knows(self, name: str) -> bool:
        """Whether the chat template looks at an argument of this name."""
        return name in self.template

    def _ends(self, text: str) -> list[int]:
        """Where each token ends, in characters."""
        encoded = self._fast.encode(well_formed(text), add_special_tokens=False)
        return [end for _, end in encoded.offsets]
