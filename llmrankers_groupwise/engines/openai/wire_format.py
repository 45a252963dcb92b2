"""Requests and replies of chat completions, and what to leave out after a refusal (pure)."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from llmrankers_groupwise.engines.lengths import form_budget
from llmrankers_groupwise.engines.llm.dialogue import Fill, Write
from llmrankers_groupwise.engines.llm.form_probabilities import (
    Token,
    form_regex,
    form_schema,
    read_slots,
)
from llmrankers_groupwise.errors import EngineError
from llmrankers_groupwise.files.text_files import well_formed
from llmrankers_groupwise.prompting.tags import THINK, THINK_END
from llmrankers_groupwise.types import Message, Request, Sampling, ScoreForm

__all__ = [
    "Capabilities",
    "Completion",
    "Way",
    "after_reply",
    "answer_rows",
    "chat_body",
    "conversation",
    "drop_parameter",
    "fits",
    "merged",
    "next_form_mode",
    "read_completion",
    "written_text",
]

_GO_ON = "Go on exactly where your text stops. Repeat nothing."
_ANSWER_NOW = "There is no more room for reasoning. Give the answer now, in the form asked for."
_FILL = (
    "Give the {answers} now: reply with one JSON object and nothing else, with one entry for each "
    "of the {n} labels, {labels}, and {choices} as values."
)


@dataclass(frozen=True, slots=True)
class Completion:
    """A chat completion, as read by `read_completion`.

    Attributes:
        text: what the model wrote.
        reasoning: what it thought, where the server tells that apart.
        finish_reason: "stop", "length" or whatever the server gives.
        stopped_by: the stop string that ended the text; None if the server does not tell, "" if it
            tells that there was none.
        tokens: the text's, reasoning included with some servers; empty without logprobs.
        prompt_tokens, completion_tokens: as the server counts; None if it does not.
    """

    text: str
    reasoning: str = ""
    finish_reason: str = "stop"
    stopped_by: str | None = None
    tokens: tuple[Token, ...] = field(default=(), repr=False)
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


# --- What is sent -----------------------------------------------------------------------------


def chat_body(
    request: Request,
    step: Write | Fill,
    sampling: Sampling,
    accepted: Capabilities,
    room: int | None = None,
) -> dict[str, Any]:
    """The body of a chat completion for one step of a dialogue, less the model.

    Args:
        request: what the dialogue is about.
        step: what is asked now.
        sampling: seed, and for a text temperature and top_p: a form is filled in as is likeliest;
            max_tokens for a form that nothing holds to its own.
        accepted: what the server takes.
        room: the most tokens that the model's length has left for the answer, if known.
    """
    body: dict[str, Any] = {"messages": conversation(request, step)}
    if isinstance(step, Fill):
        body.update(temperature=0.0, top_p=1.0)
    elif sampling.temperature > 0:
        body.update(temperature=sampling.temperature, top_p=sampling.top_p)
    else:
        body["temperature"] = sampling.temperature
    if sampling.seed is not None:
        body["seed"] = sampling.seed
    if isinstance(step, Write):
        body[accepted.length] = step.max_tokens
        if step.stop:
            body["stop"] = list(step.stop)
    else:
        longest = form_budget(step.form)
        if accepted.thinks or accepted.way == "none":
            wanted = longest + sampling.max_tokens
            longest = max(longest, wanted if room is None else min(wanted, room))
        body[accepted.length] = longest
        body.update(_form_parameters(step.form, accepted))
    return {name: value for name, value in body.items() if name not in accepted.left_out}


def _form_parameters(form: ScoreForm, accepted: Capabilities) -> dict[str, Any]:
    body: dict[str, Any] = {}
    if accepted.top_logprobs:
        body = {"logprobs": True, "top_logprobs": accepted.top_logprobs}
    if accepted.way == "json_schema":
        schema = {"name": "scores", "strict": True, "schema": form_schema(form)}
        body["response_format"] = {"type": "json_schema", "json_schema": schema}
    elif accepted.way == "regex":
        body["structured_outputs"] = {"regex": form_regex(form)}
    return body


def conversation(request: Request, step: Write | Fill) -> list[Message]:
    """The messages for a step: the request's, and what was written so far, then a question.

    A server begins a turn of its own, so a turn is continued by one more question. Thinking tags
    get another name in what was written, as chat templates drop earlier thinking.
    """
    messages = [{**each, "content": well_formed(each["content"])} for each in request.messages]
    written, question = step.text, _fill_question(step.form) if isinstance(step, Fill) else _GO_ON
    if isinstance(step, Fill):
        written = written.removesuffix(request.answer_start)
    elif re.search(r"</(?:think|reason)>\s*\Z", written):
        question = _ANSWER_NOW
    written = re.sub(r"<(/?)think>", r"<\1reason>", written).strip()
    if written:
        messages.append({"role": "assistant", "content": well_formed(written)})
        messages.append({"role": "user", "content": question})
    elif isinstance(step, Fill) and request.answer_start:  # the prompt asks for more than the form
        messages[-1]["content"] += f"\n\n{question}"
    return messages


def _fill_question(form: ScoreForm) -> str:
    labels = [f'"{label}"' for label in dict.fromkeys((form.labels[0], form.labels[-1]))]
    answers, choices = "scores", "whole numbers from 0 to 10"
    if form.of_words:
        answers, choices = "answers", " or ".join(f'"{word}"' for word in form.choices)
    return _FILL.format(
        answers=answers, n=len(form.labels), labels=" to ".join(labels), choices=choices
    )


# --- What comes back --------------------------------------------------------------------------


def read_completion(payload: object) -> Completion:
    """A server's answer.

    Raises:
        EngineError: it is not a chat completion, or the model or a filter refused to answer.
    """
    choice = _first_choice(payload)
    message = choice.get("message")
    if not isinstance(message, Mapping):
        raise EngineError("the server's reply has a choice without a message")
    finish_reason = str(choice.get("finish_reason") or "stop")
    text = _content(message.get("content"))
    if message.get("refusal"):
        raise EngineError(f"the model refused to answer: {str(message['refusal'])[:200]}")
    if finish_reason == "content_filter":
        raise EngineError("the server's content filter stopped the answer")
    reasoning = message.get("reasoning_content") or message.get("reasoning")
    usage = payload.get("usage") if isinstance(payload, Mapping) else None
    usage = usage if isinstance(usage, Mapping) else {}
    return Completion(
        text=text,
        reasoning=reasoning if isinstance(reasoning, str) else "",
        finish_reason=finish_reason,
        stopped_by=_stopped_by(choice),
        tokens=_tokens(choice.get("logprobs")),
        prompt_tokens=_count(usage.get("prompt_tokens")),
        completion_tokens=_count(usage.get("completion_tokens")),
    )


def _first_choice(payload: object) -> Mapping[str, Any]:
    found = payload if isinstance(payload, Mapping) else {}
    choices = found.get("choices")
    if isinstance(choices, list) and choices and isinstance(choices[0], Mapping):
        return choices[0]
    error = found.get("error")
    if error:
        message = error.get("message") if isinstance(error, Mapping) else error
        raise EngineError(
            f"the server answered with an error: {str(message)[:300]}", retryable=True
        )
    raise EngineError("the server's reply has no choices: it is not a chat completion")


def _content(content: object) -> str:
    """A message's content: a text, or a list of parts of which some are texts."""
    if isinstance(content, list):
        parts = [part.get("text") for part in content if isinstance(part, Mapping)]
        return "".join(part for part in parts if isinstance(part, str))
    return content if isinstance(content, str) else ""


def _stopped_by(choice: Mapping[str, Any]) -> str | None:
    """In vLLM's stop_reason or SGLang's matched_stop: a string, a token's number or null."""
    for name in ("stop_reason", "matched_stop"):
        if name in choice:
            return choice[name] if isinstance(choice[name], str) else ""
    return None


def _tokens(logprobs: object) -> tuple[Token, ...]:
    """The tokens and their alternatives; none at all if one of them cannot be read."""
    entries = logprobs.get("content") if isinstance(logprobs, Mapping) else None
    tokens = []
    try:
        for entry in entries or ():
            each = [entry, *(entry.get("top_logprobs") or ())]
            probabilities = {str(one["token"]): _probability(one["logprob"]) for one in each}
            tokens.append(Token(str(entry["token"]), probabilities))
    except (AttributeError, KeyError, TypeError):
        return ()
    return tuple(tokens)


def _probability(logprob: float) -> float:
    return math.exp(min(logprob, 0.0)) if math.isfinite(logprob) else 0.0


def _count(number: object) -> int | None:
    return number if type(number) is int and number >= 0 else None


def written_text(completion: Completion, step: Write) -> str:
    """The text of a turn: thinking in front in its tags, and the stop string put back."""
    stopped_by = completion.stopped_by
    cut = completion.finish_reason == "length"
    text = completion.text
    if completion.reasoning:
        closing = f"\n{THINK_END}\n\n" if text or not (cut or stopped_by) else ""
        text = f"{THINK}\n{completion.reasoning}{closing}{text}"
    if cut or not step.stop:
        return text
    if stopped_by is None:
        # Only one stop string shows by itself that it was met: the end of thinking that has not
        # ended otherwise. Without any other one the text is as good.
        so_far = step.text + text
        thinking = so_far.rfind(THINK) > so_far.rfind(THINK_END)
        return text + THINK_END if thinking and step.stop == (THINK_END,) else text
    return text + stopped_by if stopped_by in step.stop else text


def answer_rows(completion: Completion, form: ScoreForm) -> tuple[tuple[float, ...], ...] | None:
    """The probabilities of each slot's choices; None where the tokens do not tell.

    Where "10" has two tokens, a row's mean can be off by 9 times the probability of a "1" that
    was not written, at most; see `slots`.
    """
    starts = [index for index, token in enumerate(completion.tokens) if "{" in token.text]
    if not starts:
        return None
    slots = read_slots(completion.tokens[starts[-1] :], form)  # thinking may quote the form
    return tuple(slot.row() for slot in slots) if slots is not None else None


def fits(completion: Completion, form: ScoreForm) -> bool:
    """Whether the text is the form filled in, or its beginning if it was cut off."""
    text = completion.text.strip()
    if completion.finish_reason == "length":
        return text.startswith("{") or not text
    try:
        filled = json.loads(text)
    except (ValueError, RecursionError):
        return False
    return (
        isinstance(filled, dict)
        and set(filled) == set(form.labels)
        and all(
            type(value) is (str if form.of_words else int) and str(value) in form.choices
            for value in filled.values()
        )
    )


def after_reply(
    accepted: Capabilities, step: Write | Fill, completion: Completion
) -> Capabilities | None:
    """What to send instead after a reply that shows that the form was ignored; None if it is good.

    A text that does not fit shows it: a server that holds the model to a form cannot give one. No
    text at all, cut off, shows a model that thought for as long as it had room.
    """
    if isinstance(step, Write):
        return None
    if completion.finish_reason == "length" and not completion.text.strip():
        roomy = accepted.thinks or accepted.way == "none"
        return None if roomy else dataclasses.replace(accepted, thinks=True)
    return None if fits(completion, step.form) else next_form_mode(accepted)


Way = Literal["json_schema", "regex", "none"]
"""How a form is asked for: OpenAI's structured outputs, vLLM's by regular expression, in words."""


# --- What a server takes --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a server takes, as far as is known.

    Attributes:
        ways: of asking for a form, the one in use first, then those still to try.
        top_logprobs: how many alternatives are asked for at each token's position; 0 for none.
        keep_logprobs: a server that refuses to give any is of no use.
        length: the name of the parameter for the longest text.
        left_out: parameters that are not sent, as the server refuses them.
        thinks: the model thinks before it fills in a form, and needs room for that.
    """

    ways: tuple[Way, ...] = ("json_schema", "regex", "none")
    top_logprobs: int = 20
    keep_logprobs: bool = False
    length: str = "max_tokens"
    left_out: frozenset[str] = frozenset()
    thinks: bool = False

    @property
    def way(self) -> Way:
        """How a form is asked for."""
        return self.ways[0]


def merged(known: Capabilities, tried: Capabilities, learned: Capabilities) -> Capabilities:
    """What is known when a request has found something out that others may have added to.

    Args:
        known: what is known now.
        tried: what the request began with, which may be less.
        learned: what helped it in the end.
    """
    return dataclasses.replace(
        known,
        ways=min(known.ways, learned.ways, key=len),
        top_logprobs=min(known.top_logprobs, learned.top_logprobs),
        length=known.length if learned.length == tried.length else learned.length,
        left_out=known.left_out | learned.left_out,
        thinks=known.thinks or learned.thinks,
    )


_TOO_LONG = re.compile(r"context[ _](?:length|window|size)|too (?:long|large)", re.I)
_UNSUPPORTED = re.compile(
    r"unsupported|not support|n't support|only the default|unknown|unrecogni[sz]ed|unexpected"
    r"|not permitted|not allowed|cannot both|deprecated|extra",
    re.I,
)
# A router's, if none of its servers takes all that is asked; it does not name what is too much.
_TOO_MUCH = re.compile(r"no endpoints? found that .*parameters", re.I)
_DISPENSABLE = ("logprobs", "response_format", "structured_outputs", "seed", "top_p", "temperature")
# What in a refusal's text names a parameter.
_NAMES: Mapping[str, re.Pattern[str]] = {
    name: re.compile(pattern, re.I)
    for name, pattern in {
        "max_tokens": r"max_completion_tokens",
        "top_logprobs": r"top_logprobs|sample logprobs",
        "logprobs": r"log[ _]?prob",
        "response_format": r"response_format|json[ _]?schema|structured|guided|grammar|schema",
        "structured_outputs": r"structured|guided|regex|grammar",
        "top_p": r"\btop_p\b",
        "temperature": r"\btemperature\b",
        "seed": r"\bseed\b",
        "stop": r"\bstop\b",
        "chat_template_kwargs": r"chat_template_kwargs|enable_thinking",
    }.items()
}
# For these it may be the value that is refused, which the user has to fix.
_VALUES = ("temperature", "top_p", "seed", "stop", "chat_template_kwargs")


def drop_parameter(
    accepted: Capabilities, sent: Mapping[str, Any], text: str, parameter: str | None = None
) -> Capabilities | None:
    """What to send after a refusal; None if it is not about a parameter that can be left out.

    Args:
        accepted: what was sent by.
        sent: the body that was refused.
        text: what the server answered.
        parameter: the parameter that it named expressly.
    """
    if _TOO_LONG.search(text):
        return None
    unsupported = _UNSUPPORTED.search(text) is not None
    named = [name for name in _NAMES if name == parameter and name != "max_tokens"]
    spoken = [name for name, pattern in _NAMES.items() if pattern.search(text)]
    if _TOO_MUCH.search(text) and not spoken:
        spoken, unsupported = list(_DISPENSABLE), True
    for name in named + spoken:
        if name in sent and (unsupported or name not in _VALUES):
            less = _less(accepted, name)
            if less is not None and less != accepted:  # equal where extra_body insists on it
                return less
    return None


def _less(accepted: Capabilities, name: str) -> Capabilities | None:
    if name in ("response_format", "structured_outputs"):
        return next_form_mode(accepted)
    if name in ("top_logprobs", "logprobs"):
        if accepted.keep_logprobs and (name == "logprobs" or accepted.top_logprobs <= 5):
            return None
        # Some servers give five alternatives and no more.
        fewer = 5 if name == "top_logprobs" and accepted.top_logprobs > 5 else 0
        return dataclasses.replace(accepted, top_logprobs=fewer)
    if name == "max_tokens":
        return dataclasses.replace(accepted, length="max_completion_tokens")
    return dataclasses.replace(accepted, left_out=accepted.left_out | {name})


def next_form_mode(accepted: Capabilities) -> Capabilities | None:
    """The next way of asking for a form; None if there is none left."""
    ways = accepted.ways[1:]
    return dataclasses.replace(accepted, ways=ways) if ways else None
