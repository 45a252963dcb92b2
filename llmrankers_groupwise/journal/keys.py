"""The key of a question: a digest of all that shapes its reply, and of nothing else."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping

from llmrankers_groupwise.types import Request, Sampling

__all__ = ["KEY_BYTES", "digest", "drawn", "question_key"]

KEY_BYTES = 16
"""There are 2**128 keys: two of a billion questions have an equal one with probability 1.5e-21."""


def digest(value: object) -> bytes:
    """16 bytes that follow from a JSON-ready value alone, on every machine."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.blake2b(text.encode("ascii"), digest_size=KEY_BYTES).digest()


def drawn(sampling: Sampling, repeat: int) -> Sampling:
    """How a repeat draws tokens: at random from a seed of its own, where there is one at all."""
    if not sampling.temperature or sampling.seed is None or not repeat:
        return sampling
    return dataclasses.replace(sampling, seed=sampling.seed + repeat)


def question_key(
    identity: Mapping[str, object],
    request: Request,
    sampling: Sampling,
    *,
    prompts: bool,
    texts: bool = True,
) -> bytes:
    """The key under which the reply to a request is filed.

    Greedy decoding draws nothing: there seed, top_p and repeat do not count. What the request is
    for, its origin, counts only where replies are found by it and not by texts; else equal
    questions are asked once whoever asks them.

    Args:
        identity: who answers, as `engines.base.Engine.identity` has it.
        request: the question.
        sampling: as it is passed to the engine.
        prompts: whether the engine reads the messages and what the answer starts with, or query
            and passages instead.
        texts: whether it reads any text.
    """
    forms = [each and [each.labels, each.choices] for each in (request.form, request.fallback)]
    drawing: list[object] = [sampling.max_tokens, sampling.reasoning_tokens]
    if sampling.temperature:
        drawing += [sampling.temperature, sampling.top_p, sampling.seed, request.origin.repeat]
    asked: list[object] = [request.messages, request.answer_start]
    if not prompts:
        asked = [request.query, request.passages]
        asked += [request.wants] if request.wants != "scores" else []
    if not texts:
        asked += [dataclasses.astuple(request.origin)]
    return digest([identity, request.labels, [*asked, forms, drawing]])
