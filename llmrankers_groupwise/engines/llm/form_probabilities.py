"""Choice probabilities of a form's slots, from the tokens in which an engine wrote it.

Engines that constrain the answer on their side, by a regular expression or a JSON schema, write
the form token by token and report for each token the most probable ones at its position. The slot's
row is the probability of each choice among the choices.

"10" is mostly written in two tokens of which the first is that of "1". Where the engine wrote
another choice, the split of that token's probability p between 1 and 10 is not reported. It is
then taken from the choices beside them: those around 10 (8 and 9) against those around 1 (0, 2 and
3). The expected score is wrong by 9p at most, p being `Slot.unsplit`.
"""

from __future__ import annotations

import bisect
import itertools
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from llmrankers_groupwise.types import MAX_SCORE, ScoreForm

__all__ = ["Slot", "Token", "form_regex", "form_schema", "literal", "read_slots", "ten_share"]

_ONE, _TEN = 1, 10


@dataclass(frozen=True, slots=True)
class Token:
    """A written token, and the probabilities of the most probable ones at its position, by text."""

    text: str
    probabilities: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Slot:
    """One slot.

    Attributes:
        known: the probability of each choice, less what is unsplit.
        unsplit: the probability of a token "1" that may be 1 or 10, as far as is known.
        position: the index of the token that the choice begins in.
        one: the text of the token whose probability is unsplit, what is before "1" included.
    """

    known: tuple[float, ...]
    unsplit: float
    position: int
    one: str = "1"

    def row(self, ten: float | None = None) -> tuple[float, ...]:
        """The probability of each choice, with a share `ten`, 0..1, of what is unsplit for 10."""
        if not self.unsplit:
            return self.known
        row = list(self.known)
        share = _likely_share(row) if ten is None else ten
        row[_ONE] += self.unsplit * (1 - share)
        row[_TEN] += self.unsplit * share
        return tuple(row)


def form_regex(form: ScoreForm) -> str:
    """A regular expression that the filled form, and nothing else, matches."""
    choices = "|".join(sorted(form.choices, reverse=True))
    return f"({choices})".join(map(literal, form.fixed))


def literal(text: str) -> str:
    """A regular expression for this text, escaping no more than the grammars of servers know."""
    return re.sub(r"([\[\](){}.*+?^$|\\])", r"\\\1", text)


def form_schema(form: ScoreForm) -> dict[str, Any]:
    """A JSON schema of the filled form, within what OpenAI's strict mode takes."""
    choice: dict[str, Any] = {"type": "string", "enum": list(form.choices)}
    if not form.of_words:
        choice = {"type": "integer", "enum": [int(number) for number in form.choices]}
    return {
        "type": "object",
        "properties": dict.fromkeys(form.labels, choice),
        "required": list(form.labels),
        "additionalProperties": False,
    }


def read_slots(tokens: Sequence[Token], form: ScoreForm) -> list[Slot] | None:
    """The slots of a form as written, white space between its parts or not; None if it is not one.

    Tokens before and after the form do not matter; of several the last counts.
    """
    choices = "|".join(sorted(form.choices, reverse=True))
    quote = '"' if form.of_words else ""
    entries = [
        rf"{re.escape(json.dumps(label))}\s*:\s*{quote}({choices}){quote}" for label in form.labels
    ]
    pattern = re.compile(r"\{\s*" + r"\s*,\s*".join(entries) + r"\s*\}")
    found = list(pattern.finditer("".join(token.text for token in tokens)))
    if not found:
        return None
    # A tokenizer with a token for 10 writes it in that one, and "1" is 1.
    splits = not any(text.strip() == "10" for token in tokens for text in token.probabilities)
    starts = list(itertools.accumulate((len(token.text) for token in tokens), initial=0))
    slots = []
    for number in range(1, len(form.labels) + 1):
        start = found[-1].start(number)
        position = bisect.bisect_right(starts, start) - 1
        offset = start - starts[position]
        if form.of_words:
            slot = _word_slot(tokens[position], position, offset, form.choices)
        else:
            slot = _slot(tokens, position, offset, splits=splits)
        if slot is None:
            return None
        slots.append(slot)
    return slots


def _word_slot(token: Token, position: int, offset: int, choices: Sequence[str]) -> Slot | None:
    """The slot of words that begins in this token: the beginning of a word tells it."""
    masses = [0.0] * len(choices)
    for text, probability in token.probabilities.items():
        begun = text[offset:] if text.startswith(token.text[:offset]) else ""
        for number, choice in enumerate(choices):
            if begun and (choice.startswith(begun) or begun.startswith(choice)):
                masses[number] += probability
    total = sum(masses)
    if total <= 0.0:
        return None
    return Slot(tuple(mass / total for mass in masses), 0.0, position)


def _slot(tokens: Sequence[Token], position: int, offset: int, *, splits: bool) -> Slot | None:
    """The slot whose choice begins in the token at `position`, `offset` characters into it."""
    token = tokens[position]
    before = token.text[:offset]
    masses = [0.0] * (MAX_SCORE + 1)
    open_mass = 0.0
    for text, probability in token.probabilities.items():
        if not text.startswith(before):
            continue
        choice = text[offset:]
        number = re.match("[0-9]+", choice)
        if number is None or number[0] not in _CHOICES:
            continue
        if choice == "1" and splits:
            open_mass += probability
        else:
            masses[int(number[0])] += probability
    total = sum(masses) + open_mass
    if total <= 0.0:
        return None
    share = None
    if splits and token.text[offset:] == "1" and position + 1 < len(tokens):
        share = ten_share(tokens[position + 1].probabilities)
    if share is not None:
        masses[_ONE] += open_mass * (1 - share)
        masses[_TEN] += open_mass * share
        open_mass = 0.0
    known = tuple(mass / total for mass in masses)
    return Slot(known, open_mass / total, position, before + "1")


_CHOICES = frozenset(str(score) for score in range(MAX_SCORE + 1))


def ten_share(after: Mapping[str, float]) -> float | None:
    """What share of a "1" goes on to 10, by the tokens after it; None if they do not tell."""
    ten = sum(p for text, p in after.items() if text.startswith("0"))
    end = sum(p for text, p in after.items() if text and not text[0].isdigit())
    return ten / (ten + end) if ten + end > 0 else None


def _likely_share(masses: Sequence[float]) -> float:
    """The share of 10 in an unknown split, by the choices around 10 and around 1."""
    high, low = masses[8] + masses[9], masses[0] + masses[2] + masses[3]
    return high / (high + low) if high + low > 0 else 0.5
