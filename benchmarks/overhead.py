"""What everything but the engine costs, against the embedded engine on the same work.

Reads a run, queries and a corpus from files, groups, renders prompts, parses replies, fuses and
writes, with a scripted engine that answers at once; then does the same work with the embedded
engine. Texts are made of random words, every candidate another one, 100 candidates a query.

    python benchmarks/overhead.py --queries 1000 --embedded_queries 200
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
from pathlib import Path

from llmrankers_groupwise import GroupwiseLlmRanker, Request
from llmrankers_groupwise.data import FirstStage, JsonlPassages, RunFile, read_queries
from llmrankers_groupwise.pipeline import Experiment
from llmrankers_groupwise.testing import ScriptedEngine, json_reply

HITS = 100
WORDS = 55


def make_collection(folder: Path, queries: int) -> None:
    """run.trec, queries.tsv and corpus.jsonl with HITS candidates for each query."""
    rng = random.Random(0)
    vocabulary = [
        "".join(rng.choices("aeioubcdfglmnprst", k=rng.randint(2, 9))) for _ in range(20000)
    ]
    with (
        (folder / "run.trec").open("w") as run,
        (folder / "queries.tsv").open("w") as topics,
        (folder / "corpus.jsonl").open("w") as corpus,
    ):
        for query in range(queries):
            topics.write(f"q{query}\t{' '.join(rng.choices(vocabulary, k=8))}\n")
            for rank in range(1, HITS + 1):
                doc_id = f"d{query}-{rank}"
                run.write(f"q{query} Q0 {doc_id} {rank} {HITS - rank} made\n")
                text = " ".join(rng.choices(vocabulary, k=WORDS))
                corpus.write(json.dumps({"_id": doc_id, "title": "", "text": text}) + "\n")


def scripted(request: Request) -> str:
    return json_reply([len(passage) % 11 for passage in request.passages])


def seconds(folder: Path, ranker: GroupwiseLlmRanker) -> float:
    """Wall time from the files to the run file."""
    started = time.perf_counter()
    run = RunFile(folder / "run.trec", HITS)
    passages = JsonlPassages(folder / "corpus.jsonl")
    first_stage = FirstStage(run, read_queries(folder / "queries.tsv"), passages)
    Experiment(first_stage=first_stage, ranker=ranker, save_path=folder / "out.trec").run()
    return time.perf_counter() - started


def measure(queries: int, *, embedded: bool) -> float:
    """Seconds for this number of queries, best of three for the scripted engine."""
    with tempfile.TemporaryDirectory() as scratch:
        make_collection(Path(scratch), queries)
        if embedded:
            with GroupwiseLlmRanker(engine="embedded") as ranker:
                return seconds(Path(scratch), ranker)
        return min(
            seconds(Path(scratch), GroupwiseLlmRanker(engine=ScriptedEngine(scripted)))
            for _ in range(3)
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--queries", type=int, default=1000)
    parser.add_argument("--embedded_queries", type=int, default=200)
    arguments = parser.parse_args()
    print(f"{HITS} candidates a query, {WORDS} words a passage\n")
    print("| engine | queries | seconds | ms a query |")
    print("|---|---:|---:|---:|")
    sizes = sorted({arguments.queries // 4, arguments.queries // 2, arguments.queries})
    everything_else = {}
    for size in [*sizes, arguments.embedded_queries]:
        everything_else[size] = measure(size, embedded=False)
    for size, taken in sorted(everything_else.items()):
        print(f"| scripted | {size} | {taken:.2f} | {1000 * taken / size:.2f} |")
    size = arguments.embedded_queries
    taken = measure(size, embedded=True)
    print(f"| embedded | {size} | {taken:.2f} | {1000 * taken / size:.2f} |")
    print(f"\neverything but the engine: {100 * everything_else[size] / taken:.2f} % "
          f"of the embedded engine's time on the same {size} queries")  # fmt: skip
    growth = everything_else[sizes[-1]] / sizes[-1] / (everything_else[sizes[0]] / sizes[0])
    print(f"time per query at {sizes[-1]} over {sizes[0]} queries: {growth:.2f}")


if __name__ == "__main__":
    main()
