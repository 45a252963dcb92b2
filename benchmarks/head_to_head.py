"""What the four methods cost on one engine: calls, rounds, tokens and seconds, and how they grow.

Methods as published: groups of 20, windows of 20 that slide by 10, heapsort with 19 children for
the best 10, every document alone. Texts are random words.

- embedded: the engine that comes with the package. It encodes each text once, whoever asks.
- vllm: a model of random weights, 3 million parameters, on a CPU. What it writes means nothing, so
  the answer that a good model would give takes the place of its text, when that is written.
- server: a server on loopback where a call takes a fixed time and more for each token.

Seconds are of one query alone, unless --queries says that several are in flight together.

    python benchmarks/head_to_head.py --engine server
    python benchmarks/head_to_head.py --engine server --queries 16 --slots 8 --sizes 100
    python benchmarks/head_to_head.py --engine embedded
    python benchmarks/head_to_head.py --engine vllm
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import dataclasses
import os
import random
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any

from slow_server import Latency, answer_of, slow_server

from llmrankers_groupwise import (
    Candidate,
    Engine,
    EngineSettings,
    GroupwiseLlmRanker,
    ListwiseLlmRanker,
    PointwiseLlmRanker,
    Query,
    Reply,
    Request,
    Sampling,
    SetwiseLlmRanker,
)
from llmrankers_groupwise.concurrency import gather
from llmrankers_groupwise.engines.registry import resolve_engine
from llmrankers_groupwise.rankers.base import MethodRanker
from llmrankers_groupwise.testing import save_random_model
from llmrankers_groupwise.types import Usage

WORDS = 40
LATENCY = Latency(call=0.05, prompt_token=0.000_02, completion_token=0.002)
MAKE: dict[str, Callable[..., MethodRanker]] = {
    "groupwise": lambda **given: GroupwiseLlmRanker(group_size=20, **given),
    "listwise": lambda **given: ListwiseLlmRanker(window_size=20, step_size=10, **given),
    "setwise": lambda **given: SetwiseLlmRanker(num_child=19, method="heapsort", k=10, **given),
    "pointwise": lambda **given: PointwiseLlmRanker(method="graded", **given),
}
SCORED = ("groupwise", "pointwise")
Work = tuple[Query, list[Candidate]]


def made_texts(queries: int, n: int, words: int) -> list[Work]:
    """Queries with n candidates each, which say what they are worth; the first stage is weak."""
    rng = random.Random(n)

    def text() -> str:
        return " ".join("".join(rng.choices("aeiourstln", k=5)) for _ in range(words))

    work = []
    for query in range(queries):
        worth = sorted(rng.sample(range(10_000), n), key=lambda each: rng.gauss(-each, 3000))
        candidates = [
            Candidate(f"d{place}", f"{text()} worth{each:04d}", float(n - place))
            for place, each in enumerate(worth)
        ]
        work.append((Query(f"q{query}", text()[:40]), candidates))
    return work


def measured(ranker: MethodRanker, work: list[Work]) -> tuple[Usage, float]:
    """What ranking all of them together cost, and the seconds it took."""

    async def rank() -> list[Usage]:
        done = await gather(ranker.rank_candidates(*each) for each in work)
        assert all(
            scored.scores.status.value != "failed"
            for ranking, _ in done
            for scored in ranking.groups
        )
        return [usage for _, usage in done]

    started = time.perf_counter()
    usages = asyncio.run(rank())
    seconds = time.perf_counter() - started
    total = Usage()
    for usage in usages:
        total += usage
    return dataclasses.replace(total, rounds=max(each.rounds for each in usages)), seconds


class Informed:
    """An engine whose replies take as long as they do, and then say what a good model would."""

    def __init__(self, engine: Engine, method: str) -> None:
        self.engine, self.method = engine, method
        self.scorings = ("generation",)

    async def answer(self, request: Request, sampling: Sampling) -> Reply:
        """The engine's reply with the text of one that knows."""
        worth = [int(passage.rpartition("worth")[2]) for passage in request.passages]
        text = answer_of(self.method, worth)
        longest = dataclasses.replace(sampling, max_tokens=sampling.max_tokens + len(text))
        asked = dataclasses.replace(request, fallback=None)
        return dataclasses.replace(await self.engine.answer(asked, longest), text=text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.engine, name)


@contextlib.contextmanager
def embedded(arguments: argparse.Namespace) -> Iterator[Callable[[str], MethodRanker]]:
    """Rankers on the embedded engine, each with one of its own, as it keeps what it has encoded."""
    made: list[MethodRanker] = []

    def make(method: str) -> MethodRanker:
        made.append(MAKE[method]())
        return made[-1]

    yield make
    for ranker in made:
        ranker.close()


@contextlib.contextmanager
def vllm(arguments: argparse.Namespace) -> Iterator[Callable[[str], MethodRanker]]:
    """Rankers on one vLLM engine."""
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "4")
    with tempfile.TemporaryDirectory() as folder:
        save_random_model(folder, hidden_size=256, layers=4, max_position_embeddings=16384)
        args = {"dtype": "float32", "enforce_eager": True, "enable_prefix_caching": False}
        engine = resolve_engine("vllm", EngineSettings(folder, engine_args=args))
        sampling = Sampling(max_tokens=arguments.reasoning)
        scored = {"scoring": "generation"}
        yield lambda method: MAKE[method](
            engine=Informed(engine, method),
            sampling=sampling,
            **(scored if method in SCORED else {}),
        )
        engine.close()


@contextlib.contextmanager
def server(arguments: argparse.Namespace) -> Iterator[Callable[[str], MethodRanker]]:
    """Rankers on a server on loopback."""
    os.environ.setdefault("OPENAI_API_KEY", "none")
    with slow_server(LATENCY, arguments.reasoning, arguments.slots) as address:
        args = {"base_url": address, "concurrency": 1000}
        scored = {"scoring": "generation"}
        yield lambda method: MAKE[method](
            model_name_or_path=method,
            engine="openai",
            engine_args=args,
            **(scored if method in SCORED else {}),
        )


ENGINES = {"embedded": embedded, "vllm": vllm, "server": server}
HEADER = (
    "| N | method | calls | rounds | prompt tokens | completion tokens | seconds | of groupwise |\n"
    "|---:|---|---:|---:|---:|---:|---:|---:|"
)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--engine", choices=sorted(ENGINES), default="server")
    parser.add_argument("--sizes", type=int, nargs="+", default=[20, 50, 100, 200, 500])
    parser.add_argument("--queries", type=int, default=1, help="in flight together")
    parser.add_argument("--words", type=int, default=WORDS, help="of a passage")
    parser.add_argument("--reasoning", type=int, default=300, help="tokens before the answer")
    parser.add_argument("--slots", type=int, default=1024, help="calls the server does together")
    parser.add_argument("--tries", type=int, default=3, help="the best of this number counts")
    arguments = parser.parse_args()
    print(f"{arguments.engine}, {arguments.queries} queries in flight, per query\n\n{HEADER}")
    with ENGINES[arguments.engine](arguments) as make:
        for n in arguments.sizes:
            work = made_texts(arguments.queries, n, arguments.words)
            for row in rows(make, work, arguments.tries):
                print(f"| {n} {row}", flush=True)


def rows(make: Callable[[str], MethodRanker], work: list[Work], tries: int) -> Iterator[str]:
    """What each method costs for a query of this work."""
    groupwise, queries = 0.0, len(work)
    for method in MAKE:
        measures = []
        for _ in range(tries):
            ranker = make(method)
            measured(ranker, made_texts(1, 2, 5))  # loads the model, or gets to know the server
            measures.append(measured(ranker, work))
        usage, seconds = measures[0][0], min(taken for _, taken in measures) / queries
        groupwise = groupwise or seconds
        yield (
            f"| {method} | {usage.calls / queries:g} | {usage.rounds} | "
            f"{usage.prompt_tokens / queries:,.0f} | {usage.completion_tokens / queries:,.0f} | "
            f"{seconds:.2f} | {seconds / groupwise:.2f} |"
        )


if __name__ == "__main__":
    main()
