"""`ask`, the one thing a method is given: an engine, with its journal and counters."""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Mapping, Sequence

from llmrankers_groupwise.concurrency import SEQUENTIAL_CALLS, AsyncLazy, gather
from llmrankers_groupwise.engines.base import Engine
from llmrankers_groupwise.errors import EngineError
from llmrankers_groupwise.journal.journal import Journal
from llmrankers_groupwise.journal.keys import drawn, question_key
from llmrankers_groupwise.types import Reply, Request, Sampling, Usage

__all__ = ["EngineCaller"]

logger = logging.getLogger(__name__)


class EngineCaller:
    """Asks an engine on behalf of one query: `replies = await asker(requests)`.

    A request that the engine cannot answer comes back as a Reply with `error` set and leaves the
    others alone; any other exception is a defect, cancels the rest and propagates. `usage` counts
    what was asked so far; for its `rounds`, ask beside one another by `concurrency.gather`.

    Args:
        engine: who answers.
        sampling: how it draws tokens; a repeat draws from a seed of its own.
        journal: where replies are kept, and looked for first; None asks everything.
        identity: the engine's identity, which the journal needs.
    """

    def __init__(
        self,
        engine: Engine,
        sampling: Sampling,
        journal: Journal | None = None,
        identity: AsyncLazy[Mapping[str, object]] | None = None,
    ) -> None:
        self._engine = engine
        self._sampling = sampling
        self._journal = journal
        self._identity = identity or AsyncLazy(engine.identity)
        self.usage = Usage()
        self._before = SEQUENTIAL_CALLS.get()

    async def __call__(self, requests: Sequence[Request]) -> list[Reply]:
        """One reply for each request, in order; all are in flight together."""
        replies = await gather(self._answer(request) for request in requests)
        if replies:
            SEQUENTIAL_CALLS.set(SEQUENTIAL_CALLS.get() + 1)
            self.usage.rounds = max(self.usage.rounds, SEQUENTIAL_CALLS.get() - self._before)
        return replies

    async def _answer(self, request: Request) -> Reply:
        try:
            reply = await self._reply(request, drawn(self._sampling, request.origin.repeat))
        except EngineError as error:
            logger.warning("a group of %d got no answer: %s", len(request.labels), error)
            reply = Reply(error=str(error) or type(error).__name__, finish_reason="error")
        self._count(reply)
        logger.debug("prompt: %s\nreply: %s", request.messages, reply)
        return reply

    async def _reply(self, request: Request, sampling: Sampling) -> Reply:
        """The journal's reply, or the engine's."""
        if self._journal is None:
            return await self._ask(request, sampling)
        key = question_key(
            await self._identity.value(),
            request,
            sampling,
            prompts=self._engine.reads_prompts,
            texts=self._engine.reads_texts,
        )
        return await self._journal.reply(key, request.origin, lambda: self._ask(request, sampling))

    async def _ask(self, request: Request, sampling: Sampling) -> Reply:
        started = time.perf_counter()
        reply = await self._engine.answer(request, sampling)
        _check(request, reply, self._engine)
        return dataclasses.replace(reply, seconds=reply.seconds or time.perf_counter() - started)

    def _count(self, reply: Reply) -> None:
        self.usage += Usage(
            calls=1,
            reused=int(reply.reused),
            errors=int(reply.error is not None),
            prompt_tokens=reply.prompt_tokens,
            completion_tokens=reply.completion_tokens,
            cut_passages=reply.cut_passages,
        )


def _check(request: Request, reply: Reply, engine: Engine) -> None:
    """An engine answers with a Reply, and fills all slots or none, a probability per choice."""
    if not isinstance(reply, Reply):
        raise TypeError(f"{type(engine).__name__}.answer returned {reply!r}, which is no Reply")
    if reply.slot_probabilities is None:
        return
    form = request.fallback if reply.forced and request.form is None else request.form
    wanted = len(form.labels) if form else 0
    if len(reply.slot_probabilities) != wanted:
        raise EngineError(
            f"the engine filled {len(reply.slot_probabilities)} slots, the request has {wanted}"
        )
    choices = len(form.choices) if form else 0
    if any(len(row) != choices for row in reply.slot_probabilities):
        raise EngineError(f"the engine filled a slot without {choices} probabilities")
