"""Candidates, engines that judge by number, and llm-rankers' code, to test sorts with."""

import asyncio
import hashlib
import random
from collections.abc import Callable, Sequence
from types import ModuleType

import pytest

from llmrankers_groupwise.methods.registry import METHODS
from llmrankers_groupwise.rankers.ask import EngineCaller
from llmrankers_groupwise.testing import ScriptedEngine
from llmrankers_groupwise.types import Candidate, Query, Ranking, Request, Sampling, Usage

Oracle = Callable[[Sequence[int]], str]
"""What is replied to a call about passages by their numbers, in prompt order."""

QUERY = Query("q", "which number is high")


def candidates(n: int, untold: Sequence[int] = ()) -> list[Candidate]:
    """Documents d0... in first-stage order; those in `untold` have no text."""
    return [
        Candidate(f"d{number}", None if number in untold else f"number {number}", float(n - number))
        for number in range(n)
    ]


def numbers(request: Request) -> list[int]:
    """The passages of a request."""
    return [int(passage.split()[1]) for passage in request.passages]


def answering(oracle: Oracle) -> ScriptedEngine:
    return ScriptedEngine(lambda request: oracle(numbers(request)))


def rank(
    method: str, n: int, engine: ScriptedEngine, settings: object, untold: Sequence[int] = ()
) -> tuple[Ranking, Usage]:
    ask = EngineCaller(engine, Sampling())
    ranked = METHODS[method].rank(QUERY, candidates(n, untold), ask, settings)
    return asyncio.run(ranked), ask.usage


def order(ranking: Ranking) -> list[int]:
    return [int(each.doc_id[1:]) for each in ranking.documents]


def by_worth(worth: Sequence[int]) -> Callable[[Sequence[int]], list[int]]:
    """Places of the shown passages, the one of the highest worth first."""
    return lambda shown: sorted(range(len(shown)), key=lambda place: -worth[shown[place]])


def drawn_worth(n: int, seed: int = 0) -> list[int]:
    worth = list(range(n))
    random.Random(f"{n} {seed}").shuffle(worth)
    return worth


def noise(seed: int, shown: Sequence[int]) -> random.Random:
    """Draws that follow from what is shown alone."""
    digest = hashlib.sha256(f"{seed} {list(shown)}".encode()).digest()
    return random.Random(digest)


def upstream(module: str) -> ModuleType:
    """A module of llm-rankers, whose import must not seed anybody's random numbers."""
    state = random.getstate()
    try:
        return pytest.importorskip(f"llmrankers.{module}", reason="llm-rankers cannot be imported")
    finally:
        random.setstate(state)
