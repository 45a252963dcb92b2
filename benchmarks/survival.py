"""What the journal is worth and what it costs: kills, a server in trouble, time and bytes.

    python benchmarks/survival.py kills --collection DIR
    python benchmarks/survival.py server --collection DIR
    python benchmarks/survival.py cost
    python benchmarks/survival.py size --collection DIR

`kills` ends runs of the embedded engine by SIGKILL at random moments and starts them again.
`server` is a server on loopback of whose answers three in ten are 429, 500, cut off, garbage or ten
seconds late, which is longer than the client waits. `cost` runs the same queries with and without a
journal in turn. `size` counts bytes of a reply in the journal. DIR has run, queries and corpus as
the collections of TREC do: runs/bm25.trec, queries.tsv, corpus.jsonl.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from troubled_server import troubled_server

from llmrankers_groupwise import GroupwiseLlmRanker, Reply, Request, Sampling
from llmrankers_groupwise.cli import main as command
from llmrankers_groupwise.data import FirstStage, JsonlPassages, RunFile, read_queries
from llmrankers_groupwise.engines.embedded import EmbeddedEngine
from llmrankers_groupwise.engines.registry import ENGINES
from llmrankers_groupwise.journal import ReadJournal
from llmrankers_groupwise.pipeline import Experiment, Summary
from llmrankers_groupwise.testing import ScriptedEngine, json_reply

HITS = 100
_REPORT = "SURVIVAL_LOG"


class Counted(EmbeddedEngine):
    """The embedded engine, a line in a file for each of its answers."""

    async def answer(self, request: Request, sampling: Sampling) -> Reply:
        """As the embedded engine."""
        reply = await super().answer(request, sampling)
        origin = request.origin
        line = json.dumps([origin.query_id, origin.repeat, list(origin.doc_ids)]) + "\n"
        log = os.open(os.environ[_REPORT], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        os.write(log, line.encode())
        os.close(log)
        return reply


def collection(folder: Path, queries: int | None = None) -> FirstStage:
    run = RunFile(folder / "runs" / "bm25.trec", HITS)
    first = dict(itertools.islice(run.items(), queries))
    passages = JsonlPassages(folder / "corpus.jsonl")
    return FirstStage(first, read_queries(folder / "queries.tsv"), passages)


# --- Kills ------------------------------------------------------------------------------------


def start(folder: Path, scratch: Path, out: str, queries: int) -> subprocess.Popen[bytes]:
    """The command with the engine Counted, on the first queries, in a process of its own."""
    run = scratch / "run.trec"
    if not run.exists():
        lines = (folder / "runs" / "bm25.trec").read_text().splitlines(keepends=True)
        wanted = set(list(dict.fromkeys(line.split()[0] for line in lines))[:queries])
        run.write_text("".join(line for line in lines if line.split()[0] in wanted))
    arguments = [
        "run", "--run_path", str(run), "--query_file", str(folder / "queries.tsv"),
        "--corpus", str(folder / "corpus.jsonl"), "--engine", "Counted", "--hits", str(HITS),
        "--save_path", str(scratch / out), "groupwise",
    ]  # fmt: skip
    return subprocess.Popen(
        [sys.executable, __file__, "command", *arguments],
        env=os.environ | {_REPORT: str(scratch / f"{out}.log")},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def answers(scratch: Path, out: str) -> list[str]:
    path = scratch / f"{out}.log"
    return path.read_text().splitlines() if path.exists() else []


def kept(scratch: Path, out: str) -> set[str]:
    path = Path(f"{scratch / out}.journal.sqlite")
    if not path.exists() or not path.stat().st_size:
        return set()
    with ReadJournal(path) as journal:
        return {
            json.dumps([origin.query_id, origin.repeat, list(origin.doc_ids)])
            for run in journal.runs()
            for _, query, _ in journal.queries(run.number)
            for origin, _ in journal.replies(run.number, query.query_id)
        }


def kills(folder: Path, number: int, queries: int, seed: int) -> None:
    rng = random.Random(seed)
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        started = time.perf_counter()
        assert start(folder, scratch, "whole", queries).wait() == 0
        whole = time.perf_counter() - started
        killed = in_flight = again = asked = rounds = distinct = 0
        while killed < number:
            out = f"killed{rounds}"
            rounds += 1
            ended = False
            while not ended:
                before, mark = kept(scratch, out), len(answers(scratch, out))
                process = start(folder, scratch, out, queries)
                if killed < number:
                    killed += end_somewhen(process, rng)
                process.wait()
                ended = process.returncode == 0
                new, now = set(answers(scratch, out)[mark:]), kept(scratch, out)
                assert before <= now, "a reply was lost"
                again += len(new & before)
                in_flight += len(new - now)
            assert (scratch / "whole").read_bytes() == (scratch / out).read_bytes()
            asked += len(answers(scratch, out))
            distinct += len(set(answers(scratch, out)))
        print(f"{queries} queries, {whole:.1f} s without a kill; {rounds} runs were killed until "
              f"they ended, each with the bytes of the one that was not\n")  # fmt: skip
        print("| kills | questions | answers | lost in flight | asked again though kept |")
        print("|---:|---:|---:|---:|---:|")
        print(f"| {killed} | {distinct} | {asked} | {in_flight} | {again} |")


def end_somewhen(process: subprocess.Popen[bytes], rng: random.Random) -> bool:
    """Kill it within some seconds, most of which it needs to start; whether that came in time."""
    try:
        process.wait(rng.uniform(0.5, 5.0))
    except subprocess.TimeoutExpired:
        process.kill()
        return True
    return False


# --- A server in trouble ----------------------------------------------------------------------


def server(folder: Path, queries: int, seed: int) -> None:
    os.environ.setdefault("OPENAI_API_KEY", "none")
    first_stage = collection(folder, queries)
    with tempfile.TemporaryDirectory() as scratch, troubled_server(0.3, seed) as (url, did):
        for attempt in (1, 2):
            did.clear()
            args = {"base_url": url, "timeout": 5}
            with GroupwiseLlmRanker(
                engine="openai", engine_args=args, journal=Path(scratch, "journal")
            ) as ranker:
                summary = Experiment(
                    first_stage=first_stage, ranker=ranker, save_path=Path(scratch, "out"),
                    max_failure_rate=0.99,
                ).run()  # fmt: skip
            assert sum(summary.statuses.values()) == summary.groups == summary.usage.calls
            print(f"start {attempt}: {summary.seconds:.1f} s, {summary.queries} queries, "
                  f"{summary.groups} groups: {dict(summary.statuses)}; "
                  f"{summary.usage.reused} answered before; the server: {did}")  # fmt: skip


# --- Cost -------------------------------------------------------------------------------------


def run_once(first_stage: FirstStage, ranker: GroupwiseLlmRanker, scratch: Path) -> Summary:
    return Experiment(first_stage=first_stage, ranker=ranker, save_path=scratch / "out").run()


def form(request: Request) -> Reply:
    """Blanks with a probability for every choice, as a language model fills them."""
    rng, rows = random.Random(request.query + request.passages[0]), []
    for _ in request.labels:
        weights = [rng.expovariate(1) ** 4 for _ in range(11)]
        rows.append(tuple(weight / sum(weights) for weight in weights))
    text = request.form.filled([str(rng.randrange(11)) for _ in rows]) if request.form else ""
    return Reply(text, slot_probabilities=tuple(rows), prompt_tokens=3000, completion_tokens=170)


def cost(queries: int, rounds: int) -> None:
    from overhead import make_collection

    makers: dict[str, Callable[[], Any]] = {
        "embedded": lambda: "embedded",
        "scripted": lambda: ScriptedEngine(form, scorings=("likelihood",)),
    }
    print("| engine | round | without | with a journal | difference |")
    print("|---|---:|---:|---:|---:|")
    least: dict[tuple[str, bool], float] = {}
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        (scratch / "runs").mkdir()
        make_collection(scratch, queries)
        (scratch / "run.trec").rename(scratch / "runs" / "bm25.trec")
        for engine, make in makers.items():
            for number in range(rounds):
                seconds = []
                for journal in (None, scratch / f"{engine}{number}.sqlite"):
                    with GroupwiseLlmRanker(engine=make(), journal=journal) as ranker:
                        summary = run_once(collection(scratch), ranker, scratch)
                    seconds.append(summary.seconds)
                    known = least.get((engine, journal is not None), float("inf"))
                    least[engine, journal is not None] = min(known, summary.seconds)
                print(f"| {engine} | {number + 1} | {seconds[0]:.2f} s | {seconds[1]:.2f} s | "
                      f"{100 * (seconds[1] / seconds[0] - 1):+.1f} % |")  # fmt: skip
    more = least["scripted", True] - least["scripted", False]
    share = 100 * more / least["embedded", False]
    print(f"\n{queries} queries, {summary.groups} replies. What the journal adds to the scripted "
          f"engine's best run,\n{1000 * more / summary.groups:.2f} ms a reply, is {share:.2f} % of "
          f"the embedded engine's best.")  # fmt: skip


# --- Bytes ------------------------------------------------------------------------------------


def size(folder: Path, queries: int) -> None:
    first_stage = collection(folder, queries)

    def written(characters: int) -> Callable[[Request], Reply]:
        def script(request: Request) -> Reply:
            text = " ".join(request.passages)[: characters - 160]
            answer = json_reply([len(passage) % 11 for passage in request.passages])
            return Reply(f"<reason>{text}</reason>\n{answer}", prompt_tokens=3000)

        return script

    print("| reply | bytes a reply | of which the reply itself |")
    print("|---|---:|---:|")
    with tempfile.TemporaryDirectory() as name:
        for kind, script in (("form", form), ("800 characters", written(800)),
                             ("2,400 characters", written(2400))):  # fmt: skip
            path = Path(name, kind)
            engine = ScriptedEngine(script, scorings=("likelihood",))
            if kind != "form":
                engine = ScriptedEngine(script, scorings=("generation",))
            with GroupwiseLlmRanker(engine=engine, journal=path) as ranker:
                groups = run_once(first_stage, ranker, Path(name)).groups
            with ReadJournal(path) as journal:
                (content,) = journal._one("SELECT avg(length(content)) FROM replies", ())
            print(f"| {kind} | {path.stat().st_size / groups:.0f} | {content:.0f} |")
    print(f"\n{groups} replies of {queries} queries, groups of 20")


def main() -> None:
    if sys.argv[1:2] == ["command"]:
        ENGINES["Counted"] = "__main__:Counted"  # type: ignore[index]
        sys.exit(command(sys.argv[2:]))
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", choices=("kills", "server", "cost", "size"))
    parser.add_argument("--collection", type=Path)
    parser.add_argument("--queries", type=int)
    parser.add_argument("--number", type=int, default=50, help="of kills")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    if given.what == "kills":
        kills(given.collection, given.number, given.queries or 93, given.seed)
    elif given.what == "server":
        server(given.collection, given.queries or 40, given.seed)
    elif given.what == "cost":
        cost(given.queries or 200, given.rounds)
    else:
        size(given.collection, given.queries or 40)


if __name__ == "__main__":
    main()
