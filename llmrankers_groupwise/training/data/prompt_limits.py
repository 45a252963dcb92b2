"""What the model that is to be trained reads: prompts by its prompt file, cut to its lengths."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from llmrankers_groupwise.data.first_stage import FirstStage
from llmrankers_groupwise.data.run_files import RunEntry
from llmrankers_groupwise.engines.llm.pretrained import load_tokenizer
from llmrankers_groupwise.engines.llm.tokenizer import ChatSettings, ChatTokenizer
from llmrankers_groupwise.errors import SettingsError
from llmrankers_groupwise.settings import Name
from llmrankers_groupwise.training.data.rows import Row
from llmrankers_groupwise.types import Candidate, Query

__all__ = ["PromptLimits", "PromptMeasure", "prompt_tokens"]


@dataclass(frozen=True, kw_only=True)
class PromptLimits:
    """How long texts and prompts may be.

    Attributes:
        student_tokenizer: the tokenizer of the model to train, to cut and measure prompts by; by
            default texts are cut by a teacher's.
        query_length: cut every query to this number of tokens, as `run` does.
        passage_length: cut every passage to this number of tokens, as `run` does.
        max_prompt_tokens: leave out rows whose prompt is longer; needs the student's tokenizer.
        max_prompt_characters: leave out rows whose prompt has more characters.

    Raises:
        SettingsError: a limit is below 1, or needs a tokenizer.
    """

    student_tokenizer: Name | None = None
    query_length: int = 128
    passage_length: int = 512
    max_prompt_tokens: int | None = None
    max_prompt_characters: int | None = None

    def __post_init__(self) -> None:
        names = ("query_length", "passage_length", "max_prompt_tokens", "max_prompt_characters")
        for name in names:
            value = getattr(self, name)
            if value is not None and value < 1:
                raise SettingsError(f"{name} is {value}: give 1 or more")
        if self.max_prompt_tokens is not None and self.student_tokenizer is None:
            raise SettingsError(
                "max_prompt_tokens needs the tokenizer of the model to train: give that "
                "(student_tokenizer), or max_prompt_characters"
            )


@dataclass
class PromptMeasure:
    """Cuts texts and measures prompts as the trained model's ranker will.

    Attributes:
        limits: how long they may be.
        truncate: (text, tokens) -> its beginning, where the limits have no tokenizer.
    """

    limits: PromptLimits
    truncate: Callable[[str, int], str]
    _tokenizer: Any = field(init=False, default=None)

    def __post_init__(self) -> None:
        if self.limits.student_tokenizer is not None:
            self._tokenizer = load_tokenizer(self.limits.student_tokenizer)
            chat = ChatTokenizer(self._tokenizer, ChatSettings())
            self.truncate = lambda text, length: chat.clean(chat.truncate(text, length))

    def cut(
        self, stage: FirstStage, query_id: str, entries: Sequence[RunEntry]
    ) -> tuple[Query, list[Candidate]]:
        """A query and its documents as prompts show them."""
        lengths = self.limits.query_length, self.limits.passage_length
        return stage.candidates(query_id, entries, self.truncate, *lengths)

    def fits(self, row: Row) -> bool:
        """Whether a row's prompt is within the limits."""
        characters = sum(len(message["content"]) for message in row["prompt"])
        if characters > (self.limits.max_prompt_characters or characters):
            return False
        most = self.limits.max_prompt_tokens
        return most is None or prompt_tokens(self._tokenizer, row) <= most


def prompt_tokens(tokenizer: Any, row: Row) -> int:
    """The tokens of a row's prompt, its chat template's included where there is one.

    Raises:
        ModelError: the template fails.
    """
    if not getattr(tokenizer, "chat_template", None):
        text = "\n".join(message["content"] for message in row["prompt"])
        return len(tokenizer(text)["input_ids"])
    chat = ChatTokenizer(tokenizer, ChatSettings())
    return chat.count(chat.rendered(row["prompt"]))
