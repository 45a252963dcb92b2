"""Decoding many dialogues side by side on one key-value cache, with PyTorch.

A form after a reasoning continues from the cache, so that the prompt is paid once.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from llmrankers_groupwise.engines.llm.dialogue import Dialogue, Fill, Filled, Write, Written
from llmrankers_groupwise.engines.llm.tokenizer import ChatTokenizer
from llmrankers_groupwise.engines.transformers.cache import Cache
from llmrankers_groupwise.engines.transformers.form_tokens import FormTokens, common_beginning
from llmrankers_groupwise.errors import EngineError
from llmrankers_groupwise.types import Reply, Sampling

__all__ = ["Model", "Row", "run_dialogues"]

_STOP_WINDOW = 24  # tokens that a stop string, however split, does not exceed


@dataclass
class Model:
    """A causal language model with what decoding needs to know of it."""

    network: Any
    tokenizer: ChatTokenizer
    end_tokens: frozenset[int]
    forms: FormTokens

    @property
    def device(self) -> torch.device:
        """Where the first layer is, and inputs belong."""
        device: torch.device = self.network.get_input_embeddings().weight.device
        return device


@dataclass
class Row:
    """A dialogue under way.

    `unfed` holds the tokens that the cache lacks, at first the prompt; `turn` the tokens of the
    assistant's turn, and `text` their text.
    """

    prompt: Sequence[int]
    dialogue: Dialogue
    sampling: Sampling
    unfed: list[int] = field(default_factory=list)
    turn: list[int] = field(default_factory=list)
    step: Write | Fill | None = None
    reply: Reply | None = None
    generator: torch.Generator | None = None

    def __post_init__(self) -> None:
        self.unfed = list(self.prompt)
        self.step = next(self.dialogue)

    def advance(self, outcome: Written | Filled) -> None:
        """Hand the dialogue an outcome and take its next step, or its reply."""
        try:
            self.step = self.dialogue.send(outcome)
        except StopIteration as end:
            self.step, self.reply = None, end.value

    def drawn_from(self, probabilities: torch.Tensor) -> int:
        """A token drawn by this row's own generator, which no other row or thread reads."""
        if self.generator is None:
            self.generator = torch.Generator()
            self.generator.manual_seed(_seed(self.prompt, self.sampling.seed))
        return int(torch.multinomial(probabilities, 1, generator=self.generator))


class _Batch(Cache):
    """The cache of the rows under way, which is fed no more once they are to stop."""

    def __init__(self, network: Any, rows: int, stopped: Callable[[], bool]) -> None:
        super().__init__(network, rows)
        self._stopped = stopped

    def feed(self, rows: Sequence[Sequence[int]], keep: int) -> torch.Tensor:
        if self._stopped():
            raise EngineError("the engine was closed, or the reply is no longer wanted")
        return super().feed(rows, keep)


def run_dialogues(
    model: Model, rows: Sequence[Row], stopped: Callable[[], bool] = lambda: False
) -> list[Reply]:
    """Lead all dialogues to their replies. Rows whose dialogue is over leave the batch.

    Args:
        model: is asked.
        rows: the dialogues.
        stopped: asked before each pass over the model.

    Raises:
        EngineError: `stopped` returned True.
    """
    batch = _Batch(model.network, len(rows), stopped)
    active = list(rows)
    with torch.inference_mode():
        while active:
            for index, row in enumerate(active):
                _take_back(model, batch, index, row)
            writing = [row for row in active if isinstance(row.step, Write)]
            if writing:
                _write(model, batch, active)
            else:
                _fill(model, batch, active)
            left = [index for index, row in enumerate(active) if row.step is not None]
            if left and len(left) < len(active):
                batch.select(left)
            active = [active[index] for index in left]
    replies = [row.reply for row in rows]
    assert all(replies)
    return [reply for reply in replies if reply is not None]


def _take_back(model: Model, batch: Cache, index: int, row: Row) -> None:
    """Cut a row's tokens to the text that its step continues; at least one is left to feed."""
    assert row.step is not None
    wanted = model.tokenizer.agreeing(row.turn, row.step.text)
    kept = common_beginning((row.turn, wanted))
    _unfeed(batch, index, row, len(row.turn) - kept)
    row.turn = wanted
    row.unfed += wanted[kept:]
    if not row.unfed:  # a turn that was ended goes on
        last = (row.turn or row.prompt)[-1]
        _unfeed(batch, index, row, 1)
        row.unfed = [last]


def _unfeed(batch: Cache, index: int, row: Row, count: int) -> None:
    """Take back a row's last `count` tokens, fed or not."""
    waiting = min(count, len(row.unfed))
    del row.unfed[len(row.unfed) - waiting :]
    batch.forget(index, count - waiting)


def _write(model: Model, batch: Cache, rows: Sequence[Row]) -> None:
    """One Write step of every row that is at one."""
    texts: dict[int, list[int]] = {
        index: [] for index, row in enumerate(rows) if isinstance(row.step, Write)
    }
    going = set(texts)
    finished: set[int] = set()
    while going:
        logits = batch.feed(
            [row.unfed if index in going else [] for index, row in enumerate(rows)], keep=1
        )[:, -1]
        for index in sorted(going):
            row = rows[index]
            assert isinstance(row.step, Write)
            row.unfed = []
            token = _next_token(logits[index], row)
            if token in model.end_tokens:
                finished.add(index)
                going.discard(index)
                continue
            texts[index].append(token)
            row.turn.append(token)
            row.unfed = [token]
            if _stopped(model, texts[index], row.step.stop):
                finished.add(index)
                going.discard(index)
            elif len(texts[index]) >= row.step.max_tokens:
                going.discard(index)
    for index, tokens in texts.items():
        text = _new_text(model.tokenizer, rows[index], tokens)
        rows[index].advance(Written(text, len(tokens), index in finished))


def _new_text(tokenizer: ChatTokenizer, row: Row, tokens: Sequence[int]) -> str:
    """What the tokens add to the turn's text; a first one may be longer alone than in the turn."""
    assert row.step is not None
    whole = tokenizer.decode(row.turn)
    if whole.startswith(row.step.text):
        return whole[len(row.step.text) :]
    return tokenizer.decode(tokens)


def _next_token(logits: torch.Tensor, row: Row) -> int:
    """Greedy at temperature 0; else drawn from the top_p share of the distribution."""
    sampling = row.sampling
    if sampling.temperature == 0.0:
        return int(logits.argmax())
    probabilities = torch.softmax(logits / sampling.temperature, dim=-1)
    if sampling.top_p < 1.0:
        ordered, tokens = probabilities.sort(descending=True)
        beyond = ordered.cumsum(dim=-1) - ordered >= sampling.top_p
        probabilities = torch.zeros_like(probabilities).scatter(
            0, tokens, ordered.masked_fill(beyond, 0.0)
        )
    return row.drawn_from(probabilities.cpu())


def _stopped(model: Model, tokens: Sequence[int], stop: Sequence[str]) -> bool:
    if not stop:
        return False
    tail = model.tokenizer.decode(tokens[-_STOP_WINDOW:])
    return any(each in tail for each in stop)


def _fill(model: Model, batch: Cache, rows: Sequence[Row]) -> None:
    """The Fill step of every row: one pass over the model for each slot.

    Each pass feeds the choice before, the fixed text up to the slot and, where "10" is two
    tokens, the first of them on trial, whose logits tell 10 from 1; then that one is forgotten.
    """
    fills = [row.step for row in rows]
    forms = [each.form for each in fills if isinstance(each, Fill)]
    parts = [model.forms.parts(form) for form in forms]
    slots: list[list[tuple[float, ...]]] = [[] for _ in rows]
    answers: list[list[str]] = [[] for _ in rows]
    for number in range(max(map(len, parts))):
        feeds: list[list[int]] = []
        for row, part in zip(rows, parts, strict=True):
            more = number < len(part)
            feeds.append(row.unfed + part[number].fixed + part[number].shared if more else [])
        logits = batch.feed(feeds, keep=2)
        for index, (row, part) in enumerate(zip(rows, parts, strict=True)):
            if number >= len(part):
                continue
            trial = len(part[number].shared)
            batch.forget(index, trial)
            probabilities, choice = part[number].read(logits[index, 1 - trial :])
            slots[index].append(probabilities)
            answers[index].append(forms[index].choices[choice])
            row.unfed = list(part[number].choices[choice])
    for row, form, filled, answer in zip(rows, forms, slots, answers, strict=True):
        row.advance(Filled(form.filled(answer), len(answer), tuple(filled)))


def _seed(prompt: Sequence[int], seed: int | None) -> int:
    """From the seed and the prompt, so that a reply does not depend on its company in a batch."""
    if seed is None:
        return secrets.randbits(56)
    digest = hashlib.sha256(f"{seed}:{','.join(map(str, prompt))}".encode()).digest()
    return int.from_bytes(digest[:7], "big")
