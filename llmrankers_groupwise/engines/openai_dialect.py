"""Asking a server in the words that it understands, and finding out which these are."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from collections.abc import Callable, Mapping
from typing import Any

from llmrankers_groupwise.engines.dialogue import Fill, Write
from llmrankers_groupwise.engines.openai_accepted import Accepted, merged, without
from llmrankers_groupwise.engines.openai_format import Completion, after_reply, read_completion
from llmrankers_groupwise.engines.openai_server import RefusedError, Server
from llmrankers_groupwise.errors import ModelError

__all__ = ["Dialect"]

logger = logging.getLogger(__name__)


class Dialect:
    """Completes steps with as much left out of a request as the server makes necessary.

    The first step of a kind goes alone, and what helped it is kept for the others. A reply that
    shows later that the server ignores the form changes the way for all that follow.

    Args:
        server: is asked.
        accepted: what to try first.

    Attributes:
        accepted: what the server takes, as far as is known.
        settled: the kinds of steps of which the first is through.
    """

    def __init__(self, server: Server, accepted: Accepted) -> None:
        self.accepted = accepted
        self.settled: set[type[Write] | type[Fill]] = set()
        self._server = server
        self._settling = asyncio.Lock()

    async def complete(
        self,
        step: Write | Fill,
        body: Callable[[Accepted], Mapping[str, Any]],
        count: Callable[[Completion], None],
    ) -> Completion:
        """The completion for a step.

        Args:
            step: what is asked.
            body: the request to send by what the server takes.
            count: is told every completion that came, those that did not fit included.

        Raises:
            EngineError, ModelError: as Server.chat and read_completion.
        """
        kind = type(step)
        if kind in self.settled:
            return await self._complete(step, body, count)
        async with self._settling:
            if kind not in self.settled:
                try:
                    completion = await self._complete(step, body, count)
                except Exception:
                    self.settled.add(kind)  # one failure must not make the rest queue up
                    raise
                self.settled.add(kind)
                if kind is Fill:
                    logger.info("%s fills forms by %s", self._server.address.url, self.accepted)
                return completion
        return await self._complete(step, body, count)

    async def _complete(
        self,
        step: Write | Fill,
        body: Callable[[Accepted], Mapping[str, Any]],
        count: Callable[[Completion], None],
    ) -> Completion:
        tried = accepted = self.accepted
        while True:
            sent = body(accepted)
            less: Accepted | None
            try:
                completion = read_completion(await self._server.chat(sent))
            except RefusedError as refused:
                less = without(accepted, sent, refused.said, refused.parameter)
                if less is None and refused.denied:
                    raise ModelError(str(refused)) from None
                if less is None:
                    raise
                logger.debug("trying %s after: %s", less, refused)
            else:
                count(completion)
                less = after_reply(accepted, step, completion)
                if less is None:
                    self._learn(tried, accepted, sent, completion)
                    return completion
            accepted = less

    def _learn(
        self,
        tried: Accepted,
        accepted: Accepted,
        sent: Mapping[str, Any],
        completion: Completion,
    ) -> None:
        """Keep what helped, beside what others have learned since this request was `tried` first.

        A server that ignores the wish for logprobs is not asked for them again.
        """
        if sent.get("logprobs") and not completion.tokens and not accepted.keep_logprobs:
            accepted = dataclasses.replace(accepted, top_logprobs=0)
        known = self.accepted if accepted == tried else merged(self.accepted, tried, accepted)
        if known != self.accepted:
            self.accepted = known
            logger.warning("%s is asked otherwise now: %s", self._server.address.url, known)
