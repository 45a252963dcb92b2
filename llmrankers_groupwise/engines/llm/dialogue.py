"""What is asked of a language model for one request, step by step, whatever the engine.

A dialogue yields steps and is sent their outcomes; in the end it returns the Reply. It does no
input or output itself, so every engine runs the same dialogues: one step after another against a
server, or those of many requests side by side on one key-value cache.

    dialogue = reply_to(request, sampling)
    step = next(dialogue)                       # Write or Fill
    step = dialogue.send(outcome_of(step))      # until StopIteration, whose value is the Reply

`lead` does that for engines that answer one step at a time.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Awaitable, Callable, Generator
from dataclasses import dataclass

from llmrankers_groupwise.errors import EngineError
from llmrankers_groupwise.prompting.parse_scores import parse_scores
from llmrankers_groupwise.prompting.tags import ANSWER, ANSWER_BEGINS, REASON_END, THINK_END
from llmrankers_groupwise.types import Reply, Request, Sampling, ScoreForm

__all__ = ["CLOSE_THINKING", "Dialogue", "Fill", "Filled", "Write", "Written", "lead", "reply_to"]

logger = logging.getLogger(__name__)

CLOSE_THINKING = f"\n{THINK_END}\n\n"
"""Ends a thinking block as the chat templates of Qwen3 and DeepSeek-R1 do."""


@dataclass(frozen=True, slots=True)
class Write:
    """Go on writing after `text`, what the assistant's turn holds so far.

    Writing ends with the turn, after max_tokens, or after one of `stop`, which stays in the text.
    """

    text: str
    max_tokens: int
    stop: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Written:
    """New text; `finished` unless max_tokens cut it off."""

    text: str
    tokens: int
    finished: bool


@dataclass(frozen=True, slots=True)
class Fill:
    """Fill in a form after `text`, what the assistant's turn holds so far."""

    text: str
    form: ScoreForm


@dataclass(frozen=True, slots=True)
class Filled:
    """The form as text, and the choices' probabilities where the engine knows them."""

    text: str
    tokens: int
    slot_probabilities: tuple[tuple[float, ...], ...] | None = None


Dialogue = Generator[Write | Fill, Written | Filled, Reply]


async def lead(
    dialogue: Dialogue, answer: Callable[[Write | Fill], Awaitable[Written | Filled]]
) -> Reply:
    """The reply of a dialogue each of whose steps `answer` completes.

    The dialogue hears of an EngineError, as it may have a reply without that step.
    """
    step = next(dialogue)
    while True:
        try:
            try:
                outcome = await answer(step)
            except EngineError as error:
                step = dialogue.throw(error)
            else:
                step = dialogue.send(outcome)
        except StopIteration as end:
            reply: Reply = end.value
            return reply


def reply_to(
    request: Request,
    sampling: Sampling,
    *,
    thinking: bool = False,
    close_thinking: str = CLOSE_THINKING,
) -> Dialogue:
    """The dialogue for one request.

    A request with a form has it filled, after up to sampling.reasoning_tokens of free reasoning.
    One without is written out; if that leaves labels without a score, because it was cut off,
    looped or forgot them, the fallback form is filled after the reasoning that is there.

    Args:
        request: what is asked.
        sampling: the lengths of reasoning and text.
        thinking: whether the chat template has opened a thinking block.
        close_thinking: what ends a thinking block.
    """
    turn = _Turn(request, thinking, close_thinking)
    if request.form is not None:
        return _reason_and_fill(turn, request.form, sampling)
    return _write(turn, sampling)


def _reason_and_fill(turn: _Turn, form: ScoreForm, sampling: Sampling) -> Dialogue:
    budget = min(sampling.reasoning_tokens or 0, sampling.max_tokens)
    stop = (ANSWER,) if turn.request.answer_start else (THINK_END,)
    finished = True
    while turn.tokens < budget:
        written = yield Write(turn.text, budget - turn.tokens, stop)
        assert isinstance(written, Written)
        turn.add(written)
        finished = written.finished
        # An <answer> that is only spoken of while thinking is not the answer.
        if not turn.open("think") or not written.tokens:
            break
    return (yield from _fill(turn, form, forced=not finished))


def _write(turn: _Turn, sampling: Sampling) -> Dialogue:
    budget = sampling.max_tokens
    reasoning = sampling.reasoning_tokens
    finished = False
    if reasoning is None or reasoning > 0:
        written = yield Write(turn.text, min(budget, reasoning or budget))
        assert isinstance(written, Written)
        turn.add(written)
        finished = written.finished
    if not finished and turn.tokens < budget:
        turn.text = turn.closed()
        written = yield Write(turn.text, budget - turn.tokens)
        assert isinstance(written, Written)
        turn.add(written)
        finished = written.finished
    reply = Reply(
        text=turn.text,
        completion_tokens=turn.tokens,
        finish_reason="stop" if finished else "length",
    )
    form = turn.request.fallback
    read = parse_scores(turn.text, len(form.labels)) if form is not None else None
    if form is None or read is None or not read.missing:
        return reply
    try:
        return (yield from _fill(turn, form, forced=True))
    except EngineError as error:
        if not read.scores:
            raise
        logger.warning("a reply without %d of its labels stays so: %s", len(read.missing), error)
        return reply  # its scores are paid for


def _fill(turn: _Turn, form: ScoreForm, *, forced: bool) -> Dialogue:
    text = turn.before_the_answer()
    filled = yield Fill(text, form)
    assert isinstance(filled, Filled)
    return Reply(
        text=text + filled.text,
        slot_probabilities=filled.slot_probabilities,
        forced=forced,
        completion_tokens=turn.tokens + filled.tokens,
        finish_reason="length" if forced else "stop",
    )


@dataclass
class _Turn:
    """The assistant's turn as it grows."""

    request: Request
    thinking: bool
    close_thinking: str
    text: str = ""
    tokens: int = 0

    def add(self, written: Written) -> None:
        self.text += written.text
        self.tokens += written.tokens

    def open(self, name: str) -> bool:
        """Whether a block of this name has been opened and not closed.

        What is named inside a closed thinking block is only spoken of.
        """
        text = self.text if name == "think" else self.text.rpartition(THINK_END)[2]
        opened = text.rfind(f"<{name}>")
        if opened < 0 and not (name == "think" and self.thinking):
            return False
        return f"</{name}>" not in text[max(opened, 0) :]

    def closed(self) -> str:
        """The text with its reasoning closed."""
        if self.open("think"):
            return self.text.rstrip() + self.close_thinking
        return self.text.rstrip() + f"\n{REASON_END}\n" if self.open("reason") else self.text

    def before_the_answer(self) -> str:
        """The text up to where the form belongs: reasoning closed, an answer in it dropped."""
        if not self.open("think"):
            self.text = _without_answer(self.text, bare=not self.open("reason"))
        text = self.closed()
        separator = "\n" if text and not text.endswith("\n") else ""
        return text + separator + self.request.answer_start


# Where an answer begins, as far as the text goes: tagged (not where the tag is only spoken of), or
# an object that scores labels, fenced or not.
_BARE = re.compile(r"""(?:```\w*\s*)?\{\s*(?:["'“]\s*\[?|\[)?\s*(?:[0-9]|\Z)|```\w*\s*\Z""")


def _without_answer(text: str, *, bare: bool) -> str:
    """Text less the answer it ends in, tagged or `bare`; one in closed reasoning is left."""
    start = max(0, *(text.rfind(end) for end in (THINK_END, REASON_END)))
    found = ANSWER_BEGINS.search(text, start) or (_BARE.search(text, start) if bare else None)
    return text[: found.start()] if found else text
