"""An engine that answers from replies of before: no model, no GPU, nothing asked."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import NoReturn

from llmrankers_groupwise.engines.base import Engine
from llmrankers_groupwise.errors import EngineError, JournalError
from llmrankers_groupwise.types import Origin, Reply, Request, Sampling, Scoring

__all__ = ["ReplayEngine"]


class ReplayEngine(Engine):
    """Answers a request with the reply that its origin had: same query, documents and repeat.

    Texts are not looked at, so they may be empty, and are never cut.

    Args:
        find: the reply to a question by its origin, with its error if it had one; None if there
            is none.
        described: what answered then, for the manifest.
        lenient: let a question without a reply fail like one with an error, instead of ending.
    """

    scorings: tuple[Scoring, ...] = ("generation", "likelihood")
    reads_prompts = False
    reads_texts = False

    def __init__(
        self,
        find: Callable[[Origin], Reply | None],
        described: Mapping[str, object],
        *,
        lenient: bool = False,
    ) -> None:
        self._find = find
        self._described = dict(described)
        self._lenient = lenient

    async def answer(self, request: Request, sampling: Sampling) -> Reply:
        """The reply of before.

        Raises:
            EngineError: it was an error, or there is none and that is to be let pass.
            GroupwiseError: there is none; see `missing`.
        """
        reply, origin = self._find(request.origin), request.origin
        if reply is None:
            self.missing(
                f"query {origin.query_id}, repeat {origin.repeat} has no reply for this group of "
                f"{len(origin.doc_ids)} documents: {', '.join(origin.doc_ids[:3])}, ..."
            )
        if reply.error is not None:
            raise EngineError(reply.error)
        return dataclasses.replace(reply, reused=True)

    def missing(self, problem: str) -> NoReturn:
        """Report that there is no reply.

        Raises:
            EngineError: gaps are allowed.
            JournalError: else.
        """
        if self._lenient:
            raise EngineError(problem)
        raise JournalError(
            f"{problem}. Either the run is not finished: run its command again first, or give "
            f"--allow_missing --max_failure_rate 1 to fall back to the first stage there. Or these "
            f"settings ask what that run did not: more repeats, other groups, windows or "
            f"comparisons, or another final round or end of repeats, which follow from "
            f"calibration, fusion, weights and ties"
        )

    def count_tokens(self, text: str) -> int:
        """Words of `text`; there is no tokenizer."""
        return len(text.split())

    def truncate(self, text: str, length: int) -> str:
        """The text: it was cut before it was asked about."""
        return text

    def describe(self) -> dict[str, object]:
        """What answered then."""
        return {"engine": "replay", "replayed": self._described}

    def close(self) -> None:
        """Nothing to do."""
