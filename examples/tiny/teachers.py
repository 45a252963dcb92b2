"""A teacher that counts matching words, and not quite rightly: in place of large models."""

from __future__ import annotations

import random
import re

from material import QUERY_WORDS

from llmrankers_groupwise import Request
from llmrankers_groupwise.testing import ScriptedEngine

__all__ = ["NAMED", "WordCounter"]

NAMED = 3
"""The number of documents that a reasoning names."""

_MARK = re.compile(r"\(score (\d+)\)")


class WordCounter(ScriptedEngine):
    """Scores, orders and explains by the number of matching words with some noise.

    The same question always gets the same answer.

    Args:
        noise: its standard deviation, in words.
    """

    def __init__(self, noise: float) -> None:
        super().__init__(self._said, scorings=("generation",))
        self.noise = noise

    def describe(self) -> dict[str, object]:
        """Names the engine and its noise."""
        return {"engine": "word counter", "noise": self.noise}

    def _said(self, request: Request) -> str:
        marks = [_MARK.match(passage) for passage in request.passages]
        if all(marks):
            return self._reason([int(mark[1]) for mark in marks if mark])
        if request.wants == "order":
            counts = self._counts(request)
            best = sorted(range(len(counts)), key=lambda place: -counts[place])
            return " > ".join(f"[{place + 1}]" for place in best)
        (count,) = self._counts(request)
        return f'{{"[1]": {max(0, min(10, round(10 * count / QUERY_WORDS)))}}}'

    def _counts(self, request: Request) -> list[float]:
        rng = random.Random(f"{request.query}|{'|'.join(request.passages)}")
        query = set(request.query.split())
        return [
            len(query & set(passage.split())) + rng.gauss(0.0, self.noise)
            for passage in request.passages
        ]

    def _reason(self, scores: list[int]) -> str:
        best = sorted(range(len(scores)), key=lambda place: -scores[place])[:NAMED]
        return f"<reason>{' '.join(f'[{place + 1}]' for place in best)}</reason>"
