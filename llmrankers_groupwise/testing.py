"""A scripted engine for tests: replies in, requests recorded.

engine = ScriptedEngine(['{"[1]": 3, "[2]": 9}'])
ranker = GroupwiseLlmRanker(engine=engine)
ranker.rerank("a query", docs)
assert "a query" in engine.requests[0].messages[-1]["content"]
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence

from llmrankers_groupwise.errors import EngineError
from llmrankers_groupwise.parsing import blank_with_mean
from llmrankers_groupwise.types import Reply, Request, Sampling, Scoring

__all__ = ["ScriptedEngine", "filled_reply", "json_reply"]

Answer = str | Reply | EngineError
"""What a script may answer: a reply's text, a whole Reply, or an error to raise."""


class ScriptedEngine:
    """An engine that answers from a script and records what it was asked.

    Tokens are words: `count_tokens`, `truncate` and the token counts of replies split on blanks.

    Args:
        script: answers in the order of asking, or a function from a request to its answer. When a
            list runs out, asking raises AssertionError.
        scorings: what the engine claims to do, its default first.
    """

    def __init__(
        self,
        script: Iterable[Answer] | Callable[[Request], Answer],
        *,
        scorings: tuple[Scoring, ...] = ("generation", "likelihood"),
    ) -> None:
        self.scorings = scorings
        self.requests: list[Request] = []
        self.closed = False
        self._answer = script if callable(script) else _in_order(script)

    async def answer(self, request: Request, sampling: Sampling) -> Reply:
        """The script's answer; a text becomes a Reply with its words counted."""
        self.requests.append(request)
        answer = self._answer(request)
        if isinstance(answer, EngineError):
            raise answer
        if isinstance(answer, Reply):
            return answer
        prompt_tokens = sum(self.count_tokens(message["content"]) for message in request.messages)
        return Reply(
            text=answer, prompt_tokens=prompt_tokens, completion_tokens=self.count_tokens(answer)
        )

    def count_tokens(self, text: str) -> int:
        """Words of `text`."""
        return len(text.split())

    def truncate(self, text: str, length: int) -> str:
        """The first `length` words, with the blanks between them as they were."""
        words = list(re.finditer(r"\S+", text))
        return text if len(words) <= length else text[: words[length - 1].end() if length else 0]

    def describe(self) -> dict[str, object]:
        """Names the engine."""
        return {"engine": "scripted"}

    def close(self) -> None:
        """Records that it was closed."""
        self.closed = True


def _in_order(answers: Iterable[Answer]) -> Callable[[Request], Answer]:
    remaining = iter(answers)

    def answer(request: Request) -> Answer:
        for scripted in remaining:
            return scripted
        raise AssertionError(f"the script has no answer left for {request.query!r}")

    return answer


def json_reply(scores: Sequence[float]) -> str:
    """The text of a reply that keeps the contract and gives these scores to labels 1..n."""
    entries = ", ".join(f'"[{label}]": {score}' for label, score in enumerate(scores, start=1))
    return f"<reason>scripted</reason>\n<answer>{{{entries}}}</answer>"


def filled_reply(scores: Sequence[float]) -> Reply:
    """A reply whose blanks have these expected scores, split between the two nearest choices."""
    return Reply(blanks=tuple(blank_with_mean(score) for score in scores))
