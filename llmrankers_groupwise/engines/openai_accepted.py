"""Which parameters of a chat completion a server takes, and what to send when it refuses one."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

__all__ = ["Accepted", "Way", "merged", "next_way", "without"]

Way = Literal["json_schema", "regex", "none"]
"""How a form is asked for: OpenAI's structured outputs, vLLM's by regular expression, in words."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """What a server takes, as far as is known.

    Attributes:
        ways: of asking for a form, the one in use first, then those still to try.
        top_logprobs: how many alternatives are asked for in each token's place; 0 for none.
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


def merged(known: Accepted, tried: Accepted, learned: Accepted) -> Accepted:
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
# Of a router, if none of its servers takes all that is asked; which is too much, it does not say.
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
# Of these it may be the value that is refused, which is the user's to mend.
_VALUES = ("temperature", "top_p", "seed", "stop", "chat_template_kwargs")


def without(
    accepted: Accepted, sent: Mapping[str, Any], text: str, parameter: str | None = None
) -> Accepted | None:
    """What to send after a refusal; None if it is not about a parameter that can be left out.

    Args:
        accepted: what was sent by.
        sent: the body that was refused.
        text: what the server said.
        parameter: the parameter that it named in so many words.
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


def _less(accepted: Accepted, name: str) -> Accepted | None:
    if name in ("response_format", "structured_outputs"):
        return next_way(accepted)
    if name in ("top_logprobs", "logprobs"):
        if accepted.keep_logprobs and (name == "logprobs" or accepted.top_logprobs <= 5):
            return None
        # Some servers give five alternatives and no more.
        fewer = 5 if name == "top_logprobs" and accepted.top_logprobs > 5 else 0
        return dataclasses.replace(accepted, top_logprobs=fewer)
    if name == "max_tokens":
        return dataclasses.replace(accepted, length="max_completion_tokens")
    return dataclasses.replace(accepted, left_out=accepted.left_out | {name})


def next_way(accepted: Accepted) -> Accepted | None:
    """The next way of asking for a form; None if there is none left."""
    ways = accepted.ways[1:]
    return dataclasses.replace(accepted, ways=ways) if ways else None
