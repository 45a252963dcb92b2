"""Throughput of engines in Ray workers on one machine: 2 workers over 1, and 1 over no Ray.

Reranks the same queries of a collection with the embedded engine, one thread to each copy: in this
process, in one worker and in two, in turn, so that what else the machine does meets all of them.
No vectors are kept, so that every round does the same work. Then an engine that answers at once
says how many calls a second the driver can handle, and pickle what a call weighs.

    python benchmarks/distributed.py --collection DIR --rounds 3
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import itertools
import pickle
import time
from collections.abc import Sequence
from pathlib import Path

from llmrankers_groupwise import (
    Candidate,
    Engine,
    EngineSettings,
    GroupwiseLlmRanker,
    Query,
    Reply,
    Request,
    Sampling,
)
from llmrankers_groupwise.concurrency import gather
from llmrankers_groupwise.data import FirstStage, JsonlPassages, RunFile, read_queries
from llmrankers_groupwise.engines import RayEngine
from llmrankers_groupwise.engines.embedded import EmbeddedEngine
from llmrankers_groupwise.prompting import load_prompt, render
from llmrankers_groupwise.rankers.ask import EngineCaller
from llmrankers_groupwise.testing import ScriptedEngine, filled_reply

HITS = 100
GROUP = 20
CALLS = 2000
SETTINGS = EngineSettings(engine_args={"threads": 1, "cached_texts": 0})

Question = tuple[Query, Sequence[Candidate]]


def questions(collection: Path, run_name: str, number: int) -> list[Question]:
    """The first queries of the run with their candidates."""
    run = RunFile(collection / "runs" / f"{run_name}.trec", HITS)
    passages = JsonlPassages(collection / "corpus.jsonl")
    first_stage = FirstStage(run, read_queries(collection / "queries.tsv"), passages)

    def whole(text: str, length: int) -> str:
        return text

    return [
        first_stage.candidates(query_id, entries, whole, 128, 512)
        for query_id, entries in itertools.islice(run.items(), number)
    ]


def seconds(engine: Engine, asked: Sequence[Question]) -> tuple[float, int]:
    """Wall time, and the number of calls."""
    ranker = GroupwiseLlmRanker(engine=engine, group_size=GROUP)

    async def rank() -> int:
        answers = await gather(ranker.rank_candidates(*question) for question in asked)
        return sum(usage.calls for _, usage in answers)

    started = time.perf_counter()
    calls = asyncio.run(rank())
    return time.perf_counter() - started, calls


def answer_at_once(request: Request) -> Reply:
    return filled_reply([float(len(passage) % 11) for passage in request.passages])


def driver_calls(request: Request, num_workers: int) -> tuple[float, float]:
    """Calls a second, CALLS of them in flight, of workers that have nothing to do.

    And how many the driver's own time on a CPU would allow.
    """
    engine = RayEngine(functools.partial(ScriptedEngine, answer_at_once), num_workers=num_workers)
    ask = EngineCaller(engine, Sampling())
    asyncio.run(ask([request] * 100))
    started, busy = time.perf_counter(), time.process_time()
    asyncio.run(ask([request] * CALLS))
    taken, busy = time.perf_counter() - started, time.process_time() - busy
    engine.close()
    return CALLS / taken, CALLS / busy


def show_throughput(asked: Sequence[Question], rounds: int) -> None:
    engines: dict[str, Engine] = {
        "in this process": EmbeddedEngine(SETTINGS),
        "1 Ray worker": RayEngine("embedded", SETTINGS, num_workers=1),
        "2 Ray workers": RayEngine("embedded", SETTINGS, num_workers=2),
    }
    for engine in engines.values():
        seconds(engine, asked[:4])  # models are loaded
    taken: dict[str, list[float]] = {name: [] for name in engines}
    calls = 0
    for _ in range(rounds):
        for name, engine in engines.items():
            time_taken, calls = seconds(engine, asked)
            taken[name].append(time_taken)
    for engine in engines.values():
        engine.close()
    print(f"{len(asked)} queries, {calls} calls of up to {GROUP} passages\n")
    print(
        "| embedded engine, one thread each | seconds of each round | calls a second, best round |"
    )
    print("|---|---:|---:|")
    for name, times in taken.items():
        every = ", ".join(f"{each:.1f}" for each in times)
        print(f"| {name} | {every} | {calls / min(times):.1f} |")
    best = {name: min(times) for name, times in taken.items()}
    none, one, two = best.values()
    print(f"\n2 workers over 1: {one / two:.2f} times the throughput")
    print(f"1 worker over no Ray: {none / one:.2f} times the throughput")


def show_driver(asked: Sequence[Question]) -> None:
    query, candidates = max(asked, key=lambda each: sum(len(c.text or "") for c in each[1]))
    texts = [candidate.text or "" for candidate in candidates[:GROUP]]
    request = render(query.text, texts, load_prompt("groupwise_scores"), form=True)
    sizes = [len(pickle.dumps(each, protocol=5)) for each in (request, answer_at_once(request))]
    apart = len(pickle.dumps((request.passages, request.messages), protocol=5))
    print(
        f"\na request of {len(texts)} passages with {sum(map(len, texts)):,} characters is "
        f"{sizes[0]:,} bytes pickled, {apart:,} of them passages and messages; a reply with "
        f"probabilities is {sizes[1]:,}\n"
    )
    print(f"| workers that answer at once | calls a second, {CALLS:,} in flight | calls for a "
          f"second of the driver's CPU time |")  # fmt: skip
    print("|---|---:|---:|")
    for num_workers in (1, 2):
        by_clock, by_cpu = driver_calls(request, num_workers)
        print(f"| {num_workers} | {by_clock:,.0f} | {by_cpu:,.0f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--collection", type=Path, required=True)
    parser.add_argument("--run", default="bm25", help="a run of the collection's folder runs")
    parser.add_argument("--queries", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    asked = questions(arguments.collection, arguments.run, arguments.queries)
    show_throughput(asked, arguments.rounds)
    show_driver(asked)


if __name__ == "__main__":
    main()
