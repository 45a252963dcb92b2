"""What runs of any length cost: reading a run file, and a whole run in flat memory.

    python benchmarks/streaming.py reading --queries 1000 --documents 1000 --rounds 5
    python benchmarks/streaming.py reading --queries 70000
    python benchmarks/streaming.py reranking --queries 100000 --passages 200000 [--journal]

`reading` reads a run file with `ir_measures.read_trec_run` and with `RunFile`, in turns.
`reranking` takes a whole run through `Experiment` with an engine that answers
at once and keeps nothing, and looks at the process's resident memory on the way. Files are made
of random words, under TMPDIR.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import ir_measures

from llmrankers_groupwise import Engine, GroupwiseLlmRanker, Reply, Request, Sampling
from llmrankers_groupwise.data import FirstStage, JsonlPassages, RunFile, read_queries
from llmrankers_groupwise.pipeline import Experiment
from llmrankers_groupwise.pipeline.results import Ranked
from llmrankers_groupwise.testing import json_reply
from llmrankers_groupwise.types import Scoring

HITS = 100
WORDS = 55


def make_run(path: Path, queries: int, passages: int, documents: int = HITS) -> None:
    """Different documents for each query, scores falling, as a first stage writes them."""
    rng = random.Random(0)
    with path.open("w") as file:
        for query in range(queries):
            score = 30.0
            for rank, passage in enumerate(rng.sample(range(passages), documents), start=1):
                score -= rng.random() / 5
                file.write(f"{query} Q0 {passage} {rank} {score:.6f} made\n")


def make_texts(folder: Path, queries: int, passages: int) -> None:
    """queries.tsv and corpus.jsonl."""
    rng = random.Random(0)
    vocabulary = [
        "".join(rng.choices("aeioubcdfglmnprst", k=rng.randint(2, 9))) for _ in range(20000)
    ]
    with (folder / "queries.tsv").open("w") as file:
        for query in range(queries):
            file.write(f"{query}\t{' '.join(rng.choices(vocabulary, k=8))}\n")
    with (folder / "corpus.jsonl").open("w") as file:
        for passage in range(passages):
            text = " ".join(rng.choices(vocabulary, k=WORDS))
            file.write(json.dumps({"_id": str(passage), "title": "", "text": text}) + "\n")


# --- Reading ----------------------------------------------------------------------------------


def read_by_ir_measures(path: str) -> None:
    for _ in ir_measures.read_trec_run(path):  # type: ignore[no-untyped-call]
        pass


def keep_by_ir_measures(path: str) -> None:
    """Every query's documents in a dict, as `RunFile` has them when it checks for duplicates."""
    run: dict[str, dict[str, float]] = {}
    for each in ir_measures.read_trec_run(path):  # type: ignore[no-untyped-call]
        run.setdefault(each.query_id, {})[each.doc_id] = each.score


def check(path: str) -> None:
    """The first pass: everything is validated, and noted where queries are."""
    RunFile(path)


def check_and_read(path: str) -> None:
    """Both passes: then every query with its documents, sorted."""
    for _ in RunFile(path).items():
        pass


BASELINE = "ir_measures.read_trec_run"
READERS: dict[str, Callable[[str], None]] = {
    BASELINE: read_by_ir_measures,
    "ir_measures.read_trec_run into a dict": keep_by_ir_measures,
    "RunFile(path)": check,
    "RunFile(path).items(), both passes": check_and_read,
}
PEAK = "print(open('/proc/self/status').read().split('VmHWM:')[1].split()[0])"


def peak_mb(reader: Callable[[str], None], path: Path) -> float:
    """Peak resident memory of a process that imports this file, and reads."""
    here = str(Path(__file__).parent)
    code = (
        f"import sys; sys.path.append({here!r}); import streaming; "
        f"streaming.{reader.__name__}({str(path)!r}); {PEAK}"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    return int(done.stdout) / 1024


def compare_readers(folder: Path, queries: int, documents: int, rounds: int) -> None:
    path = folder / "run.trec"
    make_run(path, queries, 8_841_823, documents)
    run = RunFile(path)
    seconds: dict[str, list[float]] = {name: [] for name in [*READERS, "items() alone"]}
    for _ in range(rounds):
        for name, reader in READERS.items():
            started = time.perf_counter()
            reader(str(path))
            seconds[name].append(time.perf_counter() - started)
        started = time.perf_counter()
        for _ in run.items():
            pass
        seconds["items() alone"].append(time.perf_counter() - started)
    lines = queries * documents
    best = min(seconds[BASELINE])
    print(f"{lines:,} lines, {path.stat().st_size / 1e6:,.0f} MB, best of {rounds} rounds\n")
    print("| reader | seconds | lines a second | of ir_measures' speed | peak MB |")
    print("|---|---:|---:|---:|---:|")
    for name, taken in seconds.items():
        peak = f"{peak_mb(READERS[name], path):.0f}" if name in READERS else ""
        print(f"| {name} | {min(taken):.2f} | {lines / min(taken):,.0f} "
              f"| {best / min(taken):.2f} | {peak} |")  # fmt: skip


# --- Reranking --------------------------------------------------------------------------------


class InstantEngine(Engine):
    """Answers at once, and keeps nothing."""

    scorings: tuple[Scoring, ...] = ("generation", "likelihood")

    async def answer(self, request: Request, sampling: Sampling) -> Reply:
        """Scores by the lengths of the passages."""
        return Reply(text=json_reply([len(passage) % 11 for passage in request.passages]))

    def count_tokens(self, text: str) -> int:
        """A token for every four characters."""
        return len(text) // 4

    def truncate(self, text: str, length: int) -> str:
        """The characters of this number of tokens."""
        return text[: 4 * length]

    def describe(self) -> dict[str, object]:
        """Names the engine."""
        return {"engine": "instant"}

    def close(self) -> None:
        """Holds nothing."""


def resident_mb() -> float:
    """What this process holds in memory now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 1e6


class Watch:
    """Notes time and memory at shares of the run."""

    def __init__(self, queries: int) -> None:
        self.marks = {max(1, queries * percent // 100): percent for percent in (10, 50, 100)}
        self.done = 0
        self.rows: list[tuple[int, float, float]] = []

    def __call__(self, ranked: Ranked) -> None:
        """Another query is done."""
        self.done += 1
        if self.done in self.marks:
            self.rows.append((self.marks[self.done], time.perf_counter(), resident_mb()))


def experiment(folder: Path, watch: Watch, journal: Path | None) -> Experiment:
    first_stage = FirstStage(
        RunFile(folder / "run.trec", HITS),
        read_queries(folder / "queries.tsv"),
        JsonlPassages(folder / "corpus.jsonl"),
    )
    return Experiment(
        first_stage=first_stage,
        ranker=GroupwiseLlmRanker(engine=InstantEngine(), journal=journal),
        save_path=folder / "out.trec",
        watch=watch,
    )


def rerank(folder: Path, queries: int, passages: int, *, keep: bool) -> None:
    make_run(folder / "run.trec", queries, passages)
    make_texts(folder, queries, passages)
    watch = Watch(queries)
    before, started = resident_mb(), time.perf_counter()
    journal = folder / "journal.sqlite" if keep else None
    prepared = experiment(folder, watch, journal)
    read = time.perf_counter()
    summary = prepared.run()
    print(f"{queries:,} queries x {HITS} candidates, {passages:,} passages of {WORDS} words\n")
    print(f"files checked: {read - started:.1f} s; resident before: {before:.0f} MB; "
          f"reranking: {summary.seconds:.1f} s for {summary.groups:,} groups, "
          f"{summary.groups / summary.seconds:,.0f} groups a second\n")  # fmt: skip
    if journal is not None:
        print(f"journal: {journal.stat().st_size / summary.groups:,.0f} bytes a group\n")
    print("| of the run | seconds since the start | resident MB |")
    print("|---:|---:|---:|")
    for percent, at, resident in watch.rows:
        print(f"| {percent} % | {at - started:.1f} | {resident:.0f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("part", choices=["reading", "reranking"])
    parser.add_argument("--queries", type=int, default=1000)
    parser.add_argument("--documents", type=int, default=HITS, help="of a query, for reading")
    parser.add_argument("--passages", type=int, default=200_000)
    parser.add_argument("--journal", action="store_true", help="keep replies in one")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        if arguments.part == "reading":
            compare_readers(Path(scratch), arguments.queries, arguments.documents, arguments.rounds)
        else:
            folder, keep = Path(scratch), arguments.journal
            rerank(folder, arguments.queries, arguments.passages, keep=keep)


if __name__ == "__main__":
    main()
