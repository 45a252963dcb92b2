"""A score form in a model's tokens, slot by slot."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from llmrankers_groupwise.engines.llm.tokenizer import ChatTokenizer
from llmrankers_groupwise.errors import ModelError
from llmrankers_groupwise.types import ScoreForm

__all__ = ["FormTokens", "Part", "common_beginning"]


@dataclass(frozen=True)
class Part:
    """What belongs to one slot.

    Attributes:
        fixed: token ids of the text before it, as far as all choices have them in common.
        choices: the token ids of each choice after them.
        ends: ids of tokens that the text after the slot can begin with.
    """

    fixed: list[int]
    choices: tuple[tuple[int, ...], ...]
    ends: tuple[int, ...]

    @property
    def shared(self) -> list[int]:
        """The first token of more than one choice, that of "1" and "10" where these are two."""
        firsts = [choice[0] for choice in self.choices]
        return sorted({token for token in firsts if firsts.count(token) > 1})

    def read(self, logits: Any) -> tuple[tuple[float, ...], int]:
        """The probability of each choice, exactly, and the index of the one to go on with.

        Args:
            logits: tensor (1 or 2, vocabulary): after the fixed text and, where two choices have
                their first token in common, after that token. A longer choice's probability is
                the product of its tokens', a shorter one's that of its token times that of the
                text after it, all relative to what the form allows there.

        Going on follows the more probable token, then the more probable way on from it, as greedy
        decoding under the form does.
        """
        firsts = list(dict.fromkeys(choice[0] for choice in self.choices))
        first = dict(zip(firsts, logits[0, firsts].softmax(dim=-1).tolist(), strict=True))
        row, best = [], max(firsts, key=lambda token: first[token])
        for choice in self.choices:
            same = [other for other in self.choices if other[0] == choice[0]]
            share = 1.0 if len(same) == 1 else self._share(choice, same, logits)
            row.append(first[choice[0]] * share)
        going = [index for index, each in enumerate(self.choices) if each[0] == best]
        return tuple(row), max(going, key=lambda index: row[index])

    def _share(
        self, choice: tuple[int, ...], same: Sequence[tuple[int, ...]], logits: Any
    ) -> float:
        """A choice's share among those with its first token."""
        longer = [other[1] for other in same if len(other) > 1]
        allowed = [*longer, *self.ends]
        chances = logits[1, allowed].softmax(dim=-1).tolist()
        if len(choice) > 1:
            return float(chances[longer.index(choice[1])])
        return float(sum(chances[len(longer) :]))


class FormTokens:
    """Forms in the tokens of one tokenizer.

    Raises:
        ModelError: the tokenizer writes the choices 0..10 in a way that cannot be read exactly.
    """

    def __init__(self, tokenizer: ChatTokenizer) -> None:
        self._tokenizer = tokenizer

    def parts(self, form: ScoreForm) -> list[Part]:
        """One part for each slot, in order."""
        return list(self._parts(form))

    @functools.lru_cache(maxsize=256)  # noqa: B019  one object for the life of an engine
    def _parts(self, form: ScoreForm) -> tuple[Part, ...]:
        parts: list[Part] = []
        for before, after in zip(form.fixed, form.fixed[1:], strict=False):
            anchor = "0" if parts else "\n"
            fixed, choices = self._split(anchor, before, form.choices)
            parts.append(Part(fixed, choices, self._beginnings(after)))
        return tuple(parts)

    def _split(
        self, anchor: str, before: str, choices: Sequence[str]
    ) -> tuple[list[int], tuple[tuple[int, ...], ...]]:
        """The tokens that all choices have in common after the anchor, and those of each."""
        encode = self._tokenizer.encode
        skipped = encode(anchor)
        whole = [encode(anchor + before + choice) for choice in choices]
        if any(ids[: len(skipped)] != skipped for ids in whole):  # the anchor is no own token
            skipped, whole = [], [encode(before + choice) for choice in choices]
        common = min(common_beginning(whole), min(map(len, whole)) - 1)
        split = tuple(tuple(ids[common:]) for ids in whole)
        _check(split)
        return whole[0][len(skipped) : common], split

    def _beginnings(self, text: str) -> tuple[int, ...]:
        """Ids of tokens that `text` can begin with."""
        by_text = self._ids_by_text
        return tuple(
            number for end in range(1, len(text) + 1) for number in by_text.get(text[:end], ())
        )

    @functools.cached_property
    def _ids_by_text(self) -> dict[str, list[int]]:
        ids: dict[str, list[int]] = {}
        for number, text in self._tokenizer.texts.items():
            ids.setdefault(text, []).append(number)
        return ids


def common_beginning(sequences: Sequence[Sequence[int]]) -> int:
    """How many elements all sequences begin with alike."""
    same = itertools.takewhile(lambda each: len(set(each)) == 1, zip(*sequences, strict=False))
    return len(list(same))


def _check(split: Sequence[tuple[int, ...]]) -> None:
    """At most one token may begin more than one choice, and two tokens must tell them apart."""
    firsts = [choice[0] for choice in split]
    shared = {token for token in firsts if firsts.count(token) > 1}
    among = [choice[:2] for choice in split if choice[0] in shared]
    if len(shared) > 1 or len(set(among)) < len(among):
        raise ModelError(
            "this tokenizer writes the scores 0..10 in tokens that cannot be told apart by the "
            "first two: use another model"
        )
